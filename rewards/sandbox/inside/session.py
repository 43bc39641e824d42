"""The tests' connection to the program: asks it to do things, and reads its answers as plain data."""

import builtins
import select
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from selfcorrect.rewards.sandbox import framing
from selfcorrect.rewards.sandbox.inside.remote import Remote
from selfcorrect.rewards.sandbox.inside.values import NotPlain, Reader, Writer
from selfcorrect.rewards.sandbox.inside.wording import Exchange

_PATIENCE_MS = 50
_MAX_LABEL = 100
_CATCHABLE = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (Warning, BaseExceptionGroup))
}


class ProgramGone(Exception):
    """The program's process ended, or speaks nonsense. Fails the test that was running, whatever that catches."""


class Refused(Exception):
    """A test's code did with an object of the program what only plain data may be used for."""


class Unloadable(Exception):
    """The program cannot be run at all.

    Attributes:
        readable: whether it is Python at all (it compiles).
    """

    def __init__(self, reason: str, *, readable: bool) -> None:
        super().__init__(reason)
        self.readable = readable


class Session:
    """One program and the tests' view of it.

    Attributes:
        fault: what failed in a way no test may forgive; reset by the tester between tests.
        last: the last exchange, for telling what failed.
        gone: the program closed its side of the connection.
        exchanges: how many answers the program has given since it was loaded.
    """

    def __init__(self, channel: int, slow: Callable[[Exchange], None]) -> None:
        self.fault: str | None = None
        self.last: Exchange | None = None
        self.exchanges = 0
        self.gone = False
        self._channel, self._slow = framing.Channel(channel), slow
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._functions: list[Callable[..., Any]] = []
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, Remote] = {}
        self._exceptions: dict[str, type[Exception]] = {}

    def load(self, program: str, given: str) -> dict[str, list[Any]]:
        """Run the program's text; what it defines: names, each with its kind.

        Raises:
            Unloadable: it cannot be compiled, or it raised, or it ended.
        """
        try:
            self._send(["load", program, given])
            answer = self._receive()
        except ProgramGone:
            raise Unloadable(self.fault or "the program ended", readable=True) from None
        if answer[0] != "loaded":
            raise Unloadable(str(answer[1]), readable=answer[0] != "unreadable")
        return {str(name): kind for name, *kind in answer[1]}

    def named(self, name: str, kind: list[Any]) -> Any:
        """What the tests get under a name of the program."""
        if kind[0] == "exception":
            self.exchanges += 1  # from here on the program can be why the tests' own code fails
            found = self._exception_class([str(base) for base in kind[1]])
            # `TheirError = Exception` in a program would make a test that expects TheirError catch its own `assert False`.
            return type(name[:_MAX_LABEL], (Exception,), {}) if issubclass(AssertionError, found) else found
        return self.function(name) if kind[0] == "object" else self.ask("get", name, label=name)

    def function(self, name: str) -> Remote:
        """A function of the program, whether it exists or not."""
        return Remote(self, ["n", name, "function"], name)

    def call(self, function: Remote, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.ask("call", function, args, kwargs, label=f"{function._label}(...)")

    def ask(self, operation: str, *operands: Any, label: str = "") -> Any:
        """Have the program do something; its result, as plain data or `Remote`.

        Raises:
            ProgramGone, Refused: see there. Also whatever the program raised, as an exception of this side.
        """
        writer = Writer(self._foreign)
        try:
            written = writer.write(operands)
        except NotPlain as problem:
            self.refuse(f"the test hands over what cannot cross to the program: {problem}")
        self.last = exchange = Exchange(operation, written, operands[0], label[:_MAX_LABEL])
        self._send([operation, written])
        while True:
            answer = self._receive()
            if answer[0] != "callback":
                return self._result(answer, writer, exchange)
            self._call_back(answer)

    def refuse(self, reason: str) -> NoReturn:
        """Fail the test that is running."""
        raise Refused(self._fault(reason))

    def _result(self, answer: list[Any], writer: Writer, exchange: Exchange) -> Any:
        self.exchanges += 1
        self.last = exchange
        try:
            value, error = self._read(answer, writer, exchange)
        except (NotPlain, LookupError, TypeError, ValueError) as problem:
            exchange.raised(str(problem))
            self.refuse(f"its result is no plain data: {problem!s:.300}")
        if error is not None:
            raise error
        return value

    def _read(self, answer: list[Any], writer: Writer, exchange: Exchange) -> tuple[Any, Exception | None]:
        """The result of an exchange, or the exception it ended with."""
        reader = Reader(self._reader_of(exchange.label), writer.containers)
        if answer[0] == "ok":
            value = reader.read(answer[1])
            self._apply(reader, writer, answer[2])
            exchange.returned(value)
            return value, None
        if answer[0] == "raise":
            error = self._exception(reader, answer)
            self._apply(reader, writer, answer[4])
            exchange.raised(str(answer[3]))
            if isinstance(error, (StopIteration, StopAsyncIteration)) and not exchange.may_stop:
                # As in a generator (PEP 479): otherwise a call within `all(map(...))` would end the test early, and passed.
                error = RuntimeError(f"the program raised {type(error).__name__} outside an iterator")
            return None, error or Refused(self._fault(f"the program raised {answer[3]!s:.300}"))
        if answer[0] == "unfit":
            exchange.raised(str(answer[1]))
            raise NotPlain(str(answer[1]))
        return self._gone("the program answered nonsense")

    def _apply(self, reader: Reader, writer: Writer, changes: Any) -> None:
        """Do to the test's own arguments what the program did to its copies of them."""
        for number, content in changes:
            reader.refill(writer.containers[number], content)

    def _exception(self, reader: Reader, answer: list[Any]) -> Exception | None:
        """The program's exception as one of this side; None for those that no test may catch (SystemExit, ...)."""
        bases = [str(base) for base in answer[1]]
        if not any(base in _CATCHABLE for base in bases):
            return None
        try:
            args = reader.read(answer[2])
            return self._exception_class(bases)(*args)
        except (NotPlain, TypeError):
            return ValueError(str(answer[3])) if "ValueError" in bases else Exception(str(answer[3]))

    def _exception_class(self, bases: list[str]) -> type[Exception]:
        """The builtin class itself, or a class here that stands for one of the program's, below its nearest builtin base."""
        name = bases[0] if bases[0].isidentifier() else "Exception"
        if name in _CATCHABLE:
            return _CATCHABLE[name]
        if name not in self._exceptions:
            parent = next(
                (
                    self._exceptions.get(base) or _CATCHABLE[base]
                    for base in bases[1:]
                    if base in self._exceptions or base in _CATCHABLE
                ),
                Exception,
            )
            self._exceptions[name] = type(name[:_MAX_LABEL], (parent,), {})
        return self._exceptions[name]

    def _call_back(self, message: list[Any]) -> None:
        """Run a function of the tests that the program calls."""
        try:
            function = self._functions[message[1]]
            args, kwargs = Reader(self._reader_of("an argument")).read(message[2])
            result = Writer(self._foreign).write(function(*args, **kwargs))
        except (ProgramGone, Refused):
            raise
        except Exception as error:  # noqa: BLE001 - goes on to the program, which called
            name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _CATCHABLE)
            self._send(["back raise", name, str(error)[:400]])
        else:
            self._send(["back", result])

    def _foreign(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            return value._reference
        if isinstance(value, Iterator):
            return ["g", self._register(lambda: [item] if (item := next(value, _END)) is not _END else [])]
        if callable(value):
            return ["f", self._register(value)]
        raise NotPlain(f"{type(value).__name__!r} is no plain data")

    def _register(self, function: Callable[..., Any]) -> int:
        number = self._numbers.setdefault(id(function), len(self._functions))
        if number == len(self._functions):
            self._functions.append(function)
        return number

    def _reader_of(self, label: str) -> Callable[[list[Any]], Any]:
        def foreign(written: list[Any]) -> Any:
            tag, body = written[0], written[1]
            if tag == "f":
                return self._functions[body]
            if tag != "o" or type(body) is not int:
                raise NotPlain("a malformed value")
            if body not in self._remotes:
                self._remotes[body] = Remote(self, ["o", body, str(written[2])[:_MAX_LABEL]], label)
            remote = self._remotes[body]
            return _waiting(remote) if written[2] == "coroutine" else remote

        return foreign

    def _send(self, message: list[Any]) -> None:
        try:
            self._channel.send(message)
        except framing.ChannelClosed:
            self.gone = True
            self._gone("the program ended")
        except framing.BadMessage as problem:
            self.refuse(f"a test's arguments are too large: {problem}")

    def _receive(self) -> list[Any]:
        if not self._poll.poll(_PATIENCE_MS) and self.last is not None:
            self._slow(self.last)
        try:
            answer = self._channel.receive()
        except framing.ChannelClosed:
            self.gone = True
            self._gone("the program ended")
        except framing.BadMessage as problem:
            self.refuse(f"its result is no plain data: {problem}")
        if isinstance(answer, list) and len(answer) > 1 and isinstance(answer[0], str):
            return answer
        return self._gone("the program answered nonsense")

    def _gone(self, reason: str) -> NoReturn:
        raise ProgramGone(self._fault(reason))

    def _fault(self, reason: str) -> str:
        self.fault = self.fault or reason
        return reason


_END = object()


async def _waiting(remote: Remote) -> Any:
    return await remote
