"""What a judge says about one answer."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The four outcomes of judging. Only the first three are scores."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNREADABLE = "unreadable"
    """No answer could be found in the response. Scored like WRONG, counted apart."""
    UNJUDGED = "unjudged"
    """The judge failed or timed out through no fault of the answer. Abstains: no score at all, never 0."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's finding about one response.

    Attributes:
        status: the outcome.
        answer: the answer that was found in the response, as the judge read it; None if there was none.
        reason: one sentence for a person, and for the prompt in the `feedback` critique mode.
        seconds: wall-clock time the judgement took.
    """

    status: Status
    answer: str | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def score(self) -> float | None:
        """1.0 for CORRECT, 0.0 for WRONG and UNREADABLE, None (abstain) for UNJUDGED."""
        if self.status is Status.UNJUDGED:
            return None
        return 1.0 if self.status is Status.CORRECT else 0.0

    @property
    def correct(self) -> bool:
        return self.status is Status.CORRECT
