"""Whether an answer stands in the question as it is: expressions in one shape, and what a question already says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from selfcorrect.rewards.maths.finding.boxes import FORMULA
from selfcorrect.rewards.maths.syntax import Node, parse
from selfcorrect.rewards.maths.text import clean, squeeze
from selfcorrect.rewards.maths.tokens import NotUnderstood, TooIntricate

# One shape for all orders of terms and factors.

Canonical = tuple[object, ...]


@lru_cache(maxsize=8192)
def canonical(node: Node) -> Canonical:
    """One shape for all orders of terms and factors. Nothing is worked out, but for zeros, ones and what cancels."""
    if node.op == "number":
        return ("number", node.value)
    if node.op == "symbol":
        return ("symbol", node.name)
    if node.op in ("+", "-", "neg"):
        return _ofterms_of(terms_of(node, 1))
    if node.op in ("*", "/") or (node.op == "^" and node.args[1] == Node("number", value=Fraction(1))):
        return _offactors_of(factors_of(node, 1))
    arguments = tuple(canonical(argument) for argument in node.args)
    if node.op == "^" and arguments[1] == _ZERO:
        return ONE
    return (node.op, *arguments)


_ZERO: Canonical = ("number", Fraction(0))
ONE: Canonical = ("number", Fraction(1))


def terms_of(node: Node, sign: int) -> Iterator[tuple[int, Canonical]]:
    if node.op == "neg":
        yield from terms_of(node.args[0], -sign)
    elif node.op in ("+", "-"):
        yield from terms_of(node.args[0], sign)
        yield from terms_of(node.args[1], sign if node.op == "+" else -sign)
    else:
        inner = canonical(node)
        if inner[0] == "negative":
            sign, inner = -sign, inner[1]  # type: ignore[assignment]
        yield sign, inner


def _ofterms_of(terms: Iterator[tuple[int, Canonical]]) -> Canonical:
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


def factors_of(node: Node, power: int) -> Iterator[tuple[int, Canonical]]:
    if node.op in ("*", "/"):
        yield from factors_of(node.args[0], power)
        yield from factors_of(node.args[1], power if node.op == "*" else -power)
    elif node.op == "^" and node.args[1] == Node("number", value=Fraction(1)):
        yield from factors_of(node.args[0], power)
    else:
        yield power, canonical(node)


def _offactors_of(found: Iterator[tuple[int, Canonical]]) -> Canonical:
    kept: list[tuple[int, Canonical]] = []
    negative = False
    for power, factor in found:
        if factor[0] == "negative":
            negative, factor = not negative, factor[1]  # type: ignore[assignment]
        if (-power, factor) in kept:
            kept.remove((-power, factor))
        elif factor == _ZERO and power > 0:
            return _ZERO
        elif factor != ONE:
            kept.append((power, factor))
    product: Canonical
    if not kept:
        product = ONE
    elif len(kept) == 1 and kept[0][0] == 1:
        product = kept[0][1]
    else:
        product = ("product", *sorted(kept, key=repr))
    return ("negative", product) if negative else product


# What a question says, and what of it an answer repeats.


@dataclass(frozen=True, slots=True)
class Question:
    """What a question already says.

    Attributes:
        shapes: the canonical shapes of all expressions in its formulas, and of all their parts.
        text: its formulas, cleaned and without needless spaces, with a bar around each.
        words: its words alone, in lower case, with a space around each.
    """

    shapes: frozenset[Canonical]
    text: str
    words: str = " "


_SIDES = re.compile(r"=|<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|\\equiv|\\approx|,|;|\\\\|&")
_PLAIN_FORMULA = re.compile(
    r"(?<![\w$\\])[-(\[{]{0,4}\d[\d.,]*(?:[a-z](?:\^\d+)?(?![a-z]))?(?:\s*[-+*/^×÷·]\s{0,3}[-(]{0,4}[\w.]+\)*)*%?"
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
    return Question(frozenset(shapes), f"|{'|'.join(texts)}|", _words_of(problem))


def _words_of(text: str) -> str:
    words = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(words)} "


def spelled_out(answer: str, reference: str, question: Question) -> bool:
    """Whether a number in several words stands in the question, and the reference is in digits: "two hundred and five",
    where the exercise is to write it as a number."""
    words = _words_of(answer)
    in_digits = any(character.isdigit() for character in reference)
    return in_digits and not any(map(str.isdigit, answer)) and len(words.split()) > 1 and words in question.words


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
