"""Whether two expressions are equal: exactly where both are rational, else at three fixed complex points to 40
digits."""

from fractions import Fraction
from functools import lru_cache

from selfcorrect.rewards.maths.numerals import Numeral
from selfcorrect.rewards.maths.syntax import Node, number
from selfcorrect.rewards.maths.values import DIGITS, NoValue, TooCostly, Value, arithmetic, evaluate

POINTS = 3
_TOLERANCE_DIGITS = 40
_MANY_VALUED = frozenset({"root", "abs", "ln", "log", "lg", "floor", "ceil", "arcsin", "arccos", "arctan"})


def equal(left: Node, right: Node) -> bool | None:
    """True, False, or None where numbers at complex points cannot decide (roots and logarithms of variables).

    Raises:
        TooCostly, NoValue: from the evaluation of either.
    """
    if left == right:
        return True
    if _infinite(left) or _infinite(right):
        return False
    if not (variables(left) or variables(right)):
        return same_value(left, right)
    if all(same_value(left, right, point) for point in range(POINTS)):
        return True
    return None if _has_many_valued(left) or _has_many_valued(right) else False


def _infinite(node: Node) -> bool:
    return node.op == "infinity" or (node.op == "neg" and node.args[0].op == "infinity")


def same_value(left: Node, right: Node, point: int = 0) -> bool:
    first, second = evaluate(left, point), evaluate(right, point)
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    if _vanishes(left, first, point) or _vanishes(right, second, point):
        return _vanishes(left, first, point) and _vanishes(right, second, point)
    return close(first, second)


def close(first: Value, second: Value) -> bool:
    """Whether two non-zero numbers agree to 40 digits."""
    mp = arithmetic()
    first, second = (mp.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else v for v in (first, second))
    return bool(abs(first - second) <= mp.mpf(10) ** -_TOLERANCE_DIGITS * max(abs(first), abs(second)))


def _vanishes(node: Node, value: Value, point: int) -> bool:
    """Whether a value is zero. Digits left over by cancellation shrink when more are computed; a tiny number does
    not."""
    if isinstance(value, Fraction) or value == 0:
        return bool(value == 0)
    if abs(value) > arithmetic().mpf(10) ** -_TOLERANCE_DIGITS:
        return False
    finer = evaluate(node, point, 2 * DIGITS)
    return bool(finer == 0 or abs(finer) < abs(value) * arithmetic().mpf(10) ** -_TOLERANCE_DIGITS)


@lru_cache(maxsize=4096)
def variables(node: Node) -> frozenset[str]:
    """The names of the variables, without the constants pi, e and i. A logarithm to no base counts as one."""
    if node.op == "symbol":
        return frozenset() if node.name in ("pi", "e", "i", "I") else frozenset({node.name})
    return frozenset().union(*(variables(argument) for argument in node.args))


def _has_many_valued(node: Node) -> bool:
    if node.op in _MANY_VALUED:
        return bool(variables(node))
    fractional = node.op == "^" and bool(variables(node.args[0])) and not _is_whole(node.args[1])
    return fractional or any(_has_many_valued(argument) for argument in node.args)


def _is_whole(node: Node) -> bool:
    if node.op == "neg":
        return _is_whole(node.args[0])
    return node.op == "number" and node.value.denominator == 1


def proportional(left: Node, right: Node) -> bool:
    """Whether `left` is a constant, non-zero multiple of `right`: so that left = 0 and right = 0 are one equation."""
    try:
        ratios = [evaluate(Node("/", (left, right)), point) for point in range(POINTS)]
    except (NoValue, TooCostly):
        return False
    return ratios[0] != 0 and all(ratio == ratios[0] or close(ratio, ratios[0]) for ratio in ratios[1:])


# When a number stands for another one: tolerances of decimals, and arithmetic left undone.

LARGEST_TOLERANCE = Fraction(1, 1000)
"""Of a decimal reference's size: 3.14 accepts pi, 0.5 does not accept 0.52."""
LONG_DECIMAL = 10
"""Significant digits from which a decimal counts as the exact number that it rounds: what a calculator prints."""


def within(reference: Numeral, value: Fraction) -> bool:
    """Exactly equal; or, of a decimal reference, equal when rounded or cut off to its places, and within a
    thousandth."""
    excess = abs(value) - abs(reference.value)
    if excess == 0 or not reference.unit:
        return value == reference.value
    rounds_to_it = -reference.unit / 2 <= excess < reference.unit
    return rounds_to_it and value * reference.value > 0 and abs(excess) <= abs(reference.value) * LARGEST_TOLERANCE


def long_decimal_of(value: Fraction, answer: Numeral) -> bool:
    if not answer.unit or abs(answer.value) < answer.unit * 10 ** (LONG_DECIMAL - 1):
        return False
    return abs(value - answer.value) < answer.unit


def is_long_decimal_of(reference: Node, answer: Numeral) -> bool:
    """Whether a long decimal is the value of an expression without variables."""
    if not answer.unit or variables(reference):
        return False
    try:
        value = evaluate(reference)
    except NoValue:
        return False
    exact = as_fraction(value)
    return exact is not None and long_decimal_of(exact, answer)


def as_fraction(value: Value) -> Fraction | None:
    """A real value as a fraction (of 60 digits); None for complex and enormous ones."""
    if isinstance(value, Fraction):
        return value
    if abs(value.imag) > 1e-30 or not 1e-300 < abs(value.real) < 1e300:
        return None
    whole, exponent = value.real.man_exp
    return Fraction(int(whole)) * Fraction(2) ** int(exponent)


def reaches(reference: Numeral, node: Node) -> bool:
    if node.op == "infinity":
        return False
    value = evaluate(node)
    if isinstance(value, Fraction):
        return within(reference, value)
    real = as_fraction(value)
    if reference.unit and real is not None and within(reference, real):
        return True
    if reference.value == 0:
        return equal(number(0), node) is True
    return close(reference.value, value)


def spelled_alike(reference: Numeral, answer: Numeral) -> bool:
    return reference.form == answer.form and reference.value == answer.value


def is_mere_arithmetic(node: Node) -> bool:
    """Numbers joined by + - * / and nothing else."""
    if node.op == "number":
        return True
    return node.op in ("+", "-", "*", "/", "neg", "mixed") and all(map(is_mere_arithmetic, node.args))
