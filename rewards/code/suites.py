"""Tests as plain JSON data, in four forms."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator

from selfcorrect.errors import CheckerError

MAX_JOB_BYTES = 3_000_000
"""Program and tests together, as JSON."""


class _Tests(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    given: str = ""
    """Python that the task gives: runs before the program, in its process, and again, out of its reach, before the tests.
    HumanEval's prompts (imports, helper functions, the stub) are such code. Its functions are the tests' own; its classes live with
    the program."""


class Asserts(_Tests):
    """Python with assert statements that use the program's names; every testing statement counts as one test.

    Functions `test_...()` are called. A name that is builtin (`sum`) is never taken from the program.
    """

    kind: Literal["asserts"] = "asserts"
    code: str | list[str]


class CheckFunction(_Tests):
    """Python that defines `check(candidate)`, as in HumanEval, and the name of the function to hand it."""

    kind: Literal["function"] = "function"
    code: str
    entry_point: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Case(BaseModel):
    """One call and what it must return. JSON has no tuples: lists and tuples count as the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    args: list[JsonValue] = []
    kwargs: dict[str, JsonValue] = {}
    expected: JsonValue


class Calls(_Tests):
    """Calls of one function with the values they must return: `[[args, expected], ...]` or a list of `Case`."""

    kind: Literal["calls"] = "calls"
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    cases: Annotated[list[Case], Field(min_length=1)]
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Relative and absolute, for floats only."""

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("cases"), (list, tuple)):
            return data | {"cases": [_case(entry) for entry in data["cases"]]}
        return data


class StdinCase(BaseModel):
    """What a program reads and what it must print; spaces at line ends and empty lines at the end do not count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stdin: str = ""
    stdout: str

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, data: Any) -> Any:
        return {"stdin": data[0], "stdout": data[1]} if isinstance(data, (list, tuple)) and len(data) == 2 else data


class StdinStdout(BaseModel):
    """Runs of the whole program, each in a process of its own: `[[stdin, stdout], ...]` or a list of `StdinCase`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["stdio"] = "stdio"
    cases: Annotated[list[StdinCase], Field(min_length=1)]


Suite = Annotated[Asserts | CheckFunction | Calls | StdinStdout, Field(discriminator="kind")]
_SUITE: TypeAdapter[Asserts | CheckFunction | Calls | StdinStdout] = TypeAdapter(Suite)
_KINDS = {"asserts", "function", "calls", "stdio"}


def read_suite(tests: Any) -> Asserts | CheckFunction | Calls | StdinStdout:
    """Tests in any accepted form.

    A string or list of strings is `Asserts`. A dict may leave out its "kind" where its fields tell it: "entry_point", "function",
    "code", or cases with "stdin". Three shorter forms are read as well: {"pairs": [[args, expected], ...], "entry_point": name},
    {"check": source, "entry_point": name} and {"stdin_stdout": [[stdin, stdout], ...]}.

    Raises:
        CheckerError: they are in none of the forms; says what is wrong with which field.
    """
    if isinstance(tests, (Asserts, CheckFunction, Calls, StdinStdout)):
        return tests
    if isinstance(tests, str) or (isinstance(tests, list) and tests and all(isinstance(part, str) for part in tests)):
        tests = {"kind": "asserts", "code": tests}
    if not isinstance(tests, dict):
        raise CheckerError(
            f"tests are asserts (a string or a list of strings) or a dict with one of the kinds {sorted(_KINDS)}; "
            f"got {tests!r:.80}"
        )
    tests = _in_long_form(tests)
    try:
        return _SUITE.validate_python({"kind": _kind_of(tests)} | tests)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in _KINDS)
        raise CheckerError(f"tests, field {where or 'kind'!r}: {first['msg']}") from None


def idle_programs(suite: Asserts | CheckFunction | Calls | StdinStdout) -> list[tuple[str, str]]:
    """Programs that do nothing, which no suite may let pass: what each is, and its text."""
    name = getattr(suite, "function", None) or getattr(suite, "entry_point", None)
    stub = f"def {name}(*args, **kwargs):\n    return None\n"
    return [("an empty program", ""), *([("a function that returns None", stub)] if name else [])]


_SHORT_FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "pairs": ("calls", {"pairs": "cases", "entry_point": "function"}),
    "check": ("function", {"check": "code"}),
    "stdin_stdout": ("stdio", {"stdin_stdout": "cases"}),
}
"""By the field that tells it: the kind, and the fields that have other names there."""


def _in_long_form(tests: dict[str, Any]) -> dict[str, Any]:
    for mark, (kind, names) in _SHORT_FORMS.items():
        if mark in tests and "kind" not in tests:
            return {"kind": kind} | {names.get(field, field): value for field, value in tests.items()}
    return tests


def _kind_of(tests: dict[str, Any]) -> str:
    if "entry_point" in tests:
        return "function"
    if "function" in tests:
        return "calls"
    return "asserts" if "code" in tests else "stdio"


def _case(entry: Any) -> Any:
    if isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[0], (list, tuple)):
        return {"args": _plain(entry[0]), "expected": _plain(entry[1])}
    if isinstance(entry, dict):
        return {name: _plain(value) for name, value in entry.items()}
    return entry


def _plain(value: Any) -> Any:
    """Tuples as lists, at every depth: a suite is JSON data."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
