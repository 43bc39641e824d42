"""Operations on values, exact where possible; every bound is checked before the operation."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from selfcorrect.rewards.maths.bounds import (
    MAX_BITS,
    MAX_FACTORIAL,
    MAX_LOG,
    MAX_ROOT,
    MAX_TRIGONOMETRIC,
    NoValue,
    TooCostly,
    Value,
    arithmetic,
)
from selfcorrect.rewards.maths.exact import are_exact, bits, bounded, rational_root, whole_number
from selfcorrect.rewards.maths.symbols import stand_in, value_of_symbol


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
