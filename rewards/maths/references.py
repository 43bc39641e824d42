"""References: read once, kept."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from selfcorrect.rewards.maths.answers import Answer, Collection, Labelled, Relation, Scalar, Words
from selfcorrect.rewards.maths.choices import choice_letter
from selfcorrect.rewards.maths.extraction import find_answer
from selfcorrect.rewards.maths.reading import read_answer
from selfcorrect.rewards.maths.scalars import Unreadable


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference answer.

    Attributes:
        text: the answer, as given; of a worked solution, the part that is marked as its answer.
        answers: its readings.
        choice: the capital letter, if it may be a multiple-choice answer.
        opaque: the expressions in it that our own parser cannot read, cleaned.
    """

    text: str
    answers: tuple[Answer, ...]
    choice: str | None
    opaque: tuple[str, ...]

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
_SOLUTION = re.compile(r"\\boxed|####")


@lru_cache(maxsize=65536)
def _read(whole: str) -> Reference:
    text = whole.strip()
    if _SOLUTION.search(text):  # a worked solution whose answer is marked, as in MATH and GSM8K
        found = find_answer(text)
        if found.text is None:
            raise Unreadable(found.problem)
        text = found.text
    text = text.rstrip("\\")
    answers = read_answer(text)
    if _SHORT_LIST.fullmatch(text):  # in a reference "1,3" is a list, whatever some countries write for 1.3
        answers = answers[:1]
    return Reference(text, answers, choice_letter(text), tuple(dict.fromkeys(_opaque(answers))))


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
