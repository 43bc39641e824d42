"""Tests as plain JSON data, in four forms."""

import functools
import symtable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.code.formats import published, take_names

_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_DOTTED = r"^[A-Za-z_][A-Za-z0-9_]*(\(\))?(\.[A-Za-z_][A-Za-z0-9_]*)*$"


class _Tests(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    given: str = ""
    """Python that the task gives: runs before the program, in its process, and again, out of its reach, before the
    tests. HumanEval's prompts (imports, helper functions, the stub) are such code. Its functions are the tests' own;
    its classes live with the program."""


class _Code(_Tests):
    isolation: Literal["jail", "together"] | None = None
    """"together": these tests must run in the program's process, which a checker has to allow,
    `UnitTestChecker(isolation="together")`; "jail": they need not, whatever the checker does; None: as it does."""


class Asserts(_Code):
    """Python with assert statements that use the program's names; every testing statement counts as one test.

    Functions `test_...()` are called, with each of the sets of arguments that `pytest.mark.parametrize` gives; the
    methods of a `unittest.TestCase` (or of a class `Test...`) are run; so are doctests in a docstring of the tests. A
    name that is builtin (`sum`) is never taken from the program.
    """

    kind: Literal["asserts"] = "asserts"
    code: str | list[str]


class CheckFunction(_Code):
    """Python that defines `check(candidate)`, as in HumanEval, and the name of the function to hand it."""

    kind: Literal["function"] = "function"
    code: str
    entry_point: Annotated[str, Field(pattern=_NAME)]


class Case(BaseModel):
    """One call and what it must return. JSON has neither tuples nor keys other than text: lists and tuples count as the
    same, and so do a number or None as a key and its text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    args: list[JsonValue] = []
    kwargs: dict[str, JsonValue] = {}
    expected: JsonValue


class Calls(_Tests):
    """Calls of one function with the values they must return: `[[args, expected], ...]` or a list of `Case`.

    `function` is a name, or a method of an object made anew for each case: "Solution().twoSum".
    """

    kind: Literal["calls"] = "calls"
    function: Annotated[str, Field(pattern=_DOTTED)]
    cases: Annotated[list[Case], Field(min_length=1)]
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Relative and absolute, for floats only."""
    unordered: bool = False
    """The expected list stands for a set: its items in any order, and a set may be returned."""
    wrapped: bool = False
    """A value may stand in a list of one, as in APPS and TACO: [5] is expected where 5 is returned."""

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("cases"), (list, tuple)):
            return data | {"cases": [_case(entry) for entry in data["cases"]]}
        return data


class StdinCase(BaseModel):
    """What a program reads and what it must print; lines may be given as a list. `seconds` is a limit of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stdin: str = ""
    stdout: str
    seconds: Annotated[float, Field(gt=0, lt=3600)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, data: Any) -> Any:
        if isinstance(data, (list, tuple)) and len(data) == 2:
            data = {"stdin": data[0], "stdout": data[1]}
        return {name: _joined(value) for name, value in data.items()} if isinstance(data, dict) else data


class StdinStdout(BaseModel):
    """Runs of the whole program, each in a process of its own: `[[stdin, stdout], ...]` or a list of `StdinCase`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["stdio"] = "stdio"
    cases: Annotated[list[StdinCase], Field(min_length=1)]
    compare: Literal["tokens", "lines", "exact"] = "tokens"
    """"tokens": split at white space, numbers by their value; "lines": spaces at line ends and empty lines at the end
    do not count; "exact": every character counts."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = None
    """For numbers, relative and absolute, where tokens are compared. None: none, but 1e-6 where the number expected is
    written with six decimals or more, which no two programs round alike."""
    judge: str = ""
    """A special judge, where answers are not unique: Python that defines `judge(stdin, printed, expected)`, which
    returns whether the answer is right. It is run in a jail of its own."""
    seconds: Annotated[float, Field(gt=0, lt=3600)] | None = None
    """Wall-clock limit of each case, in place of the checker's deadline for them all together."""

    @model_validator(mode="after")
    def _one_comparison(self) -> "StdinStdout":
        if self.judge and (self.tolerance is not None or self.compare != "tokens"):
            raise ValueError("a special judge decides alone: leave out compare and tolerance")
        if self.tolerance is not None and self.compare != "tokens":
            raise ValueError('a tolerance has an effect only with compare="tokens"')
        return self


