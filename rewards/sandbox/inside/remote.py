"""What the tests hold in place of the program's functions and objects.

The rule that keeps it honest: only plain data is compared with anything. An object of the program can be called, its attributes,
items, length and text can be read, it can be iterated and awaited, all by asking; but an operator between it and a test's data
(`==`, `<`, `+`, `in`, ...) would let it decide about itself, and shows it what the test expects. So that is refused, and
a refusal fails the test even if the test's code catches the exception.
"""

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from selfcorrect.rewards.sandbox.inside.session import Session

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
