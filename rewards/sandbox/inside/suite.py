"""A suite of tests, made ready to run: one unit for every statement that tests something.

Test code comes from the data set, not from the policy, and is compiled here, away from the program. Every unit is
wrapped so that its passing or failing is reported and the next one runs in any case: a verdict needs all of them, told
one by one.
"""

import ast
import importlib
import math
import sys
import types
from collections.abc import Callable
from typing import Any

PASSED, FAILED = "__selfcorrect_passed", "__selfcorrect_failed"

_AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef
_SOMEWHERE: Any = {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 0}
"""Where added statements pretend to stand."""


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
        self.count = 0
        functions = {node.name: node for node in body if isinstance(node, _AnyFunction)}
        if entry_point is None:
            self._testing = {name for name, node in functions.items() if _asserts(node.body)}
            _refuse_test_classes(body)
            units = body = [*self._wrapped(body), *map(self._unit, _uncalled_tests(functions, body))]
        else:
            self._testing = set()
            check = functions.get("check")
            if check is None:
                raise UnusableTests("an entry point needs test code that defines check(candidate)")
            check.body = self._wrapped(check.body)
            units = check.body
            body.append(ast.parse(f"check({entry_point})").body[0])
        if not self.count:
            raise UnusableTests("they hold no assert, so any program would pass")
        self.program = compile(ast.Module(body, []), "tests.py", "exec", dont_inherit=True)
        self.names = names_in(self.program)
        self.only_literals = all(map(_compares_literals, units))
        self.modules = _modules(body, self.names & sys.stdlib_module_names)

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
        catch_all = ast.ExceptHandler(type=None, name=None, body=[_call(FAILED, number)], **_SOMEWHERE)
        body = [statement, _call(PASSED, number)]
        return ast.Try(body=body, handlers=[catch_all], orelse=[], finalbody=[], **_SOMEWHERE)


def _compares_literals(statement: ast.stmt) -> bool:
    """Whether a unit does nothing but call a function with literals and compare with a literal: no code of the
    tests' own."""
    test = statement.body[0] if isinstance(statement, ast.Try) else None
    if not isinstance(test, ast.Assert) or test.msg is not None:
        return False
    compared = test.test
    call, others = (compared.left, compared.comparators) if isinstance(compared, ast.Compare) else (compared, [])
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return False
    return all(map(_is_literal, [*call.args, *(keyword.value for keyword in call.keywords), *others]))


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    if isinstance(node, ast.Dict):
        return all(key is not None and _is_literal(key) for key in node.keys) and all(map(_is_literal, node.values))
    return isinstance(node, ast.Constant) or (
        isinstance(node, (ast.List, ast.Tuple, ast.Set)) and all(map(_is_literal, node.elts))
    )


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
        if isinstance(node, (ast.Assert, ast.Raise)):
            if isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple) and node.test.elts:
                raise UnusableTests(
                    f"line {node.lineno}: assert (test, message) is always true; leave out the parentheses"
                )
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return False


def _uncalled_tests(functions: dict[str, _AnyFunction], body: list[ast.stmt]) -> list[ast.stmt]:
    """Calls of the functions `test_...()` that nothing calls, as pytest would."""
    tests = {name for name in functions if name.startswith("test")}
    if not tests:
        return []
    calls = (node.func for node in ast.walk(ast.Module(body, [])) if isinstance(node, ast.Call))
    called = {function.id for function in calls if isinstance(function, ast.Name)}
    return [_call_of(functions[name]) for name in functions if name in tests - called]


def _call_of(node: _AnyFunction) -> ast.stmt:
    required = len(node.args.posonlyargs) + len(node.args.args) - len(node.args.defaults)
    if required > 0 or None in node.args.kw_defaults or node.decorator_list:
        raise UnusableTests(f"{node.name} has arguments or decorators, which nothing here would understand")
    is_async = isinstance(node, ast.AsyncFunctionDef)
    return ast.parse(f"__import__('asyncio').run({node.name}())" if is_async else f"{node.name}()").body[0]


def _refuse_test_classes(body: list[ast.stmt]) -> None:
    """Nothing here runs their methods, and tests passed over in silence would be worse than none."""
    for node in body:
        if not isinstance(node, ast.ClassDef):
            continue
        if any(isinstance(part, _AnyFunction) and part.name.startswith("test") for part in node.body):
            raise UnusableTests(f"the methods of {node.name} are not run: write functions test_...() or asserts")


def _modules(body: list[ast.stmt], candidates: set[str]) -> set[str]:
    """Modules of the standard library that the tests use, perhaps without an import: `math` in `math.isclose(f(2), 4)`.

    They are never taken from the program, which could bring a `math` of its own.
    """
    used: dict[str, set[str]] = {}
    for node in ast.walk(ast.Module(body if candidates else [], [])):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in candidates:
            used.setdefault(node.value.id, set()).add(node.attr)
    return {name for name, attributes in used.items() if _has_all(name, attributes)}


def _has_all(module: str, attributes: set[str]) -> bool:
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        return False
    return all(hasattr(loaded, attribute) for attribute in attributes)


def _call(name: str, number: int) -> ast.stmt:
    function = ast.Name(name, ast.Load(), **_SOMEWHERE)
    return ast.Expr(ast.Call(function, [ast.Constant(number, **_SOMEWHERE)], [], **_SOMEWHERE), **_SOMEWHERE)


# Calls with the values they must return.


class Mismatch(Exception):
    """A call returned another value than expected. Not told which: the reason goes into prompts."""


def check_case(function: Callable[..., Any], case: dict[str, Any], tolerance: float) -> None:
    """One call with its expected value."""
    value = function(*case["args"], **case["kwargs"])
    if not same(value, case["expected"], tolerance):
        raise Mismatch("not the expected value")


def same(value: Any, expected: Any, tolerance: float) -> bool:
    """Equality as `==` has it, but tuples count as lists (JSON has no tuples), at every depth; floats within
    `tolerance`."""
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
