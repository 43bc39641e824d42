"""Tests as plain JSON data, in four forms."""

import os
import select
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.sandbox import framing
from selfcorrect.rewards.sandbox.zygote_pair import ZygotePair, was_starved

MAX_JOB_BYTES = 3_000_000
"""Program and tests together, as JSON."""


class _Tests(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    given: str = ""
    """Python that the task gives: runs before the program, in its process, and again, out of its reach, before the
    tests. HumanEval's prompts (imports, helper functions, the stub) are such code. Its functions are the tests' own;
    its classes live with the program."""


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

    A string or list of strings is `Asserts`. A dict may leave out its "kind" where its fields tell it: "entry_point",
    "function", "code", or cases with "stdin". Three shorter forms are read as well: {"pairs": [[args, expected], ...],
    "entry_point": name}, {"check": source, "entry_point": name} and {"stdin_stdout": [[stdin, stdout], ...]}.

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


# Whole programs judged by what they print: each case is a process of its own, and its output is compared here.

_SLACK = 65_536
_MAX_COMPLAINT = 4096
_GRACE = 0.5
"""Seconds that a program which has closed its output may take to end."""


@dataclass(slots=True)
class Run:
    """What one run of a program came to.

    Attributes:
        printed: its output, cut a little above the length expected.
        complaint: the end of its standard error.
        exit_code: 0 if all went well; negative: a signal.
        timed_out: the deadline passed first.
        too_long: it printed much more than expected.
        starved: it missed the deadline because other programs had the processors.
    """

    printed: bytes = b""
    complaint: bytes = b""
    exit_code: int = 0
    timed_out: bool = False
    too_long: bool = False
    starved: bool = False


def run_script(pair: ZygotePair, program: str, case: StdinCase, until: float) -> Run:
    """Run `program` on one case's input, until the `time.monotonic()` instant `until` at most.

    Raises:
        ZygoteLost: a process was killed from outside.
    """
    start = time.monotonic()
    code, given, printed, complaint = (os.pipe() for _ in range(4))
    theirs = [code[0], given[0], printed[1], complaint[1]]
    talk = _Conversation(
        to_send={code[1]: framing.packed(program), given[1]: case.stdin.encode("utf-8", "surrogatepass")},
        printed=printed[0],
        complaint=complaint[0],
        limit=len(case.stdout.encode("utf-8", "surrogatepass")) + _SLACK,
    )
    try:
        try:
            pid = pair.programs.fork("script", max(0.01, until - time.monotonic()), theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        timed_out = not talk.finished_by(until)
    finally:
        talk.close()
    too_long = talk.overflowed
    waited = pair.waited_for_processor(pid) if timed_out else 0.0
    ending = pair.programs.end_child(0.0 if timed_out or too_long else min(_GRACE, max(0.0, until - time.monotonic())))
    pair.blame_outsiders(ending)
    starved = timed_out and was_starved(waited, ending.cpu_seconds, time.monotonic() - start)
    return Run(
        bytes(talk.heard[printed[0]]), bytes(talk.heard[complaint[0]]), ending.exit_code, timed_out, too_long, starved
    )


class _Conversation:
    """Feeds a program and hears it, both at once, so that neither side waits for ever on a full pipe.

    Args:
        to_send: what to write, by descriptor.
        printed: the program's standard output.
        complaint: its standard error; the last 4 KiB are kept.
        limit: how many bytes of output are too many.
    """

    def __init__(self, to_send: dict[int, bytes], printed: int, complaint: int, limit: int) -> None:
        self._unsent = {descriptor: memoryview(data) for descriptor, data in to_send.items()}
        self._printed, self._limit = printed, limit
        self._open = {*to_send, printed, complaint}
        self._poll = select.poll()
        self.heard = {descriptor: bytearray() for descriptor in (printed, complaint)}
        for descriptor in to_send:
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLOUT)
        for descriptor in self.heard:
            self._poll.register(descriptor, select.POLLIN)

    def finished_by(self, until: float) -> bool:
        """Whether the program closed its output, or overflowed it, before the instant `until`."""
        while self._open & self.heard.keys() and not self.overflowed:
            events = self._poll.poll(max(0.0, until - time.monotonic()) * 1000)
            if not events:
                return False
            for descriptor, _ in events:
                self._hear(descriptor) if descriptor in self.heard else self._send(descriptor)
        return True

    @property
    def overflowed(self) -> bool:
        return len(self.heard[self._printed]) > self._limit

    def close(self) -> None:
        for descriptor in list(self._open):
            self._end(descriptor)

    def _hear(self, descriptor: int) -> None:
        data = os.read(descriptor, 65536)
        if data:
            self.heard[descriptor] += data
            if descriptor != self._printed:
                del self.heard[descriptor][:-_MAX_COMPLAINT]
        else:
            self._end(descriptor)

    def _send(self, descriptor: int) -> None:
        try:
            self._unsent[descriptor] = self._unsent[descriptor][os.write(descriptor, self._unsent[descriptor]) :]
        except BlockingIOError:
            return
        except OSError:  # the program does not read (any more)
            self._unsent[descriptor] = memoryview(b"")
        if not self._unsent[descriptor]:
            self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._open.discard(descriptor)
        os.close(descriptor)
