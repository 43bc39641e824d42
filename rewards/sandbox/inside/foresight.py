"""What is known of tests before they run: calls that are certain to come, which are asked for ahead, and whether the
process they run in will be as it was before, and can serve another program."""

import ast
import builtins
import functools
import importlib
import itertools
import types
from collections.abc import Set as AbstractSet
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
        return _literals_of(test.left) if _is_literal(test.comparators[0]) else None

    @property
    def is_equation(self) -> bool:
        """Whether a plain unit compares by `==`."""
        return isinstance(self.body[0].test.ops[0], ast.Eq)  # type: ignore[attr-defined]

    @property
    def expected(self) -> Any:
        """Of a plain unit, the literal behind the call, made anew each time."""
        return _literal(self.body[0].test.comparators[0])  # type: ignore[attr-defined]


def is_plain(unit: ast.stmt) -> bool:
    """Whether a unit is `assert f(2) == 4`, of literals and a function that can only be the program's."""
    if not isinstance(unit, Unit) or unit.plain is None or not unit.is_equation:
        return False
    name = unit.plain[0]
    return not hasattr(builtins, name) and name not in _CHANGING_NAMES and name[:2] != "__"


def first_imports(body: list[ast.stmt], called: set[str]) -> list[ast.stmt]:
    """The imports that tests begin with; none if they bind one of the names that are `called`, as far as is known."""
    imports = list(itertools.takewhile(lambda statement: isinstance(statement, (ast.Import, ast.ImportFrom)), body))
    names = {alias.asname or alias.name.partition(".")[0] for one in imports for alias in one.names}  # type: ignore[attr-defined]
    return imports if names.isdisjoint({"*", *called}) else []


