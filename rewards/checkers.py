"""Checkers by name, and a checker that is a function of a user's own."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol, runtime_checkable

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import Registry, called, is_address, shown_kind
from selfcorrect.rewards.checker import Checker, Status, Verdict

_DEADLINE = 10.0


@runtime_checkable
class KeyedChecker(Protocol):
    """A checker that says which answers are the same, for votes: without, answers are compared as texts."""

    def answer_key(self, response: str, problem: str) -> str | None:
        """What `response` to the prompt `problem` is counted as; None where no answer can be read, which takes it out
        of the vote. It never sees a reference."""
        ...


@runtime_checkable
class StrictlyKeyedChecker(Protocol):
    """A checker whose answers can also be told apart more strictly than a vote of many needs: in test-time adaptation
    the winner is taught, and few answers vote."""

    def strict_answer_key(self, response: str, problem: str) -> str | None:
        """As `KeyedChecker.answer_key`."""
        ...


@runtime_checkable
class ExecutingChecker(Protocol):
    """A checker whose answers are run to find out which are the same. Where votes are counted, this goes before
    `answer_key`."""

    async def executed_key(self, response: str, problem: str) -> str | None:
        """As `KeyedChecker.answer_key`, by what the answer does; blocks no event loop."""
        ...


@runtime_checkable
class WholeAnswerFinder(Protocol):
    """A checker that can tell whether the answer stands whole in a response that ends at its limit of tokens. Of other
    checkers such a response takes no part in a vote or a choice."""

    def is_whole(self, response: str, problem: str) -> bool:
        """Whether only something behind the answer is missing in `response`, such as an explanation."""
        ...


@runtime_checkable
class AnswerFinder(Protocol):
    """A checker that knows which part of a response is the answer: a verifier is shown that alone."""

    def final_answer(self, response: str, problem: str) -> str:
        """The answer in `response` without what a revision says about the answer before it; all of it if none is
        found."""
        ...


@dataclass(frozen=True)
class FunctionChecker:
    """A function as a checker: `judge(response, reference)` or `judge(response, reference, problem)`, where `problem`
    is the prompt. It returns True (correct), False (wrong), None (cannot say: the answer abstains) or a `Verdict`.

    What it raises, or returns instead, is the verdict UNJUDGED with the reason; so is no answer within `deadline`
    seconds. It runs in a thread of this process, which cannot be killed: a function that runs what a policy wrote
    belongs into a sandbox, see `UnitTestChecker`.
    """

    judge: Callable[..., Any]
    deadline: float = _DEADLINE

    def check_sync(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """Judge `response`; blocks for at most `deadline` seconds."""
        begun = time.perf_counter()
        arguments = (response, reference, problem) if _takes_problem(self.judge) else (response, reference)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(_outcome(self.judge, arguments)), daemon=True)
        thread.start()
        thread.join(self.deadline)
        seconds = time.perf_counter() - begun
        if not found:
            reason = f"{shown_kind(self.judge)} gave no verdict within {self.deadline:g} s"
            return Verdict(Status.UNJUDGED, None, reason, seconds)
        return found[0] if isinstance(found[0], Verdict) else self._verdict(found[0], response, seconds)

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """As `check_sync`, in a thread."""
        return await asyncio.to_thread(self.check_sync, response, reference, problem=problem)

    def validate_reference(self, reference: Any) -> str | None:
        """None: what a function of a user's own compares with is known to nobody else."""
        return None

    def _verdict(self, found: Any, response: str, seconds: float) -> Verdict:
        if found is None:
            return Verdict(Status.UNJUDGED, None, f"{shown_kind(self.judge)} could not say", seconds)
        if isinstance(found, bool):
            return Verdict(Status.CORRECT if found else Status.WRONG, response.strip(), "", seconds)
        expected = f"{shown_kind(self.judge)} must return True, False, None or a Verdict, got {found!r}"
        return Verdict(Status.UNJUDGED, None, expected, seconds)


def _outcome(judge: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return judge(*arguments)
    except Exception as error:  # noqa: BLE001  (whatever a user's function raises says nothing about the answer: it abstains)
        return Verdict(Status.UNJUDGED, None, f"{shown_kind(judge)} failed: {type(error).__name__}: {error}")


def _takes_problem(judge: Callable[..., Any]) -> bool:
    return len(inspect.signature(judge).parameters) > 2


def as_checker(found: Any, what: str = "the checker") -> Checker:
    """A checker as it is, a function as a `FunctionChecker`.

    Raises:
        ConfigurationError: it is neither; `what` names it.
    """
    if isinstance(found, Checker) and not isinstance(found, type):
        return found
    if inspect.isroutine(found) and len(inspect.signature(found).parameters) in (2, 3):
        return FunctionChecker(found)
    raise ConfigurationError(f"{what}: expected {_CHECKER}, got {shown_kind(found)}")


_CHECKER = "a checker (check, check_sync, validate_reference) or a function of response and reference"


def _own(address: str, found: Any) -> Callable[[], Checker]:
    if isinstance(found, type):
        return lambda: as_checker(called(address, found, expected=_CHECKER), address)
    return partial(as_checker, found, address)


CHECKERS: Registry[Callable[[], Checker]] = Registry(
    "checker",
    {
        "countdown": "selfcorrect.rewards.countdown:CountdownChecker",
        "equations": "selfcorrect.rewards.equations:EquationChecker",
        "math": "selfcorrect.rewards.maths:MathChecker",
        "math-lenient": "selfcorrect.rewards.maths:lenient_checker",
        "code": "selfcorrect.rewards.code:UnitTestChecker",
        "reasoning-gym": "selfcorrect.rewards.reasoning_gym:ReasoningGymChecker",
        "verifiers": "selfcorrect.rewards.taskset_rewards:TasksetChecker",
    },
    accept=_own,
)
"""What makes a checker, by the name that a `Problem` carries. What else is to be known of one are methods of its own:
`KeyedChecker`, `StrictlyKeyedChecker`, `ExecutingChecker`, `WholeAnswerFinder`, `AnswerFinder`."""


def checker_named(name: str) -> Checker:
    """The checker called `name`; or a user's own, as `package.module:Name` of a class, a checker or a function.

    Raises:
        ConfigurationError: there is none.
    """
    return CHECKERS.find(name)()


@cache
def known_checker(name: str) -> Checker | None:
    """As `checker_named`, but always the same one, to be asked what it knows of answers; None for a name that is
    nobody's."""
    return checker_named(name) if name in CHECKERS or is_address(name) else None
