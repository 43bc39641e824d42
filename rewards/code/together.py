"""Tests that run in the program's process, and why its word is not simply taken.

For tests that nothing can stand in for (`isolation="together"`): the program is loaded, and then the tests are, as if
the two were one file. There, a program can read the tests and forge what they report. So no single run is believed.
Every assert that stands by itself is a *point*, and the tests run in `RUNS` processes: each point is as written in one
of them, drawn at random, and in the others what it expects is changed (4 becomes 5, "ab" becomes "ba") or, where it
expects no literal, turned round (`assert not ...`). A right program holds every point once, and fails it every other
time. One that decides the outcome itself, by objects that equal everything, by leaving early, by writing to the
channel, or by reading the expected value from the stack, has to guess which is which: with n points that expect
literals it is paid once in `RUNS` to the power of n.

What that gives up is in `docs/code-tests.md`.
"""

import ast
import functools
import math
import random
import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from selfcorrect.rewards import framing
from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code.examples import is_value
from selfcorrect.rewards.code.findings import Finding
from selfcorrect.rewards.code.suites import Asserts, CheckFunction
from selfcorrect.rewards.sandbox.inside.suite import POINT_FAILED, POINT_HELD, TestCode, UnusableTests
from selfcorrect.rewards.sandbox.zygote_pair import LAST_BREATH, ZygotePair, was_starved

RUNS = 4
_MAX_REPORT = 4_000_000
_OPPOSITE = {"True": "False", "In": "NotIn", "Is": "IsNot", "IsInstance": "NotIsInstance", "IsNone": "IsNotNone"}
_OPPOSITE |= {"Equal": "NotEqual", "AlmostEqual": "NotAlmostEqual", "Greater": "LessEqual", "Less": "GreaterEqual"}
_OPPOSITE |= {other: name for name, other in _OPPOSITE.items()}
"""unittest's assertions, without the word, that say the contrary of one another."""
_DECIDED = "a test passed although what it expects had been changed"
_chance = random.SystemRandom()
_writing = threading.RLock()
"""Checks run in threads and share the trees of their tests, which are changed in place; and CPython 3.11 counts
the depth of the tree that it parses for all threads together, so that two at once can end in a SystemError."""


def judge_together(
    pair: ZygotePair, program: str, suite: Asserts | CheckFunction, deadline: float, every: bool
) -> Finding:
    """Run the tests `RUNS` times, each for `deadline` seconds at most; all as it must be, or the first that was not.

    `every`: make all runs, to know the share of points that were as they must be.

    Raises:
        ZygoteLost: a process was killed from outside.
    """
    entry_point = suite.entry_point if isinstance(suite, CheckFunction) else None
    try:
        tests = _points_of(suite.code if isinstance(suite.code, str) else tuple(suite.code), entry_point)
    except UnusableTests as problem:
        return Finding(Status.UNJUDGED, f"the tests cannot be used: {problem}")
    real = [_chance.randrange(RUNS) for _ in range(tests.count)]
    bad, first = set[int](), ""
    for number in range(RUNS):
        changed = {point for point in range(tests.count) if real[point] != number}
        job = {"program": program, "given": suite.given}
        run = _run(pair, job, {"code": tests.written(changed), "entry_point": entry_point}, deadline)
        if (ended := _ended(run, tests, deadline)) is not None:
            return ended
        wrong = _not_as_it_must_be(run, tests, changed)
        bad |= wrong.keys()
        first = first or next(iter(wrong.values()), "")
        if bad and not every:
            return Finding(Status.WRONG, first)
    share = max(0.0, 1 - len(bad) / tests.count)  # one that forges everything has every point wrong, though no unit
    return (
        Finding(Status.WRONG, first, share)
        if bad
        else Finding(
            Status.CORRECT, f"passed {tests.units} of {tests.units} tests, and failed them when they were changed", 1.0
        )
    )


def has_points(suite: Asserts | CheckFunction) -> bool:
    """Whether there is anything in the tests that could be changed."""
    entry_point = suite.entry_point if isinstance(suite, CheckFunction) else None
    try:
        return bool(_points_of(suite.code if isinstance(suite.code, str) else tuple(suite.code), entry_point).count)
    except UnusableTests:
        return False


def _ended(run: "_Run", tests: "_Tests", deadline: float) -> Finding | None:
    """The verdict on a run that did not come to its end."""
    last = run.last or {}
    if "unusable" in last:
        return Finding(Status.UNJUDGED, f"the tests cannot be used: {last['unusable']}")
    if "unloadable" in last:
        status = Status.WRONG if last.get("readable") else Status.UNREADABLE
        return Finding(
            status, f"passed 0 of {tests.units} tests; the program cannot be run: {last['unloadable']!s:.300}"
        )
    if run.starved:
        return Finding(Status.UNJUDGED, f"the machine was too busy to run the program within {deadline:g} s")
    if run.timed_out:
        return Finding(Status.WRONG, f"no result within {deadline:g} s")
    if "done" not in last:
        return Finding(Status.WRONG, "the program ended before its tests did")
    return None


