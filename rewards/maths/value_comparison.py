"""Whether one value says the same as another, and in the form that is wanted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.maths.answers import Scalar
from selfcorrect.rewards.maths.copies import Question, copied, spelled_out
from selfcorrect.rewards.maths.equality import (
    constant_apart,
    equal,
    is_long_decimal_of,
    is_mere_arithmetic,
    long_decimal_of,
    reaches,
    spelled_alike,
    variables,
    within,
)
from selfcorrect.rewards.maths.form import (
    is_closed_form,
    is_written_number,
    unworked_notation,
    wrong_form,
)
from selfcorrect.rewards.maths.numerals import Numeral
from selfcorrect.rewards.maths.syntax import Node, number
from selfcorrect.rewards.maths.text import squeeze
from selfcorrect.rewards.maths.values import NoValue

# What the user may decide about which answers count.

Form = Literal["wanted", "worked out", "any"]


@dataclass(frozen=True, slots=True)
class EquivalenceRules:
    """Choices that depend on the data set and on what verdicts are for. The defaults are for training.

    Attributes:
        form: "wanted": a number is wanted as a number in lowest terms, a factored polynomial factored, one multiplied
            out multiplied out; otherwise a policy learns to copy the exercise. "worked out": arithmetic left undone,
            "17*23" or "84/12", is no number, but 2^{10} and 2/4 are. "any": the value alone counts.
        refuse_copies: an answer that stands in the question counts only if the reference is written like that too.
            Takes effect where the checker is told the problem.
        ordered_lists: the bare list "3, 2" is no answer to "2, 3". Otherwise a policy learns to copy a list that it was
            asked to sort. Solutions joined by "or", labelled ones (x = 2, x = 3) and sets are never ordered.
        rounding: significant digits from which a decimal reference accepts the exact values that it rounds (0.67
            accepts 2/3, 33.3 accepts 100/3, 0.5 does not accept 0.52); None: it accepts nothing but its own value.
        decimal_digits: significant digits from which a decimal answer counts for an exact reference that it rounds.

    Raises:
        ConfigurationError: `form` is none of the three, or a number of digits is below 1.
    """

    form: Form = "wanted"
    refuse_copies: bool = True
    ordered_lists: bool = True
    rounding: int | None = 2
    decimal_digits: int = 10

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ConfigurationError(f"form must be one of {', '.join(get_args(Form))}, got {self.form!r}")
        if self.rounding is not None and self.rounding < 1:
            raise ConfigurationError(f"rounding must be 1 significant digit or more, or None, got {self.rounding!r}")
        if self.decimal_digits < 1:
            raise ConfigurationError(f"decimal_digits must be 1 or more, got {self.decimal_digits!r}")

    @classmethod
    def lenient(cls) -> "EquivalenceRules":
        """For evaluation, where nobody learns from a verdict: values count in most forms, copied or not."""
        return cls(form="worked out", refuse_copies=False)


_PER_CENT = re.compile(r"\bper ?cent(?:age)?\b|\bwhat \\?%", re.IGNORECASE)
_END_OF_QUESTION = 250
"""Characters in which a question says whether it asks for a percentage."""

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
        problem: what was asked, if known; it tells the form that is wanted.
        question: the same, read.
    """

    policy: EquivalenceRules
    oracle: Mapping[Pair, bool] = field(default_factory=dict)
    undecided: set[Pair] = field(default_factory=set)
    why: str = ""
    problem: str | None = None
    question: Question | None = None

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
            return self._numerals(reference, answer)
        if reference.numeral is not None and answer.node is not None:
            return self._worked_out(reference, answer)
        if reference.numeral is not None and reference.numeral.base != 10:
            return self._wrong(f"the reference is in base {reference.numeral.base}")
        return self._expressions(reference, answer)

    def _numerals(self, reference: Scalar, answer: Scalar) -> bool:
        wanted, found = _numeral(reference), _numeral(answer)
        if wanted.base != found.base:
            return self._wrong(f"it is in base {found.base}, the reference in base {wanted.base}")
        if found.percent and not wanted.percent and within(wanted, found.value * 100, self.policy.rounding):
            return self._per_cent_wanted() or self._wrong("it says per cent, the reference does not")
        rounding = self.policy.rounding
        if wanted.percent and not found.percent and within(wanted, found.value / 100, rounding):
            return True  # 12 for 12 %: the mark was left out
        exact = found.form in ("fraction", "mixed", "recurring")
        if not within(wanted, found.value, rounding, exact=exact) and not self._long_decimal(wanted.value, found):
            return self._wrong("the numbers differ")
        return self._numeral_form(reference, answer)

    def _per_cent_wanted(self) -> bool:
        """Whether a plain number stands for so many per cent: "What percentage ...?" is answered by 60 and by 60 %."""
        if self.problem is None:
            return self.policy.form != "wanted"
        return bool(_PER_CENT.search(self.problem[-_END_OF_QUESTION:]))

    def _long_decimal(self, value: Fraction, answer: Numeral) -> bool:
        return long_decimal_of(value, answer, self.policy.decimal_digits)

    def _numeral_form(self, reference: Scalar, answer: Scalar) -> bool:
        wanted, found = _numeral(reference), _numeral(answer)
        whole = found.form == "fraction" and wanted.value.denominator == 1 and found.value.denominator == 1
        if whole and self.policy.form != "any" and not spelled_alike(wanted, found):
            return self._wrong("the division is not carried out")
        if self.policy.form == "wanted" and wanted.reduced and not found.reduced:
            return self._wrong("the fraction is not in lowest terms")
        other = not spelled_alike(wanted, found) or wanted.percent != found.percent
        if other and self.question is not None:
            stands = self.question.writes(found) and not self.question.writes(wanted)
            if stands or copied(answer.text, None, reference.text, None, self.question):
                return self._wrong("it repeats the question")
        if self.question is not None and spelled_out(answer.text, reference.text, self.question):
            return self._wrong("it repeats the question")
        return True

    def _worked_out(self, reference: Scalar, answer: Scalar) -> bool | None:
        """A number wants a number: arithmetic on numbers is an exercise, not its answer."""
        wanted, found = _numeral(reference), answer.node
        assert found is not None
        if wanted.base != 10:
            return self._wrong(f"the reference is in base {wanted.base}")
        if variables(found):
            return self._wrong("it holds a variable, the reference is a number")
        rounded = bool(wanted.unit) and is_closed_form(found)  # 125.66 stands for 40 pi
        if self.policy.form == "wanted" and not rounded and not is_written_number(found):
            return self._wrong("a number is wanted, in lowest terms: the work is not carried out")
        try:
            if not reaches(wanted, found, self.policy.rounding):
                return self._wrong("the values differ")
        except NoValue:
            return self._wrong("it has no value")
        if self.policy.form == "worked out" and is_mere_arithmetic(found) and not is_written_number(found):
            return self._wrong("the arithmetic is not carried out")
        if self.question is not None and copied(answer.text, found, reference.text, None, self.question):
            return self._wrong("it repeats the question")
        return True

    def _expressions(self, reference: Scalar, answer: Scalar) -> bool | None:
        if squeeze(reference.text) == squeeze(answer.text):
            return True
        if self.policy.form == "wanted" and (notation := unworked_notation(answer.text, reference.text)):
            return self._wrong(f"{notation} is not worked out")
        first = reference.node or (number(reference.numeral.value) if reference.numeral else None)
        second = answer.node or (number(answer.numeral.value) if answer.numeral else None)
        if first is not None and second is not None:
            if answer.numeral is not None and is_long_decimal_of(first, answer.numeral, self.policy.decimal_digits):
                return True
            verdict = self._equal(first, second)
            if verdict is not None:
                return (
                    self._expression_form(reference, first, answer, second)
                    if verdict
                    else self._wrong("the values differ")
                )
        elif self.policy.form == "wanted" and reference.numeral is not None:
            return self._wrong("a number is wanted")
        verdict = self._ask(reference.text, answer.text)
        return verdict and self._expression_form(reference, first, answer, second)

    def _equal(self, reference: Node, answer: Node) -> bool | None:
        try:
            return constant_apart(reference, answer) or equal(reference, answer)
        except NoValue:
            return None

    def _expression_form(self, reference: Scalar, first: Node | None, answer: Scalar, second: Node | None) -> bool:
        if self.policy.form == "wanted" and first is not None and second is not None:
            why = wrong_form(second, first, self.problem)
            if why:
                return self._wrong(why)
        if self.question is not None and copied(answer.text, second, reference.text, first, self.question):
            return self._wrong("it repeats the question")
        return True

    def _ask(self, reference: str, answer: str) -> bool | None:
        verdict = self.oracle.get((reference, answer))
        if verdict is None:
            self.undecided.add((reference, answer))
            return None
        return verdict or self._wrong("the expressions differ")


def _numeral(scalar: Scalar) -> Numeral:
    assert scalar.numeral is not None
    return scalar.numeral


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
