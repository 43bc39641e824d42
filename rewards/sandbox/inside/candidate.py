"""The side of the program under judgement: loads it, and does what the tests ask of it.

This runs in the same process as the program, which can rewrite any of it. That gains it nothing: whatever is said here
is read as plain data by `tester.py`, in another process, and no test, expected value or verdict ever comes here.
"""

import builtins
import collections
import sys
import types
from collections.abc import Iterator
from typing import Any, Self

from selfcorrect.rewards.sandbox import framing
from selfcorrect.rewards.sandbox.inside import attacks, script
from selfcorrect.rewards.sandbox.inside.values import Mutable, NotPlain, Reader, Writer

CHANNEL = 3
_MAX_NAMES = 20_000
_MAX_TEXT = 400
_MAX_OBJECTS = 200_000


def run() -> None:
    """The role of a child: serve the tester until it is gone."""
    try:
        Candidate(CHANNEL).serve()
    except framing.ChannelClosed:
        return


class TestFunction:
    """A function of the tests, callable from the program; it runs where the tests are."""

    def __init__(self, candidate: "Candidate", number: int) -> None:
        self._candidate, self._number = candidate, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._candidate.call_back(self._number, args, kwargs)

    def items(self) -> Iterator[Any]:
        while True:
            more = self()
            if not more:
                return
            yield more[0]