def foreseen_call(unit: ast.stmt) -> Call | None:
    """The one call with literals that a unit is certain to make: `f(2)` in `assert f(2) == 4` and in
    `assert math.isclose(f(2), 4)`; else None."""
    test = unit.body[0] if isinstance(unit, Unit) else None
    if not isinstance(test, ast.Assert) or test.msg is not None:
        return None
    if isinstance(unit, Unit) and unit.plain is not None and not hasattr(builtins, unit.plain[0]):
        return _literals_of(test.test.left)  # type: ignore[attr-defined]
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


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return True
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _literal(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else ast.literal_eval(node)


_MODULES = (
    "bisect cmath collections collections.abc copy datetime fractions functools heapq itertools json math operator "
    "random re statistics string typing"
)
HARMLESS_MODULES = frozenset(_MODULES.split())
"""Modules that remember nothing that tests can change, with what `_is_harmless` lets through of them. `random` starts
anew with every program (see `tester.py`)."""
_PATHS = "abspath basename commonpath dirname exists isabs isdir isfile join normpath relpath sep split splitext"
_ARRAYS = "allclose array array_equal asarray dtype float32 float64 inf int32 int64 isclose isinf isnan nan ndarray pi"
_SYSTEM = "byteorder float_info getrecursionlimit getsizeof maxsize maxunicode platform version_info"
_ROUNDING = "Decimal ROUND_CEILING ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP"
HARMLESS_PARTS = {
    "decimal": {*_ROUNDING.split()},
    "numpy": {*_ARRAYS.split()},
    "os": {"curdir", "fspath", "getcwd", "linesep", "name", "pathsep", "sep", *(f"path.{n}" for n in _PATHS.split())},
    "sys": {*_SYSTEM.split()},
    "time": {"monotonic", "perf_counter", "process_time", "time"},
}
"""Of modules that remember things, what tests use and is not remembered."""
_CHANGING = "breakpoint compile delattr eval exec exit getattr globals help input locals open quit setattr vars"
_CHANGING_NAMES = frozenset(_CHANGING.split())
"""Builtin functions that reach further than their arguments."""
_LEADING = (
    "ag_frame ag_code attrgetter cr_code cr_frame delitem f_back f_builtins f_globals f_locals gi_code gi_frame "
    "gi_yieldfrom methodcaller register setitem singledispatch singledispatchmethod tb_frame update_wrapper wraps "
    "setattr delattr setenv delenv chdir syspath_prepend"
)
_REACHING = frozenset(_LEADING.split())
"""Attributes that lead to what others use, or change it: frames, registries, attributes by their names, patches."""
_OWN = ("__name__", "__selfcorrect_")
"""How names with two underscores begin that tests, and what is added to them, may use."""
_NOT_FOLLOWED = (
    *(ast.ClassDef, ast.AsyncFunctionDef, ast.With, ast.AsyncWith, ast.Global, ast.Match),
    *(ast.AsyncFor, ast.Await),
)


def leaves_nothing(body: list[ast.stmt], reaching: set[str], modules: AbstractSet[str] = frozenset()) -> bool:
    """Whether the tests' process is as it was before when these statements have run, whatever the program answers.

    Everything they make lives in a namespace that is thrown away. Nothing is assigned to an attribute, and all that is
    used of modules is functions, classes and constants of harmless ones; a module itself is handed to nobody.

    Args:
        body: the statements.
        reaching: names that reach further, besides those known here.
        modules: those that the statements use without an import.
    """
    known, waiting, found = {name: name for name in modules}, list[ast.AST](body), list[ast.AST]()  # filled below
    while waiting:
        node = waiting.pop()
        if isinstance(node, Unit):  # what it adds is ours
            if node.plain is None or node.plain[0] in _CHANGING_NAMES or node.plain[0][:2] == "__":
                waiting.append(node.body[0])
        elif isinstance(node, _NOT_FOLLOWED) or not _imports_nothing_else(node, known):
            return False
        else:
            found.append(node)
            waiting.extend(ast.iter_child_nodes(node))
    roots = {id(node.value) for node in found if isinstance(node, ast.Attribute)}
    names = {node.id for node in found if isinstance(node, ast.Name) and not (node.id in known and id(node) in roots)}
    return not names & (known.keys() | _CHANGING_NAMES | reaching) and all(
        _is_followed(node, known) if isinstance(node, ast.Attribute) else _is_own(node) for node in found
    )


def _is_own(node: ast.AST) -> bool:
    return not isinstance(node, ast.Name) or node.id[:2] != "__" or node.id.startswith(_OWN)


def _imports_nothing_else(node: ast.AST, known: dict[str, str]) -> bool:
    """Whether a node imports nothing but what is harmless; the names of modules are noted in `known`."""
    if isinstance(node, ast.ImportFrom):
        return not node.level and all(_is_harmless(node.module or "", [alias.name]) for alias in node.names)
    for alias in node.names if isinstance(node, ast.Import) else ():
        module = alias.name if alias.asname else alias.name.partition(".")[0]
        if alias.name not in HARMLESS_MODULES | HARMLESS_PARTS.keys() | {"os.path"}:
            return False
        if known.setdefault(alias.asname or module, module) != module:
            return False
    return True


def _is_followed(node: ast.Attribute, known: dict[str, str]) -> bool:
    if not isinstance(node.ctx, ast.Load) or node.attr[:1] == "_" or node.attr in _REACHING:
        return False
    root, *path = _dotted(node)
    return root not in known or _is_harmless(known[root], path)


def _dotted(node: ast.expr) -> list[str]:
    """["os", "path", "join"] of `os.path.join`; the first is "" where it is no name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *reversed(names)]


def _is_harmless(module: str, path: list[str]) -> bool:
    """Whether an attribute of a module (`path`: its name, and names of what is in it) is nothing that anybody can
    change: a function, a class, a constant."""
    if module in HARMLESS_PARTS:
        parts = HARMLESS_PARTS[module]
        return path[0] in parts or ".".join(path[:2]) in parts or (module, path) == ("os", ["path"])
    if f"{module}.{path[0]}" in HARMLESS_MODULES:
        return len(path) == 1 or _is_harmless(f"{module}.{path[0]}", path[1:])
    return module in HARMLESS_MODULES and path[0] in _constants_of(module)


@functools.cache
def _constants_of(module: str) -> frozenset[str]:
    kinds = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, int, float, complex, str, tuple)
    return frozenset(
        name
        for name, value in vars(importlib.import_module(module)).items()
        if name[:1] != "_"
        and name not in _REACHING
        and (isinstance(value, kinds) or (module == "typing" and not isinstance(value, types.ModuleType)))
    )
