"""Multiple choice: the letter, and what stands behind it."""

import re

from selfcorrect.rewards.maths.cleaning import clean

_CHOICE = re.compile(r'"?\s*(?:(?:option|choice|answer)\s+)?\(?\s*"?([A-J])"?\s*\)?\s*[.:)]?\s*"?', re.IGNORECASE)
_CHOICE_AND_MORE = re.compile(r'"?\s*(?:\(([A-J])\)|([A-J])\s*[):.])\s*"?\s*(?=\W{0,3}\w)(\S.*)')
_ANOTHER_CHOICE = re.compile(r"(?:\b(?:or|and|maybe)\b|[/,&;|])[\s\"]*\(?[A-J]\b|^\(?[A-J]\b\W*")


def choice_letter(text: str) -> str | None:
    """The letter of a multiple-choice answer, "(B)" or "B" or "Option B" or "B) 42" or "b", as a capital."""
    cleaned = clean(text)
    match = _CHOICE.fullmatch(cleaned)
    if match is not None:
        return match[1].upper()
    more = _CHOICE_AND_MORE.fullmatch(cleaned)
    return None if more is None or _ANOTHER_CHOICE.search(more[3]) else str(more[1] or more[2])


def without_choice_letter(text: str) -> str:
    """What stands behind a choice letter: "42" of "(B) 42"; otherwise the text itself."""
    more = _CHOICE_AND_MORE.fullmatch(clean(text))
    return text if more is None else str(more[3])
