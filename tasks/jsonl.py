"""Problems from a file of one JSON object a line: {"prompt": ..., "answer": ...}, judged by the math checker by default."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selfcorrect.errors import TaskError
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.jsonl_rows import Row, read_rows, refuse
from selfcorrect.tasks.problem import Problem, Split


@dataclass(frozen=True)
class JsonlTask:
    """The problems of a JSON Lines file. It is read, and refused if any row is unusable, when the task is made.

    A row has `prompt` (text) and `answer` (text or a number), may have `id` (text or a whole number, unique) and `difficulty`
    (a number); other fields become the problem's metadata. Rows that repeat a prompt and its answer are merged. A prompt belongs
    to the test split if its hash says so, whatever the order of the file and the rest of it: no prompt can be in both.

    Args:
        path: the file, UTF-8.
        test_share: the part of the prompts that is held out, between 0 and 1.
        judge: judges the answers; None is the math checker. Every answer must be a reference it can use.

    Raises:
        TaskError: the file cannot be read, is empty, or holds bad rows; up to ten are named by file, line and field.
    """

    path: Path
    test_share: float = 0.1
    judge: Checker | None = None
    _problems: dict[Split, list[Problem]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise TaskError(f"jsonl: test_share must be between 0 and 1, got {self.test_share}")
        object.__setattr__(self, "path", Path(self.path))
        if self.judge is None:
            from selfcorrect.rewards.maths import MathChecker

            object.__setattr__(self, "judge", MathChecker())
        rows = read_rows(self.path)
        self._refuse_unreadable_answers(rows)
        splits: dict[Split, list[Problem]] = {"train": [], "test": []}
        for row in rows:
            splits[split_of(row.prompt, self.test_share)].append(_problem(row))
        object.__setattr__(self, "_problems", splits)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def checker(self) -> Checker:
        assert self.judge is not None  # set in __post_init__
        return self.judge

    def available(self, split: Split) -> int:
        """How many problems `split` holds."""
        return len(self._problems[split])

    def problems(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Problem]:
        """`count` distinct problems of `split`, drawn with `seed`; see `Task.problems`."""
        available = self._problems[split]
        if count > len(available):
            total = self.available("train") + self.available("test")
            raise TaskError(
                f"{self.path}: {count} {split} problems were asked for, but that split holds {len(available)} of {total}; "
                "ask for fewer, add rows, or change test_share"
            )
        return random.Random(f"{split}-{seed}").sample(available, count)

    def _refuse_unreadable_answers(self, rows: Sequence[Row]) -> None:
        faults = []
        for row in rows:
            fault = self.checker.validate_reference(row.answer)
            if fault is not None:
                faults.append((row.line, "answer", f"the checker cannot use {row.answer!r}: {fault}"))
        refuse(self.path, faults)


def split_of(prompt: str, test_share: float) -> Split:
    """The split a prompt belongs to, decided by the prompt alone (white space does not count)."""
    digest = hashlib.blake2b(" ".join(prompt.split()).encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest) < test_share * 2**64 else "train"


def _problem(row: Row) -> Problem:
    return Problem(
        id=row.id,
        prompt=row.prompt,
        reference=row.answer,
        checker="math",
        gold=f"The final answer is $\\boxed{{{row.answer}}}$.",
        difficulty=row.difficulty,
        metadata={"line": row.line, **row.more},
    )
