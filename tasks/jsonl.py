"""Problems from a file of one's own: rows with a prompt and an answer, judged by the math checker by default."""

import difflib
import hashlib
import math
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from selfcorrect.errors import TaskError
from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.checkers import checker_named
from selfcorrect.setting_groups import Part
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.tasks.registry import TaskSettings
from selfcorrect.tasks.tables import Fault, read_table, refuse, refuse_missing_columns, renamed, shown

# Reading the rows; every fault is found before the first is told.

_FIELDS = ("prompt", "answer", "id", "difficulty")


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row; `more` holds the fields of other names."""

    line: int
    prompt: str
    answer: str
    id: str
    difficulty: float
    more: Mapping[str, Any]


def read_rows(path: Path, columns: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of `path`, those that say the same merged; `columns` says which name in the file is which field.

    Raises:
        TaskError: the file cannot be read, is empty, has other columns, or holds bad rows.
    """
    found, faults = read_table(path)
    refuse_missing_columns(path, found if len(found) > 1 else [], ("prompt", "answer"), columns or {})
    rows: list[Row] = []
    for line, given in found:
        value = renamed(given, columns or {})
        wrong = [(line, name, what) for name, what in _faults_of(value)]
        faults += wrong
        if not wrong:
            rows.append(_row(line, value))
    unique, repeated = _merge_repeated(rows)
    refuse(path, sorted(faults + repeated))
    if not unique:
        raise TaskError(f'{path} is empty: it should hold rows such as {{"prompt": ..., "answer": ...}}')
    return unique


