"""When a number stands for another one: tolerances of decimals, and arithmetic left undone."""

from fractions import Fraction

from selfcorrect.rewards.maths.bounds import NoValue, Value
from selfcorrect.rewards.maths.equality import close, equal, variables
from selfcorrect.rewards.maths.numerals import Numeral
from selfcorrect.rewards.maths.tree import Node, number
from selfcorrect.rewards.maths.values import evaluate

LARGEST_TOLERANCE = Fraction(1, 1000)
"""Of a decimal reference's size: 3.14 accepts pi, 0.5 does not accept 0.52."""
LONG_DECIMAL = 10
"""Significant digits from which a decimal counts as the exact number that it rounds: what a calculator prints."""


def within(reference: Numeral, value: Fraction) -> bool:
    """Exactly equal; or, of a decimal reference, equal when rounded or cut off to its places, and within a thousandth."""
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
