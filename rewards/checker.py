"""The protocols of judges, and how they are asked: checkers compare with a reference, verifiers have learnt to do
without."""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Protocol, runtime_checkable

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.shaping import Score

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
    spans, begun = _spans.get(), time.perf_counter()
    try:
        if problem is None or not _takes_problem(_function(checker.check)):
            return await checker.check(response, reference)
        return await checker.check(response, reference, problem=problem)
    finally:
        if spans is not None:
            spans.append((begun, time.perf_counter()))


_spans: ContextVar[list[tuple[float, float]] | None] = ContextVar("selfcorrect_judging_spans", default=None)


@contextmanager
def judging_timed() -> Iterator[list[tuple[float, float]]]:
    """When `judged` was under way inside the block, its tasks and the nodes of graphs included: begin and end of each
    call, by `time.perf_counter`."""
    spans: list[tuple[float, float]] = []
    token = _spans.set(spans)
    try:
        yield spans
    finally:
        _spans.reset(token)


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


# Learned judges: how likely is it that a response is right? A score is probability-like, in [0, 1]; None abstains (the
# response is unreadable, the score was not a number, the judge failed). Whoever ranks by scores puts abstentions last;
# whoever averages leaves them out.

Script = Mapping[str, Score] | Callable[[str, str], Score]

STEP_SEPARATOR = " ; "
"""What stands between the steps of a Countdown answer."""


@runtime_checkable
class Verifier(Protocol):
    """Scores responses to one prompt."""

    async def scores(self, prompt: str, responses: Sequence[str]) -> list[Score]:
        """One score in [0, 1] for each of `responses`, in their order; None abstains.

        Args:
            prompt: the problem's prompt, as `Problem.prompt` has it.
            responses: complete responses; a `StepVerifier` also takes unfinished ones, that end after a step.
        """
        ...


@runtime_checkable
class StepVerifier(Verifier, Protocol):
    """Also scores every step. Its `scores` are those of the last step written, so unfinished responses can be ranked
    in batches."""

    async def step_scores(self, prompt: str, response: str) -> list[Score]:
        """One score for each step of `response`: how likely a right answer is after this step, given all before it."""
        ...


def split_steps(response: str, separator: str = STEP_SEPARATOR) -> list[str]:
    """The steps of a response, without the separators; blank ones are left out.

    Joined with `separator` they are the response again, up to blank steps and white space at the ends.
    """
    return [step for part in response.split(separator.strip() or separator) if (step := part.strip())]


def prefixes(response: str, separator: str = STEP_SEPARATOR) -> list[str]:
    """What had been written after each step: the first step, the first two, ... the whole response."""
    steps = split_steps(response, separator)
    return [separator.join(steps[: end + 1]) for end in range(len(steps))]


class ScriptedVerifier:
    """Says what it is told, for tests and documentation: no model, no chance.

    Args:
        script: a mapping from response (or the beginning of one, up to the end of a step) to its score; or a function
            of (prompt, response).
        separator: what stands between steps.
    """

    def __init__(self, script: Script, *, separator: str = STEP_SEPARATOR) -> None:
        self.script = script
        self.separator = separator

    async def scores(self, prompt: str, responses: Sequence[str]) -> list[Score]:
        """See `Verifier.scores`.

        Raises:
            CheckerError: the script is a mapping that does not hold one of `responses`.
        """
        return [self._score(prompt, response) for response in responses]

    async def step_scores(self, prompt: str, response: str) -> list[Score]:
        """The script's scores of `response` as far as it had been written after each step."""
        return [self._score(prompt, written) for written in prefixes(response, self.separator)]

    def _score(self, prompt: str, response: str) -> Score:
        if callable(self.script):
            return self.script(prompt, response)
        if response not in self.script:
            raise CheckerError(f"the scripted verifier holds no score for {response!r}; it knows {sorted(self.script)}")
        return self.script[response]
