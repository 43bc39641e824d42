"""Whether one value says the same as another: numbers by tolerances, expressions by their values, or by an oracle."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from selfcorrect.rewards.maths.answers import Scalar
from selfcorrect.rewards.maths.bounds import NoValue
from selfcorrect.rewards.maths.cleaning import squeeze
from selfcorrect.rewards.maths.equality import equal, variables
from selfcorrect.rewards.maths.numerals import Numeral
from selfcorrect.rewards.maths.policy import AnswerPolicy
from selfcorrect.rewards.maths.rounding import (
    is_long_decimal_of,
    is_mere_arithmetic,
    long_decimal_of,
    reaches,
    spelled_alike,
    within,
)
from selfcorrect.rewards.maths.tree import Node, number

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

    policy: AnswerPolicy
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
