"""Published data sets, as they are published: from a file, or from the Hub through `datasets`.

A format says how a row becomes a problem. Rows that cannot be asked or judged are left out, counted and named
(`PublishedTask.refused`): a published file is not the user's to mend. docs/data.md has a table of the formats.
"""

import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from selfcorrect.errors import TaskError
from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.checkers import checker_named
from selfcorrect.setting_groups import Part
from selfcorrect.tasks.jsonl import Columns, problem_of_row, split_of
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.tasks.registry import TaskSettings
from selfcorrect.tasks.tables import (
    NumberedRow,
    hub_rows,
    hub_splits,
    read_table,
    refuse,
    refuse_missing_columns,
    renamed,
)

_MOST_REFUSED = 0.5
"""A file of which more than this share is refused is of another format."""


@dataclass(frozen=True)
class PublishedTask:
    """The problems of a published data set.

    Attributes:
        name: of the format.
        checker: judges the answers.
        splits: the problems of each split, without repeated prompts; a split may be empty.
        refused: (row, field, why) of the rows that were left out.
        repeated: how many rows repeated the prompt of another.
    """

    name: str
    checker: Checker
    splits: dict[Split, list[Problem]] = field(repr=False)
    refused: tuple[tuple[int, str, str], ...] = field(default=(), repr=False)
    repeated: int = 0

    def available(self, split: Split) -> int:
        """How many problems `split` holds."""
        return len(self.splits[split])

    def problems(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Problem]:
        """`count` distinct problems of `split`, drawn with `seed`; see `Task.problems`."""
        there = self.splits[split]
        if count > len(there):
            held = ", ".join(f"{name} {len(problems):,}" for name, problems in self.splits.items())
            hint = "" if there else f"; {self.name} as it was opened has no {split} split: name a file that does"
            raise TaskError(
                f"{self.name}: {count:,} {split} problems were asked for, but there are {len(there):,} ({held}){hint}"
            )
        return random.Random(f"{split}-{seed}").sample(there, count)


