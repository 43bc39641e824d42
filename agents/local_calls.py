"""What a model in this process is asked: the prompt of a call, the room that the model's context leaves, and the request to decode."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from selfcorrect.agents.decoding_requests import Request
from selfcorrect.agents.drawn_tree import DrawnTree
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.rendering import PromptIds, Template, conversation_after, prompt_after
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError, UnreadablePromptError


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

    @property
    def conversation(self) -> list[Message]:
        """The messages that the answer follows."""
        return self.after["messages"] if self.extends and self.after else conversation_after(self.after, self.messages)

    def prompt(self, template: Template, eos_ids: Collection[int]) -> PromptIds:
        """The ids that the model is shown."""
        return _unfinished(self.after) if self.extends else prompt_after(template, self.messages, self.after, eos_ids)

    def request(self, prompt: PromptIds, max_new_tokens: int) -> Request:
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
        )


def room_after(model: Any, prompt_length: int, wanted: int) -> int:
    """How many tokens may follow a prompt: what is wanted, or what the model's context leaves.

    Raises:
        PolicyError: the prompt is empty, or (an UnreadablePromptError) fills the context.
    """
    if prompt_length == 0:
        raise PolicyError("the prompt has no tokens; show the policy at least one message with text in it")
    context: int | None = getattr(model.config, "max_position_embeddings", None)
    if context is None:
        return wanted
    if prompt_length >= context:
        raise UnreadablePromptError(
            f"the prompt has {prompt_length} token ids, but the model's context holds {context}, completion included; "
            "shorten the problem, lower max_new_tokens of the earlier turns or use fewer revisions"
        )
    return min(wanted, context - prompt_length)


def _unfinished(partial: Generation | None) -> PromptIds:
    """The prompt and what was written so far: nothing new, all of it known."""
    assert partial is not None
    ids = [*partial["prompt_ids"], *partial["completion_ids"]]
    return PromptIds(ids, len(ids))
