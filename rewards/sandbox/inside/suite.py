"""A suite of tests, made ready to run: one unit for every statement that tests something.

Test code comes from the data set, not from the policy, and is compiled here, away from the program. Every unit is
wrapped so that its passing or failing is reported and the next one runs in any case: a verdict needs all of them, told
one by one.
"""

import ast
import functools
import importlib
import math
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from selfcorrect.rewards.sandbox.inside.foresight import (
    Call,
    Unit,
    first_imports,
    foreseen_call,
    is_plain,
    leaves_nothing,
)

PASSED, FAILED = "__selfcorrect_passed", "__selfcorrect_failed"
RUN_CASE, RUN_FUNCTION, RUN_EXAMPLE = "__selfcorrect_case", "__selfcorrect_function", "__selfcorrect_example"
CASE_PASSED, CASE_FAILED, CASES_OVER = "__selfcorrect_case_passed", "__selfcorrect_case_failed", "__selfcorrect_over"
"""Called for every round of a loop whose rounds are counted."""
POINT_HELD, POINT_FAILED = "_selfcorrect_held", "_selfcorrect_not_held"
"""Called by what the parent adds to the tests (also within classes, where names with two underscores are others)."""

_AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef
_SOMEWHERE: Any = {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 0}
"""Where added statements pretend to stand."""


class UnusableTests(Exception):
    """The tests themselves are at fault."""


class TestCode:
    """Tests written as Python: asserts at the top level, functions `test_...()`, methods of test classes, doctests, or
    one function `check(candidate)`.

    Args:
        code: the source, or several sources that are run one after the other.
        entry_point: with it, the code defines `check(candidate)`, which is called with that function of the program.
        by_case: count the rounds of a loop that is a test, as HumanEval+ and MBPP+ have it: a round that fails does not
            end the loop.

    Raises:
        UnusableTests: no Python, or nothing in it tests anything.
    """

    def __init__(self, code: str | list[str], entry_point: str | None = None, *, by_case: bool = False) -> None:
        self._by_case = by_case
        sources = [code] if isinstance(code, str) else code
        self.examples: list[Any] = []  # doctest.Example
        body = [statement for part in sources for statement in self._statements(part)]
        self.count = 0
        functions = {node.name: node for node in body if isinstance(node, _AnyFunction)}
        inner = functions["check"].body if entry_point is not None and "check" in functions else []
        self._testing = _testing(functions | {node.name: node for node in inner if isinstance(node, _AnyFunction)})
        self.candidate: str | None = None
        if entry_point is None:
            units = body = [*self._wrapped(body), *map(self._unit, _uncalled_tests(functions, body))]
            units += map(self._unit, _methods(body))
        else:
            check = functions.get("check")
            if check is None:
                raise UnusableTests("an entry point needs test code that defines check(candidate)")
            check.body = self._wrapped(check.body)
            self.candidate = check.args.args[0].arg if check.args.args else None
            units = check.body
            body.append(ast.parse(f"check({entry_point})").body[0])
        if not self.count:
            raise UnusableTests("they hold no assert, so any program would pass")
        self._body, self._units = body, units
        called = {unit.plain[0] for unit in units if isinstance(unit, Unit) and unit.plain is not None}
        self._imports = first_imports(body, called) if entry_point is None else []
        self.plain = entry_point is None and all(map(is_plain, body[len(self._imports) :]))
        if self.plain and not self._imports:
            self.names, self.modules, self.leaves_nothing = called, set[str](), True
            return
        self.names = called | names_in(self.beginning if self.plain else self.program)
        for example in self.examples:
            self.names |= names_in(compile(example.source, "tests.py", "exec", dont_inherit=True))
        self.modules = _modules(body, self.names & sys.stdlib_module_names)
        self.leaves_nothing = leaves_nothing(body, {RUN_CASE, RUN_EXAMPLE}, self.modules)

    @property
    def begins_with_imports(self) -> bool:
        """Whether plain tests have something before them."""
        return bool(self._imports)

    @functools.cached_property
    def beginning(self) -> types.CodeType:
        """The imports that come first."""
        return compile(ast.Module(list(self._imports), []), "tests.py", "exec", dont_inherit=True)

    @functools.cached_property
    def program(self) -> types.CodeType:
        """What runs them all."""
        return compile(ast.Module(self._body, []), "tests.py", "exec", dont_inherit=True)

    def calls(self) -> list[Call]:
        """The calls that are certain to come, in this order; their arguments are made anew each time, for what a
        program does to a list is done to the tests' list too."""
        testing = [unit for unit in self._units if not isinstance(unit, (ast.Import, ast.ImportFrom))]
        foreseen = list(map(foreseen_call, testing))
        return [call for call in foreseen if call is not None] if all(foreseen) else []

    def expected(self) -> list[Any]:
        """If they are plain, the values to compare with what the calls return."""
        return [unit.expected for unit in self._units if isinstance(unit, Unit)]

    def _statements(self, source: str) -> list[ast.stmt]:
        """The statements of one source; of a text with `>>>` that is no Python, one for each example in it."""
        if ">>> " not in source:
            return _parsed(source).body
        try:
            return ast.parse(source).body
        except SyntaxError:
            import doctest  # it loads as much as all the rest

            examples = doctest.DocTestParser().get_examples(source)
        first = len(self.examples)
        self.examples += examples
        return [
            statement
            for number, example in enumerate(examples, first)
            for statement in ast.parse(f"{RUN_EXAMPLE}({number})\n" + ("assert True" if example.want else "")).body[:1]
        ]

    def _wrapped(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [self._unit(statement) if self._tests_something(statement) else statement for statement in body]

    def _tests_something(self, statement: ast.stmt) -> bool:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        return _asserts([statement]) or any(name in self._testing for name in _called([statement]))

    def _unit(self, statement: ast.stmt) -> ast.stmt:
        number = self.count
        self.count += 1
        body = [statement, _call(PASSED, number)]
        if self._by_case and isinstance(statement, ast.For) and _goes_round(statement):
            case = [*statement.body, _call(CASE_PASSED, number)]
            statement.body = [
                ast.Try(body=case, handlers=[_catch_all(CASE_FAILED, number)], orelse=[], finalbody=[], **_SOMEWHERE)
            ]
            body.insert(1, _call(CASES_OVER, number))
        catch_all = _catch_all(FAILED, number)
        return Unit(body=body, handlers=[catch_all], orelse=[], finalbody=[], **_SOMEWHERE)


def _goes_round(loop: ast.For) -> bool:
    """Whether every round of a loop is run, unless one raises."""
    leaving = (ast.Break, ast.Continue, ast.Return, ast.Yield, ast.YieldFrom)
    return not loop.orelse and not any(isinstance(node, leaving) for node in ast.walk(loop))


def _testing(functions: dict[str, _AnyFunction]) -> set[str]:
    """The functions of the tests that can fail on purpose, by themselves or by calling another that can."""
    testing = {name for name, node in functions.items() if name != "check" and _asserts(node.body)}
    testing |= {RUN_EXAMPLE}
    while more := {n for n, node in functions.items() if n not in testing and testing & set(_called(node.body))} - {
        "check"
    }:
        testing |= more
    return testing


def _called(body: list[ast.stmt]) -> Iterator[str]:
    """The names of the functions that statements call."""
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def names_in(code: types.CodeType) -> set[str]:
    """The names that compiled code, and the functions in it, look up outside themselves (attributes among them)."""
    nested = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(names_in, nested))


