"""The form that an answer is wanted in: a number as a number, in lowest terms; a polynomial factored or multiplied out.

Equal values are not enough where the exercise is to rewrite: "17 \\cdot 23" says nothing that the question did not say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from selfcorrect.rewards.maths.equality import variables
from selfcorrect.rewards.maths.finding.boxes import FORMULA
from selfcorrect.rewards.maths.syntax import Node, parse
from selfcorrect.rewards.maths.text import clean, squeeze
from selfcorrect.rewards.maths.tokens import NotUnderstood, TooIntricate

# Numbers: written out, or still to be worked out.

_ARITHMETIC = ("+", "-", "*", "/", "^", "neg", "number", "symbol", "mixed", "infinity")


def is_written_number(node: Node) -> bool:
    """A number as one writes it: 42, -2/3, 2/(-3), 2\\frac{1}{4}; a fraction in lowest terms."""
    if node.op == "number":
        return True
    if node.op == "neg":
        return is_written_number(node.args[0])
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
    mine = operation and all(map(is_written_number, node.args))
    return mine + sum(map(_undone, node.args))


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


_FACTOR = re.compile(r"\b(?:factor(?:i[sz]e|ed|ization|ing)?\b(?!\s+of\b)|as a product)", re.IGNORECASE)
_EXPAND = re.compile(
    r"\b(?:expand|multiply out|distribut|without parenthes|simplif|expanded form|standard form|as a polynomial|the "
    r"product)",
    re.IGNORECASE,
)


def wrong_form(answer: Node, reference: Node, problem: str | None) -> str:
    """Why `answer`, equal to `reference`, is not in the form that is wanted, or "".

    The question's words say which form that is; without a question, the reference's own form does.
    """
    if not variables(reference):
        return work_left(answer, reference)
    if is_factored(reference) and (problem is None or _FACTOR.search(problem)):
        return "" if factors(answer) >= factors(reference) else "it is not factored"
    if is_multiplied_out(reference) and (problem is None or _EXPAND.search(problem)):
        return "it is not multiplied out" if _holds_factored(answer) else ""
    return ""


# Copies of the question.

Canonical = tuple[object, ...]


@lru_cache(maxsize=8192)
def canonical(node: Node) -> Canonical:
    """One shape for all orders of terms and factors. Nothing is worked out, but for zeros, ones and what cancels."""
    if node.op == "number":
        return ("number", node.value)
    if node.op == "symbol":
        return ("symbol", node.name)
    if node.op in ("+", "-", "neg"):
        return _of_terms(_terms(node, 1))
    if node.op in ("*", "/") or (node.op == "^" and node.args[1] == Node("number", value=Fraction(1))):
        return _of_factors(_factors(node, 1))
    arguments = tuple(canonical(argument) for argument in node.args)
    if node.op == "^" and arguments[1] == _ZERO:
        return _ONE
    return (node.op, *arguments)


_ZERO: Canonical = ("number", Fraction(0))
_ONE: Canonical = ("number", Fraction(1))


def _terms(node: Node, sign: int) -> Iterator[tuple[int, Canonical]]:
    if node.op == "neg":
        yield from _terms(node.args[0], -sign)
    elif node.op in ("+", "-"):
        yield from _terms(node.args[0], sign)
        yield from _terms(node.args[1], sign if node.op == "+" else -sign)
    else:
        inner = canonical(node)
        if inner[0] == "negative":
            sign, inner = -sign, inner[1]  # type: ignore[assignment]
        yield sign, inner


def _of_terms(terms: Iterator[tuple[int, Canonical]]) -> Canonical:
    kept: list[tuple[int, Canonical]] = []
    for sign, term in terms:
        if (-sign, term) in kept:
            kept.remove((-sign, term))
        elif term != _ZERO:
            kept.append((sign, term))
    if not kept:
        return _ZERO
    if len(kept) == 1:
        sign, term = kept[0]
        return term if sign > 0 else ("negative", term)
    return ("sum", *sorted(kept, key=repr))


def _factors(node: Node, power: int) -> Iterator[tuple[int, Canonical]]:
    if node.op in ("*", "/"):
        yield from _factors(node.args[0], power)
        yield from _factors(node.args[1], power if node.op == "*" else -power)
    elif node.op == "^" and node.args[1] == Node("number", value=Fraction(1)):
        yield from _factors(node.args[0], power)
    else:
        yield power, canonical(node)


def _of_factors(found: Iterator[tuple[int, Canonical]]) -> Canonical:
    kept: list[tuple[int, Canonical]] = []
    negative = False
    for power, factor in found:
        if factor[0] == "negative":
            negative, factor = not negative, factor[1]  # type: ignore[assignment]
        if (-power, factor) in kept:
            kept.remove((-power, factor))
        elif factor == _ZERO and power > 0:
            return _ZERO
        elif factor != _ONE:
            kept.append((power, factor))
    product: Canonical
    if not kept:
        product = _ONE
    elif len(kept) == 1 and kept[0][0] == 1:
        product = kept[0][1]
    else:
        product = ("product", *sorted(kept, key=repr))
    return ("negative", product) if negative else product


@dataclass(frozen=True, slots=True)
class Question:
    """What a question already says.

    Attributes:
        shapes: the canonical shapes of all expressions in its formulas, and of all their parts.
        text: its formulas, cleaned and without needless spaces, with a bar around each.
    """

    shapes: frozenset[Canonical]
    text: str


_SIDES = re.compile(r"=|<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|\\equiv|\\approx|,|;|\\\\|&")
_PLAIN_FORMULA = re.compile(
    r"(?<![\w$\\])[-(\[{]{0,4}\d[\d.,]*(?:\s*[-+*/^×÷·]\s{0,3}[-(]{0,4}[\w.]+\)*)*%?"
    r"|(?<![\w\\])\(?[a-z](?:\s*[-+*/^=]\s*\(?[\w.]+\)?)+"
)
_MAX_QUESTION = 8000
_MAX_FORMULAS = 60


@lru_cache(maxsize=2048)
def read_question(problem: str) -> Question:
    """The formulas of a question, in dollar signs or plain. Linear in its length; 8,000 characters of it are read."""
    problem = problem[:_MAX_QUESTION]
    formulas = [next(group for group in match.groups() if group is not None) for match in FORMULA.finditer(problem)]
    formulas += [match[0] for match in _PLAIN_FORMULA.finditer(FORMULA.sub(" ", problem))]
    shapes: set[Canonical] = set()
    texts = []
    for formula in formulas[:_MAX_FORMULAS]:
        cleaned = clean(formula)
        texts.append(squeeze(cleaned))
        for side in {cleaned, *_SIDES.split(cleaned)}:
            shapes |= _shapes(side)
    return Question(frozenset(shapes), f"|{'|'.join(texts)}|")


def _shapes(text: str) -> set[Canonical]:
    try:
        tree = parse(text.strip(" .,;:?"))
    except (NotUnderstood, TooIntricate):
        return set()
    return {canonical(part) for part in _parts(tree)}


def _parts(node: Node) -> Iterator[Node]:
    yield node
    for argument in node.args:
        yield from _parts(argument)


def copied(answer: str, tree: Node | None, reference: str, reference_tree: Node | None, question: Question) -> bool:
    """Whether an answer, cleaned, stands in the question as it is, and is not how the reference is written."""
    if squeeze(answer) == squeeze(reference):
        return False
    if tree is not None and reference_tree is not None:
        shape = canonical(tree)
        return shape in question.shapes and shape != canonical(reference_tree)
    if tree is not None:
        return canonical(tree) in question.shapes and bool(tree.args)
    whole = squeeze(answer)
    at = question.text.find(whole)
    if len(whole) < 3 or at < 0:
        return False
    return not (question.text[at - 1].isalnum() or question.text[at + len(whole)].isalnum())
