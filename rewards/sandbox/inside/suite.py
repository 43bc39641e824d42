"""A suite of tests, made ready to run: one unit for every statement that tests something.

Test code comes from the data set, not from the policy, and is compiled here, away from the program. Every unit is wrapped so that
its passing or failing is reported and the next one runs in any case: a verdict needs all of them, told one by one.
"""

import ast
import math
from collections.abc import Callable
from typing import Any

BEGIN, PASSED, FAILED = "__selfcorrect_begin", "__selfcorrect_passed", "__selfcorrect_failed"


class UnusableTests(Exception):
    """The tests themselves are at fault."""


class TestCode:
    """Tests written as Python: asserts at the top level, functions `test_...()`, or one function `check(candidate)`.

    Args:
        code: the source, or several sources that are run one after the other.
        entry_point: with it, the code defines `check(candidate)`, which is called with that function of the program.

    Raises:
        UnusableTests: no Python, or nothing in it tests anything.
    """

    def __init__(self, code: str | list[str], entry_point: str | None = None) -> None:
        body = [statement for part in ([code] if isinstance(code, str) else code) for statement in _parsed(part).body]
        self.names = _names(ast.Module(body, []))
        self.count = 0
        self.texts: list[str] = []
        functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
        if entry_point is None:
            self._testing = {name for name, node in functions.items() if _asserts(node.body)}
            body = self._wrapped([*body, *_uncalled_tests(functions, body)])
        else:
            self._testing = set()
            check = functions.get("check")
            if check is None:
                raise UnusableTests("an entry point needs test code that defines check(candidate)")
            check.body = self._wrapped(check.body)
            body.append(ast.parse(f"check({entry_point})").body[0])
        if not self.count:
            raise UnusableTests("they hold no assert, so any program would pass")
        module = ast.fix_missing_locations(ast.Module(body, []))
        self.program = compile(module, "tests.py", "exec", dont_inherit=True)

    def _wrapped(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [self._unit(statement) if self._tests_something(statement) else statement for statement in body]

    def _tests_something(self, statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            function = statement.value.func
            return isinstance(function, ast.Name) and function.id in self._testing
        return _asserts([statement])

    def _unit(self, statement: ast.stmt) -> ast.stmt:
        number = self.count
        self.count += 1
        passed, failed, begin = (_call(name, number) for name in (PASSED, FAILED, BEGIN))
        catch_all = ast.ExceptHandler(type=None, name=None, body=[failed])
        return ast.Try(body=[begin, statement, passed], handlers=[catch_all], orelse=[], finalbody=[])


def names_in(code: str) -> set[str]:
    """The names that a piece of the tests' code uses.

    Raises:
        UnusableTests: it is no Python.
    """
    return _names(_parsed(code))


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


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
        if isinstance(node, (ast.Assert, ast.Raise)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return False


def _uncalled_tests(functions: dict[str, ast.FunctionDef], body: list[ast.stmt]) -> list[ast.stmt]:
    """Calls of the functions `test_...()` that nothing calls, as pytest would."""
    called = {
        node.func.id
        for node in ast.walk(ast.Module(body, []))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return [
        ast.parse(f"{name}()").body[0]
        for name, node in functions.items()
        if name.startswith("test") and name not in called and not node.args.args
    ]


def _call(name: str, number: int) -> ast.stmt:
    return ast.Expr(ast.Call(ast.Name(name, ast.Load()), [ast.Constant(number)], []))


class Mismatch(Exception):
    """A call returned another value than expected. Not told which: the reason goes into prompts."""


def check_case(function: Callable[..., Any], case: dict[str, Any], tolerance: float) -> None:
    """One call with its expected value."""
    value = function(*case["args"], **case["kwargs"])
    if not same(value, case["expected"], tolerance):
        raise Mismatch("not the expected value")


def same(value: Any, expected: Any, tolerance: float) -> bool:
    """Equality as `==` has it, but tuples count as lists (JSON has no tuples), at every depth; floats within `tolerance`."""
    if type(value) is float or type(expected) is float:
        return _is_number(value) and _is_number(expected) and (value == expected or _near(value, expected, tolerance))
    if type(expected) in (list, tuple):
        fits = isinstance(value, (list, tuple)) and len(value) == len(expected)
        return fits and all(same(mine, theirs, tolerance) for mine, theirs in zip(value, expected, strict=True))
    if type(expected) is dict:
        if not isinstance(value, dict) or value.keys() != expected.keys():
            return False
        return all(same(value[key], item, tolerance) for key, item in expected.items())
    return bool(value == expected)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, bool)


def _near(value: float, expected: float, tolerance: float) -> bool:
    return tolerance > 0 and math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)
