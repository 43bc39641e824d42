"""What is asked of a decode loop, and what comes back."""

from dataclasses import dataclass

from selfcorrect.agents.drawn_tree import DrawnTree


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how to continue it; see `Sampling`.

    `known` is how many of the ids are an earlier prompt and its completion, 0 in a first turn. `drawn` holds completions that
    are not to be drawn again.
    """

    prompt_ids: list[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] = ()
    known: int = 0
    drawn: DrawnTree | None = None


@dataclass(slots=True)
class Decoded:
    """A continuation. `stopped` is False if the token limit cut it off."""

    ids: list[int]
    logprobs: list[float]
    stopped: bool
