"""Correction inside one turn: how long a model thinks before it answers, and a measure of what it does not see.

Budget forcing (Muennighoff et al. 2025, "s1", arXiv 2501.19393): when the model would stop thinking, the end is taken
back and "Wait" put in its place; at a budget the section is closed for it. The blind spot (Tsui 2025, arXiv
2507.02778): the same error, put into the model's own answer and into a user's message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfcorrect.agents.policies.local_calls import eos_ids
from selfcorrect.agents.policies.rendering import prompt_after
from selfcorrect.agents.policy import ContinuingPolicy, Policy, Sampling, derive_seed
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError, PolicyError


@dataclass(frozen=True)
class Thinking:
    """How a model's thinking is steered.

    Args:
        tokens: the most it may think, what is put in counted too; then the section is closed. A wait that begins below
            the limit is put in whole. None leaves it to the limit of the sampling.
        waits: how often the end of the thinking is replaced by `wait`.
        wait: what is put there, in words that the model reads.
        begin, end: what stands around the section. An `end` of "" is for models without sections: then the end of the
            answer itself is what `wait` replaces, and the whole answer counts as thinking.
        opens: write `begin` for the model, whose template does not.

    Raises:
        ConfigurationError: nothing would be steered, or a number is out of its range.
    """

    tokens: int | None = None
    waits: int = 0
    wait: str = "Wait"
    begin: str = "<think>"
    end: str = "</think>"
    opens: bool = False

    def __post_init__(self) -> None:
        if self.tokens is None and self.waits == 0 and not self.opens:
            raise ConfigurationError("Thinking steers nothing: give tokens=..., waits=... or opens=True")
        if (self.tokens is not None and self.tokens < 1) or self.waits < 0:
            raise ConfigurationError(f"tokens must be 1 or more and waits 0 or more; got {self.tokens}, {self.waits}")
        if self.waits and not self.wait.strip():
            raise ConfigurationError("wait is empty: nothing would take the place of the end")
        if self.opens and not (self.begin and self.end):
            raise ConfigurationError("opens writes the section's begin: give begin and end")


class ThinkingPolicy:
    """Lets `policy` think as `thinking` says, and answer then.

    The text holds the whole turn, thinking included, as models without this class give it; checkers read what follows
    the section. What was put in for the model has log-probability 0 in the generation: it was not drawn. For evaluation
    and use: a graph of this policy cannot be trained.

    Args:
        policy: goes on with unfinished answers, and has a tokenizer and a model in this process.
        thinking: how it thinks.

    Raises:
        ConfigurationError: the policy cannot go on with an answer, or cannot read `thinking.wait`.
    """

    def __init__(self, policy: Policy, thinking: Thinking) -> None:
        tokenizer = getattr(policy, "tokenizer", None)
        if not isinstance(policy, ContinuingPolicy) or tokenizer is None:
            raise ConfigurationError(
                "budget forcing goes on with the tokens of an unfinished answer: it needs a model in this process, and "
                f"{type(policy).__name__} cannot"
            )
        self.policy, self.thinking, self.tokenizer = policy, thinking, tokenizer
        model = getattr(policy, "model", None)
        self._eos = {tokenizer.eos_token_id} if model is None else set(eos_ids(model, tokenizer))
        for text in [thinking.wait] * bool(thinking.waits) + [thinking.end] * bool(thinking.end):
            self._ids(text)

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The thinking, steered, and the answer; see `Policy.generate`."""
        first = replace(sampling, max_new_tokens=self._room(sampling, 0), stop=self._stops(sampling))
        if self.thinking.opens:
            thought = await self.policy.extend(self._opened(messages, after), first)
        else:
            thought = await self.policy.generate(messages, first, after=after)
        for wait in range(self.thinking.waits):
            if not self._would_stop(thought) or not self._room_left(thought):
                break
            waiting = self._with(self._without_end(thought), self._spaced(thought, self.thinking.wait))
            thought = await self._extended(waiting, sampling, wait + 1)
        if not self.thinking.end or self._answered(thought):
            return thought
        closing = self._with(self._without_end(thought), f"\n{self.thinking.end}\n")
        last = replace(sampling, seed=_child(sampling, self.thinking.waits + 1))
        return await self.policy.extend(closing, last)

    async def _extended(self, partial: Generation, sampling: Sampling, number: int) -> Generation:
        room = self._room(sampling, len(partial["completion_ids"]))
        more = replace(sampling, max_new_tokens=room, stop=self._stops(sampling), seed=_child(sampling, number))
        return await self.policy.extend(partial, more)

    def _stops(self, sampling: Sampling) -> tuple[str, ...]:
        return (*sampling.stop, self.thinking.end) if self.thinking.end else sampling.stop

    def _room(self, sampling: Sampling, used: int) -> int | None:
        """Tokens that may still be thought; at least one, since a call writes something."""
        if self.thinking.tokens is None:
            return sampling.max_new_tokens
        return max(1, self.thinking.tokens - used)

    def _room_left(self, thought: Generation) -> bool:
        budget = self.thinking.tokens
        return budget is None or len(thought["completion_ids"]) < budget

    def reopened(self, answer: Generation, *, waiting: bool = False) -> Generation:
        """`answer` as if it were not finished, with `thinking.wait` behind it if it is `waiting`: what `extend` goes on
        with."""
        unfinished = self._without_end(answer)
        return self._with(unfinished, self._spaced(unfinished, self.thinking.wait)) if waiting else unfinished

    def _would_stop(self, thought: Generation) -> bool:
        """Whether the model ended its thinking, rather than reach a limit or another stop of the caller's."""
        if thought["finish_reason"] != "stop":
            return False
        return thought.get("stop_text") == self.thinking.end if self.thinking.end else "stop_text" not in thought

    def _answered(self, thought: Generation) -> bool:
        """Whether the model gave its answer without a section, or the caller's own stop ended it."""
        return thought["finish_reason"] == "stop" and thought.get("stop_text") != self.thinking.end

    def _without_end(self, thought: Generation) -> Generation:
        """The thinking without the tokens that ended it."""
        ids = thought["completion_ids"]
        kept = len(ids) - (bool(ids) and ids[-1] in self._eos)
        before = self._text(ids[:kept])
        if self.thinking.end:
            before = before.partition(self.thinking.end)[0]
        while kept and len(self._text(ids[:kept])) > len(before):
            kept -= 1
        lost = before.removeprefix(self._text(ids[:kept]))  # a token may hold the end's first letter and what is before
        cut: Generation = {
            **thought,
            "completion_ids": ids[:kept],
            "logprobs": thought["logprobs"][:kept],
            "text": self._text(ids[:kept]),
            "finish_reason": "length",
        }
        cut.pop("stop_text", None)
        return self._with(cut, lost) if lost.strip() else cut

    def _with(self, partial: Generation, text: str) -> Generation:
        """`partial` with `text` put behind it, as if the model had written it."""
        ids = [*partial["completion_ids"], *self._ids(text)]
        whole: Generation = {
            **partial,
            "completion_ids": ids,
            "logprobs": [*partial["logprobs"], *[0.0] * (len(ids) - len(partial["completion_ids"]))],
            "text": self._text(ids),
        }
        return whole

    def _spaced(self, thought: Generation, words: str) -> str:
        return words if thought["text"].endswith(("\n", " ")) else f" {words}"

    def _opened(self, messages: Sequence[Message], after: Generation | None) -> Generation:
        """An answer of which only the begin of the section is written."""
        template: Any = getattr(self.policy, "template", None)
        if template is None:
            raise PolicyError(f"{type(self.policy).__name__} has no template: its section cannot be opened for it")
        prompt = prompt_after(template, messages, after, self._eos)
        earlier = [*after["messages"], Message(role="assistant", content=after["text"])] if after else []
        empty = Generation(
            text="",
            messages=[*earlier, *messages],
            prompt_ids=prompt.ids,
            completion_ids=[],
            logprobs=[],
            finish_reason="length",
        )
        return self._with(empty, f"{self.thinking.begin}\n")

    def _ids(self, text: str) -> list[int]:
        ids = list(self.tokenizer.encode(text, add_special_tokens=False))
        unknown = self.tokenizer.unk_token_id
        if not ids or (unknown is not None and unknown in ids and unknown not in self._eos):
            raise ConfigurationError(
                f"the model cannot read {text.strip()!r}, which would be put into its thinking: set the words of "
                "Thinking (wait, end) to some of its own; for models without sections end is ''"
            )
        return ids

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _child(sampling: Sampling, number: int) -> int | None:
    """Every part of a turn draws by a seed of its own."""
    return None if sampling.seed is None else derive_seed(sampling.seed, number)
