"""Whether an answer says the same as the reference. Structure is decided here, single values in `value_comparison`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from selfcorrect.rewards.maths.answers import UNORDERED, Answer, Collection, Labelled, Relation, Scalar, Words
from selfcorrect.rewards.maths.equality import (
    equal,
    is_long_decimal_of,
    is_mere_arithmetic,
    long_decimal_of,
    proportional,
    reaches,
    spelled_alike,
    variables,
    within,
)
from selfcorrect.rewards.maths.numerals import Numeral
from selfcorrect.rewards.maths.syntax import Node, number
from selfcorrect.rewards.maths.text import squeeze
from selfcorrect.rewards.maths.values import NoValue

# One structure seen as another: points, equations, alternatives; and what to call each.

_NAMES = {"()": "a tuple or open interval", "[]": "a closed interval", "(]": "a half-open interval", "[)": "a half-open interval",
          "{}": "a set", "list": "a list", "solutions": "several solutions", "or": "several answers", "union": "a union",
          "matrix": "a matrix", "row": "a row", ":": "a ratio or time"}  # fmt: skip


def both_functions(first: str, second: str) -> bool:
    """y = 2x and f(x) = 2x name one function in two ways."""
    return "y" in (first, second) and "(" in first + second


def write_points_differently(reference: Collection, answer: Collection) -> bool:
    kinds = {reference.kind, answer.kind}
    if len(kinds) < 2:
        return False
    return ("matrix" in kinds and kinds <= {"()", "[]", "matrix"}) or (
        "()" in kinds and kinds <= {"()", "list", "solutions"}
    )


def as_tuple(collection: Collection) -> Collection:
    """A one-column matrix as a point, and x = 5, y = 6 as (5, 6): coordinates go by the names' alphabetical order."""
    if collection.kind == "matrix":
        rows = [row.items for row in collection.items if isinstance(row, Collection)]
        if all(len(row) == 1 for row in rows):
            return Collection("()", tuple(row[0] for row in rows))
        return Collection("()", rows[0]) if len(rows) == 1 else collection
    if collection.kind == "[]":
        return Collection("()", collection.items)
    labelled = [item for item in collection.items if isinstance(item, Labelled)]
    names = {item.label for item in labelled}
    if collection.kind not in ("list", "solutions") or len(names) < len(collection.items):
        return collection
    return Collection("()", tuple(item.answer for item in sorted(labelled, key=lambda item: item.label)))


def has_alternatives(answer: Answer) -> bool:
    if isinstance(answer, Labelled):
        return has_alternatives(answer.answer)
    return isinstance(answer, Collection) and answer.kind in ("or", "solutions", "list", "{}", "union")


def as_equation(answer: Answer) -> Relation | None:
    """An equation between variables: as it is, or y = 2x + 1 as one. A mere value (x = 4) is none: x^2 = 16 does not
    say it."""
    if isinstance(answer, Relation):
        return answer if answer.signs == ("=",) else None
    if not isinstance(answer, Labelled) or not isinstance(answer.answer, Scalar) or answer.answer.node is None:
        return None
    if not variables(answer.answer.node) or not answer.label.isalpha() or len(answer.label) > 1:
        return None
    return Relation(("=",), (Scalar(answer.label, None, Node("symbol", name=answer.label)), answer.answer))


def describe(answer: Answer) -> str:
    if isinstance(answer, Collection):
        return _NAMES[answer.kind]
    if isinstance(answer, Words):
        return "words"
    if isinstance(answer, Relation):
        return "a relation"
    return "one value"


# What the user may decide about which answers count.


@dataclass(frozen=True, slots=True)
class EquivalenceRules:
    """Choices that depend on the data set, not on mathematics.

    Attributes:
        worked_out: a reference that is a plain number wants a number: "17*23" is no answer to 391, nor "84/12" to 7.
            Otherwise a policy learns to copy the exercise.
        lowest_terms: 2/4 is no answer to 1/2. For data sets whose exercises ask to simplify a fraction.
        ordered_lists: the bare list "3, 2" is no answer to "2, 3". Otherwise a policy learns to copy a list that it was
            asked to sort. Solutions joined by "or", labelled ones (x = 2, x = 3) and sets are never ordered.
    """

    worked_out: bool = True
    lowest_terms: bool = False
    ordered_lists: bool = True


# Whether one value says the same as another: numbers by tolerances, expressions by their values, or by an oracle.

Pair = tuple[str, str]


