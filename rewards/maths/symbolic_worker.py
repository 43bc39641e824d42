"""The job of a worker process: what math-verify says about pairs of expressions. Runs nowhere but in a killable worker.

math-verify's own time limits (signal.alarm) are off: the parent kills this process instead.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from selfcorrect.rewards.maths import syntax as own_parser
from selfcorrect.rewards.maths.equality import variables
from selfcorrect.rewards.maths.syntax import Node
from selfcorrect.rewards.maths.tokens import NotUnderstood, TooIntricate

_LATEX_ONLY = [
    LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
        ),
        boxed_match_priority=-1,
    )
]
"""Formulas alone: math-verify's reading of plain expressions goes through sympy's parse_expr, which no answer may
reach."""
_ROUNDING = 30

logging.disable(logging.CRITICAL)


def judge(pairs: list[tuple[str, str]], report: Callable[[str], None]) -> list[bool | None]:
    """For each (reference, answer): whether they are equal; None if the reference cannot be parsed."""
    verdicts: list[bool | None] = []
    for reference, answer in pairs:
        report("reference")
        gold = _parsed(reference)
        if not gold:
            verdicts.append(None)
            continue
        report("answer")
        found = _parsed(answer)
        report("comparison")
        verdicts.append(bool(found) and _same(gold[0], found[0]))
    return verdicts


def _parsed(text: str) -> list[Any]:
    """A constant that our own parser can read is built from its tree; everything else is math-verify's to read."""
    try:
        tree = own_parser.parse(text)
        if not variables(tree):
            return [_built(tree)]
    except (NotUnderstood, TooIntricate, KeyError):
        pass
    found: list[Any] = parse(
        f"${text}$", _LATEX_ONLY, fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
    )
    return found


_SYMBOLS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "I": sympy.I}
_BUILT: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": lambda a, b: a**b,
    "neg": lambda a: -a,
    "mixed": lambda a, b: a + b,
    "ln": sympy.log,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "abs": sympy.Abs,
}
_MAX_EXPONENT = 1000


def _built(tree: Node) -> Any:
    """A tree without variables as a sympy number: by sympy's own operations, never from text.

    Raises:
        KeyError: an operation that is not in the list, or a power so large that it is not to be computed at once.
    """
    if tree.op == "number":
        return sympy.Rational(tree.value.numerator, tree.value.denominator)
    if tree.op == "symbol":
        return _SYMBOLS[tree.name]
    operands = [_built(argument) for argument in tree.args]
    if tree.op == "root":
        if not operands[0].is_nonnegative:
            raise KeyError(tree.op)  # which root of a negative number is meant, is decided elsewhere
        return sympy.root(*operands)
    if tree.op == "^" and not (operands[1].is_number and abs(operands[1]) <= _MAX_EXPONENT and operands[0].is_Rational):
        raise KeyError(tree.op)
    return _BUILT[tree.op](*operands)


_LEFT_TO_DO = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)
_DIGITS = 60
_AGREE = sympy.Float(10, _DIGITS) ** -40


def _same(reference: Any, answer: Any) -> bool:
    if reference.__class__.__name__ in _CONTAINERS or answer.__class__.__name__ in _CONTAINERS:
        return bool(type(reference) is type(answer) and reference == answer)
    by_value = _same_value(reference, answer)
    if by_value is not None:
        return by_value
    return bool(
        verify(reference, answer, float_rounding=_ROUNDING, numeric_precision=2 * _ROUNDING, timeout_seconds=None)
    )


def _same_value(reference: Any, answer: Any) -> bool | None:
    """Whether two constants agree to 40 of 60 digits; None where either is no finite constant in closed form."""
    if not all(isinstance(side, sympy.Expr) and not side.free_symbols for side in (reference, answer)):
        return None
    left, right = _value(reference), _value(answer)
    if left is None or right is None or (left == 0) != (right == 0):
        return None
    return bool(left == right or abs(left - right) <= _AGREE * abs(left))


@lru_cache(maxsize=4096)
def _value(constant: Any) -> Any:
    worked_out = constant.doit()
    if worked_out.has(*_LEFT_TO_DO):
        return None
    value = worked_out.evalf(_DIGITS)
    return value if value.is_number and value.is_finite else None


def _warm_up() -> None:
    """The first use of a grammar rule or of simplify is slow; that must not count against anybody's deadline."""
    pairs = [(r"\sqrt{2}+\frac{x^2}{3}", r"\frac{x^2}{3}+2^{1/2}"), (r"\int_0^1 x dx", r"\sin(0)+\frac{1}{2}")]
    judge(pairs, lambda stage: None)


_CONTAINERS = ("FiniteSet", "Tuple", "Interval", "Union")  # structure is the parent's to judge, not math-verify's

_warm_up()
