"""The protocol every judge follows, and how it is asked."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Protocol, runtime_checkable

# What a judge says about one answer.


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
        fraction: the share of what was asked that the answer got right, 0 to 1, of a checker that was asked for it; it
            is then the score of an answer that is WRONG.
    """

    status: Status
    answer: str | None = None
    reason: str = ""
    seconds: float = 0.0
    fraction: float | None = None

    @property
    def score(self) -> float | None:
        """1.0 for CORRECT, 0.0 or the fraction for WRONG, 0.0 for UNREADABLE, None (abstain) for UNJUDGED."""
        if self.status is Status.UNJUDGED:
            return None
        if self.status is Status.WRONG and self.fraction is not None:
            return self.fraction
        return 1.0 if self.status is Status.CORRECT else 0.0

    @property
    def correct(self) -> bool:
        """Whether the status is CORRECT; an answer that could not be judged is not."""
        return self.status is Status.CORRECT


@runtime_checkable
class Checker(Protocol):
    """Judges one response against one reference.

    Implementations are picklable, hold no state between calls, never raise because of a response, and never hang: what
    they cannot judge within their deadline becomes a `Verdict` by rule.
    """

    def check_sync(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """Judge `response`. Blocks the calling thread for at most the checker's deadline.

        Args:
            response: what the policy wrote.
            reference: what it is compared with.
            problem: what the policy was asked, if known: a checker may refuse an answer that only repeats it.
        """
        ...

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """Judge `response` without blocking the event loop for longer than a millisecond or so."""
        ...

    def validate_reference(self, reference: Any) -> str | None:
        """Why this checker cannot use `reference`, or None if it can. Called when a data set is loaded."""
        ...


# Asking a checker. One of a user's own may know nothing of problems: check(response, reference) is enough.


async def judged(checker: Checker, response: str, reference: Any, problem: str | None) -> Verdict:
    """The verdict of `checker`, which is told the problem if its `check` has a parameter for it."""
    if problem is None or not _takes_problem(_function(checker.check)):
        return await checker.check(response, reference)
    return await checker.check(response, reference, problem=problem)


def judged_sync(checker: Checker, response: str, reference: Any, problem: str | None) -> Verdict:
    """As `judged`, by the checker's `check_sync`."""
    if problem is None or not _takes_problem(_function(checker.check_sync)):
        return checker.check_sync(response, reference)
    return checker.check_sync(response, reference, problem=problem)


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    """What all objects of a class share: the question is asked once, and no object is kept alive by the answer."""
    function: Callable[..., Any] = getattr(method, "__func__", method)
    return function


@cache
def _takes_problem(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(one.name == "problem" or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
