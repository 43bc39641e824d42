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


def constant_apart(reference: Node, answer: Node) -> bool:
    """Whether both are antiderivatives, written with a constant "+ C", that differ by nothing else."""
    wanted, found = _without_constant(reference, ("C",)), _without_constant(answer, ("C", "c", "K", "k"))
    if wanted is None or found is None:
        return False
    differences = [evaluate(Node("-", (wanted, found)), point) for point in range(POINTS)]
    first, *others = differences
    return all(one == first or _nearly(one, first, evaluate(wanted, point + 1)) for point, one in enumerate(others))


def _nearly(first: Value, second: Value, scale: Value) -> bool:
    """Whether two differences of values of size `scale` agree to 40 of its digits."""
    mp = arithmetic()
    wide = [mp.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else v for v in (first, second, scale)]
    return bool(abs(wide[0] - wide[1]) <= mp.mpf(10) ** -_TOLERANCE_DIGITS * (1 + abs(wide[1]) + abs(wide[2])))


def _without_constant(node: Node, names: tuple[str, ...]) -> Node | None:
    """A sum without its term C; None if it has none, or C stands elsewhere in it too."""
    if node.op == "symbol" and node.name in names:
        return number(0)
    if node.op not in ("+", "-"):
        return None
    left, right = node.args
    for inner, other, rebuilt in ((left, right, 0), (right, left, 1)):
        rest = _without_constant(inner, names)
        if rest is not None and not variables(other) & set(names):
            return Node(node.op, (rest, other) if rebuilt == 0 else (other, rest))
    return None


# When a number stands for another one: tolerances of decimals, and arithmetic left undone.

LARGEST_TOLERANCE = Fraction(1, 1000)
"""Of a decimal reference's size: 3.14 accepts pi, 0.5 does not accept 0.52."""


def within(reference: Numeral, value: Fraction, rounding: int | None, *, exact: bool = False) -> bool:
    """Exactly equal; or, of a decimal reference, equal when rounded or cut off to its places.

    Args:
        reference: the number wanted.
        value: the number found.
        rounding: significant digits from which the reference may stand for an exact value that it rounds; None: never.
        exact: the number found is no rounded one itself. One that may be must be within a thousandth besides.
    """
    excess = abs(value) - abs(reference.value)
    if excess == 0 or not reference.unit or rounding is None:
        return value == reference.value
    if value * reference.value <= 0 or not -reference.unit / 2 <= excess < reference.unit:
        return False
    if exact and abs(reference.value) >= reference.unit * 10 ** (rounding - 1):
        return True
    return abs(excess) <= abs(reference.value) * LARGEST_TOLERANCE


def long_decimal_of(value: Fraction, answer: Numeral, digits: int) -> bool:
    """Whether a decimal of so many significant digits or more is `value` rounded or cut off."""
    if not answer.unit or abs(answer.value) < answer.unit * 10 ** (digits - 1):
        return False
    return abs(value - answer.value) < answer.unit


def is_long_decimal_of(reference: Node, answer: Numeral, digits: int) -> bool:
    """Whether a long decimal is the value of an expression without variables."""
    if not answer.unit or variables(reference):
        return False
    try:
        value = evaluate(reference)
    except NoValue:
        return False
    exact = as_fraction(value)
    return exact is not None and long_decimal_of(exact, answer, digits)


def as_fraction(value: Value) -> Fraction | None:
    """A real value as a fraction (of 60 digits); None for complex and enormous ones."""
    if isinstance(value, Fraction):
        return value
    if abs(value.imag) > 1e-30 or not 1e-300 < abs(value.real) < 1e300:
        return None
    whole, exponent = value.real.man_exp
    return Fraction(int(whole)) * Fraction(2) ** int(exponent)


def reaches(reference: Numeral, node: Node, rounding: int | None) -> bool:
    if node.op == "infinity":
        return False
    value = evaluate(node)
    if isinstance(value, Fraction):
        return within(reference, value, rounding, exact=True)
    real = as_fraction(value)
    if reference.unit and real is not None and within(reference, real, rounding, exact=True):
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
