"""Trees of expressions."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Node:
    """One node of an expression.

    Attributes:
        op: "number", "symbol", "infinity", "+", "-", "*", "/", "^", "neg", "!", "root" (radicand, degree) or a function's name.
        args: the operands.
        value: of a number.
        name: of a symbol.
    """

    op: str
    args: tuple["Node", ...] = ()
    value: Fraction = Fraction(0)
    name: str = ""


def number(value: Fraction | int) -> Node:
    return Node("number", value=Fraction(value))
