"""From the text of one value, or of words, to what it is."""

import re

from selfcorrect.rewards.maths.answers import Answer, Scalar, Words
from selfcorrect.rewards.maths.numerals import read_numeral
from selfcorrect.rewards.maths.syntax import parse
from selfcorrect.rewards.maths.tokens import FUNCTIONS, GREEK, NotUnderstood, TooIntricate
from selfcorrect.rewards.maths.tree import Node
from selfcorrect.rewards.maths.units import split_unit

_MAX_WORDS = 8
_ARTICLES = re.compile(r"\b(?:the|a|an)\b\s*")
_WORDY = re.compile(r"[a-zA-Z]{2,}")
_NAMES = frozenset(FUNCTIONS) | frozenset(GREEK) | {"pi", "sqrt", "infty", "infinity"}


class Unreadable(Exception):
    """The text is no answer. The message says why, for the person who wrote the reference."""


def read_scalar(text: str) -> Scalar:
    text = text.strip()
    numeral = read_numeral(text)
    if numeral is not None:
        return Scalar(text, numeral, None)
    rest, unit = split_unit(text)
    if unit:
        inner = read_scalar(rest)
        return inner if inner.unit else Scalar(inner.text, inner.numeral, inner.node, unit)
    return Scalar(text, None, _tree(text))


def _tree(text: str) -> Node | None:
    try:
        return parse(text)
    except NotUnderstood:
        return None
    except TooIntricate as problem:
        raise Unreadable(f"too costly: {problem}") from None


def read_scalar_or_words(text: str) -> Answer:
    bare = text.replace('"', " ")
    letters_only = bool(re.fullmatch(r"[a-zA-Z' .-]*", bare))
    if letters_only and (len(bare.split()) > 1 or '"' in text or _is_word(bare.strip())):
        return _words(bare)
    scalar = read_scalar(text)
    if scalar.node is None and scalar.numeral is None and "\\" not in text and len(_WORDY.findall(bare)) > 1:
        return _words(bare)
    return scalar


def _is_word(run: str) -> bool:
    return len(run) > 1 and run not in _NAMES and not (len(run) < 5 and set(run) <= set("abcxyz"))


def _words(text: str) -> Words:
    plain = " ".join(text.lower().split()).strip(" .")
    words = (_ARTICLES.sub("", plain) or plain).split()
    if len(words) > _MAX_WORDS:
        raise Unreadable(f"it is prose of more than {_MAX_WORDS} words")
    if not words:
        raise Unreadable("it is empty")
    return Words(" ".join(words))
