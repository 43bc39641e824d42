"""Things by name: a registry for each kind of thing that can be chosen, and `package.module:Name` for a user's own.

A new thing is one file and one line: the line is `"name": "selfcorrect.room.module:Name"` in the registry of its kind.
The module is imported when the name is first looked up, so that a list of names costs nothing.
"""

import difflib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from selfcorrect.errors import ConfigurationError, SelfCorrectError

T = TypeVar("T")

_ADDRESS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_address(name: str) -> bool:
    """Whether `name` has the form `package.module:Name`."""
    return _ADDRESS.fullmatch(name) is not None


def nearest(name: str, names: Iterable[str]) -> str:
    """Words for an error: "; did you mean countdown?", or nothing where no name is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def load(address: str) -> Any:
    """The object at `package.module:Name`. The current folder is searched last, unless Python was told not to.

    Raises:
        ConfigurationError: there is no such module or name, or the module cannot be imported (the cause is kept).
    """
    if not is_address(address):
        raise ConfigurationError(f"{address}: expected package.module:Name")
    module_name, _, path = address.partition(":")
    module = _module(address, module_name)
    found: Any = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            known = tuple(public for public in dir(found) if not public.startswith("_"))
            raise ConfigurationError(f"{address}: {module_name} has no {path!r}{nearest(name, known)}") from error
    return found


def _module(address: str, name: str) -> Any:
    here = str(Path.cwd())
    if not sys.flags.safe_path and not name.startswith("selfcorrect.") and here not in sys.path:
        sys.path.append(here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{address}: {name} needs the module {error.name!r}, which is missing") from error
        own = (
            " (Python was told not to look in the current folder: PYTHONSAFEPATH or -P)" if sys.flags.safe_path else ""
        )
        where = f"it must be installed, lie in the current folder, or in one of PYTHONPATH{own}"
        hint = f"did you mean {address.replace('.py:', ':')}?" if name.endswith(".py") else where
        raise ConfigurationError(f"{address}: there is no module {error.name!r}; {hint}") from error
    except Exception as error:  # whatever a user's module does when it is imported is theirs to read
        raise ConfigurationError(f"{address}: importing {name} failed: {_raised(error)}") from error


def called(what: str, function: Callable[..., T], *arguments: Any, expected: str = "", **named: Any) -> T:
    """What a user's class or function gives back for these arguments; `what` names it in errors, as in "mine:Task",
    and `expected` says there what it should be.

    Raises:
        ConfigurationError: it raised; the message says what, and in which line (the cause is kept).
    """
    try:
        return function(*arguments, **named)
    except SelfCorrectError:
        raise
    except Exception as error:  # whatever a user's code raises is theirs to read
        hint = f"; expected {expected}" if expected else ""
        raise ConfigurationError(f"{what} failed: {_raised(error)}{hint}") from error


def _raised(error: Exception) -> str:
    """An exception, and the last line of the user's file that led to it."""
    others = (str(Path(__file__).parent), import_module.__code__.co_filename, "<frozen")
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(others)]
    last = [frame for frame in frames if frame.filename == frames[0].filename][-1:]
    place = "".join(f" ({frame.filename}, line {frame.lineno})" for frame in last)
    return f"{type(error).__name__}: {error}{place}"


class Registry(Mapping[str, T], Generic[T]):
    """The things of one kind, by name: a read-only mapping whose values are imported when they are looked up.

    Args:
        kind: what they are called in errors, such as "task".
        entries: by name, in the order in which they are listed; the thing itself, or its `package.module:Name`.
        accept: makes a `T` of what stands at an address of a user's own, such as an entry for a class of theirs; gets
            the address and the object. Without it the object is taken as it is if it is an `expects`.
        expects: the type of the things; with `accept`, of what it returns. None checks nothing (for protocols).
        says: what a user's own must be, for errors, such as "a class with problems(split, count, seed) and a checker".
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, "T | str"],
        *,
        accept: "Callable[[str, Any], T] | None" = None,
        expects: type[Any] | None = None,
        says: str = "",
    ) -> None:
        self.kind, self._entries, self._accept = kind, dict(entries), accept
        self._expects, self._says = expects, says
        self._found: dict[str, T] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the library's own, in order."""
        return tuple(self._entries)

    def find(self, name: str) -> T:
        """The thing called `name`: one of `names`, or a user's own as `package.module:Name`.

        Raises:
            ConfigurationError: there is none; the message tells the nearest name. Or what stands at the address is not
                one of this kind.
        """
        if name not in self._found:
            self._found[name] = self._look_up(name)
        return self._found[name]

    def _look_up(self, name: str) -> T:
        if name in self._entries:
            entry = self._entries[name]
            return cast(T, load(entry) if isinstance(entry, str) and is_address(entry) else entry)
        if not is_address(name):
            raise ConfigurationError(self.unknown(name))
        own = load(name)
        made = own if self._accept is None else self._accept(name, own)
        if self._expects is not None and not isinstance(made, self._expects):
            expected = self._says or f"a {self._expects.__name__}"
            raise ConfigurationError(f"{name} is no {self.kind}: expected {expected}, got {shown_kind(own)}")
        return cast(T, made)

    def unknown(self, name: str) -> str:
        """What to say of a name that is not there."""
        hint = nearest(name, self.names) or ";"
        known = f"there are {', '.join(self.names)}, or package.module:Name for one of your own"
        return f"unknown {self.kind} {name!r}{hint} {known}"

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise KeyError(name)
        return self.find(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self.names)})"


def shown_kind(value: object) -> str:
    """What a value is, for errors: "the class Wrong", "the function count", "an int", "None"."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