@dataclass(slots=True)
class ValueComparison:
    """The comparison of single values, and what it has found so far.

    Attributes:
        policy: the user's choices.
        oracle: what math-verify said about pairs (reference, answer) of expressions that `equal` cannot decide.
        undecided: such pairs that the oracle does not know yet. While there are any, None means "ask about these".
        why: the first reason found why the answer is wrong.
    """

    policy: EquivalenceRules
    oracle: Mapping[Pair, bool] = field(default_factory=dict)
    undecided: set[Pair] = field(default_factory=set)
    why: str = ""

    def _wrong(self, why: str) -> bool:
        self.why = self.why or why
        return False

    def _scalars(self, reference: Scalar, answer: Scalar) -> bool | None:
        if reference.unit and answer.unit and reference.unit != answer.unit and not _both_angles(reference, answer):
            return self._wrong(f"its unit is {answer.unit}, the reference's {reference.unit}")
        if _angle(reference) and _angle(answer) and (reference.unit != answer.unit):
            reference, answer = _in_radians(reference), _in_radians(answer)
        if reference.numeral is not None and answer.numeral is not None:
            if reference.numeral.percent and answer.unit:
                return self._wrong(f"its unit is {answer.unit}, the reference is per cent")
            return self._numerals(reference.numeral, answer.numeral)
        if reference.numeral is not None and answer.node is not None:
            return self._worked_out(reference.numeral, answer.node)
        if reference.numeral is not None and reference.numeral.base != 10:
            return self._wrong(f"the reference is in base {reference.numeral.base}")
        return self._expressions(reference, answer)

    def _numerals(self, reference: Numeral, answer: Numeral) -> bool:
        if reference.base != answer.base:
            return self._wrong(f"it is in base {answer.base}, the reference in base {reference.base}")
        if answer.percent and not reference.percent and reference.value == answer.value * 100:
            return self._wrong("it says per cent, the reference does not")
        if reference.percent and not answer.percent and within(reference, answer.value / 100):
            return True  # 12 for 12 %: the mark was left out
        if not within(reference, answer.value) and not long_decimal_of(reference.value, answer):
            return self._wrong("the numbers differ")
        undone = answer.form == "fraction" and reference.value.denominator == 1 and answer.value.denominator == 1
        if undone and self.policy.worked_out and not spelled_alike(reference, answer):
            return self._wrong("the division is not carried out")
        if self.policy.lowest_terms and reference.reduced and not answer.reduced:
            return self._wrong("the fraction is not in lowest terms")
        return True

    def _worked_out(self, reference: Numeral, answer: Node) -> bool | None:
        """A number wants a number: mere arithmetic on numbers is an exercise, not its answer."""
        if reference.base != 10:
            return self._wrong(f"the reference is in base {reference.base}")
        if variables(answer):
            return self._wrong("it holds a variable, the reference is a number")
        try:
            if not reaches(reference, answer):
                return self._wrong("the values differ")
        except NoValue:
            return self._wrong("it has no value")
        if self.policy.worked_out and is_mere_arithmetic(answer):
            return self._wrong("the arithmetic is not carried out")
        return True

    def _expressions(self, reference: Scalar, answer: Scalar) -> bool | None:
        if squeeze(reference.text) == squeeze(answer.text):
            return True
        first = reference.node or (number(reference.numeral.value) if reference.numeral else None)
        second = answer.node or (number(answer.numeral.value) if answer.numeral else None)
        if first is not None and second is not None:
            if answer.numeral is not None and is_long_decimal_of(first, answer.numeral):
                return True
            try:
                verdict = equal(first, second)
            except NoValue:
                verdict = None
            if verdict is not None:
                return verdict or self._wrong("the values differ")
        return self._ask(reference.text, answer.text)

    def _ask(self, reference: str, answer: str) -> bool | None:
        verdict = self.oracle.get((reference, answer))
        if verdict is None:
            self.undecided.add((reference, answer))
            return None
        return verdict or self._wrong("the expressions differ")


def _angle(scalar: Scalar) -> bool:
    return scalar.unit in ("deg", "rad") or (scalar.node is not None and _mentions_pi(scalar.node))


def _both_angles(reference: Scalar, answer: Scalar) -> bool:
    return _angle(reference) and _angle(answer)


def _mentions_pi(node: Node) -> bool:
    return (node.op == "symbol" and node.name == "pi") or any(map(_mentions_pi, node.args))


def _in_radians(scalar: Scalar) -> Scalar:
    node = scalar.node or (number(scalar.numeral.value) if scalar.numeral else None)
    if node is not None and scalar.unit == "deg":
        return Scalar(scalar.text + r"^\circ", None, Node("degrees", (node,)))
    return Scalar(scalar.text, scalar.numeral, scalar.node)


