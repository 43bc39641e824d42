"""Whether an answer says the same as the reference. Structure is decided here, single values in `value_comparison`."""

from dataclasses import dataclass

from selfcorrect.rewards.maths.answers import UNORDERED, Answer, Collection, Labelled, Relation, Scalar, Words
from selfcorrect.rewards.maths.bounds import NoValue
from selfcorrect.rewards.maths.cleaning import squeeze
from selfcorrect.rewards.maths.equality import equal, proportional, variables
from selfcorrect.rewards.maths.structure import (
    as_equation,
    as_tuple,
    both_functions,
    describe,
    has_alternatives,
    write_points_differently,
)
from selfcorrect.rewards.maths.tree import Node, number
from selfcorrect.rewards.maths.value_comparison import ValueComparison


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
        """Equations are the same if their differences are proportional; inequalities if that factor has the right sign."""
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
