"""Plain data as tagged JSON, both ways, and nothing else: no pickle, no classes, no code.

What crosses is None, bool, int, float, str as JSON writes them, and lists headed by a tag. Mutable containers are
numbered within a message, so that shared and cyclic structures keep their shape, and the containers of a call's
arguments are known again in its answer. Only exact types are written: an instance of a subclass, which could bring its
own `__eq__`, is not plain. The exceptions are named tuples, enumerations of numbers and strings, and the containers of
`collections`, which are rebuilt from their content.

The reader trusts nothing: a wrong tag, an unhashable key, a deep nest or a huge number is a `NotPlain`.
"""

import collections
import datetime
import decimal
import enum
import fractions
import importlib
import io
from collections.abc import Callable, Iterable
from typing import Any

from selfcorrect.rewards.sandbox.inside.array_values import read_array, write_array

MAX_DEPTH = 100
_MAX_DIGITS = 400_000  # hexadecimal
_JSON_INT = 2**53
_MAX_DECIMAL = 2_000
_FACTORIES = {kind.__name__: kind for kind in (list, dict, set, int, float, str, tuple, bool)}

Mutable = (
    list,
    dict,
    set,
    bytearray,
    collections.deque,
    collections.Counter,
    collections.OrderedDict,
    collections.defaultdict,
    io.StringIO,
    io.BytesIO,
)
_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
_NAMED = {"PosixPath": "pathlib", "PurePosixPath": "pathlib", "PureWindowsPath": "pathlib", "UUID": "uuid"}
"""Classes whose objects are told by their text, and their modules, which are loaded when one comes."""
_STAND_INS = f"{__package__}.proxies"
_TIMES = (datetime.date, datetime.datetime, datetime.time)


PLAIN_BASES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, bytearray)
}
"""What a class may extend whose objects count, for a comparison, as the plain content they have."""


class NotPlain(Exception):
    """A value that cannot cross, or a message that holds none.

    Attributes:
        by_kind: it is of a kind that never crosses, whatever is in it.
    """

    def __init__(self, reason: str, *, by_kind: bool = False) -> None:
        super().__init__(reason)
        self.by_kind = by_kind


