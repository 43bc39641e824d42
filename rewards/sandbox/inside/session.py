"""The tests' connection to the program: asks it to do things, and reads its answers as plain data."""

import builtins
import collections
import datetime
import decimal
import fractions
import reprlib
import select
from collections.abc import Callable, Generator, Iterator
from typing import Any, NoReturn, TypeVar

from selfcorrect.rewards.sandbox import framing
from selfcorrect.rewards.sandbox.inside.values import NamedTuple, NotPlain, Reader, Writer

# What the tests hold in place of the program's functions and objects.
#
# The rule that keeps it honest: only plain data is compared with anything. An object of the program can be called, its
# attributes, items, length and text can be read, it can be iterated and awaited, all by asking; but an operator between
# it and a test's data (`==`, `<`, `+`, `in`, ...) would let it decide about itself, and shows it what the test expects.
# So that is refused, and a refusal fails the test even if the test's code catches the exception.

_Kind = TypeVar("_Kind")
_REFUSED = (
    "lt le gt ge add radd sub rsub mul rmul matmul rmatmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod pow rpow "
    "lshift rlshift rshift rrshift and rand xor rxor or ror neg pos abs invert contains int float complex index round trunc floor ceil "
    "iadd isub imul itruediv ifloordiv imod ipow iand ior ixor reversed copy deepcopy reduce_ex bytes"
)


class Remote:
    """A function, class or object that lives with the program."""

    __slots__ = ("_label", "_reference", "_session")
    _session: "Session"
    _reference: list[Any]
    _label: str

    def __init__(self, session: "Session", reference: list[Any], label: str) -> None:
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_reference", reference)
        object.__setattr__(self, "_label", label)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._session.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__doc__", "__wrapped__"):
            raise AttributeError(name)
        return self._session.ask("getattr", self, name, label=f"{self._label}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self._session.ask("setattr", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._session.ask("getitem", self, key, label=f"{self._label}[...]")

    def __setitem__(self, key: Any, value: Any) -> None:
        self._session.ask("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._session.ask("delitem", self, key)

    def __len__(self) -> int:
        return self._exactly(int, "len")

    def __bool__(self) -> bool:
        return self._exactly(bool, "bool")

    def __str__(self) -> str:
        return self._exactly(str, "str")

    def __repr__(self) -> str:
        return self._exactly(str, "repr")

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._session.ask("iter", self, label=f"iter({self._label})")
        return iterator if isinstance(iterator, Remote) else self._session.refuse("it is no iterable object")

    def __next__(self) -> Any:
        return self._session.ask("next", self, label=f"next({self._label})")

    def __await__(self) -> Generator[None, None, Any]:
        yield from ()
        return self._session.ask("await", self, label=f"await {self._label}")

    def __enter__(self) -> Any:
        return self._session.ask("enter", self, label=self._label)

    def __exit__(self, *_: object) -> None:
        self._session.ask("exit", self)

    def __get__(self, instance: Any, _: Any = None) -> Any:
        """In a class of the tests a function of the program is a method, as any function would be."""
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return False if other is None else self._refuse("==")

    def __ne__(self, other: object) -> bool:
        return True if other is None else self._refuse("!=")

    __hash__ = object.__hash__

    def _exactly(self, kind: type[_Kind], operation: str) -> _Kind:
        value: object = self._session.ask(operation, self)
        if type(value) is not kind:
            self._session.refuse(f"{operation}() of it is no {kind.__name__}")
        return value

    def _refuse(self, operation: str) -> NoReturn:
        self._session.refuse(
            f"{self._label} gave an object of the program ({self._reference[-1]}), and {operation} needs plain data: numbers, "
            "text, lists, tuples, dicts, sets"
        )


def _refusal(name: str) -> Callable[..., None]:
    def refuse(self: Remote, *_: Any) -> None:
        self._refuse(name)

    return refuse


for _name in _REFUSED.split():
    setattr(Remote, f"__{_name}__", _refusal(_name))


# How a call and its outcome are told, in one bounded line, to a person or to a policy that shall correct itself.

_MAX_LINE = 300


class _Named:
    """Stands for a function or object in the wording of a call."""

    def __init__(self, what: Any) -> None:
        self._what = what

    def __repr__(self) -> str:
        return f"<{self._what}>" if isinstance(self._what, str) else "<function>"


_SHOWN = (
    bool, type(None), float, complex, bytes, bytearray, range, fractions.Fraction, decimal.Decimal, datetime.date, datetime.datetime,
    datetime.time, datetime.timedelta, collections.Counter, collections.OrderedDict, collections.defaultdict, NamedTuple, _Named,
)  # fmt: skip


class _Brief(reprlib.Repr):
    """`repr`, bounded in length and depth, that asks no object of the program."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxset = 4, 12, 12, 8, 12
        self.maxstring = self.maxother = self.maxlong = 100

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, Remote):
            return f"<{x._reference[-1]} object>"
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 4000 else f"<integer of {x.bit_length()} bits>"

    def repr_instance(self, x: Any, level: int) -> str:
        # Other objects show their address, and a reason must be the same every time.
        return super().repr_instance(x, level) if type(x) in _SHOWN else f"<{type(x).__name__}>"


_brief = _Brief()


def brief(value: Any) -> str:
    """A value in at most 300 characters."""
    return one_line(_brief.repr(value))


def one_line(text: str) -> str:
    """Text without line breaks, cut to 300 characters."""
    flat = " ".join(text[: 4 * _MAX_LINE].split())
    return flat if len(flat) <= _MAX_LINE else flat[: _MAX_LINE - 3] + "..."


class Exchange:
    """One question to the program and what came of it. Nothing is formatted until somebody asks."""

    def __init__(self, operation: str, written: Any, target: Any, label: str) -> None:
        self._operation, self._written, self._target, self._label = operation, written, target, label
        self._outcome: tuple[str, Any] | None = None

    @property
    def label(self) -> str:
        return self._label

    @property
    def may_stop(self) -> bool:
        """Whether StopIteration is a proper end of it."""
        return self._operation == "next"

    @property
    def ended(self) -> bool:
        return self._outcome is not None

    def returned(self, value: Any) -> None:
        self._outcome = "returned", value

    def raised(self, text: str) -> None:
        self._outcome = "raised", text

    def asked(self) -> str:
        """What was asked: "f(3)". Read from the message, because the call may have changed its arguments since."""
        if self._operation != "call" or not isinstance(self._target, Remote):
            return self._label or self._operation
        try:
            _, args, kwargs = Reader(lambda written: _Named(written[-1])).read(self._written)
        except NotPlain:
            return self._label
        parts = [brief(value) for value in args] + [f"{name}={brief(value)}" for name, value in kwargs.items()]
        return one_line(f"{self._target._label}({', '.join(parts)})")

    def told(self) -> str:
        """What was asked and what came of it: "f(3) returned 8"."""
        if self._outcome is None:
            return f"{self.asked()} did not return"
        how, what = self._outcome
        return one_line(f"{self.asked()} {how} {brief(what) if how == 'returned' else what}")


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
            # `TheirError = Exception` in a program would make a test that expects TheirError catch its own `assert
            # False`.
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
                # As in a generator (PEP 479): otherwise a call within `all(map(...))` would end the test early, and
                # passed.
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
        """The builtin class itself, or a class here that stands for one of the program's, below its nearest builtin
        base."""
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
