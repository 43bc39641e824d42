"""Whether an answer stands in the question as it is: expressions in one shape, and what a question already says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import cast

from selfcorrect.rewards.maths.finding.boxes import FORMULA
from selfcorrect.rewards.maths.numerals import Numeral, read_numeral
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
    if node.op == "^" and (arguments[1] == _ZERO or arguments[0] == ONE):
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
        if inner[0] == "sum":  # in a product that is nothing but this sum
            yield from ((sign * own, term) for own, term in _signed_parts(inner))
        else:
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
        yield from _flat(canonical(node), power)


def _flat(factor: Canonical, power: int) -> Iterator[tuple[int, Canonical]]:
    """The factors of a factor that turned out to be a product."""
    if factor[0] == "negative" and isinstance(factor[1], tuple):
        yield power, ("negative", ONE)
        yield from _flat(factor[1], power)
    elif factor[0] == "product":
        yield from ((power * own, part) for own, part in _signed_parts(factor))
    else:
        yield power, factor


def _signed_parts(whole: Canonical) -> tuple[tuple[int, Canonical], ...]:
    """The terms of a sum, the factors of a product, each with its sign or power."""
    return cast(tuple[tuple[int, Canonical], ...], whole[1:])


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


@lru_cache(maxsize=8192)
def respelled(node: Node) -> Node:
    """Roots and quotients for powers that mean them: 50^{1/2} is \\sqrt{50}, and x^{-3} is 1/x^3. Without roots and
    powers that cancel, and without absolute values."""
    arguments = tuple(map(respelled, node.args))
    if node.op == "abs":
        return arguments[0]
    if node.op == "root" and arguments[0].op == "^" and arguments[0].args[1] == arguments[1]:
        return arguments[0].args[0]
    if node.op != "^":
        return replace(node, args=arguments)
    base, exponent = arguments
    if base.op == "root" and base.args[1] == exponent:
        return base.args[0]
    if exponent.op == "neg":
        return Node("/", (_NUMBER_ONE, respelled(Node("^", (base, exponent.args[0])))))
    if exponent.op == "number" and exponent.value.numerator == 1 < exponent.value.denominator:
        return Node("root", (base, Node("number", value=Fraction(exponent.value.denominator))))
    if exponent.op == "/" and exponent.args[0].op == "neg":
        return respelled(
            Node("^", (base, Node("neg", (replace(exponent, args=(exponent.args[0].args[0], exponent.args[1])),))))
        )
    if exponent.op == "/" and exponent.args[0] == _NUMBER_ONE:
        return Node("root", (base, exponent.args[1]))
    return Node("^", (base, exponent))


_NUMBER_ONE = Node("number", value=Fraction(1))


# What a question says, and what of it an answer repeats.


@dataclass(frozen=True, slots=True)
class Question:
    """What a question already says.

    Attributes:
        shapes: the canonical shapes of all expressions in its formulas, and of all their parts.
        meant: the same, respelled.
        text: its formulas, cleaned and without needless spaces, with a bar around each.
        words: its words alone, in lower case, with a space around each.
        numbers: those it writes down.
    """

    shapes: frozenset[Canonical]
    meant: frozenset[Canonical]
    text: str
    words: str = " "
    numbers: tuple[Numeral, ...] = ()

    def writes(self, number: Numeral) -> bool:
        """Whether a number stands in the question in the same manner, perhaps in other figures: 0.(27)."""
        return any(_manner(one) == _manner(number) and _as_good_as(one, number) for one in self.numbers)


_MANNERS = {"decimal": "point", "recurring": "point", "mixed": "fraction"}


def _manner(number: Numeral) -> tuple[str, int]:
    return "percent" if number.percent else _MANNERS.get(number.form, number.form), number.base


def _as_good_as(one: Numeral, other: Numeral) -> bool:
    return abs(one.value - other.value) <= abs(one.value) / 10**9


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
    shapes, meant = set[Canonical](), set[Canonical]()
    texts, numbers = [], dict[Numeral, None]()
    for formula in formulas[:_MAX_FORMULAS]:
        cleaned = clean(formula)
        texts.append(squeeze(cleaned))
        for side in {cleaned, *_SIDES.split(cleaned)}:
            if (numeral := read_numeral(side)) is not None:
                numbers[numeral] = None
            if (tree := _tree(side)) is not None:
                shapes.update(map(canonical, _parts(tree)))
                meant.update(map(canonical, _parts(respelled(tree))))
    return Question(frozenset(shapes), frozenset(meant), f"|{'|'.join(texts)}|", _words_of(problem), tuple(numbers))


def _words_of(text: str) -> str:
    words = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(words)} "


def spelled_out(answer: str, reference: str, question: Question) -> bool:
    """Whether a number in several words stands in the question, and the reference is in digits: "two hundred and five",
    where the exercise is to write it as a number."""
    words = _words_of(answer)
    in_digits = any(character.isdigit() for character in reference)
    return in_digits and not any(map(str.isdigit, answer)) and len(words.split()) > 1 and words in question.words


def _tree(text: str) -> Node | None:
    try:
        return parse(text.strip(" .,;:?"))
    except (NotUnderstood, TooIntricate):
        return None


def _parts(node: Node) -> Iterator[Node]:
    yield node
    for argument in node.args:
        yield from _parts(argument)


def copied(answer: str, tree: Node | None, reference: str, reference_tree: Node | None, question: Question) -> bool:
    """Whether an answer, cleaned, stands in the question as it is, and is not how the reference is written."""
    if squeeze(answer) == squeeze(reference):
        return False
    if tree is not None and reference_tree is not None:
        shape, meant = canonical(tree), respelled(tree)
        if shape in question.shapes and shape != canonical(reference_tree):
            return True
        # A plain quotient is no copy of the 2^{-1} that it was asked to work out.
        spelled = meant != tree or any(part.op == "root" for part in _parts(tree))
        return (
            spelled and canonical(meant) in question.meant and canonical(meant) != canonical(respelled(reference_tree))
        )
    if tree is not None:
        return bool(tree.args) and (canonical(tree) in question.shapes or canonical(respelled(tree)) in question.meant)
    if "-" in answer and (read := _tree(answer)) is not None and read.args:  # its signs may stand elsewhere
        wanted = _tree(reference)
        if canonical(read) in question.shapes and (wanted is None or canonical(read) != canonical(wanted)):
            return True
    whole = squeeze(answer)
    at = question.text.find(whole)
    if len(whole) < 3 or at < 0:
        return False
    return not (question.text[at - 1].isalnum() or question.text[at + len(whole)].isalnum())
