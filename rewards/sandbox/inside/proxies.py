"""What the tests hold in place of the program's functions, classes and objects.

A class of the program becomes a class here, with the special methods that it has and no others: an object is
callable, iterable, ordered or hashable here if it is so there. Its attributes, items, length and text are asked for;
what is plain in them is compared here, by the tests.

The rule that keeps it honest: **no object may decide about a test's data.** Two objects of the program may be compared,
added or sorted by what their class says: a program could as well have given equal numbers. Between an object and plain
data of the tests,

- `==` is false, without asking: the question would tell the answer, whatever decoys go with it;
- `in` is asked for together with decoys, in random order: an object that holds them all is refused;
- `+`, `*` and the like must give an object again, whose attributes can be read; `<` is refused. What is left of an
  object when data was subtracted (`f(2) - 4`) is nobody's number: its size, truth and items are refused as well;
- an instance of a subclass of int, str, list, ... counts as the plain content it has, whatever operators it brings.

A refusal fails the test even if the test's code catches the exception.
"""

import datetime
import operator
import random
from collections.abc import Callable, Generator
from typing import Any, NoReturn, Protocol

from selfcorrect.rewards.sandbox.inside.special import ALONE, BINARY, ORDERING


class Asking(Protocol):
    """What proxies need of a session."""

    def ask(self, operation: str, *operands: Any, label: str = "") -> Any: ...
    def refuse(self, reason: str) -> NoReturn: ...
    def subclass(self, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any: ...


class ProxyClass(type):
    """The class of the program's classes here.

    Attributes:
        _told: the session and the number of the program's class; None for the classes of this module.
    """

    _told: "tuple[Asking, list[Any]] | None"

    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        if "_told" in space:
            return super().__new__(mcs, name, bases, space)
        session = next(base._told for base in bases if isinstance(base, ProxyClass) and base._told)[0]
        return session.subclass(name, bases, space)  # a class that the tests derive from one of the program's

    def __init__(cls, *_: Any) -> None:
        """Everything is done in `__new__`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._asking("call", args, kwargs, label=f"{cls.__name__}(...)")

    def __getattr__(cls, name: str) -> Any:
        if cls._told is None or name.startswith("__"):
            raise AttributeError(name)
        return cls._asking("getattr", name, label=f"{cls.__name__}.{name}")

    def __setattr__(cls, name: str, value: Any) -> None:
        if name.startswith("__"):
            type.__setattr__(cls, name, value)
        else:
            cls._asking("setattr", name, value)

    def _asking(cls, operation: str, *operands: Any, label: str = "") -> Any:
        assert cls._told is not None
        return cls._told[0].ask(operation, cls, *operands, label=label)


class ProxyContainerClass(ProxyClass):
    """For classes whose own class has items (Enum's)."""

    def __iter__(cls) -> Any:
        return iter(cls._asking("iter", label=f"iter({cls.__name__})"))

    def __len__(cls) -> int:
        return int(cls._asking("op", "__len__"))

    def __getitem__(cls, key: Any) -> Any:
        return cls._asking("getitem", key, label=f"{cls.__name__}[...]")

    def __contains__(cls, item: Any) -> bool:
        return bool(cls._asking("contains", [item]) == [True])


class Remote(metaclass=ProxyClass):
    """An object that lives with the program. Its attributes are the program's: what is ours is read by functions."""

    __slots__ = ("_difference", "_label", "_reference", "_session")
    _told = None

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            return session_of(self).ask("vars", self, label=f"vars({label_of(self)})")
        if name == "__class__":
            return getattr(type(self), "__poses_as__", type(self))
        if name[:2] == "__" == name[-2:] and name not in _ASKED_FOR:
            return object.__getattribute__(self, name)
        if is_difference(self) and name in _OF_NUMBERS:
            _refuse(self, name)
        if name == "__signature__":
            return _signature(session_of(self).ask("signature", self, label=f"signature({label_of(self)})"))
        return session_of(self).ask("getattr", self, name, label=f"{label_of(self)}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        session_of(self).ask("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        session_of(self).ask("delattr", self, name)

    def __str__(self) -> str:
        return str(_exactly(self, str, "__str__"))

    def __repr__(self) -> str:
        return str(_exactly(self, str, "__repr__"))

    def __format__(self, specification: str) -> str:
        return str(_exactly(self, str, "__format__", specification))

    def __copy__(self) -> Any:
        return session_of(self).ask("copy", self, label=f"copy({label_of(self)})")

    def __deepcopy__(self, _: Any) -> Any:
        return session_of(self).ask("deepcopy", self, label=f"deepcopy({label_of(self)})")

    def __reduce_ex__(self, _: Any) -> NoReturn:
        _refuse(self, "pickling")

    def __eq__(self, other: object) -> Any:
        return _equal(self, other)

    def __ne__(self, other: object) -> Any:
        equal = _equal(self, other)
        return equal if equal is NotImplemented else not equal

    __hash__ = object.__hash__


class Function(Remote):
    """A function or another callable of the program."""

    __slots__ = ()
    _told = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if label_of(self).endswith(".equals") and any(map(_is_of_package, (*args, *kwargs.values()))):
            _refuse(self, "comparing it with a table")  # `equals` of pandas, of an object that only looks like one
        return session_of(self).ask("call", self, args, kwargs, label=f"{label_of(self)}(...)")

    def __get__(self, instance: Any, _: Any = None) -> Any:
        """In a class of the tests a function of the program is a method, as any function would be."""
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)


_ASKED_FOR = frozenset({"__name__", "__qualname__", "__doc__", "__wrapped__", "__signature__", "__annotations__"})


_OF_ARRAYS = "all any dot exp item log max mean min sqrt std sum tolist var"
_OF_NUMBERS = frozenset(
    name
    for kind in (int, float, complex, set, datetime.timedelta)
    for name in (*dir(kind), *_OF_ARRAYS.split())
    if name[:1] != "_"
)
"""What tests ask a difference for: of numbers, sets, times, and arrays."""
_SESSION, _REFERENCE, _LABEL, _DIFFERENCE = (
    Remote.__dict__[slot] for slot in ("_session", "_reference", "_label", "_difference")
)
"""The slots themselves: a class of the program may have attributes of these names."""


def made(kind: type[Remote], session: Asking, reference: list[Any], label: str) -> Remote:
    """An object of the program with which `session` speaks."""
    remote: Remote = object.__new__(kind)
    _SESSION.__set__(remote, session)
    _REFERENCE.__set__(remote, reference)
    _LABEL.__set__(remote, label)
    _DIFFERENCE.__set__(remote, False)
    return remote


def session_of(remote: Remote) -> Asking:
    session: Asking = _SESSION.__get__(remote)
    return session


def reference_of(remote: Remote) -> list[Any]:
    reference: list[Any] = _REFERENCE.__get__(remote)
    return reference


def label_of(remote: Any) -> str:
    return str(_LABEL.__get__(remote)) if is_remote(remote) else str(type.__getattribute__(remote, "__name__"))


def name_of(remote: Remote) -> str:
    """The name of its class, as the program has it."""
    return "function" if type(remote) is Function else str(type.__getattribute__(type(remote), "__name__"))


def is_remote(value: Any) -> bool:
    """By its type: what an object says of its class itself is the program's word."""
    return issubclass(type(value), Remote)


def is_difference(value: Any) -> bool:
    """Whether data of the tests was subtracted from an object to get this one, or it from data."""
    return is_remote(value) and bool(_DIFFERENCE.__get__(value))


def is_of_program(value: Any) -> bool:
    return is_remote(value) or isinstance(value, ProxyClass)


def _is_of_package(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("numpy", "pandas")


def _refuse(remote: Remote, operation: str) -> NoReturn:
    session_of(remote).refuse(
        f"{label_of(remote)} gave an object of the program ({name_of(remote)}), and {operation} "
        f"needs plain data: numbers, "
        "text, lists, tuples, dicts, sets"
    )


def _exactly(remote: Remote, kind: type, operation: str, *operands: Any) -> Any:
    value = session_of(remote).ask("op", remote, operation, *operands)
    if type(value) is not kind:
        session_of(remote).refuse(f"{operation} of it is no {kind.__name__}")
    return value


def _signature(parameters: list[Any]) -> Any:
    import inspect

    return inspect.Signature(
        [
            inspect.Parameter(
                name, getattr(inspect.Parameter, kind), default=default[0] if default else inspect.Parameter.empty
            )
            for name, kind, default in parameters
        ]
    )


# Comparing with plain data.


def plain_content(value: Any) -> Any:
    """What an object of a subclass of list, dict or set holds, as a plain one; anything else itself."""
    if is_remote(value) and hasattr(type(value), "__stands_for__"):
        return session_of(value).ask("content", value)
    return value


def _equal(remote: Remote, other: object) -> Any:
    if remote is other or other is None:
        return remote is other
    session = session_of(remote)
    if hasattr(type(remote), "__stands_for__"):
        return bool(plain_content(remote) == plain_content(other))
    if not hasattr(type(remote), "__compares__") or not is_of_program(other):
        return NotImplemented  # by identity, as for all objects, unless a class of the tests says otherwise
    return bool(session.ask("equals", remote, other, label=f"{label_of(remote)} == ...") is True)


def _holds(remote: Remote, item: Any) -> bool:
    """What an object says of `item` among decoys; refused if it says yes to all of them."""
    if hasattr(type(remote), "__stands_for__"):
        return item in plain_content(remote)
    if is_difference(remote):
        _refuse(remote, "in")
    session, asked = session_of(remote), [item] if is_of_program(item) else [item, *_decoys_of(item)]
    _chance.shuffle(order := list(range(len(asked))))
    answers = session.ask("contains", remote, [asked[place] for place in order])
    if type(answers) is not list or len(answers) != len(asked) or not {type(a) for a in answers} <= {bool}:
        _refuse(remote, "in")
    if all(answers) and len(answers) > 1:
        _refuse(remote, "in")
    return bool(answers[order.index(0)])


_chance = random.SystemRandom()
"""Not the module's own numbers: those start with the same seed in every process, and the program knows them."""


def _decoys_of(datum: Any) -> list[Any]:
    """Values like `datum` that are not it, of its type first."""
    word = "".join(_chance.choices("abcdefghijklmnopqrstuvwxyz", k=8))
    number = _chance.randrange(10**6, 10**9)
    if type(datum) in (int, float):
        return [datum + 1, -datum - 1, datum + number, -number, word]
    if type(datum) is str:
        return [datum + word[0], datum[:-1] + word if datum else word, word, datum * 2 + "x", number]
    if type(datum) in (list, tuple):
        kind = type(datum)
        return [kind([*datum, number]), kind([word]), kind([number, *datum]), number, word]
    return [number, word, [word], (number, word), {word: number}]


# The special methods a class may have.


_SUBTRACTING = frozenset(f"__{way}{name}__" for name in ("sub", "xor") for way in ("", "r", "i"))


def _of_no_difference(operation: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A special method that is refused to an object from which data was subtracted."""

    def asked(self: Remote, *operands: Any) -> Any:
        return _refuse(self, operation) if is_difference(self) else method(self, *operands)

    return asked


def _binary(name: str) -> Callable[..., Any]:
    def operate(self: Remote, other: Any) -> Any:
        result = session_of(self).ask("op", self, name, other, label=f"{label_of(self)} {name.strip('_')} ...")
        differs = is_difference(self) or is_difference(other) or (name in _SUBTRACTING and not is_of_program(other))
        if not is_remote(result) and (differs or not is_of_program(other)):
            _refuse(self, name.strip("_"))
        if differs:
            _DIFFERENCE.__set__(result, True)
        return result

    return operate


def _ordering(name: str) -> Callable[..., Any]:
    def compare(self: Remote, other: Any) -> Any:
        if hasattr(type(self), "__stands_for__"):
            return getattr(operator, name)(plain_content(self), plain_content(other))
        return session_of(self).ask("op", self, name, other) if is_of_program(other) else _refuse(self, name.strip("_"))

    return compare


def _alone(name: str) -> Callable[..., Any]:
    return lambda self, *operands: session_of(self).ask(
        "op", self, name, *operands, label=f"{name.strip('_')}({label_of(self)})"
    )


def _item(name: str) -> Callable[..., Any]:
    return lambda self, *operands: session_of(self).ask(name, self, *operands, label=f"{label_of(self)}[...]")


def _exit(self: Remote, kind: Any, error: Any, _: Any) -> Any:
    told = None if error is None else [kind.__name__, str(error)]
    return session_of(self).ask("exit", self, told)


def _iterate(self: Remote) -> Any:
    iterator = session_of(self).ask("iter", self, label=f"iter({label_of(self)})")
    return iterator if is_remote(iterator) else session_of(self).refuse("it is no iterable object")


def _await(self: Remote) -> Generator[None, None, Any]:
    yield from ()
    return session_of(self).ask("await", self, label=f"await {label_of(self)}")


def _awaiting(name: str) -> Callable[..., Any]:
    async def wait(self: Remote, *_: Any) -> Any:
        return session_of(self).ask("await special", self, name, label=f"{name.strip('_')}({label_of(self)})")

    return wait


_METHODS: dict[str, Any] = {
    **{f"__{name}__": _binary(f"__{name}__") for name in BINARY},
    **{f"__{name}__": _ordering(f"__{name}__") for name in ORDERING},
    **{f"__{name}__": _of_no_difference(name, _alone(f"__{name}__")) for name in ALONE},
    "__hash__": lambda self: _exactly(self, int, "__hash__"),
    "__call__": Function.__call__,
    "__get__": Function.__get__,
    "__len__": _of_no_difference("len", lambda self: _exactly(self, int, "__len__")),
    "__bool__": _of_no_difference("bool", lambda self: _exactly(self, bool, "__bool__")),
    "__iter__": _of_no_difference("iter", _iterate),
    "__next__": lambda self: session_of(self).ask("next", self, label=f"next({label_of(self)})"),
    "__getitem__": _of_no_difference("an item", _item("getitem")),
    "__setitem__": _item("setitem"),
    "__delitem__": _item("delitem"),
    "__contains__": _holds,
    "__enter__": lambda self: session_of(self).ask("enter", self, label=label_of(self)),
    "__exit__": _exit,
    "__await__": _await,
    "__aiter__": lambda self: session_of(self).ask("op", self, "__aiter__"),
    "__anext__": _awaiting("__anext__"),
    "__aenter__": _awaiting("__aenter__"),
    "__aexit__": _awaiting("__aexit__"),
    "__reversed__": lambda self: session_of(self).ask("op", self, "__reversed__"),
    "__eq__": Remote.__eq__,
}


_OURS = frozenset({"_told", "_asking", "_label", "_reference", "_session", "mro"})


def class_space(special: list[str], unhashable: bool, methods: list[str]) -> dict[str, Any]:
    """The namespace of a class here that has the special methods `special` and forwards to `methods` of its own.

    The latter serve `super().method(...)` in classes that tests derive: all other calls ask the object. What the
    program says of its class can add nothing but what is in the tables above.
    """
    forwarded = (name for name in methods if name not in _OURS and (name[:2] != "__" or name == "__init__"))
    space: dict[str, Any] = {name: _of_class(name) for name in forwarded}
    space |= {name: _METHODS[name] for name in special if name in _METHODS}
    space.setdefault("__hash__", object.__hash__)
    if unhashable:
        space["__hash__"] = None
    if "__eq__" in special:
        space["__compares__"] = True
    return space | {"__slots__": ()}


class _of_class:
    """A method of one class of the program, whatever the object's own class makes of it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __set_name__(self, owner: type, _: str) -> None:
        self._owner = owner

    def __get__(self, instance: Any, _: Any = None) -> Any:
        if instance is None:
            return self._owner._asking("getattr", self._name, label=(f"{self._owner.__name__}.{self._name}"))  # type: ignore[attr-defined]
        return lambda *args, **kwargs: session_of(instance).ask(
            "call of class", self._owner, self._name, instance, args, kwargs
        )
