"""Reference answers: read once, kept."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from selfcorrect.rewards.maths.answers import Answer, Collection, Labelled, Relation, Scalar, Words
from selfcorrect.rewards.maths.finding.extraction import choice_letter, marked_answer, without_choice_letter
from selfcorrect.rewards.maths.reading import Unreadable, read_answer
from selfcorrect.rewards.maths.text import plain_signs


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference answer.

    Attributes:
        text: the answer, as given; of a worked solution, the part that is marked as its answer.
        answers: its readings.
        lenient: further ones that count where nobody learns from the verdict: "1,22" as 1.22.
        choice: the capital letter, if it may be a multiple-choice answer.
        opaque: the expressions in it that our own parser cannot read, cleaned.
    """

    text: str
    answers: tuple[Answer, ...]
    choice: str | None
    opaque: tuple[str, ...]
    lenient: tuple[Answer, ...] = ()

    @property
    def in_words(self) -> bool:
        return self.choice is not None or isinstance(self.answers[0], Words)


def read_reference(reference: Any) -> Reference:
    """The structure of a reference: a string, or a number as JSON has them.

    Raises:
        Unreadable: with the reason.
    """
    if isinstance(reference, int | float) and not isinstance(reference, bool):
        reference = repr(reference)
    if not isinstance(reference, str):
        raise Unreadable(f"expected a string or a number, got {type(reference).__name__}")
    return _read(reference)


_SHORT_LIST = re.compile(r"\W*(?:-?\d,\d|-?[1-9]\d*,(?:\d{1,2}|\d{4,}))\W*")
_SOLUTION = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])|####")
_CHOICE_BEHIND = re.compile(
    r"(?:\b(?:answer|option|choice)\b[^.\n]{0,40}?|\\(?:text|textbf|mathbf|mathrm)\s*\{?\s*)\(?\\?(?:text|textbf"
    r"|mathrm)?\s*\{?\(?([A-J])\)?\}?\)?[\s.$}]*$"
)
_CHOICE_IN_BRACKETS = re.compile(
    r"[\s,.$]*(?:which is|that is|i\.e\.)?\s*\$?(?:\\(?:text|textbf|mathbf|mathrm)\s*\{)?\s*\(([A-J])\)\s*\}?[\s.$]*$"
)


@lru_cache(maxsize=65536)
def _read(whole: str) -> Reference:
    text, choice = plain_signs(whole.strip()), None
    if _SOLUTION.search(text):  # a worked solution whose answer is marked, as in MATH and GSM8K
        found = marked_answer(text)
        if found.text is None:
            raise Unreadable(found.problem)
        choice = _choice_behind(text)
        text = found.text
    text = text.rstrip("\\")
    answers: tuple[Answer, ...] = read_answer(text)
    lenient: tuple[Answer, ...] = ()
    if _SHORT_LIST.fullmatch(text):  # in a reference "1,3" is a list, whatever some countries write for 1.3
        answers, lenient = answers[:1], answers[1:]
    bare = without_choice_letter(text)
    if bare != text:  # "(B) 42" is also 42
        answers += read_answer(bare)
    return Reference(text, answers, choice or choice_letter(text), tuple(dict.fromkeys(_opaque(answers))), lenient)


def _choice_behind(solution: str) -> str | None:
    """The letter of a choice that a solution states behind its box: "\\boxed{42}, which is (B)"."""
    behind = solution[max(solution.rfind(r"\boxed"), solution.rfind(r"\fbox")) :]
    behind = behind.partition("}")[2][-120:]
    found = _CHOICE_IN_BRACKETS.search(behind) or _CHOICE_BEHIND.search(behind)
    return found[1] if found else None


def _opaque(answers: tuple[Answer, ...]) -> list[str]:
    found: list[str] = []
    for answer in answers:
        if isinstance(answer, Scalar) and answer.numeral is None and answer.node is None:
            found.append(answer.text)
        elif isinstance(answer, Labelled):
            found += _opaque((answer.answer,))
        elif isinstance(answer, Collection):
            found += _opaque(answer.items)
        elif isinstance(answer, Relation):
            found += _opaque(answer.sides)
    return found
