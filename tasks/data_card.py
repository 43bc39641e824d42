"""What a data set holds, before anybody trains on it: sizes, lengths, what was left out, what both splits share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from selfcorrect.tasks.problem import Problem, Split, Task
from selfcorrect.tasks.validate import FiniteTask

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
