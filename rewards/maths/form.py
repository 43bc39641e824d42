"""The form that an answer is wanted in: a number as a number, in lowest terms; a polynomial factored or multiplied out.

Equal values are not enough where the exercise is to rewrite: "17 \\cdot 23" says nothing that the question did not say.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from selfcorrect.rewards.maths.copies import ONE, Canonical, factors_of, terms_of
from selfcorrect.rewards.maths.equality import variables
from selfcorrect.rewards.maths.syntax import Node

# Numbers: written out, or still to be worked out.

_ARITHMETIC = ("+", "-", "*", "/", "^", "neg", "number", "symbol", "mixed", "infinity")


def is_written_number(node: Node) -> bool:
    """A number as one writes it: 42, -2/3, 2/(-3), 2\\frac{1}{4}; a fraction in lowest terms."""
    if node.op == "number":
        return True
    if node.op == "neg":
        return node.args[0].op != "neg" and is_written_number(node.args[0])
    if node.op == "mixed":
        return is_written_number(node.args[1])
    if node.op != "/":
        return False
    parts = [_whole(part) for part in node.args]
    if None in parts or parts[1] == 0:
        return False
    top, bottom = (abs(part) for part in parts if part is not None)
    return bottom > 1 and Fraction(top, bottom).denominator == bottom


def _whole(node: Node) -> int | None:
    if node.op == "neg":
        inner = _whole(node.args[0])
        return None if inner is None else -inner
    return node.value.numerator if node.op == "number" and node.value.denominator == 1 else None


def work_left(answer: Node, reference: Node) -> str:
    """What is still to be worked out in a constant `answer`, judged by `reference`, or "".

    Functions (logarithms, sines, divisors, absolute values) that the reference does without, and operations on plain
    numbers, more of them than in the reference.
    """
    if variables(answer):
        return ""
    strange = _functions(answer) - _functions(reference)
    if strange:
        return f"{min(strange)} is not worked out"
    if _undone(answer) > _undone(reference):
        return "the arithmetic is not carried out"
    return ""


def _functions(node: Node) -> frozenset[str]:
    name = "root" if _is_root(node) else node.op
    own = frozenset() if name in _ARITHMETIC else frozenset({name})
    return own.union(*(_functions(argument) for argument in node.args))


def _is_root(node: Node) -> bool:
    """The square root of 2, however it is written: a power whose exponent is a fraction is one too."""
    if node.op == "^":
        return not variables(node.args[1]) and is_written_number(node.args[1]) and _whole(node.args[1]) is None
    return node.op == "root"


def _undone(node: Node) -> int:
    """How many sums, products, quotients and powers have plain numbers for operands. 2/3 is a number, no quotient."""
    operation = node.op in ("+", "-", "*", "/", "^") and not _is_root(node) and not is_written_number(node)
    mine = operation and (all(map(is_written_number, node.args)) or (node.op in ("*", "/") and _cancels(node)))
    return mine + sum(map(_undone, node.args))


def _cancels(node: Node) -> bool:
    """Whether whole numbers stand above and below the line of a quotient, 8\\pi/2, that have a common divisor."""
    above, below = Fraction(1), Fraction(1)
    for power, factor in factors_of(node, 1):
        if factor[0] == "number" and isinstance(factor[1], Fraction) and factor[1].denominator == 1:
            above, below = (above * factor[1], below) if power > 0 else (above, below * factor[1])
    return below > 1 and Fraction(above, below).denominator != below


def like_terms(node: Node) -> bool:
    """Whether a sum in `node` has two terms that differ by a number only: 3x + 2x."""
    inner = any(map(like_terms, node.args))
    if inner or node.op not in ("+", "-"):
        return inner
    monomials = [_without_number(term) for _, term in terms_of(node, 1)]
    return len(set(monomials)) < len(monomials)


def _without_number(term: Canonical) -> Canonical:
    if _is_whole_power(term):
        return ONE
    if term[0] != "product":
        return term
    factors = [part for part in term[1:] if isinstance(part, tuple)]
    rest = [(power, factor) for power, factor in factors if not _is_whole_power(factor)]
    if not rest and all(power == int(power) for power, _ in factors):
        return ONE
    return rest[0][1] if len(rest) == 1 and rest[0][0] == 1 else ("product", *rest)


def _is_whole_power(term: Any) -> bool:
    """A number, or one to a whole power: 2^2 is added to 3 as 4 is."""
    if term[0] != "^":
        return bool(term[0] == "number")
    base, exponent = term[1:]
    return bool(base[0] == exponent[0] == "number" and exponent[1] == int(exponent[1]))


_CLOSED_FORM = ("+", "-", "*", "/", "^", "neg", "number", "mixed", "root")


def is_closed_form(node: Node) -> bool:
    """A number that has no end as a decimal, worked out as far as it can be: 40\\pi, 2\\sqrt{3}."""
    return not _undone(node) and _only_closed(node) and not is_written_number(node)


def _only_closed(node: Node) -> bool:
    if node.op == "symbol":
        return node.name in ("pi", "e")
    return node.op in _CLOSED_FORM and all(map(_only_closed, node.args))


_UNWORKED = re.compile(
    r"\\(?:i*int|sum|prod|lim|det|max|min|sup|inf|gcd|bmod|mod|operatorname)(?![a-zA-Z])|\\?[ld]?dots(?![a-zA-Z])"
    r"|\.\.\."
)


def unworked_notation(answer: str, reference: str) -> str:
    """The first sign of work to do, an integral or a sum, that an answer has and the reference has not; or ""."""
    known = set(_UNWORKED.findall(reference))
    return next((sign for sign in _UNWORKED.findall(answer) if sign not in known), "")


# Polynomials: factored, or multiplied out.


def factors(node: Node) -> int:
    """How many factors with variables a product has; powers count by their exponent."""
    if node.op == "neg":
        return factors(node.args[0])
    if node.op == "*":
        return sum(map(factors, node.args))
    if node.op == "/" and not variables(node.args[1]):
        return factors(node.args[0])
    if node.op == "^" and (exponent := _whole(node.args[1])) is not None and exponent > 0:
        return exponent * factors(node.args[0])
    return 1 if variables(node) else 0


def _is_sum(node: Node) -> bool:
    return node.op in ("+", "-") or (node.op == "neg" and _is_sum(node.args[0]))


def is_factored(node: Node) -> bool:
    """A product, or a power, that holds a sum with variables."""
    return factors(node) > 1 and any(_is_sum(part) and variables(part) for part in _product_parts(node))


def _product_parts(node: Node) -> Iterator[Node]:
    if node.op in ("*", "neg", "^") or (node.op == "/" and not variables(node.args[1])):
        for part in node.args[: 2 if node.op == "*" else 1]:
            yield from _product_parts(part)
    else:
        yield node


def is_multiplied_out(node: Node) -> bool:
    """A sum in which no product or power has a sum with variables for an operand."""
    return _is_sum(node) and not _holds_factored(node)


def _holds_factored(node: Node) -> bool:
    return is_factored(node) or any(map(_holds_factored, node.args))


def _is_polynomial(node: Node) -> bool:
    if node.op in ("/", "^") and variables(node.args[1]):
        return False
    if node.op == "^" and ((exponent := _whole(node.args[1])) is None or exponent < 0):
        return not variables(node)
    return not variables(node) or (
        node.op in ("+", "-", "*", "/", "neg", "^", "symbol") and all(map(_is_polynomial, node.args))
    )


def _divides(node: Node) -> bool:
    """Whether something with variables is divided by."""
    by_power = node.op == "^" and (exponent := _whole(node.args[1])) is not None and exponent < 0
    quotient = node.op == "/" and variables(node.args[1])
    return bool(quotient or (by_power and variables(node.args[0]))) or any(map(_divides, node.args))


_FACTOR = re.compile(r"\b(?:factor(?:i[sz]e|ed|ization|ing)?\b(?!\s+of\b)|as a product)", re.IGNORECASE)
_EXPAND = re.compile(
    r"\b(?:expand|multiply out|distribut|without parenthes|simplif|expanded form|standard form|as a polynomial|the "
    r"product)",
    re.IGNORECASE,
)

_QUOTIENT = re.compile(r"\\[dt]?frac|/|\^\s*\{?\s*-|\bdivi|\bquotient", re.IGNORECASE)


def wrong_form(answer: Node, reference: Node, problem: str | None) -> str:
    """Why `answer`, equal to `reference`, is not in the form that is wanted, or "".

    The question's words say which form that is; without a question, the reference's own form does.
    """
    if not variables(reference):
        return work_left(answer, reference)
    if like_terms(answer) and not like_terms(reference):
        return "its like terms are not combined"
    if problem is not None and _QUOTIENT.search(problem) and _divides(answer) and _is_polynomial(reference):
        return "the division is not carried out"
    if is_factored(reference) and (problem is None or _FACTOR.search(problem)):
        return "" if factors(answer) >= factors(reference) else "it is not factored"
    if is_multiplied_out(reference) and (problem is None or _EXPAND.search(problem)):
        return "it is not multiplied out" if _holds_factored(answer) else ""
    return ""
