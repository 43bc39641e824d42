"""What an answer can be: a number, an expression, words, a collection of these, a labelled one, an equation."""

import re
from dataclasses import dataclass

from selfcorrect.rewards.maths.numerals import Numeral
from selfcorrect.rewards.maths.syntax import Node
from selfcorrect.rewards.maths.text import Kind
from selfcorrect.rewards.maths.tokens import GREEK

UNORDERED: frozenset[Kind] = frozenset({"{}", "solutions", "or", "union", "cases"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value.

    Attributes:
        text: as it was written, cleaned and without its unit.
        numeral: if it is a number written out.
        node: its tree, if our own parser can read it.
        unit: canonical, "" if none.
    """

    text: str
    numeral: Numeral | None
    node: Node | None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, folded: lower case, single spaces, no articles. A choice letter is one of these too."""

    text: str


@dataclass(frozen=True, slots=True)
class Collection:
    kind: Kind
    items: tuple["Answer", ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """`x = 4`, `f(x) = x^2`, `x in (2, 5]`: what stands for the label."""

    label: str
    answer: "Answer"


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation or inequality that is no mere labelling; `sides` has two or more."""

    signs: tuple[str, ...]
    sides: tuple[Scalar, ...]


Answer = Scalar | Words | Collection | Labelled | Relation


# The names that a variable can have, and what else an answer can be labelled with.

NAME = rf"(?:[a-zA-Z]|\\(?:{'|'.join(GREEK)}))(?:_(?:\{{[a-zA-Z0-9]+\}}|[a-zA-Z0-9]))?'*"
LABEL = re.compile(rf"({NAME})(?:\s*\(\s*{NAME}(?:\s*,\s*{NAME})*\s*\)|\s*\^\s*\{{-1\}}\s*\(\s*{NAME}\s*\))?")
TUPLE_LABEL = re.compile(rf"\(\s*{NAME}(?:\s*,\s*{NAME})+\s*\)")
_OF_POINTS = re.compile(r"(?:[A-Z0-9_{}'|:/\s]|\\(?:frac|angle|triangle|overline|overrightarrow|widehat)(?![a-zA-Z]))+")
_TWO_POINTS = re.compile(r"[A-Z]'?\s*[:/]?\s*[A-Z]|_|\\angle")


def squeezed_label(text: str) -> str:
    return re.sub(r"[\s{}]", "", text)


def family(label: str) -> str:
    """x_1 and x_2 are both values of x."""
    return re.sub(r"_\d$", "", label)


def names_points(text: str) -> bool:
    """AB, P_1 or \\angle ABC: named after points, not a variable."""
    return bool(_OF_POINTS.fullmatch(text) and _TWO_POINTS.search(text))


def mentions(answer: Answer, name: str) -> bool:
    if isinstance(answer, Scalar):
        return answer.node is not None and _has_symbol(answer.node, re.sub(r"[{}]", "", name))
    if isinstance(answer, Collection):
        return any(mentions(item, name) for item in answer.items)
    return False


def _has_symbol(node: Node, name: str) -> bool:
    return (node.op == "symbol" and node.name == name) or any(_has_symbol(argument, name) for argument in node.args)


# What answers that stand side by side are together.


def alternatives_of(answers: tuple[Answer, ...]) -> Answer:
    """What is joined by "or": a union of regions, several values of one label, or answers to choose from."""
    if all(map(_is_region, answers)):
        return Collection("union", tuple(a.answer if isinstance(a, Labelled) else a for a in answers))
    answers = tuple(
        item for a in answers for item in (a.items if isinstance(a, Collection) and a.kind == "list" else (a,))
    )
    labels = {family(a.label) for a in answers if isinstance(a, Labelled)}
    if len(labels) == 1 and isinstance(answers[0], Labelled):  # x = 2 or x = 3; also: x = 2 or 3
        bare = tuple(a.answer if isinstance(a, Labelled) else a for a in answers)
        return Labelled(answers[0].label, Collection("solutions", bare))
    return Collection("or", answers)


def collection_of(kind: Kind, items: tuple[Answer, ...]) -> Answer:
    """Items of one collection; several values of one label are its solutions."""
    labels = [family(item.label) for item in items if isinstance(item, Labelled)]
    if kind == "list" and len(items) > 1 and labels and len(set(labels)) == 1 and isinstance(items[0], Labelled):
        bare = tuple(item.answer if isinstance(item, Labelled) else item for item in items)
        return Labelled(labels[0], Collection("solutions", bare))  # x = 2, x = 3; also: x = 2, 3
    if kind == "list" and len(items) > 1 and all(isinstance(item, Collection) for item in items):
        kind = "solutions"  # (1, 2), (3, 4): points or intervals have no order
    return Collection(kind, items)


def _is_region(answer: Answer) -> bool:
    """A labelled interval (x < 3), or one that cannot be a point: (1, 2) may be either, and is read as a point here."""
    if isinstance(answer, Labelled):
        return isinstance(answer.answer, Collection) and answer.answer.kind in ("()", "[]", "(]", "[)")
    return isinstance(answer, Collection) and (
        answer.kind in ("[]", "(]", "[)")
        or (answer.kind == "()" and any(isinstance(i, Scalar) and "infty" in i.text for i in answer.items))
    )