AnySuite = Asserts | CheckFunction | Calls | StdinStdout
Suite = Annotated[AnySuite, Field(discriminator="kind")]
_SUITE: TypeAdapter[AnySuite] = TypeAdapter(Suite)
_KINDS = {"asserts", "function", "calls", "stdio"}


def read_suite(tests: Any) -> AnySuite:
    """Tests in any accepted form.

    A string or list of strings is `Asserts`. A dict may leave out its "kind" where its fields tell it: "entry_point",
    "function", "code", or cases with "stdin". Three shorter forms are read as well: {"pairs": [[args, expected], ...],
    "entry_point": name}, {"check": source, "entry_point": name} and {"stdin_stdout": [[stdin, stdout], ...]}. So is a
    row of a published data set (`formats.py` lists them).

    Raises:
        CheckerError: they are in none of the forms; says what is wrong with which field.
    """
    if isinstance(tests, AnySuite):
        return tests
    if isinstance(tests, str) or (isinstance(tests, list) and tests and all(isinstance(part, str) for part in tests)):
        tests = {"kind": "asserts", "code": tests}
    if not isinstance(tests, dict):
        raise CheckerError(
            f"tests are asserts (a string or a list of strings) or a dict with one of the kinds {sorted(_KINDS)}; "
            f"got {tests!r:.80}"
        )
    tests = _in_long_form(published(tests))
    try:
        return _SUITE.validate_python({"kind": _kind_of(tests)} | tests)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in _KINDS)
        raise CheckerError(f"tests, field {where or 'kind'!r}: {first['msg']}") from None


def names_needed(suite: AnySuite) -> frozenset[str]:
    """Names that a suite needs the program to define, as far as its text tells."""
    if isinstance(suite, Calls):
        return frozenset({suite.function.partition(".")[0].removesuffix("()")})
    if isinstance(suite, CheckFunction):
        return frozenset({suite.entry_point})
    if isinstance(suite, StdinStdout):
        return frozenset()
    return _free_names("\n".join([suite.code] if isinstance(suite.code, str) else suite.code))


@functools.lru_cache(maxsize=256)
def _free_names(code: str) -> frozenset[str]:
    """Names that the tests use at any depth and neither define nor import."""
    try:
        top = symtable.symtable(code, "tests.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    used, waiting = set[str](), [top]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        used |= {name.get_name() for name in table.get_symbols() if name.is_global() or table is top}
    own = {name.get_name() for name in top.get_symbols() if name.is_assigned() or name.is_imported()}
    return frozenset(used - own | take_names(code))


def idle_programs(suite: AnySuite) -> list[tuple[str, str]]:
    """Programs that do nothing, which no suite may let pass: what each is, and its text."""
    name = getattr(suite, "function", None) or getattr(suite, "entry_point", None)
    programs = [("an empty program", "")]
    if name and "." not in name:
        programs.append(("a function that returns None", f"def {name}(*args, **kwargs):\n    return None\n"))
    elif name:
        owner, _, method = name.partition(".")
        stub = f"class {owner.removesuffix('()')}:\n    def {method.rpartition('.')[2]}(*args, **kwargs):\n"
        programs.append(("a method that returns None", f"{stub}        return None\n"))
    elif isinstance(suite, Asserts) and (names := sorted(names_needed(suite))):
        stubs = "".join(f"def {name}(*args, **kwargs):\n    return None\n" for name in names)
        programs.append(("a program whose functions return None", stubs))
    return programs


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


def _joined(value: Any) -> Any:
    """Lines as one text."""
    if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return value
