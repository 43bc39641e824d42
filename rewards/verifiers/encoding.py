"""From a prompt and a response to the token ids that a verifier reads."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import STEP_SEPARATOR, split_steps
from selfcorrect.rewards.code.extraction import find_program

TemplateName = Literal["plain", "chat"]
Reads = Literal["answer", "program"]


@dataclass(frozen=True, slots=True)
class Wording:
    """How a verifier is shown a problem and an answer; kept with its weights.

    Args:
        attempt: template around the problem's prompt, as the policy was asked; holds `{problem}`.
        template: "chat" renders by the tokenizer's chat template, "plain" writes the answer after the prompt.
        separator: what stands between the steps of an answer.
        review: what follows a whole answer (after the EOS token) and is read as if it were part of it: a second look
            that finds the answer right, in the words that the model knows; `{last_step}` is the answer's last step. A
            model that works a step out better than it recognises a false one finds the review of a wrong answer
            unlikely. "" for none.
        system: the system message before the problem, as the policy was given one; "" for none.
        end: the token that ends an answer, where a chat template ends turns by another than the tokenizer's EOS; "" is
            that one.
        reads: what of an answer: all of it, or the program in it alone, as the checkers of code find it.
    """

    attempt: str = "{problem}"
    template: TemplateName = "plain"
    separator: str = STEP_SEPARATOR
    review: str = ""
    system: str = ""
    end: str = ""
    reads: Reads = "answer"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of prompt and response.

    Attributes:
        ids: all of them.
        begin: where the response begins in `ids`.
        step_ends: the place in `ids` of each step's last token; [] where steps were not asked for.
    """

    ids: list[int]
    begin: int
    step_ends: list[int]


class ResponseEncoder:
    """Encodes by one tokenizer and wording, in training and in use.

    A whole response ends with `Wording.end`. Responses that are scored step by step are encoded step by step and have
    none, so a step's ids don't depend on what follows it.

    Raises:
        CheckerError: a review is asked for with a chat template, which has no place for it; or the tokenizer does not
            know the token that ends an answer.
    """

    def __init__(self, tokenizer: Any, wording: Wording, *, longest: int | None = None) -> None:
        if wording.review and wording.template == "chat":
            raise CheckerError(
                "a verifier's review is written after the answer, which needs template 'plain', got 'chat'"
            )
        self.tokenizer, self.wording, self.longest = tokenizer, wording, longest
        unknown = tokenizer.unk_token_id
        # byte-level tokenizers reuse their end token as "unknown" and never need it
        self._unknown = None if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id) else unknown
        self._end = self._end_id()

    def _end_id(self) -> int:
        end = self.wording.end or self.tokenizer.eos_token
        if end not in self.tokenizer.get_vocab():
            raise CheckerError(f"the verifier's answers end with {end!r}, a token that its tokenizer does not have")
        return int(self.tokenizer.convert_tokens_to_ids(end))

    def whole(self, prompt: str, response: str) -> Encoded | None:
        """Prompt and complete response; None if the verifier cannot read them (blank, without a program where that is
        read, unknown words, too long)."""
        if self.wording.reads == "program":
            response = program_in(response)
        if not response.strip():
            return None
        prompt_ids = self.prompt_ids(prompt)
        ids = [*prompt_ids, *self._encode(response), self._end]
        if self.wording.review:
            ids += [*self._encode(self._review(response)), self._end]
        return self._readable(ids, len(prompt_ids), [])

    def _review(self, response: str) -> str:
        """The second look at `response`; of the plain template, a message of its own."""
        steps = split_steps(response, self.wording.separator)
        return self._joiner() + self.wording.review.replace("{last_step}", steps[-1] if steps else "")

    def stepwise(self, prompt: str, response: str) -> Encoded | None:
        """Prompt and the steps of a response, finished or not; None as in `whole`."""
        steps = split_steps(response, self.wording.separator)
        if not steps:
            return None
        ids = self.prompt_ids(prompt)
        begin, ends = len(ids), []
        for number, step in enumerate(steps):
            ids += self._encode(step if number == 0 else self.wording.separator + step)
            ends.append(len(ids) - 1)
        return self._readable(ids, begin, ends)

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of the problem as it is asked."""
        asked, system = self.wording.attempt.replace("{problem}", prompt), self.wording.system
        if self.wording.template == "chat":
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": asked})
            shown = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return self._encode(str(shown))
        joiner = self._joiner()
        written = "".join(text + joiner for text in (system, asked) if text)
        ids = list(self.tokenizer.encode(written, add_special_tokens=True))
        return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids

    def _joiner(self) -> str:
        """As the policy's plain template: a line break, or a space where the tokenizer knows none."""
        line_break = self.tokenizer.encode("\n", add_special_tokens=False)
        known = bool(line_break) and self.tokenizer.unk_token_id not in line_break
        return "\n" if known else " "

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _readable(self, ids: list[int], begin: int, ends: list[int]) -> Encoded | None:
        if self._unknown is not None and self._unknown in ids:
            return None
        if self.longest is not None and len(ids) > self.longest:
            return None
        return Encoded(ids, begin, ends)


def program_in(response: str) -> str:
    """The program in a response, as a block of Markdown; "" where there is none."""
    program = find_program(response).program
    return f"```python\n{program.strip()}\n```" if program else ""


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of everything by which two tokenizers would give other ids: vocabulary, special tokens, rules of
    splitting."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = {} if backend is None else json.loads(backend.to_str())
    described = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": [tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id],
        "rules": [rules.get("normalizer"), rules.get("pre_tokenizer"), rules.get("model", {}).get("merges")],
    }
    return hashlib.sha256(json.dumps(described, ensure_ascii=False).encode()).hexdigest()


def in_batches(lengths: Sequence[int], rows: int, tokens: int) -> list[list[int]]:
    """Numbers of rows in batches of like length: at most `rows` each, and of more than one at most `tokens` with
    padding."""
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: (lengths[number], number)):
        room = batches and len(batches[-1]) < min(rows, tokens // lengths[number])
        if room:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches
