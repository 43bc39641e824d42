"""Every checker accepts its own gold answers: a task that fails this would punish right answers in training."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from selfcorrect.rewards.checker import Checker, judged_sync
from selfcorrect.tasks.problem import Problem, Split, Task

OnProgress = Callable[[int, int], None]

_PARALLEL_CHECKS = 4
_SPLITS: tuple[Split, ...] = ("train", "test")


@runtime_checkable
class FiniteTask(Protocol):
    """A task that knows how many problems it has."""

    def available(self, split: Split) -> int:
        """How many problems `split` holds."""
        ...


@dataclass(frozen=True, slots=True)
class GoldFailure:
    """A problem whose gold answer its checker did not accept."""

    problem_id: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What `validate_task` found.

    Attributes:
        task: its name.
        checked: how many problems were checked.
        without_gold: how many of those have no gold answer; of these only the reference was checked.
        failures: the problems whose gold answer or reference was not accepted.
    """

    task: str
    checked: int
    without_gold: int
    failures: tuple[GoldFailure, ...]

    @property
    def passed(self) -> bool:
        """Whether the checker accepts every reference as an answer."""
        return not self.failures


def validate_problems(
    problems: Iterable[Problem],
    checker: Checker,
    *,
    task: str = "problems",
    on_progress: OnProgress | None = None,
) -> ValidationReport:
    """Let `checker` judge the gold answer of every problem.

    Args:
        problems: what to check.
        checker: their judge; called from several threads at once.
        task: the name in the report.
        on_progress: called in the calling thread after each problem, with how many are done and how many there are.
    """
    listed = list(problems)
    failures = []
    with ThreadPoolExecutor(_PARALLEL_CHECKS, thread_name_prefix="selfcorrect-validate") as threads:
        found = threads.map(lambda problem: _failure(problem, checker), listed)
        for done, failure in enumerate(found, start=1):
            if failure is not None:
                failures.append(failure)
            if on_progress is not None:
                on_progress(done, len(listed))
    without_gold = sum(problem.gold is None for problem in listed)
    return ValidationReport(task, len(listed), without_gold, tuple(failures))


def validate_task(
    task: Task, *, procedural: int = 1000, seed: int = 0, on_progress: OnProgress | None = None
) -> ValidationReport:
    """`validate_problems` for both splits of `task`: all of a finite one's, else `procedural` problems of each
    split."""
    problems: list[Problem] = []
    for split in _SPLITS:
        count = task.available(split) if isinstance(task, FiniteTask) else procedural
        problems += task.problems(split, count, seed=seed)
    return validate_problems(problems, task.checker, task=task.name, on_progress=on_progress)


def _failure(problem: Problem, checker: Checker) -> GoldFailure | None:
    fault = checker.validate_reference(problem.reference)
    if fault is not None:
        return GoldFailure(problem.id, "unusable reference", fault)
    if problem.gold is None:
        return None
    verdict = judged_sync(checker, problem.gold, problem.reference, problem.prompt)
    return None if verdict.correct else GoldFailure(problem.id, verdict.status.value, verdict.reason)
