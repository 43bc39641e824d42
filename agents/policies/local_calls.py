"""The calls of a model in this process: what it is asked, and what the ids that it wrote say."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from selfcorrect.agents.decoding.constraints import Guide
from selfcorrect.agents.decoding.engine import Decoded, Request, Ticket
from selfcorrect.agents.decoding.sampling import DrawnTree
from selfcorrect.agents.policies.rendering import (
    PromptIds,
    Template,
    before_stop,
    conversation_after,
    prompt_after,
    room_in,
    stop_found,
)
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation, Message

# From token ids to a generation: where a completion ends, and what its ids say.


def eos_ids(model: Any, tokenizer: Any) -> list[int]:
    """All ids that end a completion: the tokenizer's EOS and those of the model's generation config."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = configured if isinstance(configured, list) else [] if configured is None else [configured]
    return sorted({tokenizer.eos_token_id, *more})


class Completions:
    """Reads the ids that a model wrote.

    Args:
        tokenizer: the model's.
        eos_ids: tokens that end a completion.
    """

    def __init__(self, tokenizer: Any, eos_ids: Sequence[int]) -> None:
        self._tokenizer, self._eos_ids = tokenizer, eos_ids

    def generation(self, request: Request, decoded: Decoded, messages: list[Message]) -> Generation:
        """What was decoded for `request`, as the answer to the conversation `messages`."""
        text = self.text(self._without_eos(decoded.ids))
        generation = Generation(
            text=before_stop(text, request.stop),
            messages=messages,
            prompt_ids=request.prompt_ids,
            completion_ids=decoded.ids,
            logprobs=decoded.logprobs,
            finish_reason="stop" if decoded.stopped else "length",
        )
        found = stop_found(text, request.stop)
        return generation if found is None else {**generation, "stop_text": found}

    def joined(self, partial: Generation, part: Generation, stop: tuple[str, ...]) -> Generation:
        """The answer that `part` makes of `partial`; stop texts inside `partial` stay."""
        ids = [*partial["completion_ids"], *part["completion_ids"]]
        text, old = self.text(self._without_eos(ids)), len(self.text(partial["completion_ids"]))
        whole: Generation = {
            **part,
            "text": text[:old] + before_stop(text[old:], stop),
            "prompt_ids": partial["prompt_ids"],
            "completion_ids": ids,
            "logprobs": [*partial["logprobs"], *part["logprobs"]],
        }
        return whole

    def text(self, ids: list[int]) -> str:
        """The text of `ids`, special tokens included."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _without_eos(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] in self._eos_ids else ids


# What a model in this process is asked: a call, its prompt, the room that the model's context leaves, the request.


@dataclass(frozen=True, slots=True)
class LocalCall:
    """One call of a policy, not yet rendered."""

    messages: Sequence[Message]
    sampling: Sampling
    after: Generation | None
    extends: bool = False
    """Whether the answer `after` itself goes on, rather than a new message after it."""
    drawn: DrawnTree | None = None
    """Completions that are not to be drawn again."""
    ticket: Ticket | None = None

    @property
    def conversation(self) -> list[Message]:
        """The messages that the answer follows."""
        return self.after["messages"] if self.extends and self.after else conversation_after(self.after, self.messages)

    def prompt(self, template: Template, eos_ids: Collection[int]) -> PromptIds:
        """The ids that the model is shown."""
        return _unfinished(self.after) if self.extends else prompt_after(template, self.messages, self.after, eos_ids)

    def request(self, prompt: PromptIds, max_new_tokens: int, guide: Guide | None = None) -> Request:
        """The call as the decode loop takes it; without a seed it is given one of its own."""
        sampling = self.sampling
        return Request(
            prompt_ids=prompt.ids,
            max_new_tokens=max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            stop=sampling.stop,
            known=prompt.known,
            drawn=self.drawn,
            guide=guide,
            ticket=self.ticket,
        )


def room_after(model: Any, prompt_length: int, wanted: int) -> int:
    """How many tokens may follow a prompt: what is wanted, or what the model's context leaves.

    Raises:
        PolicyError: the prompt is empty, or (an UnreadablePromptError) fills the context.
    """
    return room_in(getattr(model.config, "max_position_embeddings", None), prompt_length, wanted)


def _unfinished(partial: Generation | None) -> PromptIds:
    """The prompt and what was written so far: nothing new, all of it known."""
    assert partial is not None
    ids = [*partial["prompt_ids"], *partial["completion_ids"]]
    return PromptIds(ids, len(ids))