def _not_as_it_must_be(run: "_Run", tests: "_Tests", changed: set[int]) -> dict[int, str]:
    """What went wrong, by point (and then by unit: numbers from `tests.count` on)."""
    wrong: dict[int, str] = {}
    for point in range(tests.count):
        said = run.points.get(point)
        if not said:
            wrong[point] = run.stopped or "a test was not run to its end"
        elif point in changed and any(held for held, _ in said):
            wrong[point] = _DECIDED
        elif point not in changed and not all(held for held, _ in said):
            wrong[point] = "; ".join(dict.fromkeys(why for held, why in said if not held))[:300]
    for unit in range(tests.units):
        said_why = run.units.get(unit, ["it was not reached"])
        if failed := [why for why in said_why if why is not None]:
            wrong[tests.count + unit] = f"test {unit + 1} failed: {failed[0]}"
    return wrong


# One run.


@dataclass(slots=True)
class _Run:
    """What was reported, and how it ended."""

    points: dict[int, list[tuple[bool, str]]] = field(default_factory=lambda: defaultdict(list))
    units: dict[int, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    last: dict[str, Any] | None = None
    stopped: str = ""
    timed_out: bool = False
    starved: bool = False

    def add(self, message: Any) -> None:
        """Take in one message; anything may stand in it."""
        if not isinstance(message, dict):
            self.last = {}
        elif type(number := message.get("point")) is int:
            self.points[number].append((message.get("held") is True, str(message.get("why", ""))))
        elif type(number := message.get("unit")) is int:
            self.units[number].append(None if message.get("why") is None else str(message["why"])[:300])
        elif "stopped" in message:
            self.stopped = str(message["stopped"])[:300]
        elif not message.keys() & {"tests", "loaded"}:
            self.last = message


def _run(pair: ZygotePair, job: dict[str, Any], tests: dict[str, Any], deadline: float) -> _Run:
    start, run = time.monotonic(), _Run()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pair.programs.fork("together", deadline, [theirs.fileno()])
        try:
            _converse(ours, job, tests, start + deadline, run)
        except (OSError, framing.BadMessage):
            run.last = run.last or {}
        waited = pair.waited_for_processor(pair.programs.child_pid()) if run.timed_out else 0.0
        ending = pair.programs.end_child(0.0 if run.last or run.timed_out else LAST_BREATH)
    run.starved = run.timed_out and was_starved(waited, ending.cpu_seconds, ending.pauses, time.monotonic() - start)
    if not run.last:
        pair.blame_outsiders(ending)
    return run


def _converse(channel: socket.socket, job: dict[str, Any], tests: dict[str, Any], until: float, run: _Run) -> None:
    """Hand over the program, and, once it is loaded, the tests; hear the report until it ends or time is up."""
    channel.setblocking(False)
    unsent, heard, buffer, loaded = memoryview(framing.packed(job)), 0, framing.MessageBuffer(), False
    poll = select.poll()
    while run.last is None:
        poll.register(channel, select.POLLIN | (select.POLLOUT if unsent else 0))
        events = poll.poll(max(0.0, until - time.monotonic()) * 1000)
        if not events:
            run.timed_out = True
            return
        if unsent and events[0][1] & select.POLLOUT:
            unsent = unsent[channel.send(unsent) :]
        if events[0][1] & (select.POLLIN | select.POLLHUP):
            data = channel.recv(65536)
            heard += len(data)
            if not data or heard > _MAX_REPORT:
                return
            buffer.add(data)
            while (message := buffer.next()) is not None:
                run.add(message)
                if not loaded and isinstance(message, dict) and "loaded" in message:
                    loaded, unsent = True, memoryview(framing.packed(tests))


# The points of the tests.


class _Tests:
    """Tests with their points.

    Attributes:
        count: how many points there are.
        units: how many tests, as `TestCode` counts them.
    """

    def __init__(self, sources: list[str], entry_point: str | None) -> None:
        self._parts: list[ast.Module | str] = []
        self.count = 0
        self._places: list[tuple[list[ast.stmt], int, ast.stmt]] = []
        for source in sources:
            try:
                tree = ast.parse(source)
            except SyntaxError:  # examples of doctest
                self._parts.append(source)
                continue
            self._parts.append(tree)
            for body in _bodies(tree, entry_point):
                self._places += [(body, at, statement) for at, statement in enumerate(body) if _is_point(statement)]
        self.count = len(self._places)
        self.units = TestCode(self.written(set()), entry_point).count
        if not self.count:
            raise UnusableTests(
                'isolation="together": no assert stands by itself in them, so nothing would keep the program from '
                "reporting what it likes"
            )

    def written(self, changed: set[int]) -> list[str]:
        """The tests as text, with these points changed."""
        with _writing:
            for number, (body, at, statement) in enumerate(self._places):
                body[at] = _wrapped(_changed(statement) if number in changed else statement, number)
            return [part if isinstance(part, str) else ast.unparse(part) for part in self._parts]


@functools.lru_cache(maxsize=64)
def _points_of(code: str | tuple[str, ...], entry_point: str | None) -> _Tests:
    with _writing:
        return _Tests([code] if isinstance(code, str) else list(code), entry_point)


def _bodies(tree: ast.Module, entry_point: str | None) -> Iterator[list[ast.stmt]]:
    """The statements that are certain to run: of the module, of `check`, of test functions and methods."""
    if entry_point is None:
        yield tree.body
    for node in tree.body:
        for part in node.body if isinstance(node, ast.ClassDef) and entry_point is None else [node]:
            if not isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            fixture = any("fixture" in ast.unparse(decorator) for decorator in part.decorator_list)
            if part.name == "check" if entry_point is not None else part.name.startswith("test") and not fixture:
                yield part.body


def _is_point(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assert):
        return not isinstance(statement.test, ast.Tuple)
    return _opposite(statement) is not None


def _opposite(statement: ast.stmt) -> str | None:
    """The name of the assertion that says the contrary of `self.assert...(...)`; None for other statements."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr[:6] != "assert":
        return None
    other = _OPPOSITE.get(call.func.attr[6:])
    return other and f"assert{other}"


def _wrapped(statement: ast.stmt, number: int) -> ast.stmt:
    frame = ast.parse(f"try:\n    pass\n    {POINT_HELD}({number})\nexcept:\n    {POINT_FAILED}({number})").body[0]
    assert isinstance(frame, ast.Try)
    frame.body[0] = statement
    return frame


def _changed(statement: ast.stmt) -> ast.stmt:
    """A point that fails for every program that holds it as it stands."""
    copy = ast.parse(ast.unparse(statement)).body[0]
    if isinstance(copy, ast.Assert):
        copy.test = _contrary(copy.test)
    else:
        assert isinstance(copy, ast.Expr) and isinstance(copy.value, ast.Call)
        name, args = copy.value.func.attr, copy.value.args  # type: ignore[attr-defined]
        if not (
            name in ("assertEqual", "assertAlmostEqual")
            and len(args) >= 2
            and not copy.value.keywords
            and _change_one(args, about=name == "assertAlmostEqual")
        ):
            copy.value.func.attr = _opposite(copy)  # type: ignore[attr-defined]
    return copy


def _contrary(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        sides = [test.left, test.comparators[0]]
        kind = type(test.ops[0])
        truth = isinstance(sides[1], ast.Constant) and type(sides[1].value) is bool
        if (kind is ast.Eq or (kind is ast.Is and truth)) and _change_one(sides, about=False):
            return ast.Compare(sides[0], test.ops, [sides[1]])
        swapped = {ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}.get(kind)
        if swapped is not None:
            return ast.Compare(test.left, [swapped()], test.comparators)
    return ast.UnaryOp(ast.Not(), test)


def _change_one(sides: list[ast.expr], *, about: bool) -> bool:
    """Change the literal among the first two of `sides`, where one is and the other is not; whether that was done."""
    for mine, other in ((1, 0), (0, 1)):
        try:
            value = ast.literal_eval(sides[mine])
            new = another(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        if about and type(value) not in (int, float):
            return False
        sides[mine] = ast.parse(repr(new), mode="eval").body
        return not is_value(sides[other])
    return False


def another(value: Any) -> Any:
    """A value like this one, of its type, that it does not equal.

    Raises:
        ValueError: there is none (None), or none that can be written as a literal.
    """
    kind = type(value)
    if kind is bool:
        return not value
    if kind is int:
        return value + _chance.choice([-2, -1, 1, 1, 2, *([10, -10] if abs(value) > 20 else [])])
    if kind is float and math.isfinite(value):
        return value + _chance.choice([-1, 1, 2]) * (1.0 if abs(value) < 10 else round(abs(value) / 4, 1))
    if kind is str:
        return _another_text(value)
    if kind is bytes:
        return _another_text(value.decode("latin-1")).encode("latin-1", "replace")
    if kind in (list, tuple):
        return kind(_another_list(list(value)))
    if kind is dict and value:
        key = _chance.choice(list(value))
        return value | {key: another(value[key])}
    if kind is set and value:
        item = _chance.choice(sorted(value, key=repr))
        return (value - {item}) | {new} if (new := another(item)) not in value else value - {item}
    raise ValueError("no other value is like this one")


def _another_text(text: str) -> str:
    places = [at for at in range(len(text) - 1) if text[at] != text[at + 1]]
    if places and _chance.random() < 0.5:
        at = _chance.choice(places)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if not text:
        return _chance.choice("abxyz01")
    at = _chance.randrange(len(text))
    alphabet = "0123456789" if text[at].isdigit() else "aeiounrst" if text[at].islower() else "AEIOUNRST"
    return text[:at] + _chance.choice([c for c in alphabet if c != text[at]]) + text[at + 1 :]


def _another_list(items: list[Any]) -> list[Any]:
    if not items:
        return [_chance.randrange(10)]
    at = _chance.randrange(len(items))
    try:
        items[at] = another(items[at])
    except ValueError:
        del items[at]
    return items
