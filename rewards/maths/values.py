"""Values of expressions: exact fractions where possible, else 60 digits; every bound is checked before the
operation."""

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from importlib import import_module
from inspect import signature
from typing import Any

from selfcorrect.rewards.maths.syntax import Node
from selfcorrect.rewards.maths.tokens import TRIGONOMETRIC

# How far values are computed and to how many digits, and what is raised where they are not.

DIGITS = 60
MAX_BITS = 4096
MAX_LOG = 2e4
"""Natural logarithm of the largest power that is computed."""
MAX_FACTORIAL = 300
MAX_ROOT = 64
MAX_TRIGONOMETRIC = 1e9

Value = Any  # Fraction, or an mpmath number: mpmath has no types


class TooCostly(Exception):
    """The value lies beyond the bounds of what is computed."""


class NoValue(Exception):
    """Undefined (division by zero), infinite, or notation without a value here."""


_local = threading.local()


def arithmetic(digits: int = DIGITS) -> Any:
    """An mpmath context of this thread (mpmath's global one is not safe to share between threads)."""
    contexts = _local.__dict__.setdefault("contexts", {})
    if digits not in contexts:
        context = import_module("mpmath").MPContext()  # not before it is needed; it has no types
        context.dps = digits
        contexts[digits] = context
    return contexts[digits]


# Exact fractions: whether they are still short enough, and their rational roots.


def are_exact(left: Value, right: Value) -> bool:
    return isinstance(left, Fraction) and isinstance(right, Fraction)


def bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def bounded(value: Fraction) -> Fraction:
    """Sums, products and quotients of bounded numbers are at most twice as long; longer ones go no further."""
    if bits(value) > MAX_BITS:
        raise TooCostly("a number with too many digits")
    return value


def whole_number(value: Value) -> int:
    if not isinstance(value, Fraction) or value.denominator != 1:
        raise NoValue("a divisor of no whole number")
    return value.numerator


def rational_root(value: Fraction, order: int) -> Fraction | None:
    """The real root of `order` if it is rational."""
    if order > MAX_ROOT or (value < 0 and order % 2 == 0):
        return None
    top, bottom = _integer_root(abs(value.numerator), order), _integer_root(value.denominator, order)
    if top is None or bottom is None:
        return None
    return Fraction(top, bottom) * (-1 if value < 0 else 1)