@dataclass(slots=True)
class Comparison(ValueComparison):
    """One comparison of an answer with a reference, whatever their structure."""

    def same(self, reference: Answer, answer: Answer) -> bool | None:
        """True, False, or None where the oracle must be asked first."""
        if isinstance(answer, Collection) and answer.kind == "or" and not has_alternatives(reference):
            verdict = self._all([self.same(reference, item) for item in answer.items])
            return verdict if verdict is not False else self._wrong("it offers several answers to choose from")
        if isinstance(reference, Labelled) or isinstance(answer, Labelled):
            return self._labelled(reference, answer)
        if isinstance(answer, Relation) and not isinstance(reference, Relation):
            return self._chain(reference, answer)
        if isinstance(reference, Scalar) and isinstance(answer, Scalar):
            return self._scalars(reference, answer)
        if isinstance(reference, Collection) and isinstance(answer, Collection):
            return self._collections(reference, answer)
        if isinstance(reference, Relation) and isinstance(answer, Relation):
            return self._relations(reference, answer)
        if isinstance(reference, Words) and isinstance(answer, Words):
            return reference.text == answer.text or self._wrong("the words differ")
        return self._wrong(f"the reference is {describe(reference)}, the answer {describe(answer)}")

    def _all(self, verdicts: list[bool | None]) -> bool | None:
        if False in verdicts:
            return False
        return None if None in verdicts else True

    def _labelled(self, reference: Answer, answer: Answer) -> bool | None:
        """x = 4 is 4; but x = 4 is not y = 4. A line may be given solved for y or not."""
        if isinstance(reference, Relation) or isinstance(answer, Relation):
            first, second = as_equation(reference), as_equation(answer)
            if first is not None and second is not None:
                return self._relations(first, second)
        if isinstance(reference, Labelled) and isinstance(answer, Labelled):
            if reference.label != answer.label and not both_functions(reference.label, answer.label):
                return self._wrong(f"it speaks of {answer.label}, the reference of {reference.label}")
            return self.same(reference.answer, answer.answer)
        if isinstance(reference, Labelled):
            if isinstance(answer, Relation):
                return self._chain(reference.answer, answer)
            return self.same(reference.answer, answer)
        assert isinstance(answer, Labelled)
        return self.same(reference, answer.answer)

    def _chain(self, reference: Answer, answer: Relation) -> bool | None:
        """2 + 2 = 4 says 4: all sides are constant and all are equal. 3 = 7 says nothing, x^2 = 4 does not say 4."""
        trees = [side.node or (number(side.numeral.value) if side.numeral else None) for side in answer.sides]
        if set(answer.signs) != {"="} or any(tree is None or variables(tree) for tree in trees):
            return self._wrong("it is an equation, not a value")
        first, *others = (tree for tree in trees if tree is not None)
        if not all(_equal_or_not(first, other) for other in others):
            return self._wrong("its equation is false")
        return self.same(reference, answer.sides[-1])

    def _collections(self, reference: Collection, answer: Collection) -> bool | None:
        if write_points_differently(reference, answer):
            reference, answer = as_tuple(reference), as_tuple(answer)
        if not self._kinds_agree(reference, answer):
            return self._wrong(f"the reference is {describe(reference)}, the answer {describe(answer)}")
        labelled = all(isinstance(item, Labelled) for item in reference.items + answer.items)
        ordered = reference.kind not in UNORDERED and (reference.kind != "list" or self.policy.ordered_lists)
        if reference.kind not in UNORDERED and len(reference.items) != len(answer.items):
            return self._wrong(f"it has {len(answer.items)} parts, the reference {len(reference.items)}")
        if ordered and not labelled:
            return self._all([self.same(r, a) for r, a in zip(reference.items, answer.items, strict=False)])
        return self._matching(reference, answer)

    def _kinds_agree(self, reference: Collection, answer: Collection) -> bool:
        if reference.kind == answer.kind:
            return True
        solutions = ("solutions", "or", "list", "{}")
        if reference.kind in ("solutions", "or"):  # meant as alternatives: in any order, in braces or not
            return answer.kind in solutions
        return answer.kind == "solutions" and reference.kind in ("list", "{}")

    def _matching(self, reference: Collection, answer: Collection) -> bool | None:
        """Every item of each has its equal in the other. Naming one twice neither helps nor harms."""
        table = [[self._quietly(r, a) for a in answer.items] for r in reference.items]
        rows = [_any(row) for row in table]
        columns = [_any(list(column)) for column in zip(*table, strict=True)] if table else []
        verdict = self._all(rows + columns)
        if not table:
            verdict = not answer.items
        return verdict if verdict is not False else self._wrong("the items are not the same")

    def _quietly(self, reference: Answer, answer: Answer) -> bool | None:
        before = self.why
        verdict = self.same(reference, answer)
        self.why = before
        return verdict

    def _relations(self, reference: Relation, answer: Relation) -> bool | None:
        """Equations are the same if their differences are proportional; inequalities if that factor has the right
        sign."""
        if [squeeze(s.text) for s in reference.sides] == [squeeze(s.text) for s in answer.sides] and (
            reference.signs == answer.signs
        ):
            return True
        if reference.signs == answer.signs == ("=",):
            first, second = _difference(reference), _difference(answer)
            if first is not None and second is not None:
                return proportional(first, second) or self._wrong("the equations differ")
        if len(reference.signs) == 1 and len(answer.signs) == 1:
            return self._ask(_whole(reference), _whole(answer))
        return self._wrong("the relations differ")


def _any(verdicts: list[bool | None]) -> bool | None:
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _equal_or_not(left: Node, right: Node) -> bool:
    try:
        return equal(left, right) is True
    except NoValue:
        return False


def _difference(relation: Relation) -> Node | None:
    trees = [side.node or (number(side.numeral.value) if side.numeral else None) for side in relation.sides]
    left, right = trees
    return None if left is None or right is None else Node("-", (left, right))


def _whole(relation: Relation) -> str:
    text = relation.sides[0].text
    for sign, side in zip(relation.signs, relation.sides[1:], strict=True):
        text += f" {sign} {side.text}"
    return text
