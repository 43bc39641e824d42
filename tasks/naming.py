"""How a task is named on the command line: NAME, NAME-NUMBER, NAME:FILE, a file, OWNER/NAME of the Hub, or
package.module:Name, some with parameters after a comma."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import is_address, nearest
from selfcorrect.rewards.code.examples import as_tests
from selfcorrect.setting_groups import explain
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.tasks.registry import TASKS, TaskSettings
from selfcorrect.tasks.tables import FILE_ENDINGS

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def with_parameters(values: Any, field: str, own: Collection[str]) -> Any:
    """Settings whose `field` may hold `NAME,key=value,...`: the pairs become fields of these settings if they are among
    `own`, and parameters (`config`) of what NAME stands for if not.

    Raises:
        ConfigurationError: one of them is no pair.
    """
    if not isinstance(values, Mapping) or "," not in str(values.get(field, "")):
        return values
    name, given = name_and_pairs(str(values[field]))
    fields = {key: given.pop(key) for key in own if key in given}
    return {**values, field: name, "config": {**values.get("config", {}), **given}, **fields}


def name_and_pairs(text: str) -> tuple[str, dict[str, Any]]:
    """From "NAME,key=value,..." NAME and the pairs."""
    name, *pairs = text.split(",")
    given: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (key and equals and value):
            raise ConfigurationError(f"{text}: expected key=value after {name}, got {pair!r}")
        given[key] = yaml.safe_load(value)
    return name, given


def task_settings(name: str, *, columns: Mapping[str, str] | None = None, **fields: Any) -> TaskSettings:
    """The settings that `name` stands for.

    Args:
        name: "countdown", "countdown-5", "FORMAT:FILE", the path of a file, "OWNER/NAME" of the Hub, or
            `package.module:Name`.
        columns: which column of the file is which field of a problem, such as {"question": "prompt"}.
        **fields: more settings of the task.

    Raises:
        ConfigurationError: it stands for nothing, or a setting does not fit it.
    """
    kind, given = _kind_and_fields(name)
    found = TASKS.find(kind)
    if columns:
        if found.columns_field is None:
            raise ConfigurationError(f"--map names columns of a file, but {_without_columns(kind, name)}")
        given[found.columns_field] = dict(columns)
    try:
        return found.model_validate({"kind": kind, **given, **fields})
    except ValidationError as error:
        raise ConfigurationError(explain(error, found, source=f"--task {name}")) from error


def _without_columns(kind: str, name: str) -> str:
    """Why a task has no columns that can be named."""
    if kind not in TASKS or TASKS[kind].file is None:
        return f"{name} has none of its own to name"
    return f"{kind} has those of the published data set; a file with others is named alone, as in --task rows.jsonl"


def _kind_and_fields(name: str) -> tuple[str, dict[str, Any]]:
    kind, colon, file = name.partition(":")
    if _has_pairs(name, file):
        named, pairs = name_and_pairs(name)
        kind, fields = _kind_and_fields(named)
        return kind, {**fields, **pairs}
    if kind in TASKS:
        if not colon:
            return kind, {}
        field = TASKS[kind].file
        if field is None:
            raise ConfigurationError(f"--task {name}: {kind} makes its problems up and reads no file")
        return kind, {field: file}
    if name.endswith(".py"):
        raise ConfigurationError(
            f"--task {name}: a task of your own is named {Path(name).stem}:NAME, by what the file calls it"
        )
    if name.endswith(FILE_ENDINGS) or Path(name).is_file():
        return _kind_of_file(name), {"path": name}
    kind, dash, number = name.rpartition("-")
    if dash and kind in TASKS and TASKS[kind].number is not None and number.isdigit():
        return kind, {str(TASKS[kind].number): int(number)}
    if is_address(name):
        return name, {}
    if _HUB_ID.fullmatch(name):
        return "hub", {"dataset": name}
    known = ", ".join(TASKS[kind].spellings(kind) for kind in TASKS)
    raise ConfigurationError(
        f"unknown task {name!r}{nearest(name, TASKS)}; expected {known}, the path of a file "
        f"({', '.join(FILE_ENDINGS)}), OWNER/NAME of the Hub, or package.module:Name for one of your own"
    )


def _has_pairs(name: str, file: str) -> bool:
    """Whether `key=value` pairs that stand behind a comma in `name` are fields of its settings."""
    head, comma, _ = name.partition(",")
    if not comma or any(Path(one).exists() for one in (name, file) if one):
        return False
    kind = head.partition(":")[0]
    if kind in TASKS:
        return bool(TASKS[kind].named_fields)
    return is_address(head) or _HUB_ID.fullmatch(head) is not None


def _kind_of_file(name: str) -> str:
    """The task that reads a file of that ending."""
    return "jsonl"


def open_task(name: str, *, words: bool = False, columns: Mapping[str, str] | None = None, **fields: Any) -> Task:
    """The task that `name` stands for; see `task_settings`. `words` asks made-up problems in English sentences.

    Raises:
        ConfigurationError: it stands for nothing.
        TaskError: its file is unusable.
    """
    return task_settings(name, columns=columns, **fields).worded(words).open()


def problem_of_question(question: str, *, words: bool) -> Problem | None:
    """`question` as a problem of the kind that recognises it, or of code with the examples that it shows as its tests;
    None if it is neither."""
    for kind in TASKS:
        problem = TASKS[kind].recognise(question, words=words)
        if problem is not None:
            return problem
    tests = as_tests(question) if words and _ASKS_FOR_CODE.search(question) else []
    return Problem(id="question", prompt=question.strip(), reference=tests, checker="code") if tests else None


_ASKS_FOR_CODE = re.compile(r"^[ \t]*(?:>>>|assert\b|(?:async[ \t]+)?def[ \t])", re.MULTILINE)
"""A doctest, a test or the head of a function. Calls with a value behind them are in questions of mathematics, too."""
