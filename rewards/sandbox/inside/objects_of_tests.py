"""Objects of the tests' own classes, for the program: it may use their public attributes and operators, no more.

The program must not find what the tests expect: names that begin with an underscore lead from any method to the tests'
globals, and are refused.
"""

from typing import Any

from selfcorrect.rewards.sandbox.inside.special import has_special

_SPECIAL = [
    "call",
    "len",
    "iter",
    "next",
    "getitem",
    "setitem",
    "delitem",
    "contains",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "hash",
    "bool",
    "str",
    "repr",
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "neg",
    "abs",
    "int",
    "float",
    "enter",
    "exit",
    "radd",
    "rsub",
    "rmul",
]


class TestObject:
    """What the program may do with `target`, called by name."""

    __test__ = False

    def __init__(self, target: Any) -> None:
        self.target = target

    def __call__(self, operation: str, *operands: Any) -> Any:
        target = self.target
        if operation in ("getattr", "setattr", "delattr"):
            name = operands[0]
            if type(name) is not str or name.startswith("_"):
                raise AttributeError(f"{type(target).__name__!r} object has no attribute {name!r}")
            access: Any = {"getattr": getattr, "setattr": setattr, "delattr": delattr}[operation]
            return access(target, *operands)
        if operation not in _SPECIAL:
            raise TypeError(f"{operation} is not supported")
        if operation == "exit":
            operands = (None, None, None)
        result = getattr(type(target), f"__{operation}__")(target, *operands)
        if result is NotImplemented:
            raise TypeError(f"{operation} is not supported between these objects")
        return result

    @staticmethod
    def special_of(target: Any) -> list[str]:
        """The special methods that the object's class has beyond what every object has."""
        return [name for name in _SPECIAL if has_special(type(target), f"__{name}__")]
