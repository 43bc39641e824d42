"""Values of expressions: exact fractions where possible, else 60 digits; every bound is checked before the operation."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from inspect import signature

from selfcorrect.rewards.maths.bounds import DIGITS, NoValue, Value, arithmetic
from selfcorrect.rewards.maths.operations import Operations
from selfcorrect.rewards.maths.tokens import TRIGONOMETRIC
from selfcorrect.rewards.maths.tree import Node


def evaluate(node: Node, point: int = 0, digits: int = DIGITS) -> Value:
    """The value of `node`; symbols stand for fixed complex numbers, other ones for every `point`.

    Raises:
        TooCostly: see `bounds`.
        NoValue: the expression has none.
    """
    try:
        value = _value(node, Operations(point, digits))
    except (ZeroDivisionError, OverflowError, ValueError) as error:  # a pole, or beyond mpmath's domain
        raise NoValue(str(error)) from None
    if not isinstance(value, Fraction) and not arithmetic(digits).isfinite(value):
        raise NoValue("not a finite number")
    return value


def _value(node: Node, operations: Operations) -> Value:
    if node.op == "number":
        return node.value
    if node.op == "symbol":
        return operations.symbol(node.name)
    operation = _OPERATIONS.get(node.op)
    if operation is None:
        raise NoValue(f"{node.op} has no value")
    operands = [_value(argument, operations) for argument in node.args]
    if not _takes(operation, len(operands)):
        raise NoValue(f"{node.op} of {len(operands)} values")
    return operation(operations, *operands)


@cache
def _takes(operation: Callable[..., Value], operands: int) -> bool:
    """Whether an operation is one of so many operands: the grammar reads any number of them."""
    try:
        signature(operation).bind(None, *[None] * operands)
    except TypeError:
        return False
    return True


def _trigonometric(name: str) -> Callable[..., Value]:
    return lambda operations, value: operations.trigonometric(name)(value)


_OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "+": Operations.add,
    "-": Operations.subtract,
    "*": Operations.multiply,
    "/": Operations.divide,
    "^": Operations.power,
    "neg": Operations.negate,
    "mixed": Operations.add,
    "!": Operations.factorial,
    "root": Operations.root,
    "binom": Operations.binomial,
    "abs": Operations.absolute,
    "floor": Operations.floor,
    "ceil": Operations.ceiling,
    "exp": Operations.exponential,
    "ln": Operations.natural_logarithm,
    "log": Operations.logarithm,
    "lg": Operations.decimal_logarithm,
    "degrees": Operations.degrees,
    "gcd": Operations.common_divisor,
    "lcm": Operations.common_multiple,
    **{name: _trigonometric(name) for name in TRIGONOMETRIC},
}