class PublishedSettings(TaskSettings):
    """Base of the formats: where the rows are, and which of them are held out.

    Without a file, both splits come from the Hub. With `path` alone, that file is divided as the data set's authors
    divide it if their rows tell, else by a hash of the prompt. With `test_path` too, `path` is for training.
    """

    file: ClassVar[str | None] = "path"
    judged_by: ClassVar[str] = "math"
    published_splits: ClassVar[dict[Split, str]] = {"train": "train", "test": "test"}
    """What the splits are called on the Hub; one that is left out does not exist."""

    path: Path | None = Field(default=None, strict=False)
    """The file, as it is published."""
    test_path: Path | None = Field(default=None, strict=False)
    """A file that is held out as a whole; `path` then holds training problems only."""
    dataset: str = ""
    """Its name on the Hub, or a folder that `datasets` can load."""
    config: str | None = None
    """Which configuration of it."""
    test_share: Part = 0.1
    """The part of the prompts of a single file that is held out, where its rows do not tell."""

    @abstractmethod
    def problem(self, row: dict[str, Any], number: int) -> Problem:
        """The problem that `row` states. A KeyError or TypeError says that the row is of another form."""

    def split_told(self, row: dict[str, Any]) -> Split | None | Literal["neither"]:
        """The split that a row of a single file says it belongs to; None if it does not say."""
        return None

    def open(self) -> PublishedTask:
        """Reads the rows.

        Raises:
            TaskError: they cannot be had, or more than half of them are unusable.
        """
        checker = self._judge()
        splits: dict[Split, list[Problem]] = {"train": [], "test": []}
        faults: list[tuple[int, str, str]] = []
        prompts: set[str] = set()
        count = repeated = 0
        for told, (number, row) in self._rows(faults):
            count += 1
            problem = self._usable(row, number, checker, faults)
            if problem is None:
                continue
            key = " ".join(problem.prompt.split())
            split = told or self.split_told(row) or split_of(problem.prompt, self.test_share)
            if key in prompts:
                repeated += 1
            elif split != "neither":
                splits[split].append(problem)
            prompts.add(key)
        if len(faults) > _MOST_REFUSED * max(count, 1):
            refuse(self._refused, faults)
        return PublishedTask(self.kind, checker, splits, tuple(faults), repeated)

    def _judge(self) -> Checker:
        return checker_named(self.judged_by)

    @property
    def _refused(self) -> str:
        """What is said of data most of whose rows are unusable."""
        return f"{self.path or self.dataset} is not of the format {self.kind!r}"

    @classmethod
    def spellings(cls, name: str) -> str:
        return f"{name}[:FILE]"

    @property
    def title(self) -> str:
        return self.kind if self.path is None else f"{self.kind} ({self.path.name})"

    def _rows(self, faults: list[tuple[int, str, str]]) -> Iterator[tuple[Split | None, NumberedRow]]:
        """Every row, and the split it is in if its source says so."""
        sources: list[tuple[Split | None, Path]] = []
        if self.path is not None:
            sources.append(("train" if self.test_path is not None else None, self.path))
        if self.test_path is not None:
            sources.append(("test", self.test_path))
        for split, path in sources:
            rows, wrong = read_table(path)
            faults += wrong
            yield from ((split, row) for row in rows)
        if not sources:
            yield from self._hub()

    def _hub(self) -> Iterator[tuple[Split | None, NumberedRow]]:
        for split, name in self.published_splits.items():
            yield from ((split, row) for row in hub_rows(self.dataset, self.config, name))

    def _usable(
        self, row: dict[str, Any], number: int, checker: Checker, faults: list[tuple[int, str, str]]
    ) -> Problem | None:
        try:
            problem = self.problem(row, number)
        except (KeyError, TypeError, ValueError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
            faults.append((number, "", what))
            return None
        fault = checker.validate_reference(problem.reference)
        if fault is not None:
            faults.append((number, "reference", fault))
        return problem if fault is None else None


class Gsm8kSettings(PublishedSettings):
    """GSM8K (Cobbe et al. 2021, arXiv 2110.14168): {question, answer}; the number stands behind "####"."""

    prompts: ClassVar[str] = "math"

    kind: Literal["gsm8k"] = "gsm8k"
    dataset: str = "openai/gsm8k"
    config: str | None = "main"

    def problem(self, row: dict[str, Any], number: int) -> Problem:
        solution, marks, answer = row["answer"].rpartition("####")
        if not marks:
            raise ValueError("the answer holds no '####' with a number behind it")
        answer = answer.strip()
        return Problem(
            id=f"gsm8k-{row.get('idx', number)}",
            prompt=row["question"],
            reference=answer,
            checker=self.judged_by,
            gold=f"{solution.strip()}\nThe final answer is $\\boxed{{{answer}}}$.",
            difficulty=float(solution.count("<<")),
            metadata={"steps": solution.count("<<")},
        )


class MathSettings(PublishedSettings):
    """MATH (Hendrycks et al. 2021, arXiv 2103.03874): {problem, level, type, solution}; the answer is the last box.

    The difficulty is the level, 1 to 5.
    """

    prompts: ClassVar[str] = "math"

    kind: Literal["math"] = "math"
    dataset: str = "DigitalLearningGmbH/MATH-lighteval"

    def problem(self, row: dict[str, Any], number: int) -> Problem:
        level = str(row.get("level", "")).rpartition(" ")[2]
        name = str(row.get("unique_id") or row.get("idx", number)).removesuffix(".json").replace("/", "-")
        return Problem(
            id=f"math-{name}",
            prompt=row["problem"],
            reference=row["solution"],
            checker=self.judged_by,
            gold=row["solution"],
            difficulty=float(level) if level.isdigit() else 0.0,
            metadata={"subject": row.get("type") or row.get("subject", ""), "level": level},
        )


class HubSettings(PublishedSettings):
    """Any data set of the Hub whose rows have a question and an answer: `OWNER/NAME`, `hub:OWNER/NAME,config=main`.

    The split `test_split` is held out where there is one, else a part of `train_split`, by a hash of the prompt.
    """

    prompts: ClassVar[str] = "math"
    file: ClassVar[str | None] = "dataset"
    columns_field: ClassVar[str | None] = "columns"
    named_fields: ClassVar[tuple[str, ...]] = ("config", "train_split", "test_split", "test_share", "checker")

    kind: Literal["hub"] = "hub"
    dataset: str = Field(min_length=1)
    """Its id on the Hub, or a folder that `datasets` can load."""
    train_split: str = "train"
    test_split: str = "test"
    columns: Columns = Field(default_factory=dict)
    """Which name in the data set is which field, such as {question: prompt}."""
    checker: str = "math"
    """Judges the answers: a checker's name, or `package.module:Name` of a user's own."""

    @model_validator(mode="after")
    def _reads_no_file(self) -> Self:
        if self.path is not None or self.test_path is not None:
            raise ValueError("the Hub is read, and no file: name the file itself, as in --task rows.jsonl")
        return self

    def problem(self, row: dict[str, Any], number: int) -> Problem:
        return problem_of_row(renamed(row, self.columns), number, self.checker)

    def _judge(self) -> Checker:
        return checker_named(self.checker)

    @property
    def _refused(self) -> str:
        return f"{self.dataset} holds no problems for the checker {self.checker}"

    @classmethod
    def spellings(cls, name: str) -> str:
        return f"{name}:OWNER/NAME[,config=...]"

    @property
    def title(self) -> str:
        return self.dataset

    def _hub(self) -> Iterator[tuple[Split | None, NumberedRow]]:
        there = hub_splits(self.dataset, self.config)
        test = self.test_split if self.test_split in there else None
        if self.train_split not in there or (test is None and "test_split" in self.model_fields_set):
            lacking = self.train_split if self.train_split not in there else self.test_split
            raise TaskError(
                f"{self.dataset} has no split {lacking!r}; it has {', '.join(map(repr, there))}: choose by "
                f"--task hub:{self.dataset},train_split=...,test_split=..."
            )
        rows = there[self.train_split]
        refuse_missing_columns(self.dataset, rows, ("prompt", "answer"), self.columns)
        yield from (("train" if test else None, row) for row in rows)
        yield from (("test", row) for row in (there[test] if test else []))