class Candidate:
    """One program and the objects of it that the tests hold."""

    def __init__(self, channel: int) -> None:
        self._channel = framing.Channel(channel)
        self._module = types.ModuleType("solution")
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def serve(self) -> None:
        while True:
            self._send(self._answer(self._channel.receive()))

    def call_back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of the tests; meanwhile the tests may ask things of the program again."""
        self._send(["callback", number, Writer(self._foreign).write((args, kwargs))])
        while True:
            message = self._channel.receive()
            if message[0] == "back":
                return self._reader().read(message[1])
            if message[0] == "back raise":
                raise getattr(builtins, message[1])(message[2])
            self._send(self._answer(message))

    def _answer(self, message: list[Any]) -> list[Any]:
        if message[0] == "load":
            return self._load(*message[1:])
        reader = self._reader()
        try:
            operands = reader.read(message[1])
        except NotPlain as problem:
            return ["unfit", str(problem)]
        arguments = [reader.containers[number] for number in range(len(reader.containers))]
        before = [_snapshot(container) for container in arguments]
        with _Raised() as raised:
            return self._reply(getattr(self, f"_do_{message[0]}")(*operands), arguments, before)
        if isinstance(raised.error, NotPlain):
            return ["unfit", str(raised.error)]
        return self._raised(raised.error, arguments, before)

    def _reply(self, result: Any, arguments: list[Any], before: list[Any]) -> list[Any]:
        writer = Writer(self._foreign, arguments)
        changed = self._changes(writer, arguments, before)
        return ["ok", writer.write(result), changed]

    def _raised(self, error: BaseException, arguments: list[Any], before: list[Any]) -> list[Any]:
        writer = Writer(self._foreign, arguments)
        try:
            changed = self._changes(writer, arguments, before)
            args = writer.write(error.args)
        except NotPlain:
            changed, args = [], ["t", []]
        return ["raise", [kind.__name__ for kind in type(error).__mro__], args, _told(error), changed]

    def _changes(self, writer: Writer, arguments: list[Any], before: list[Any]) -> list[Any]:
        """What the call did to the mutable containers among its arguments: number and new content."""
        return [
            [number, writer.content(container)]
            for number, (container, old) in enumerate(zip(arguments, before, strict=True))
            if not _unchanged(container, old)
        ]

    def _load(self, program: str, given: str) -> list[Any]:
        sys.modules["solution"] = self._module
        space = self._module.__dict__
        try:
            if given:
                exec(compile(given, "given.py", "exec", dont_inherit=True), space)  # noqa: S102 - in the jail
            code = compile(program, "solution.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            return ["unreadable", _told(error)]
        with _Raised() as raised:
            exec(code, space)  # noqa: S102 - in the jail
            return ["loaded", _names(space)]
        return ["failed", _told(raised.error)]

    # What the tests can ask for, by name.

    def _do_get(self, name: str) -> Any:
        return getattr(self._module, name)

    def _do_call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(*args, **kwargs)

    def _do_getattr(self, target: Any, name: str) -> Any:
        return getattr(target, name)

    def _do_setattr(self, target: Any, name: str, value: Any) -> None:
        setattr(target, name, value)

    def _do_getitem(self, target: Any, key: Any) -> Any:
        return target[key]

    def _do_setitem(self, target: Any, key: Any, value: Any) -> None:
        target[key] = value

    def _do_delitem(self, target: Any, key: Any) -> None:
        del target[key]

    def _do_len(self, target: Any) -> int:
        return len(target)

    def _do_bool(self, target: Any) -> bool:
        return bool(target)

    def _do_str(self, target: Any) -> str:
        return str(target)

    def _do_repr(self, target: Any) -> str:
        return repr(target)

    def _do_iter(self, target: Any) -> Any:
        return _Opaque(iter(target))

    def _do_next(self, target: Any) -> Any:
        return next(target)

    def _do_enter(self, target: Any) -> Any:
        return target.__enter__()

    def _do_exit(self, target: Any) -> Any:
        return target.__exit__(None, None, None)

    def _do_await(self, target: Any) -> Any:
        import asyncio

        async def wait() -> Any:
            return await target

        return asyncio.run(wait())

    # Values that are no plain data.

    def _reader(self) -> Reader:
        return Reader(self._known)

    def _known(self, written: list[Any]) -> Any:
        tag, body = written[0], written[1]
        if tag == "n":
            return getattr(self._module, body)
        if tag == "o":
            return self._objects[body]
        if tag == "f":
            return TestFunction(self, body)
        if tag == "g":
            return TestFunction(self, body).items()
        raise NotPlain(f"unknown tag {tag!r}")

    def _foreign(self, value: Any) -> list[Any]:
        if type(value) is TestFunction:
            return ["f", value._number]
        if type(value) is _Opaque:
            value = value.content
        number = self._numbers.get(id(value))
        if number is None:
            if len(self._objects) >= _MAX_OBJECTS:
                raise NotPlain(f"more than {_MAX_OBJECTS:,} objects handed to the tests")
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return ["o", number, "coroutine" if type(value) is types.CoroutineType else type(value).__name__[:80]]

    def _send(self, message: list[Any]) -> None:
        try:
            self._channel.send(message)
        except framing.BadMessage as problem:
            self._channel.send(["unfit", f"its result is too large: {problem}"])


class _Opaque:
    """An iterator that must stay what it is, even if its type is one that could be written."""

    def __init__(self, content: Any) -> None:
        self.content = content


class _Raised:
    """What the program's code raised in a `with` block, anything at all: the code after the block, which is reached in
    no other way, tells the tests of it."""

    error: BaseException

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is not None:
            self.error = error
        return error is not None


def _names(space: dict[str, Any]) -> list[list[Any]]:
    return [[name, *_kind(value)] for name, value in list(space.items())[:_MAX_NAMES] if type(name) is str]


def _kind(value: Any) -> list[Any]:
    """What the tests should see under a name: an exception class of their own, a function or object, or plain data."""
    if isinstance(value, type) and issubclass(value, Exception):
        return ["exception", [kind.__name__ for kind in value.__mro__]]
    return ["object" if callable(value) else "data"]


def _snapshot(container: Any) -> Any:
    if isinstance(container, bytearray):
        return bytes(container)
    if isinstance(container, dict):
        return [*container.keys(), *container.values()]
    return list(container)


def _unchanged(container: Any, old: Any) -> bool:
    if type(container) not in Mutable:
        raise NotPlain("an argument changed its type")
    new = _snapshot(container)
    if isinstance(container, bytearray):
        return bool(new == old)
    return len(new) == len(old) and all(a is b for a, b in zip(new, old, strict=True))


def _told(error: BaseException) -> str:
    """An exception in a line: its class, its message, and the line of the program it came from."""
    try:
        text = f"{type(error).__name__}: {error}"[:_MAX_TEXT].removesuffix(": ")
    except BaseException:  # noqa: BLE001 - a hostile __str__
        text = type(error).__name__[:_MAX_TEXT]
    if isinstance(error, SyntaxError):
        return text
    lines = [line for line in _lines(error) if line]
    return f"{text} (line {lines[-1]})" if lines else text


def _lines(error: BaseException) -> collections.deque[int]:
    found: collections.deque[int] = collections.deque(maxlen=1)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "solution.py":
            found.append(trace.tb_lineno)
        trace = trace.tb_next
    return found


def warm_up() -> None:
    """Let Python set up before the fork what it sets up at first use."""
    exec(compile("import math\ndef f(x: int) -> int:\n    return [x for x in (x,)][0]\nf(1)", "", "exec"), {})  # noqa: S102
    writer = Writer(lambda value: ["o", 0, ""])
    Reader(lambda written: None).read(framing.parsed(framing.packed(writer.write(([1], {2: "3"})))[4:]))


ROLES = {"candidate": run, "script": script.run, "attack": attacks.run}
