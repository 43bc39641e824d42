"""What tests do to the world around the program: patches, seeds, standard input and output, carried over to it.

A test that patches `time.sleep` or reads what was printed expects the program in its own process. It is in another, so
what the tests change in modules of the standard library is repeated there before the program is asked anything, and
what the program prints is printed here where the tests look at it. Only for tests whose names tell that they need it.
"""

import importlib
import random
import sys
import types
from typing import Any

from selfcorrect.rewards.sandbox.inside.session import Session

_LOOKS_AT_OUTPUT = {"stdout", "redirect_stdout", "capsys", "readouterr", "__selfcorrect_example"}
_PATCHES = {"patch", "MagicMock", "Mock", "monkeypatch", "setattr", "MonkeyPatch", "input", "stdin", "sleep"}
_WATCHED = (
    "builtins",
    "time",
    "random",
    "datetime",
    "os",
    "os.path",
    "math",
    "getpass",
    "urllib.request",
    "subprocess",
    "socket",
    "uuid",
)
_OURS = {"builtins": {"_"}}


class SolutionModule(types.ModuleType):
    """`import solution` in the tests: the program's names, asked for when they are used."""

    def __init__(self, session: Session, defined: dict[str, str]) -> None:
        super().__init__("solution")
        vars(self).update(_session=session, _defined=defined, __all__=[name for name in defined if name[:1] != "_"])

    def __getattr__(self, name: str) -> Any:
        defined = vars(self)["_defined"]
        if name not in defined:
            raise AttributeError(f"the program defines no {name!r}", name=name, obj=self)
        return vars(self)["_session"].named(name, defined[name])

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)["_session"].ask("module", name, value, label=f"solution.{name} = ...")
        vars(self)["_defined"][name] = "thing"

    def __delattr__(self, name: str) -> None:
        """unittest.mock takes away what it put there, and puts the old back."""


class Mirrors:
    """What one job's tests need of this.

    Attributes:
        echo: what the program prints is to be printed here.
        idle: the tests need nothing of it.
    """

    def __init__(self, session: Session, names: set[str]) -> None:
        self.echo = bool(names & _LOOKS_AT_OUTPUT)
        self.idle = not names & (_LOOKS_AT_OUTPUT | _PATCHES | {"seed"})
        self._session, self._names = session, names
        self._before: dict[str, dict[str, Any]] = {}
        self._patched: dict[tuple[str, str], Any] = {}
        self._unseeded: list[tuple[Any, Any]] = []

    def start(self, solution: SolutionModule) -> None:
        """Make the program importable, and watch what the tests patch."""
        sys.modules["solution"] = solution
        if "pytest" in self._names and "pytest" not in sys.modules:
            styles = importlib.import_module("selfcorrect.rewards.sandbox.inside.frameworks")
            sys.modules["pytest"] = styles.pytest_module()
        if "seed" in self._names:
            self._mirror_seeds()
        if "stdin" in self._names:
            self._session.ask("patch", "sys", "stdin", _Input())
        if self._names & _PATCHES:
            self._before = {name: dict(vars(importlib.import_module(name))) for name in _WATCHED}
            self._session.before_asking = self._carry_over

    def stop(self) -> None:
        """Give modules that other tests may see their own functions back."""
        for module, seed in self._unseeded:
            module.seed = seed

    def _mirror_seeds(self) -> None:
        ours = random.seed

        def seed(value: Any = None, version: int = 2) -> None:
            ours(value, version)
            self._session.ask("seed", value)

        self._unseeded.append((random, ours))
        random.seed = seed  # type: ignore[assignment]
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            ours_too = numpy.random.seed
            self._unseeded.append((numpy.random, ours_too))
            numpy.random.seed = lambda value=None: (ours_too(value), self._session.ask("seed", value))[0]

    def _carry_over(self) -> None:
        """Repeat in the program's process what the tests have patched since, and take back what they have put back."""
        hook, self._session.before_asking = self._session.before_asking, None
        try:
            for module, before in self._before.items():
                now = vars(sys.modules[module])
                for name, value in list(now.items()):
                    if value is not before.get(name) and name not in _OURS.get(module, ()):
                        self._patch(module, name, value)
            for module, name in [key for key, value in self._patched.items() if _is_back(key, self._before)]:
                del self._patched[module, name]
                self._session.ask("unpatch", module, name)
        finally:
            self._session.before_asking = hook

    def _patch(self, module: str, name: str, value: Any) -> None:
        if self._patched.get((module, name)) is not value:
            self._patched[module, name] = value
            self._session.ask("patch", module, name, value)


def _is_back(key: tuple[str, str], before: dict[str, dict[str, Any]]) -> bool:
    module, name = key
    return vars(sys.modules[module]).get(name) is before[module].get(name)


class _Input:
    """The tests' standard input, for a program: each read goes to whatever `sys.stdin` is here at that moment."""

    __module__ = "tests"  # so that it crosses as an object of the tests

    def readline(self, *size: int) -> str:
        return sys.stdin.readline(*size) if sys.stdin else ""

    def read(self, *size: int) -> str:
        return sys.stdin.read(*size) if sys.stdin else ""

    def readlines(self) -> list[str]:
        return sys.stdin.readlines() if sys.stdin else []

    def __iter__(self) -> Any:
        return iter(self.readlines())
