"""The special methods that make an object behave: what the tests' side looks for in a class of the program."""

from itertools import takewhile

BINARY = [
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "matmul",
    "rmatmul",
    "truediv",
    "rtruediv",
    "floordiv",
    "rfloordiv",
    "mod",
    "rmod",
    "pow",
    "rpow",
    "lshift",
    "rlshift",
    "rshift",
    "rrshift",
    "and",
    "rand",
    "xor",
    "rxor",
    "or",
    "ror",
    "iadd",
    "isub",
    "imul",
    "imatmul",
    "itruediv",
    "ifloordiv",
    "imod",
    "ipow",
    "iand",
    "ior",
    "ixor",
    "divmod",
]
ORDERING = ("lt", "le", "gt", "ge")
ALONE = ["neg", "pos", "abs", "invert", "int", "float", "complex", "index", "round", "trunc", "floor", "ceil"]
SPECIAL = tuple(
    f"__{name}__"
    for name in (
        *BINARY,
        *ORDERING,
        *ALONE,
        "eq",
        "hash",
        "call",
        "len",
        "bool",
        "iter",
        "next",
        "getitem",
        "setitem",
        "delitem",
        "contains",
        "enter",
        "exit",
        "await",
        "aiter",
        "anext",
        "aenter",
        "aexit",
        "reversed",
        "get",
    )
)
"""What the program is asked to look for in a class."""


def has_special(kind: type, name: str) -> bool:
    """Whether a class has a special method that not every object has. Its own class (a class can be called) is not
    asked."""
    bases = takewhile(lambda base: base is not object, kind.__mro__)
    return next((vars(base)[name] for base in bases if name in vars(base)), None) is not None
