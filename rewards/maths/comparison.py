"""Whether an answer says the same as the reference. Structure is decided here, single values in `value_comparison`."""

from dataclasses import dataclass

from selfcorrect.rewards.maths.answers import UNORDERED, Answer, Collection, Labelled, Relation, Scalar, Words
from selfcorrect.rewards.maths.copies import canonical
from selfcorrect.rewards.maths.equality import equal, proportional, variables
from selfcorrect.rewards.maths.syntax import Node, number
from selfcorrect.rewards.maths.text import squeeze
from selfcorrect.rewards.maths.value_comparison import ValueComparison
from selfcorrect.rewards.maths.values import NoValue

# One structure seen as another: points, equations, alternatives; and what to call each.

_NAMES = {
    "()": "a tuple or open interval",
    "[]": "a closed interval",
    "(]": "a half-open interval",
    "[)": "a half-open interval",
    "{}": "a set",
    "list": "a list",
    "solutions": "several solutions",
    "or": "several answers",
    "union": "a union",
    "matrix": "a matrix",
    "cases": "values by case",
    "row": "a row",
    ":": "a ratio or time",
}


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
        ordered = self._ordered(reference, answer)
        if reference.kind not in UNORDERED and len(reference.items) != len(answer.items):
            return self._wrong(f"it has {len(answer.items)} parts, the reference {len(reference.items)}")
        if ordered and not labelled:
            return self._all([self.same(r, a) for r, a in zip(reference.items, answer.items, strict=False)])
        return self._matching(reference, answer)

    def _ordered(self, reference: Collection, answer: Collection) -> bool:
        """Lists are, as the user says; but where nobody copies, "3 and 2" or {3, 2} says that it has no order."""
        if reference.kind in UNORDERED:
            return False
        if reference.kind != "list":
            return True
        return self.policy.ordered_lists and (self.policy.refuse_copies or answer.kind == "list")

    def _kinds_agree(self, reference: Collection, answer: Collection) -> bool:
        if reference.kind == answer.kind:
            return True
        solutions = ("solutions", "or", "list", "{}")
        if reference.kind in ("solutions", "or"):  # meant as alternatives: in any order, in braces or not
            return answer.kind in solutions
        if not self.policy.refuse_copies and {reference.kind, answer.kind} == {"list", "{}"}:
            return True  # a set without braces, or a list with them: in evaluation the values count
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
                same = proportional(first, second) or _same_identity(reference, answer)
                return same or self._wrong("the equations differ")
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


def _same_identity(reference: Relation, answer: Relation) -> bool:
    """Equations that hold always, (a+b)^2 = a^2+2ab+b^2, are the same if their sides are; x = x says nothing."""
    sides = [*reference.sides, *answer.sides]
    known = (side.node or (number(side.numeral.value) if side.numeral else None) for side in sides)
    trees = [tree for tree in known if tree is not None]
    if len(trees) < 4 or canonical(trees[2]) == canonical(trees[3]):
        return False
    return all(_equal_or_not(first, trees[0]) for first in trees)


def _whole(relation: Relation) -> str:
    text = relation.sides[0].text
    for sign, side in zip(relation.signs, relation.sides[1:], strict=True):
        text += f" {sign} {side.text}"
    return text
