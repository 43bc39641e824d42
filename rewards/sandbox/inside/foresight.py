"""What is known of tests before they run: calls that are certain to come, which are asked for ahead, and whether the
process they run in will be as it was before, and can serve another program."""

import ast
import builtins
import functools
import sys
from typing import Any

Call = tuple[str, tuple[Any, ...], dict[str, Any]]
"""The name of a function, and the arguments it is called with."""


_IN_TURN: tuple[type[ast.expr], ...] = (
    *(ast.BoolOp, ast.IfExp, ast.Lambda, ast.NamedExpr, ast.Await, ast.Starred),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.JoinedStr),
)
"""Expressions of which a part may not be evaluated, or more than once."""


class Unit(ast.Try):
    """A statement that tests something (its first), with what reports how it went."""

    @functools.cached_property
    def plain(self) -> Call | None:
        """The call of `assert f(2) == 4`, of literals only: most units are such, and need no closer look."""
        statement = self.body[0]
        test = statement.test if isinstance(statement, ast.Assert) and statement.msg is None else None
        if not isinstance(test, ast.Compare) or not isinstance(test.left, ast.Call):
            return None
        if not isinstance(test.left.func, ast.Name) or len(test.comparators) > 1:
            return None
        return _literals_of(test.left) if isinstance(test.comparators[0], ast.Constant) else None


def foreseen_call(unit: ast.stmt) -> Call | None:
    """The one call with literals that a unit is certain to make: `f(2)` in `assert f(2) == 4` and in
    `assert math.isclose(f(2), 4)`; else None."""
    test = unit.body[0] if isinstance(unit, Unit) else None
    if not isinstance(test, ast.Assert) or test.msg is not None:
        return None
    if isinstance(unit, Unit) and unit.plain is not None and not hasattr(builtins, unit.plain[0]):
        return unit.plain
    found: Call | None = None
    waiting: list[ast.AST] = [test.test]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Compare) and len(node.comparators) == 1:
            waiting += [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not hasattr(builtins, node.func.id):
            call = _literals_of(node)
            if found is not None or call is None:
                return None
            found = call
        elif isinstance(node, (*_IN_TURN, ast.Compare)):
            return None
        elif not isinstance(node, (ast.Constant, ast.Name)):
            waiting += [part for part in ast.iter_child_nodes(node) if isinstance(part, (ast.expr, ast.keyword))]
    return found


def _literals_of(node: ast.Call) -> Call | None:
    """A call by name whose arguments are literals; else None."""
    try:
        args = tuple(map(_literal, node.args))
        kwargs = {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    name = node.func.id  # type: ignore[attr-defined]
    return None if None in kwargs else (name, args, {str(key): value for key, value in kwargs.items()})


def _literal(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else ast.literal_eval(node)


HARMLESS_MODULES = frozenset(
    [
        "math",
        "cmath",
        "itertools",
        "collections",
        "functools",
        "re",
        "string",
        "datetime",
        "fractions",
        "statistics",
        "typing",
        "operator",
        "heapq",
        "bisect",
        "copy",
        "json",
    ]
)
_PATHS = "abspath basename commonpath dirname exists isabs isdir isfile join normpath relpath sep split splitext"
_ARRAYS = "allclose array array_equal asarray dtype float32 float64 inf int32 int64 isclose isinf isnan nan ndarray pi"
_SYSTEM = "byteorder float_info getrecursionlimit getsizeof maxsize maxunicode platform version_info"
_HARMLESS_PARTS = {
    "numpy": {*_ARRAYS.split()},
    "os": {"curdir", "fspath", "getcwd", "linesep", "name", "pathsep", "sep", *(f"path.{n}" for n in _PATHS.split())},
    "sys": {*_SYSTEM.split()},
    "time": {"monotonic", "perf_counter", "process_time", "time"},
}
"""Of modules that remember things, what tests use and is not remembered."""
_CHANGING_NAMES = frozenset(
    [
        "setattr",
        "delattr",
        "globals",
        "vars",
        "exec",
        "eval",
        "compile",
        "open",
        "input",
        "breakpoint",
        "__import__",
        "seed",
        "getcontext",
        "setcontext",
    ]
)


def leaves_nothing(body: list[ast.stmt], reaching: set[str]) -> bool:
    """Whether the tests' process is as it was before when these statements have run, whatever the program answers.

    Everything they make lives in a namespace that is thrown away. Only harmless modules are imported, nothing is
    assigned to an attribute, and no name is used that could reach further (`reaching`: more of those).
    """
    imports = [alias for node in body if isinstance(node, ast.Import) for alias in node.names]
    modules = {alias.asname or alias.name: alias.name for alias in imports}
    parts = {name for name, module in modules.items() if module in _HARMLESS_PARTS}
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Unit):  # what it adds is ours
            if node.plain is None or node.plain[0] in _CHANGING_NAMES:
                waiting.append(node.body[0])
            continue
        if isinstance(node, ast.Import):
            known = HARMLESS_MODULES | _HARMLESS_PARTS.keys() if node in body else HARMLESS_MODULES
            if not {alias.name for alias in node.names} <= known:
                return False
        if isinstance(node, ast.ImportFrom) and node.module not in HARMLESS_MODULES:
            return False
        if isinstance(node, ast.Attribute):
            if not isinstance(node.ctx, ast.Load) or node.attr.startswith("_"):
                return False
            root, *path = _dotted(node)
            if root in modules and not _is_harmless(modules[root], path):
                return False
            if root in parts:
                continue  # the name itself, anywhere else, is not harmless
        if isinstance(node, ast.Name) and node.id in _CHANGING_NAMES | reaching | parts:
            return False
        if isinstance(node, (ast.ClassDef, ast.AsyncFunctionDef, ast.With, ast.AsyncWith, ast.Global)):
            return False
        waiting.extend(ast.iter_child_nodes(node))
    return True


def _dotted(node: ast.expr) -> list[str]:
    """["os", "path", "join"] of `os.path.join`; the first is "" where it is no name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *reversed(names)]


def _is_harmless(module: str, path: list[str]) -> bool:
    """Whether a module's attribute is nothing that it, or a module that it has loaded, remembers."""
    if module in _HARMLESS_PARTS:
        return path[0] in _HARMLESS_PARTS[module] or ".".join(path[:2]) in _HARMLESS_PARTS[module]
    return not any(name in sys.stdlib_module_names and name not in (module, "abc") for name in path)