def _faults_of(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of one object that cannot be used, and why."""
    for name in ("prompt", "answer"):
        if name not in value:
            others = [other for other in value if other not in _FIELDS]
            near = difflib.get_close_matches(name, others, n=1)
            yield name, f"missing; did you mean this by {near[0]!r}?" if near else "missing"
    if "prompt" in value and not _is_text(value["prompt"]):
        yield "prompt", f"expected readable text that is not blank, got {shown(value['prompt'])}"
    if "answer" in value and not _is_text(value["answer"]) and not _is_number(value["answer"]):
        yield "answer", f"expected text that is not blank or a number, got {shown(value['answer'])}"
    if "id" in value and not _is_text(value["id"]) and not _is_whole(value["id"]):
        yield "id", f"expected text or a whole number, got {shown(value['id'])}"
    if "difficulty" in value and not _is_float(value["difficulty"]):
        yield "difficulty", f"expected a number, got {shown(value['difficulty'])}"


def problem_of_row(value: Mapping[str, Any], number: int, judged_by: str) -> Problem:
    """The problem in one row that has the fields of one, or whose `columns` were renamed to them.

    Raises:
        ValueError: tells what is wrong with it.
    """
    wrong = [f"{name}: {what}" for name, what in _faults_of(value)]
    if wrong:
        raise ValueError("; ".join(wrong))
    return _problem(_row(number, value), judged_by)


def _row(line: int, value: Mapping[str, Any]) -> Row:
    return Row(
        line=line,
        prompt=value["prompt"],
        answer=str(value["answer"]).strip(),
        id=str(value.get("id", f"line-{line}")),
        difficulty=float(value.get("difficulty", 0.0)),
        more={name: item for name, item in value.items() if name not in _FIELDS},
    )


def _merge_repeated(rows: Sequence[Row]) -> tuple[list[Row], list[Fault]]:
    """`rows` without those that repeat an earlier one; a fault for each that contradicts an earlier one."""
    by_prompt: dict[str, Row] = {}
    by_id: dict[str, Row] = {}
    faults: list[Fault] = []
    for row in rows:
        same = by_prompt.setdefault(" ".join(row.prompt.split()), row)
        if same is not row:
            if same.answer != row.answer:
                faults.append(
                    (
                        row.line,
                        "answer",
                        f"{row.answer!r}, but line {same.line} answers this prompt with {same.answer!r}",
                    )
                )
            continue
        holder = by_id.setdefault(row.id, row)
        if holder is not row:
            faults.append((row.line, "id", f"{row.id!r} is the id of line {holder.line} already"))
    return list(by_prompt.values()), faults


def _is_text(value: Any) -> bool:
    """Not blank, and without the halves of surrogate pairs that JSON can smuggle in: no tokenizer takes those."""
    return (
        isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_float(value: Any) -> bool:
    """A number, or (in a CSV file) the text of one."""
    if isinstance(value, str):
        try:
            return math.isfinite(float(value))
        except ValueError:
            return False
    return _is_number(value) and abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class JsonlTask:
    """The problems of a file: JSON Lines, a JSON array, CSV or Parquet. It is read, and refused if any row is unusable,
    when the task is made.

    A row has `prompt` (text) and `answer` (text or a number), may have `id` (text or a whole number, unique) and
    `difficulty` (a number); other fields become the problem's metadata. Rows that repeat a prompt and its answer are
    merged. A prompt belongs to the test split if its hash says so, whatever the order of the file and the rest of it:
    no prompt can be in both.

    Args:
        path: the file, UTF-8.
        test_share: the part of the prompts that is held out, above 0 and at most 1.
        judge: judges the answers; None is the checker called `judged_by`. Every answer must be a reference it can use.
        columns: which name in the file is which field, such as {"question": "prompt"}.
        judged_by: the name of the checker, for the problems.

    Raises:
        TaskError: the file cannot be read, is empty, or holds bad rows; up to ten are named by file, line and field.
    """

    path: Path
    test_share: float = 0.1
    judge: Checker | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    judged_by: str = "math"
    _problems: dict[Split, list[Problem]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.test_share <= 1:
            raise TaskError(f"jsonl: test_share must be above 0 and at most 1, got {self.test_share}")
        object.__setattr__(self, "path", Path(self.path))
        if self.judge is None:
            object.__setattr__(self, "judge", checker_named(self.judged_by))
        rows = read_rows(self.path, self.columns)
        self._refuse_unreadable_answers(rows)
        splits: dict[Split, list[Problem]] = {"train": [], "test": []}
        for row in rows:
            splits[split_of(row.prompt, self.test_share)].append(_problem(row, self.judged_by))
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
                f"{self.path}: {count} {split} problems were asked for, but that split holds {len(available)} of "
                f"{total}; ask for fewer, add rows, or change test_share"
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


_MARKED = re.compile(r"\\boxed|\\fbox|####")


def _gold(answer: str) -> str:
    """A worked solution that marks its answer, as MATH's and GSM8K's do, is a response as it is; a mere answer gets a
    box."""
    return answer if _MARKED.search(answer) else f"The final answer is $\\boxed{{{answer}}}$."


def _problem(row: Row, judged_by: str) -> Problem:
    return Problem(
        id=row.id,
        prompt=row.prompt,
        reference=row.answer,
        checker=judged_by,
        gold=_gold(row.answer) if judged_by in ("math", "math-lenient") else None,
        difficulty=row.difficulty,
        metadata={"line": row.line, **row.more},
    )


def _fault_in(columns: Mapping[Any, Any]) -> str | None:
    """What is wrong with a mapping of columns to fields, and the one that is meant."""
    wrong = [name for name in columns.values() if name not in _FIELDS]
    twice = [name for name in columns.values() if list(columns.values()).count(name) > 1]
    if wrong and all(column in _FIELDS for column in columns):
        turned = ",".join(f"{name}={column}" for column, name in columns.items())
        return f"a file's column comes first, then what it is here: --map {turned}"
    if wrong:
        near = difflib.get_close_matches(str(wrong[0]), _FIELDS, n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"a problem has {', '.join(_FIELDS)}; other columns are kept as they are"
        )
        return f"no field of a problem is called {wrong[0]!r}; {hint}"
    if twice:
        named = " and ".join(repr(column) for column, name in columns.items() if name == twice[0])
        return f"the columns {named} cannot both be {twice[0]!r}"
    return None


def _checked(columns: Any) -> Any:
    fault = _fault_in(columns) if isinstance(columns, dict) else None
    if fault is not None:
        raise ValueError(fault)
    return columns


Columns = Annotated[dict[str, Literal["prompt", "answer", "id", "difficulty"]], BeforeValidator(_checked)]
"""Which name in a file or data set is which field of a problem."""


class JsonlSettings(TaskSettings):
    """Problems from a file of {"prompt", "answer"} rows, judged by the math checker unless another is named."""

    prompts: ClassVar[str] = "math"
    file: ClassVar[str | None] = "path"
    columns_field: ClassVar[str | None] = "columns"

    kind: Literal["jsonl"] = "jsonl"
    path: Path = Field(strict=False)
    test_share: Part = 0.1
    """The part of the prompts that is held out; 1 for a file of test problems."""
    columns: Columns = Field(default_factory=dict)
    """Which name in the file is which field, such as {question: prompt, gold: answer}."""
    checker: str = "math"
    """Judges the answers: a checker's name, or `package.module:Name` of a user's own."""

    def open(self) -> JsonlTask:
        """Reads the file.

        Raises:
            TaskError: the file or some of its rows are unusable.
        """
        return JsonlTask(self.path, test_share=self.test_share, columns=self.columns, judged_by=self.checker)

    @property
    def title(self) -> str:
        return self.path.name
