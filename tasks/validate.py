"""What to know of a task before anybody trains on it: that its checker accepts its own gold answers (one that does not
would punish right answers), and what its data set holds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol, runtime_checkable

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


# The card of a data set: sizes, lengths, what was left out, what both splits share.

OVERLAP_WORDS = 13
"""Two prompts overlap if they share this many words in a row, as in GPT-3's check for contamination (Brown et al. 2020,
arXiv 2005.14165, appendix C)."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long some texts are, in words or tokens."""

    median: float
    most: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> "Lengths | None":
        return cls(median(counts), max(counts)) if counts else None


@dataclass(frozen=True, slots=True)
class DataCard:
    """A finite task in figures.

    Attributes:
        problems: how many each split holds.
        refused: (row, field, why) of rows that were left out.
        repeated: rows that repeated another's prompt.
        prompts: lengths of the prompts.
        golds: lengths of the known right answers; None if there are none.
        unit: what lengths are counted in: "words" or "tokens".
        overlapping: ids of test problems whose prompt shares `OVERLAP_WORDS` words in a row with a training prompt.
    """

    problems: Mapping[Split, int]
    refused: tuple[tuple[int, str, str], ...]
    repeated: int
    prompts: Lengths | None
    golds: Lengths | None
    unit: str
    overlapping: tuple[str, ...]


def data_card(task: Task, count: Callable[[str], int] | None = None) -> DataCard | None:
    """The card of a task that knows how many problems it has; None for tasks without end.

    Args:
        task: the task.
        count: how many tokens a text has; None counts words.
    """
    if not isinstance(task, FiniteTask):
        return None
    held: dict[Split, Sequence[Problem]] = {
        "train": task.problems("train", task.available("train")),
        "test": task.problems("test", task.available("test")),
    }
    length = count or (lambda text: len(text.split()))
    everything = [problem for problems in held.values() for problem in problems]
    more: Any = task
    return DataCard(
        problems={split: len(problems) for split, problems in held.items()},
        refused=tuple(getattr(more, "refused", ())),
        repeated=int(getattr(more, "repeated", 0)),
        prompts=Lengths.of([length(problem.prompt) for problem in everything]),
        golds=Lengths.of([length(problem.gold) for problem in everything if problem.gold is not None]),
        unit="words" if count is None else "tokens",
        overlapping=tuple(_overlapping(held["train"], held["test"])),
    )


def _overlapping(train: Iterable[Problem], test: Iterable[Problem]) -> Iterator[str]:
    known = {gram for problem in train for gram in _grams(problem.prompt)}
    yield from (problem.id for problem in test if any(gram in known for gram in _grams(problem.prompt)))


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    words = text.lower().split()
    return zip(*(words[offset:] for offset in range(OVERLAP_WORDS)), strict=False)