class Writer:
    """Writes values for one message.

    Args:
        foreign: how to write what is no plain data (a function, an object): tag and payload, or `NotPlain`.
        known: containers of the message answered, which are referred to by number.
    """

    def __init__(self, foreign: Callable[[Any], list[Any]], known: Iterable[Any] = ()) -> None:
        self._foreign = foreign
        self.containers: list[Any] = list(known)
        self._numbers = {id(container): number for number, container in enumerate(self.containers)}

    def write(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is float:
            return value
        if kind is int:
            return value if -_JSON_INT < value < _JSON_INT else ["i", format(value, "x")]
        if depth > MAX_DEPTH:
            raise NotPlain(f"nested deeper than {MAX_DEPTH}")
        if kind is tuple:
            return ["t", [self.write(item, depth + 1) for item in value]]
        if kind in Mutable:
            number = self._numbers.get(id(value))
            if number is not None:
                return ["r", number]
            number = self._numbers[id(value)] = len(self.containers)
            self.containers.append(value)
            return [*self.content(value, depth), number]
        return self._rarer(kind, value, depth)

    def content(self, value: Any, depth: int = 0) -> list[Any]:
        """A mutable container as its tag and what is in it."""
        kind = type(value)
        if kind is list:
            return ["l", [self.write(item, depth + 1) for item in value]]
        if kind is set:
            return ["s", [self.write(item, depth + 1) for item in value]]
        if kind is bytearray:
            return ["B", value.hex()]
        if kind is collections.deque:
            return ["q", [self.write(item, depth + 1) for item in value], value.maxlen]
        if kind is io.StringIO:
            return ["I", value.getvalue(), value.tell()]
        if kind is io.BytesIO:
            return ["J", value.getvalue().hex(), value.tell()]
        pairs = [[self.write(key, depth + 1), self.write(item, depth + 1)] for key, item in value.items()]
        if kind is collections.defaultdict:
            return ["D", pairs, self._factory(value.default_factory)]
        return ["C" if kind is collections.Counter else "O" if kind is collections.OrderedDict else "d", pairs]

    def _factory(self, factory: Any) -> Any:
        name = getattr(factory, "__name__", None)
        if factory is None or (type(name) is str and _FACTORIES.get(name) is factory):
            return name
        return self._foreign(factory)

    def _rarer(self, kind: type, value: Any, depth: int) -> list[Any]:
        if kind.__module__ == _STAND_INS:  # the most frequent of all
            return self._foreign(value)
        if kind is frozenset:
            return ["z", [self.write(item, depth + 1) for item in value]]
        if kind is bytes:
            return ["b", value.hex()]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind is range:
            return ["R", *(self.write(part) for part in (value.start, value.stop, value.step))]
        if kind is fractions.Fraction:
            return ["F", self.write(value.numerator), self.write(value.denominator)]
        if kind is decimal.Decimal:
            return ["M", str(value)]
        if kind in _TIMES:
            return ["T", kind.__name__, value.isoformat()]
        if kind is datetime.timedelta:
            return ["T", "timedelta", [value.days, value.seconds, value.microseconds]]
        if kind is slice:
            return ["S", *(self.write(part, depth + 1) for part in (value.start, value.stop, value.step))]
        if kind in _VIEWS:
            return ["V", _VIEWS[kind], self.write(dict(value) if _VIEWS[kind] == "items" else list(value), depth + 1)]
        if _NAMED.get(kind.__name__) == kind.__module__.partition(".")[0]:
            return ["P", kind.__name__, str(value)]
        if kind is collections.ChainMap:
            return ["H", [self.write(part, depth + 1) for part in value.maps]]
        if kind.__module__ == "array" and kind.__name__ == "array":
            return ["A", value.typecode, value.tobytes().hex()]
        if kind.__module__.partition(".")[0] in ("numpy", "pandas") and (written := write_array(value, self.write)):
            return written
        return self._extended(kind, value, depth)

    def _extended(self, kind: type, value: Any, depth: int) -> list[Any]:
        """A named tuple, or an enumeration of numbers or strings, of the tests' own; everything else is foreign."""
        if kind is NamedTuple:
            return ["N", list(value._fields), [self.write(item, depth + 1) for item in value]]
        if kind.__module__ == "solution":
            return self._foreign(value)
        if issubclass(kind, tuple) and isinstance(fields := getattr(kind, "_fields", None), tuple):
            return ["N", list(fields), [self.write(item, depth + 1) for item in tuple.__iter__(value)]]
        if issubclass(kind, enum.Enum) and issubclass(kind, (int, str)):
            base = int if issubclass(kind, int) else str
            return ["e", self.write(base.__index__(value) if base is int else str.__str__(value))]
        return self._foreign(value)


class Reader:
    """Reads the values of one message into fresh objects of builtin types.

    Args:
        foreign: what a tag that is no plain data means here; raises `NotPlain` for unknown ones.
        known: containers that the message may refer to by number.
    """

    def __init__(self, foreign: Callable[[list[Any]], Any], known: Iterable[Any] = ()) -> None:
        self._foreign = foreign
        self.containers: dict[int, Any] = dict(enumerate(known))

    def read(self, written: Any) -> Any:
        try:
            return self._read(written, 0)
        except NotPlain:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise NotPlain(f"a malformed value ({type(error).__name__})") from None

    def refill(self, container: Any, content: list[Any]) -> None:
        """Give a container the content written by `Writer.content`, in place. Its kind cannot change."""
        try:
            fresh = self._read([*content, -1], 0)
            del self.containers[-1]
            if type(fresh) is not type(container):
                raise NotPlain("an argument changed its type")
            _refill(container, fresh)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise NotPlain(f"a malformed value ({type(error).__name__})") from None

    def _read(self, written: Any, depth: int) -> Any:
        kind = type(written)
        if kind is not list:
            if kind is dict:
                raise NotPlain("a malformed value")
            return written
        if depth > MAX_DEPTH + 2:
            raise NotPlain(f"nested deeper than {MAX_DEPTH}")
        tag, body = written[0], written[1]
        if tag == "l":
            items = self._number(written[2], [])
            items.extend([self._read(item, depth + 1) for item in body])
            return items
        if tag == "t":
            return tuple([self._read(item, depth + 1) for item in body])
        if tag in ("d", "C", "O", "D"):
            return self._mapping(written, depth)
        if tag == "r":
            return self.containers[body]
        if tag == "i":
            return self._integer(body)
        return self._rarer(tag, written, depth)

    def _number(self, number: Any, container: Any) -> Any:
        if type(number) is not int or (number in self.containers and number >= 0):
            raise NotPlain("a malformed value")
        self.containers[number] = container
        return container

    def _mapping(self, written: list[Any], depth: int) -> Any:
        empty: Any = {}
        if written[0] == "C":
            empty = collections.Counter()
        elif written[0] == "O":
            empty = collections.OrderedDict()
        elif written[0] == "D":
            factory = written[2]
            empty = collections.defaultdict(
                self._foreign(factory) if type(factory) is list else _FACTORIES.get(factory)
            )
        mapping = self._number(written[-1], empty)
        for key, item in written[1]:
            mapping[self._read(key, depth + 1)] = self._read(item, depth + 1)
        return mapping

    def _integer(self, digits: str) -> int:
        if type(digits) is not str or len(digits) > _MAX_DIGITS:
            raise NotPlain("a number of too many digits")
        return int(digits, 16)

    def _rarer(self, tag: Any, written: list[Any], depth: int) -> Any:
        body = written[1]
        if tag == "s":
            items = self._number(written[2], set())
            items.update([self._read(item, depth + 1) for item in body])
            return items
        if tag == "q":
            queue = self._number(written[3], collections.deque(maxlen=written[2]))
            queue.extend([self._read(item, depth + 1) for item in body])
            return queue
        if tag == "B":
            return self._number(written[2], bytearray.fromhex(body))
        if tag == "I":
            return self._number(written[3], _stream(io.StringIO, str(body), written[2]))
        if tag == "J":
            return self._number(written[3], _stream(io.BytesIO, bytes.fromhex(body), written[2]))
        if tag == "V":
            content = self._read(written[2], depth + 1)
            mapping = (
                content if body == "items" else dict.fromkeys(content) if body == "keys" else dict(enumerate(content))
            )
            return {"keys": mapping.keys, "values": mapping.values, "items": mapping.items}[body]()
        if tag == "H":
            return collections.ChainMap(*(self._read(part, depth + 1) for part in body))
        if tag == "z":
            return frozenset([self._read(item, depth + 1) for item in body])
        if tag == "b":
            return bytes.fromhex(body)
        if tag == "N":
            return NamedTuple.made([str(name) for name in body], [self._read(item, depth + 1) for item in written[2]])
        if tag == "e":
            return self._read(body, depth + 1)
        reader = _SCALARS.get(tag) if type(tag) is str else None
        return reader(self, *written[1:]) if reader else self._foreign(written)


class NamedTuple(tuple[Any, ...]):
    """A named tuple from the other side: a tuple whose items have names too."""

    _names: tuple[str, ...]

    @classmethod
    def made(cls, names: list[str], items: list[Any]) -> "NamedTuple":
        made = cls(items)
        made._names = tuple(names)
        return made

    def __getattr__(self, name: str) -> Any:
        if name == "_fields":
            return self._names
        if name.startswith("_") or name not in self._names:
            raise AttributeError(name)
        return self[self._names.index(name)]


def _complex(_: Reader, real: float, imaginary: float) -> complex:
    return complex(float(real), float(imaginary))


def _range(reader: Reader, *parts: Any) -> range:
    return range(*map(reader.read, parts))


def _fraction(reader: Reader, numerator: Any, denominator: Any) -> fractions.Fraction:
    return fractions.Fraction(reader.read(numerator), reader.read(denominator))


def _decimal(_: Reader, text: str) -> decimal.Decimal:
    if type(text) is not str or len(text) > _MAX_DECIMAL:
        raise NotPlain("a number of too many digits")
    return decimal.Decimal(text)


def _time(_: Reader, kind: str, content: Any) -> Any:
    if kind == "timedelta":
        return datetime.timedelta(*content)
    kinds: dict[str, Callable[[str], Any]] = {
        "date": datetime.date.fromisoformat,
        "datetime": datetime.datetime.fromisoformat,
        "time": datetime.time.fromisoformat,
    }
    return kinds[kind](content)


def _slice(reader: Reader, *parts: Any) -> slice:
    return slice(*map(reader.read, parts))


def _named(_: Reader, kind: str, text: str) -> Any:
    """A path or a UUID."""
    return getattr(importlib.import_module(_NAMED[kind]), kind)(text)


def _array(_: Reader, typecode: str, content: str) -> Any:
    made = importlib.import_module("array").array(typecode)
    made.frombytes(bytes.fromhex(content))
    return made


def _numpy(reader: Reader, *parts: Any) -> Any:
    return read_array(list(parts), reader.read)


_SCALARS: dict[str, Callable[..., Any]] = {
    "c": _complex,
    "R": _range,
    "F": _fraction,
    "M": _decimal,
    "T": _time,
    "S": _slice,
    "P": _named,
    "A": _array,
    "a": _numpy,
}


def _stream(kind: Any, content: Any, position: int) -> Any:
    stream = kind(content)
    stream.seek(position)
    return stream


def _refill(container: Any, fresh: Any) -> None:
    if isinstance(container, (list, bytearray)):
        container[:] = fresh
        return
    if isinstance(container, (io.StringIO, io.BytesIO)):
        container.seek(0)
        container.truncate()
        container.write(fresh.getvalue())
        container.seek(fresh.tell())
        return
    container.clear()
    if isinstance(container, collections.deque):
        container.extend(fresh)
    elif isinstance(container, collections.Counter):
        dict.update(container, fresh)
    else:
        container.update(fresh)
