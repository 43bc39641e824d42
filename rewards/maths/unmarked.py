"""The answer of a text that marks none: the text as a whole, or its last formula or number."""

import re
from dataclasses import dataclass

from selfcorrect.rewards.maths.cleaning import MAX_ANSWER
from selfcorrect.rewards.maths.markup import EMPTY_BOX, FORMULA

_PLAIN_NUMBER = (
    r"(?<![\w.])-?\s?[$€£]?(?>(?:\d{1,3}(?:,\d{3})+|\d+,\d{1,2}(?![\d,])|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+|\s*(?:\\times|×|\*|x)\s*10\^\{?-?\d+\}?)?"
    r"(?:\s+\d+/\d+|\s*/\s*\d+)?(?:\s?%|\s+per\s?cent)?(?:(?![\w^])|(?=(?:[mck]?m|ft|in|[mk]?g|m?[lL]|s|h|min)[²³]?(?!\w)))"
)
_NUMBER = re.compile(_PLAIN_NUMBER)
_HEDGED = re.compile(
    r"(?P<first>"
    + _PLAIN_NUMBER
    + r")[\s,.;]*\(?\b(?:(?:and/)?or|maybe|perhaps|possibly|alternatively)\b[\s,]*(?:(?:maybe|perhaps|possibly|even|is it|it is|it could be)\s+)*$",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(r"\b(?:wait|actually|sorry|no|correction|rather|mistake|wrong|scratch)\b", re.IGNORECASE)
_GROUP = re.compile(r"(?:\\\{|[(\[{])[^()\[\]{}\n]*,[^()\[\]{}\n]*[)\]}]")
_TAIL = 4000
"""Characters, counted from the end, in which an unmarked answer is looked for."""
_SHORT = 120
_MOST_WORDS = 6


@dataclass(frozen=True, slots=True)
class Found:
    """The text of an answer, or why there is none (`text` is None)."""

    text: str | None
    problem: str = ""


def bounded(text: str) -> Found:
    if len(text) > MAX_ANSWER:
        return Found(None, f"its answer is longer than {MAX_ANSWER} characters")
    return Found(text.strip())


def unmarked(text: str, in_words: bool) -> Found:
    text = EMPTY_BOX.sub("", text).strip()
    if not text:
        return Found(None, "it is empty")
    if FORMULA.search(text) and re.search(r"[a-zA-Z]", FORMULA.sub(" ", text)):
        return last_value(text)
    if len(text) <= _SHORT and "\n" not in text and looks_like_answer(text, in_words):
        return Found(text)
    if in_words:
        last = text.splitlines()[-1].strip(" *_`.")
        bold = re.findall(r"\*\*([^*\n]{1,60})\*\*", text)
        if len(last.split()) <= 3:
            return Found(last)
        return Found(bold[-1]) if bold else Found(None, "no answer is marked in it")
    return last_value(text)


def looks_like_answer(text: str, in_words: bool = True) -> bool:
    """Whether a short response is nothing but an answer: no sentence with a number in it, no taking back."""
    words = re.findall(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}", re.sub(r"\\(?:begin|end)\{\w+\}|\\[a-zA-Z]+", " ", text))
    wordy = [
        word
        for word in words
        if word.lower() not in ("and", "or", "sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp")
    ]
    if _TAKEN_BACK.search(text) and any(character.isdigit() for character in text):
        return False
    first_digit = re.search(r"\d", text)
    if first_digit is None:
        return len(wordy) <= (_MOST_WORDS if in_words else 1)
    return len(wordy) <= 2 and not (wordy and text.index(wordy[0]) < first_digit.start())


def last_value(text: str) -> Found:
    """The last formula or number, together with a number that it is said to be the alternative to."""
    if len(text) > _TAIL:
        text = text[-_TAIL:]
        text = text[text.find("\n") + 1 :]  # from the start of a line, lest dollar signs pair up wrongly
    formulas, numbers = list(FORMULA.finditer(text)), list(_NUMBER.finditer(text))
    last_formula, last_number = (found[-1] if found else None for found in (formulas, numbers))
    if last_formula is not None and (last_number is None or last_formula.end() > last_number.start()):
        inside = next(group for group in last_formula.groups() if group is not None)
        return bounded(inside)
    if last_number is None:
        return Found(None, "no answer was found in it")
    if (group := _group_around(text, last_number.start())) is not None:
        return bounded(group)
    hedge = _HEDGED.search(text[max(0, last_number.start() - 80) : last_number.start()])
    value = last_number[0].strip()
    return Found(value if hedge is None else f"{hedge['first'].strip()} or {value}")


def _group_around(text: str, at: int) -> str | None:
    """The bracketed list, like (3, 4), that position `at` is inside of."""
    around = max(0, at - _SHORT)
    for match in _GROUP.finditer(text[around : at + _SHORT]):
        if match.start() < at - around < match.end():
            return match[0]
    return None
