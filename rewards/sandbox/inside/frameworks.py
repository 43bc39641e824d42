"""How tests of the usual frameworks are run: unittest's classes, pytest's functions, doctest's examples.

pytest itself cannot be loaded in the jail (and takes as long as a hundred checks): the part of it that data sets use is
here, as a module of that name. What it lacks raises AttributeError, which is the tests' fault, not the program's.
"""

import cmath
import contextlib
import doctest
import inspect
import io
import itertools
import math
import re
import sys
import types
import unittest
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any, Self

from selfcorrect.rewards.sandbox.inside.suite import UnusableTests


class _Errors(unittest.TestResult):
    """Keeps what a test method failed with. A skipped test has not passed: the program may have raised the skip."""

    def __init__(self) -> None:
        super().__init__()
        self.raised: BaseException | None = None

    def addError(self, test: Any, err: Any) -> None:
        self.raised = self.raised or err[1]

    addFailure = addError

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self.addError(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        self.raised = self.raised or AssertionError("the test was skipped")

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.raised = self.raised or AssertionError("a test that must fail passed")


def run_case(kind: type, name: str) -> None:
    """One method of a test class, with what is to be done before and after it; raises what it fails with."""
    if not issubclass(kind, unittest.TestCase):
        case = kind()
        with _fixtures(case):
            run_function(getattr(case, name), 0)
        return
    result = _Errors()
    unittest.TestSuite([kind(name)]).run(result)
    if result.raised is not None:
        raise result.raised
    if not result.testsRun:
        raise AssertionError("the test did not run")


@contextlib.contextmanager
def _fixtures(case: Any) -> Iterator[None]:
    for name in ("setup_class", "setup_method", "setUp"):
        getattr(case, name, lambda *_: None)()
    try:
        yield
    finally:
        for name in ("teardown_method", "tearDown"):
            getattr(case, name, lambda *_: None)()


def run_function(function: Callable[..., Any], number: int) -> None:
    """A function `test_...`: with the set of arguments `number`, with what its other arguments name, and awaited."""
    given = _arguments(function, number)
    with contextlib.ExitStack() as stack:
        wanted = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        patched = len(getattr(function, "patchings", ()))
        for name in wanted[: len(wanted) - patched] if patched else wanted:
            if name not in given:
                given[name] = stack.enter_context(_fixture(name, function))
        outcome = function(**given)
        if inspect.isawaitable(outcome):
            import asyncio

            asyncio.run(_awaited(outcome))


async def _awaited(outcome: Any) -> None:
    await outcome


def _arguments(function: Any, number: int) -> dict[str, Any]:
    """The set of arguments `number` of all that the parametrize decorators give, counted as pytest does."""
    marks = getattr(function, "selfcorrect_parameters", [])
    sets = list(itertools.product(*(values for _, values in marks)))
    if not sets:
        return {}
    given: dict[str, Any] = {}
    for (names, _), values in zip(marks, sets[number], strict=True):
        values = values.values if isinstance(values, _Param) else (values,) if len(names) == 1 else values
        given.update(zip(names, values, strict=True))
    return given


@contextlib.contextmanager
def _fixture(name: str, function: Any) -> Iterator[Any]:
    own = _fixtures_of.get(name)
    if name == "capsys":
        with _Captured() as captured:
            yield captured
    elif name == "monkeypatch":
        patch = MonkeyPatch()
        try:
            yield patch
        finally:
            patch.undo()
    elif own is not None:
        wanted = inspect.signature(own).parameters
        with contextlib.ExitStack() as stack:
            made = own(**{other: stack.enter_context(_fixture(other, function)) for other in wanted})
            if inspect.isgenerator(made):
                yield next(made)
                next(made, None)
            else:
                yield made
    else:
        raise UnusableTests(f"{getattr(function, '__name__', 'a test')} wants {name!r}, which is not known here")


_fixtures_of: dict[str, Callable[..., Any]] = {}


class _Captured:
    """pytest's capsys."""

    def __enter__(self) -> Self:
        self._kept = sys.stdout, sys.stderr
        self._streams = sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout, sys.stderr = self._kept

    def readouterr(self) -> Any:
        texts = [stream.getvalue() for stream in self._streams]
        for stream in self._streams:
            stream.seek(0)
            stream.truncate()
        return types.SimpleNamespace(out=texts[0], err=texts[1])


class MonkeyPatch:
    """pytest's monkeypatch: attributes and items, put back in the end."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()

    def setattr(self, target: Any, name: Any, value: Any = ..., raising: bool = True) -> None:
        if isinstance(target, str):
            patcher = unittest.mock.patch(target, name, create=not raising)
        else:
            patcher = unittest.mock.patch.object(target, name, value, create=not raising)
        self._undo.enter_context(patcher)

    def setitem(self, mapping: Any, name: Any, value: Any) -> None:
        self._undo.enter_context(unittest.mock.patch.dict(mapping, {name: value}))

    def undo(self) -> None:
        self._undo.close()


def run_example(example: doctest.Example, space: dict[str, Any]) -> None:
    """One example of a doctest: what it prints, or raises, must be what stands below it."""
    printed = io.StringIO()
    flags = sum(flag for flag, on in example.options.items() if on)
    try:
        with contextlib.redirect_stdout(printed), _displayed():
            exec(compile(example.source, "tests.py", "single", dont_inherit=True), space)  # noqa: S102 - the data set's
    except Exception as error:
        if example.exc_msg is None:
            raise
        told = f"{type(error).__name__}: {error}\n"
        if not doctest.OutputChecker().check_output(example.exc_msg, told, flags):
            raise AssertionError("not the exception expected") from error
        return
    if example.exc_msg is not None or not doctest.OutputChecker().check_output(example.want, printed.getvalue(), flags):
        raise AssertionError("not the output expected")


@contextlib.contextmanager
def _displayed() -> Iterator[None]:
    kept, sys.displayhook = sys.displayhook, sys.__displayhook__
    try:
        yield
    finally:
        sys.displayhook = kept


# The part of pytest's names that data sets use.


class _Raises:
    """The outcome of `with pytest.raises(...)`."""

    def __init__(self, expected: Any, match: str | None) -> None:
        self.expected, self.match = expected, match
        self.value: Any = None
        self.type: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if kind is None:
            raise AssertionError("it raised nothing")
        if not issubclass(kind, self.expected):
            return False
        self.value, self.type = error, kind
        if self.match is not None and not re.search(self.match, str(error)):
            raise AssertionError("it raised with another message")
        return True


def _raises(expected: Any, *args: Any, match: str | None = None, **kwargs: Any) -> Any:
    raising = _Raises(expected, match)
    if args:
        with raising:
            args[0](*args[1:], **kwargs)
    return raising


class _Approx:
    """A number, or numbers in lists, tuples and dicts, within 1e-6 of its own, or 1e-12, or what is asked for."""

    __array_ufunc__ = None

    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None, nan_ok: bool = False) -> None:
        self._expected, self._nan_ok = expected, nan_ok
        self._abs = 1e-12 if abs is None else abs
        self._rel = (0.0 if abs is not None else 1e-6) if rel is None else rel

    def __eq__(self, other: object) -> bool:
        return self._same(other, self._expected)

    __hash__ = None  # type: ignore[assignment]

    def _same(self, value: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            return (
                isinstance(value, dict)
                and value.keys() == expected.keys()
                and all(self._same(value[k], v) for k, v in expected.items())
            )
        if hasattr(expected, "tolist"):
            expected, value = expected.tolist(), value.tolist() if hasattr(value, "tolist") else value
        if isinstance(expected, (list, tuple)):
            fits = isinstance(value, (list, tuple)) and len(value) == len(expected)
            return fits and all(map(self._same, value, expected))
        if not isinstance(value, (int, float, complex)) or isinstance(value, bool) != isinstance(expected, bool):
            return bool(value == expected)
        if cmath.isnan(value) or cmath.isnan(expected):
            return self._nan_ok and cmath.isnan(value) and cmath.isnan(expected)
        if isinstance(value, complex) or isinstance(expected, complex):
            return bool(abs(value - expected) <= max(self._abs, self._rel * abs(expected)))
        return math.isclose(value, expected, rel_tol=0.0, abs_tol=max(self._abs, self._rel * abs(expected)))


class _Param:
    def __init__(self, *values: Any) -> None:
        self.values = values


def _parametrize(names: Any, values: Any, **_: Any) -> Callable[[Any], Any]:
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]

    def mark(function: Any) -> Any:
        function.selfcorrect_parameters = [
            (list(names), list(values)),
            *getattr(function, "selfcorrect_parameters", []),
        ]
        return function

    return mark


def _fixture_mark(function: Any = None, **_: Any) -> Any:
    if function is None:
        return _fixture_mark
    _fixtures_of[function.__name__] = function
    return function


def _fail(reason: str = "", **_: Any) -> None:
    raise AssertionError(reason)


def pytest_module() -> types.ModuleType:
    """What `import pytest` gives in the tests' process."""
    module = types.ModuleType("pytest")
    marks = types.SimpleNamespace(parametrize=_parametrize, asyncio=lambda f: f, timeout=lambda *_: lambda f: f)
    vars(module).update(
        raises=_raises,
        approx=_Approx,
        mark=marks,
        fixture=_fixture_mark,
        fail=_fail,
        skip=_fail,
        MonkeyPatch=MonkeyPatch,
        param=lambda *values, **_: _Param(*values),
    )
    return module