def _integer_root(value: int, order: int) -> int | None:
    if order == 2:
        root = math.isqrt(value)
    else:
        root, low, high = 0, 0, 1 << (value.bit_length() // order + 1)
        while low <= high:
            root = (low + high) // 2
            power = root**order
            if power == value:
                return root
            low, high = (root + 1, high) if power < value else (low, root - 1)
    return root if root**order == value else None


# What symbols stand for: constants for themselves, variables for fixed complex numbers. `context` is an mpmath context.


def value_of_symbol(name: str, point: int, context: Any) -> Value:
    if name == "pi":
        return +context.pi
    if name == "e":
        return +context.e
    if name in ("i", "I"):
        return context.mpc(0, 1)
    return stand_in(name, point, context)


def stand_in(name: str, point: int, context: Any) -> Value:
    """A fixed complex number for a variable, in another quadrant for every point; size between 0.3 and 1.8."""
    digest = hashlib.blake2b(f"{point}:{name}".encode(), digest_size=16).digest()
    real, imaginary = (0.3 + int.from_bytes(digest[part : part + 8]) / 2**64 for part in (0, 8))
    signs = ((1, 1), (-1, 1), (-1, -1))[point % 3]
    return context.mpc(signs[0] * real, signs[1] * imaginary)


# Operations on values, exact where possible; every bound is checked before the operation.


class Operations:
    """The operations to so many digits, at one of the points for which symbols stand.

    Every operation takes and returns Fractions where it can.
    """

    def __init__(self, point: int, digits: int) -> None:
        self._point, self._digits = point, digits

    @property
    def _mp(self) -> Any:
        return arithmetic(self._digits)

    def symbol(self, name: str) -> Value:
        return value_of_symbol(name, self._point, self._mp)

    def add(self, left: Value, right: Value) -> Value:
        return bounded(left + right) if are_exact(left, right) else self._inexact(left) + self._inexact(right)

    def subtract(self, left: Value, right: Value) -> Value:
        return self.add(left, -right)

    def negate(self, value: Value) -> Value:
        return -value

    def multiply(self, left: Value, right: Value) -> Value:
        return bounded(left * right) if are_exact(left, right) else self._inexact(left) * self._inexact(right)

    def divide(self, left: Value, right: Value) -> Value:
        if right == 0:
            raise NoValue("division by zero")
        return bounded(left / right) if are_exact(left, right) else self._inexact(left) / self._inexact(right)

    def power(self, base: Value, exponent: Value) -> Value:
        if exponent == 0 and base != 0:
            return Fraction(1)
        if base == 0:
            if not isinstance(exponent, Fraction) or exponent <= 0:
                raise NoValue("a power of zero")
            return Fraction(0)
        if are_exact(base, exponent):
            if exponent.denominator == 1 and abs(exponent) * bits(base) <= MAX_BITS:
                return base**exponent.numerator
            if exponent.denominator != 1 and (rational := rational_root(base, exponent.denominator)) is not None:
                return self.power(rational, Fraction(exponent.numerator))
        return self._inexact_power(self._inexact(base), exponent)

    def _inexact_power(self, base: Value, exponent: Value) -> Value:
        wide = self._inexact(exponent)
        if abs(wide) > 1e12 or abs(wide * self._mp.log(base)) > MAX_LOG:
            raise TooCostly("a power too large to compute")
        return (
            base**wide if not isinstance(exponent, Fraction) or exponent.denominator != 1 else base**exponent.numerator
        )

    def root(self, radicand: Value, degree: Value) -> Value:
        if not isinstance(degree, Fraction) or degree.denominator != 1 or degree < 2:
            raise NoValue("a root of this degree")
        order = degree.numerator
        if order > MAX_ROOT:
            return self.power(radicand, 1 / degree)
        if isinstance(radicand, Fraction):
            if (rational := rational_root(radicand, order)) is not None:
                return rational
            if radicand < 0 and order % 2:  # the real root, as at school
                return -self._mp.root(self._inexact(-radicand), order)
        return self._mp.root(self._inexact(radicand), order)

    def factorial(self, value: Value) -> Value:
        if not isinstance(value, Fraction) or value.denominator != 1 or value < 0:
            raise NoValue("a factorial of no natural number")
        if value > MAX_FACTORIAL:
            raise TooCostly("a factorial too large to compute")
        return Fraction(math.factorial(value.numerator))

    def binomial(self, top: Value, bottom: Value) -> Value:
        if not are_exact(top, bottom) or top.denominator != 1 or bottom.denominator != 1 or top < 0 or bottom < 0:
            raise NoValue("a binomial coefficient of no natural numbers")
        if top > 1000:
            raise TooCostly("a binomial coefficient too large to compute")
        return Fraction(math.comb(top.numerator, bottom.numerator))

    def absolute(self, value: Value) -> Value:
        return abs(value)

    def floor(self, value: Value) -> Value:
        return Fraction(math.floor(self._real(value)))

    def ceiling(self, value: Value) -> Value:
        return Fraction(math.ceil(self._real(value)))

    def exponential(self, value: Value) -> Value:
        return self.power(+self._mp.e, value)

    def natural_logarithm(self, value: Value) -> Value:
        if value == 0:
            raise NoValue("the logarithm of zero")
        return Fraction(0) if value == 1 else self._mp.log(self._inexact(value))

    def logarithm(self, value: Value, base: Value | None = None) -> Value:
        """Without a base: to an unknown one, since books differ. What holds for every base holds here."""
        known = stand_in("base of log", self._point, self._mp) if base is None else base
        return self.divide(self.natural_logarithm(value), self.natural_logarithm(known))

    def decimal_logarithm(self, value: Value) -> Value:
        return self.logarithm(value, Fraction(10))

    def degrees(self, value: Value) -> Value:
        return self._inexact(value) * self._mp.pi / 180

    def common_divisor(self, *values: Value) -> Value:
        return Fraction(math.gcd(*map(whole_number, values)))

    def common_multiple(self, *values: Value) -> Value:
        return bounded(Fraction(math.lcm(*map(whole_number, values))))

    def trigonometric(self, name: str) -> Callable[[Value], Value]:
        def apply(value: Value) -> Value:
            wide = self._inexact(value)
            if abs(wide) > MAX_TRIGONOMETRIC or abs(self._mp.im(wide)) > MAX_LOG:
                raise TooCostly(f"{name} of a number too large")
            if name.startswith("arc"):
                return getattr(self._mp, f"a{name[3:]}")(wide)
            return getattr(self._mp, name)(wide)

        return apply

    def _real(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            return value
        if self._mp.im(value) != 0 or abs(value) > 1e15:
            raise NoValue("rounding a complex or huge number")
        nearest = round(self._mp.re(value))
        # An integer up to the last digits is that integer: floor(sqrt(2)^2) is 2.
        return (
            Fraction(nearest) if abs(value - nearest) < self._mp.mpf(10) ** (10 - self._digits) else self._mp.re(value)
        )

    def _inexact(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            return self._mp.mpf(value.numerator) / value.denominator
        return value


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
