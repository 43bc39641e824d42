"""What an answer can be: a number, an expression, words, a collection of these, a labelled one, an equation."""

from dataclasses import dataclass

from selfcorrect.rewards.maths.numerals import Numeral
from selfcorrect.rewards.maths.splitting import Kind
from selfcorrect.rewards.maths.tree import Node

UNORDERED: frozenset[Kind] = frozenset({"{}", "solutions", "or", "union"})


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
