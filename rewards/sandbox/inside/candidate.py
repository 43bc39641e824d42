"""The side of the program under judgement: loads it, and does what the tests ask of it.

This runs in the same process as the program, which can rewrite any of it. That gains it nothing: whatever is said here
is read as plain data by `tester.py`, in another process, and no test, expected value or verdict ever comes here.
"""

import _sitebuiltins
import ast
import builtins
import collections
import contextlib
import copy
import importlib
import io
import math
import operator
import random
import socket
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Self

from selfcorrect.rewards import framing
from selfcorrect.rewards.sandbox.inside import REHEARSALS, attacks, script
from selfcorrect.rewards.sandbox.inside.special import SPECIAL, has_special
from selfcorrect.rewards.sandbox.inside.values import PLAIN_BASES, Mutable, NotPlain, Reader, Writer

CHANNEL = 3
_MAX_NAMES = 20_000
_MAX_TEXT = 400
_MAX_OBJECTS = 200_000
_MAX_METHODS = 500


def run() -> None:
    """The role of a child: serve the tester until it is gone."""
    try:
        Candidate(CHANNEL).serve()
    except framing.ChannelClosed:
        return


class TestFunction:
    """A function of the tests, callable from the program; it runs where the tests are."""

    __test__ = False

    def __init__(self, candidate: "Candidate", number: int) -> None:
        self._candidate, self._number = candidate, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._candidate.call_back(self._number, args, kwargs)

    def __get__(self, instance: Any, _: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def items(self) -> Iterator[Any]:
        while True:
            more = self()
            if not more:
                return
            yield more[0]


def _object_of_tests(function: TestFunction, special: list[str]) -> Any:
    """Stands for an object of a class of the tests: what is done with it is done there."""

    def forwarded(name: str) -> Any:
        return lambda self, *operands: function(name, *operands)

    space: dict[str, Any] = {f"__{name}__": forwarded(name) for name in special}
    space |= {f"__{name}__": forwarded(name) for name in ("getattr", "setattr", "delattr")}
    space["_selfcorrect_number"] = function._number
    return type("TestObject", (), space)()


class Candidate:
    """One program and the objects of it that the tests hold."""

    def __init__(self, channel: int) -> None:
        self._channel = framing.Channel(channel)
        self._module = types.ModuleType("solution")
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._told: set[int] = set()
        self._unpatched: dict[tuple[str, str], Any] = {}
        self._printed: io.StringIO | None = None

    def serve(self) -> None:
        while True:
            message = self._channel.receive()
            self._send(answer := self._answer(message))
            if answer[0] == "loaded":
                self._go_ahead(*message[4:])

    def _go_ahead(self, calls: list[Any], names: list[str]) -> None:
        """Calls that the tests are certain to make, if all they name are plain functions, and so is all else that goes
        by one of `names` (the tests know whether)."""
        space = self._module.__dict__
        others = all(_kind(space[name]) == "function" for name in names if name in space)
        if others and all(_kind(space.get(written[1][0][1])) == "function" for _, written in calls):
            for message in calls:
                self._send(self._answer_plain(message[1][1]) or self._answer(message))

    def _answer_plain(self, written: list[Any]) -> list[Any] | None:
        """What `_answer` says of a call without keywords, no argument of which is a container; else None. Most calls
        are such, and each part of this code that a child does not run is memory that is not copied for it."""
        function, args, kwargs = written
        if kwargs[1] or any(type(argument) is list for argument in args[1]):
            return None
        with _Raised() as raised:
            result = getattr(self._module, function[1])(*args[1])
            kind = type(result)
            if kind is int and -_LARGE < result < _LARGE or kind in _WRITTEN_AS_THEY_ARE:
                return ["ok", result, [], *self._output()]
            return self._reply(result, [{}], [[]])
        if isinstance(raised.error, NotPlain):
            return ["unfit", str(raised.error)]
        return self._raised(raised.error, [{}], [[]])

    def call_back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of the tests; meanwhile the tests may ask things of the program again."""
        writer = Writer(self._foreign)
        self._send(["callback", number, writer.write((args, kwargs))])
        while True:
            message = self._channel.receive()
            if message[0] == "back":
                reader = Reader(self._known, writer.containers)
                result = reader.read(message[1])
                for container, content in zip(writer.containers, message[2], strict=False):
                    reader.refill(container, content)
                return result
            if message[0] == "back raise":
                kind = self._objects[message[3][1]] if message[3] else getattr(builtins, message[1])
                raise kind(message[2])
            self._send(self._answer(message))

    def _answer(self, message: list[Any]) -> list[Any]:
        if message[0] == "load":
            return self._load(*message[1:4])
        reader = self._reader()
        try:
            operands = reader.read(message[1])
        except NotPlain as problem:
            return ["unfit", str(problem)]
        arguments = [reader.containers[number] for number in range(len(reader.containers))]
        before = [_snapshot(container) for container in arguments]
        with _Raised() as raised:
            return self._reply(getattr(self, f"_do_{message[0].replace(' ', '_')}")(*operands), arguments, before)
        if isinstance(raised.error, NotPlain):
            return ["unfit", str(raised.error)]
        return self._raised(raised.error, arguments, before)

    def _reply(self, result: Any, arguments: list[Any], before: list[Any]) -> list[Any]:
        writer, told = Writer(self._foreign, arguments), set(self._told)
        try:
            changed = self._changes(writer, arguments, before)
            return ["ok", writer.write(result), changed, *self._output()]
        except NotPlain:
            self._told = told  # the message with the classes it tells of is not sent
            raise

    def _raised(self, error: BaseException, arguments: list[Any], before: list[Any]) -> list[Any]:
        writer, told = Writer(self._foreign, arguments), set(self._told)
        try:
            changed = self._changes(writer, arguments, before)
            args = writer.write(error.args)
            attributes = writer.write({name: value for name, value in vars(error).items() if name[:1] != "_"})
        except NotPlain:
            self._told = told
            changed, args, attributes = [], ["t", []], ["d", [], -1]
        kind = self._class(type(error)) if isinstance(error, Exception) else -1
        return ["raise", kind, args, _told(error), changed, attributes, *self._output()]

    def _output(self) -> list[str]:
        """What was printed since the last answer, where the tests look at it."""
        if self._printed is None:
            return []
        printed = self._printed.getvalue()
        self._printed.seek(0)
        self._printed.truncate()
        return [printed] if printed else []

    def _changes(self, writer: Writer, arguments: list[Any], before: list[Any]) -> list[Any]:
        """What the call did to the mutable containers among its arguments: number and new content."""
        return [
            [number, writer.content(container)]
            for number, (container, old) in enumerate(zip(arguments, before, strict=True))
            if not _unchanged(container, old)
        ]

    def _load(self, program: str, given: str, echo: bool) -> list[Any]:
        sys.modules["solution"] = self._module
        space = self._module.__dict__
        if echo:
            sys.stdout = self._printed = io.StringIO()
        try:
            if given:
                exec(compile(given, "given.py", "exec", dont_inherit=True), space)  # noqa: S102 - in the jail
            code = compile(program, "solution.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            return ["unreadable", _told(error)]
        with _Raised() as raised:
            exec(code, space)  # noqa: S102 - in the jail
            return ["loaded", _names(space)]
        if isinstance(raised.error, EOFError):  # it reads input, and there is none
            with _Raised() as raised:
                run_without_input(program, space)
                return ["loaded", _names(space)]
        return ["failed", _told(raised.error)]

    # What the tests can ask for, by name.

    def _do_get(self, name: str) -> Any:
        value = getattr(self._module, name)
        # A container that tests may change stays here: what they do to it, the program must see.
        return _Opaque(value) if type(value) in (list, dict, set, bytearray) else value

    def _do_call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(*args, **kwargs)

    def _do_getattr(self, target: Any, name: str) -> Any:
        return getattr(target, name)

    def _do_setattr(self, target: Any, name: str, value: Any) -> None:
        setattr(target, name, value)

    def _do_delattr(self, target: Any, name: str) -> None:
        delattr(target, name)

    def _do_module(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)

    def _do_patch(self, module: str, name: str, value: Any) -> None:
        space = vars(sys.modules.get(module) or importlib.import_module(module))
        self._unpatched.setdefault((module, name), space.get(name, _Raised))
        space[name] = value

    def _do_unpatch(self, module: str, name: str) -> None:
        vars(sys.modules[module])[name] = self._unpatched.pop((module, name))

    def _do_seed(self, value: Any) -> None:
        random.seed(value)
        if "numpy" in sys.modules and type(value) is int:
            sys.modules["numpy"].random.seed(value % 2**32)

    def _do_getitem(self, target: Any, key: Any) -> Any:
        return target[key]

    def _do_setitem(self, target: Any, key: Any, value: Any) -> None:
        target[key] = value

    def _do_delitem(self, target: Any, key: Any) -> None:
        del target[key]

    def _do_op(self, target: Any, name: str, *operands: Any) -> Any:
        return _OPERATIONS[name](target, *operands)

    def _do_equals(self, target: Any, other: Any) -> bool:
        return bool(target == other)

    def _do_contains(self, target: Any, items: list[Any]) -> list[bool]:
        found = []
        for item in items:
            try:
                found.append(item in target)
            except TypeError:  # a set cannot hold it, say
                found.append(False)
        return found

    def _do_content(self, target: Any) -> Any:
        return _content(target)

    def _do_vars(self, target: Any) -> Any:
        return dict(vars(target))

    def _do_copy(self, target: Any) -> Any:
        return _Opaque(copy.copy(target))

    def _do_deepcopy(self, target: Any) -> Any:
        return _Opaque(copy.deepcopy(target))

    def _do_signature(self, target: Any) -> list[Any]:
        import inspect

        parameters = inspect.signature(target).parameters.values()
        return [[p.name, p.kind.name, [] if p.default is p.empty else [p.default]] for p in parameters]

    def _do_subclass(self, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
        return types.new_class(name, bases, exec_body=lambda body: body.update(space | {"__module__": "solution"}))

    def _do_iter(self, target: Any) -> Any:
        return _Opaque(iter(target))

    def _do_next(self, target: Any) -> Any:
        return next(target)

    def _do_enter(self, target: Any) -> Any:
        return target.__enter__()

    def _do_exit(self, target: Any, told: list[str] | None) -> Any:
        if told is None:
            return target.__exit__(None, None, None)
        kind = getattr(builtins, told[0], None) or self._module.__dict__.get(told[0]) or Exception
        try:
            raise kind(told[1])
        except BaseException as error:  # noqa: BLE001 - what the block of the tests raised
            return target.__exit__(type(error), error, error.__traceback__)

    def _do_await(self, target: Any) -> Any:
        return _run(target)

    # Calls that are awaited.

    def _do_await_special(self, target: Any, name: str) -> Any:
        special = getattr(type(target), name)
        return _run(special(target) if name != "__aexit__" else special(target, None, None, None))

    def _do_call_of_class(
        self, owner: type, name: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return getattr(owner, name)(target, *args, **kwargs)

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
        if tag == "x":
            return _object_of_tests(TestFunction(self, body), written[2])
        if tag == "y":
            return operator.attrgetter(written[2])(importlib.import_module(body))
        if tag == "E":
            return self._known(body)(*self._reader().read(written[2]))
        if tag == "w":
            return getattr(builtins, body)(self._known(written[2]))
        raise NotPlain(f"unknown tag {tag!r}")

    def _foreign(self, value: Any) -> list[Any]:
        kind = type(value)
        if kind is TestFunction:
            return ["f", value._number]
        if kind.__name__ == "TestObject" and "_selfcorrect_number" in vars(kind):
            return ["f", vars(kind)["_selfcorrect_number"]]
        if kind is _Opaque:
            value = value.content
        elif issubclass(kind, type):
            return ["k", self._class(value)]
        elif issubclass(kind, _IMMUTABLE):
            return ["o", self._number(value), self._class(kind), Writer(self._foreign).write(_content(value))]
        return ["o", self._number(value), self._class(type(value))]

    def _number(self, value: Any) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            if len(self._objects) >= _MAX_OBJECTS:
                raise NotPlain(f"more than {_MAX_OBJECTS:,} objects handed to the tests")
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return number

    def _class(self, kind: type) -> Any:
        """A class by its number; in full (see `Session._class_of`) the first time."""
        number = self._number(kind)
        if number in self._told:
            return number
        self._told.add(number)
        bases = [self._class(base) for base in kind.__bases__ if base is not object]
        special = [name for name in SPECIAL if has_special(kind, name)]
        methods = [name for name, value in vars(kind).items() if isinstance(value, types.FunctionType)][:_MAX_METHODS]
        base = next((base.__name__ for base in kind.__mro__ if PLAIN_BASES.get(base.__name__) is base), None)
        listable = type(kind) is not type and hasattr(type(kind), "__iter__")
        return [
            number,
            kind.__name__[:80],
            kind.__module__,
            bases,
            special,
            kind.__hash__ is None,
            methods,
            listable,
            base,
        ]

    def _send(self, message: list[Any]) -> None:
        try:
            self._channel.send(message)
        except framing.BadMessage as problem:
            self._channel.send(["unfit", f"its result is too large: {problem}"])


def run_without_input(program: str, space: dict[str, Any]) -> None:
    """Run a program again without the statements that want input: a script, tested for its functions."""
    for statement in ast.parse(program).body:
        code = compile(ast.Module([statement], []), "solution.py", "exec", dont_inherit=True)
        with contextlib.suppress(EOFError):
            exec(code, space)  # noqa: S102 - in the jail


_WRITTEN_AS_THEY_ARE = (type(None), bool, str, float)
_LARGE = 2**53


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
    return [[name, _kind(value)] for name, value in list(space.items())[:_MAX_NAMES] if type(name) is str]


def _kind(value: Any) -> str:
    """A plain function is called by its name; everything else is asked for."""
    return "function" if type(value) is types.FunctionType else "thing"


def _content(value: Any) -> Any:
    """The plain content of an object whose class extends a builtin one, whatever its class makes of its operators."""
    base = next(base for base in type(value).__mro__ if PLAIN_BASES.get(base.__name__) is base)
    if base is dict:
        return {key: dict.__getitem__(value, key) for key in dict.__iter__(value)}
    if base in (list, tuple, set, frozenset, bytearray, bytes):
        return base(base.__iter__(value))
    if base is str:
        return "".join(str.__iter__(value))
    if base is float:
        return float.__add__(value, 0.0) if value.__class__ else 0.0
    return int.__add__(value, 0) if base is int else complex(complex.__add__(value, 0))


def _run(target: Any) -> Any:
    import asyncio

    async def wait() -> Any:
        return await target

    return asyncio.run(wait())


def _operation(name: str) -> Callable[..., Any]:
    """What a special method is for, with all that Python does around it."""
    plain = name.strip("_")
    known: dict[str, Callable[..., Any]] = {
        "hash": hash,
        "bool": bool,
        "len": len,
        "str": str,
        "repr": repr,
        "format": format,
        "int": int,
        "float": float,
        "complex": complex,
        "round": round,
        "reversed": lambda x: _Opaque(reversed(x)),
        "divmod": divmod,
        "pow": pow,
        "aiter": aiter,
        "trunc": math.trunc,
        "floor": math.floor,
        "ceil": math.ceil,
    }
    if plain in known:
        return known[plain]
    found = getattr(operator, plain, None) or getattr(operator, f"{plain}_", None)
    if found is None and plain[:1] == "r":  # reflected
        reflected = getattr(operator, plain[1:], None) or getattr(operator, f"{plain[1:]}_")
        return lambda target, other: reflected(other, target)
    assert found is not None, name
    return found  # type: ignore[no-any-return]


_IMMUTABLE = (int, float, complex, str, bytes, tuple, frozenset)
_NO_OPERATION = frozenset(
    f"__{name}__"
    for name in [
        "call",
        "iter",
        "next",
        "getitem",
        "setitem",
        "delitem",
        "contains",
        "enter",
        "exit",
        "await",
        "anext",
        "aenter",
        "aexit",
        "get",
        "eq",
    ]
)
_OPERATIONS = {name: _operation(name) for name in SPECIAL if name not in _NO_OPERATION}
_OPERATIONS |= {f"__{name}__": _operation(f"__{name}__") for name in ("str", "repr", "format")}


def _snapshot(container: Any) -> Any:
    if isinstance(container, bytearray):
        return bytes(container)
    if isinstance(container, (io.StringIO, io.BytesIO)):
        return (container.getvalue(), container.tell())
    if isinstance(container, dict):
        return [*container.keys(), *container.values()]
    return list(container)


def _unchanged(container: Any, old: Any) -> bool:
    if type(container) not in Mutable:
        raise NotPlain("an argument changed its type")
    new = _snapshot(container)
    if isinstance(container, (bytearray, io.StringIO, io.BytesIO)):
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
    """Let Python set up before the fork what it sets up at first use, and what a program expects of an interpreter."""
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    sys.set_int_max_str_digits(0)  # contest programs print long numbers; the deadline bounds what that costs
    program = "import math\ndef f(x: int) -> int:\n    return [y for y in (x,)][0]\nf(1)"
    ahead = [["call", ["t", [["n", "f", "function"], ["t", [x]], ["d", [], 0]]]] for x in (1, "2", 3.5, None)]
    later = [["call", ["t", [["n", "f", "function"], ["t", [["l", [1], 0]]], ["d", [["x", 2]], 1]]]]]
    for _ in range(REHEARSALS):
        ours, theirs = socket.socketpair()
        with ours, theirs, contextlib.suppress(framing.ChannelClosed):
            for message in (["load", program, "", False, ahead, ["f"]], *later):
                ours.send(framing.packed(message))
            ours.shutdown(socket.SHUT_WR)
            Candidate(theirs.fileno()).serve()
    del sys.modules["solution"]


def run_together() -> None:
    """The role of a child that runs the tests too; its module is loaded only where it is allowed."""
    importlib.import_module("selfcorrect.rewards.sandbox.inside.together").run()


PREPARE: dict[str, Any] = {}
ROLES = {"candidate": run, "script": script.run, "together": run_together, "attack": attacks.run}
