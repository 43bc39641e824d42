"""Exact fractions: whether they are still short enough, and their rational roots."""

import math
from fractions import Fraction

from selfcorrect.rewards.maths.bounds import MAX_BITS, MAX_ROOT, NoValue, TooCostly, Value


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