def _parsed(code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnusableTests(f"they are no Python: {error}") from None


def _asserts(body: list[ast.stmt]) -> bool:
    """Whether these statements themselves (not functions or classes they define) can fail on purpose."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Assert, ast.Raise)) or _is_assertion(node):
            if isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple) and node.test.elts:
                raise UnusableTests(
                    f"line {node.lineno}: assert (test, message) is always true; leave out the parentheses"
                )
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return False


def _is_assertion(node: ast.AST) -> bool:
    """`self.assertEqual(...)`, `np.testing.assert_allclose(...)`, `pytest.raises(...)`, and what mocks assert."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    name = node.func.attr
    owner = node.func.value
    return name.startswith("assert") or (name == "raises" and isinstance(owner, ast.Name) and owner.id == "pytest")


def _uncalled_tests(functions: dict[str, _AnyFunction], body: list[ast.stmt]) -> list[ast.stmt]:
    """Calls of the functions `test_...()` that nothing calls, as pytest would."""
    tests = {name for name in functions if name.startswith("test")}
    called = set(_called(body)) if tests else set()
    return [call for name in functions if name in tests - called for call in _calls_of(functions[name])]


def _calls_of(node: _AnyFunction) -> list[ast.stmt]:
    """One call for each set of arguments that pytest.mark.parametrize gives."""
    sets = 1
    for decorator in node.decorator_list:
        if _is_fixture(decorator):
            return []
        sets *= _parameter_sets(decorator, node.name)
    return [ast.parse(f"{RUN_FUNCTION}({node.name}, {number})").body[0] for number in range(sets)]


def _is_fixture(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(target, ast.Attribute) and target.attr == "fixture"


def _parameter_sets(decorator: ast.expr, name: str) -> int:
    """How many sets of arguments a decorator gives: known before the tests run, so that none is lost."""
    text = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
    if text.endswith("mark.parametrize") and isinstance(decorator, ast.Call) and len(decorator.args) >= 2:
        values = decorator.args[1]
        if isinstance(values, (ast.List, ast.Tuple)) and not any(isinstance(v, ast.Starred) for v in values.elts):
            return len(values.elts)
        raise UnusableTests(f"{name}: the second argument of parametrize must be written out as a list")
    if text.startswith(("patch", "mock.", "unittest.mock.")) or text.endswith(("mark.asyncio", "mark.timeout")):
        return 1
    raise UnusableTests(f"{name} has the decorator {text}, which nothing here would understand")


def _methods(body: list[ast.stmt]) -> list[ast.stmt]:
    """A call for each test method of each test class: of unittest's, or named as pytest wants it."""
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    calls = []
    for node in classes.values():
        tests = _test_methods(node, classes)
        if tests and not (_is_test_case(node, classes) or node.name.startswith("Test")):
            raise UnusableTests(f"the methods of {node.name} would not be run: it is no unittest.TestCase")
        calls += [ast.parse(f"{RUN_CASE}({node.name}, {test!r})").body[0] for test in tests]
    return calls


def _test_methods(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> list[str]:
    inherited = [
        t
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in classes
        for t in _test_methods(classes[base.id], classes)
    ]
    own = [part.name for part in node.body if isinstance(part, _AnyFunction) and part.name.startswith("test")]
    return list(dict.fromkeys([*inherited, *own]))


def _is_test_case(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    names = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
    return any(
        name.endswith("TestCase") or (name in classes and _is_test_case(classes[name], classes)) for name in names
    )


def _modules(body: list[ast.stmt], candidates: set[str]) -> set[str]:
    """Modules of the standard library that the tests use, perhaps without an import: `math` in `math.isclose(f(2), 4)`.

    They are never taken from the program, which could bring a `math` of its own.
    """
    used: dict[str, set[str]] = {}
    speaking = [node for node in body if not (isinstance(node, Unit) and node.plain is not None)] if candidates else []
    for node in ast.walk(ast.Module(speaking, [])):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in candidates:
            used.setdefault(node.value.id, set()).add(node.attr)
    return {name for name, attributes in used.items() if _has_all(name, attributes)}


def _has_all(module: str, attributes: set[str]) -> bool:
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        return False
    return all(hasattr(loaded, attribute) for attribute in attributes)


@functools.lru_cache(maxsize=1024)
def _call(name: str, number: int) -> ast.stmt:
    """`name(number)`; one object for all suites, which nothing changes."""
    function = ast.Name(name, ast.Load(), **_SOMEWHERE)
    return ast.Expr(ast.Call(function, [ast.Constant(number, **_SOMEWHERE)], [], **_SOMEWHERE), **_SOMEWHERE)


@functools.lru_cache(maxsize=1024)
def _catch_all(name: str, number: int) -> ast.ExceptHandler:
    return ast.ExceptHandler(type=None, name=None, body=[_call(name, number)], **_SOMEWHERE)


# Calls with the values they must return.


class Mismatch(Exception):
    """A call returned another value than expected. Not told which: the reason goes into prompts."""


def check_case(function: Callable[..., Any], case: dict[str, Any], suite: dict[str, Any]) -> None:
    """One call with its expected value."""
    value = function(*case["args"], **case["kwargs"])
    wanted = [case["expected"]]
    if suite["wrapped"] and type(wanted[0]) is list and len(wanted[0]) == 1:
        wanted.append(wanted[0][0])
    same_kind = _same_items if suite["unordered"] else same
    if not any(same_kind(value, expected, suite["tolerance"]) for expected in wanted):
        raise Mismatch("not the expected value")


def same(value: Any, expected: Any, tolerance: float) -> bool:
    """Equality as `==` has it, but tuples count as lists and keys as their text (JSON has no others), at every depth;
    floats within `tolerance`."""
    if type(value) is float or type(expected) is float:
        return _is_number(value) and _is_number(expected) and (value == expected or _near(value, expected, tolerance))
    if type(expected) in (list, tuple):
        fits = isinstance(value, (list, tuple)) and len(value) == len(expected)
        return fits and all(same(mine, theirs, tolerance) for mine, theirs in zip(value, expected, strict=True))
    if type(expected) is dict:
        if not isinstance(value, dict) or len(value) != len(expected):
            return False
        found = {_key(key): item for key, item in value.items()}
        return found.keys() == expected.keys() and all(same(found[k], v, tolerance) for k, v in expected.items())
    return bool(value == expected)


def _key(key: Any) -> Any:
    """A key as JSON writes it."""
    if key is None or type(key) is bool:
        return {None: "null", True: "true", False: "false"}[key]
    return str(key) if type(key) in (int, float) else key


def _same_items(value: Any, expected: Any, tolerance: float) -> bool:
    """A list that stands for a set: each item has its counterpart."""
    if (
        type(expected) is not list
        or not isinstance(value, (list, tuple, set, frozenset))
        or len(value) != len(expected)
    ):
        return same(value, expected, tolerance)
    left = list(value)
    for item in expected:
        place = next((n for n, mine in enumerate(left) if same(mine, item, tolerance)), None)
        if place is None:
            return False
        del left[place]
    return True


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, bool)


def _near(value: float, expected: float, tolerance: float) -> bool:
    return tolerance > 0 and math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)
