"""Numbers in words: "twenty-three", "minus four", "two hundred and five", "two and a half", "three quarters".

English numbers have values. Of eight more languages the first few are known, so that "Die Antwort ist zwei" says
something. What is made of such words and is no number, "nineteen ninety-nine", is an answer, too: a wrong one.
"""

import re
from fractions import Fraction
from typing import NamedTuple

_ONES_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES = {word: value for value, word in enumerate(_ONES_WORDS.split())}
_TENS = {word: 10 * value for value, word in enumerate(_TENS_WORDS.split(), start=2)}
_POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    word: value
    for value, words in {
        2: "half halves", 3: "third thirds", 4: "quarter quarters fourth fourths", 5: "fifth fifths",
        6: "sixth sixths", 7: "seventh sevenths", 8: "eighth eighths", 9: "ninth ninths", 10: "tenth tenths",
        12: "twelfth twelfths", 16: "sixteenth sixteenths", 20: "twentieth twentieths",
        100: "hundredth hundredths", 1000: "thousandth thousandths",
    }.items()
    for word in words.split()
}  # fmt: skip
_ELSEWHERE = (
    {
        word: value
        for words in (  # without those that are English words too: six, once, due, elf, null, un, um, sei
            "- eins zwei drei vier fünf sechs sieben acht neun zehn - zwölf",
            "zéro - deux trois quatre cinq - sept huit neuf dix onze douze",
            "cero uno dos tres cuatro cinco seis siete ocho nueve diez - doce",
            "- - - tre quattro cinque - sette otto nove dieci undici dodici",
            "- - dois três quatro - - sete oito - dez - doze",
            "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать",
        )
        for value, word in enumerate(words.split())
        if word != "-"
    }
    | dict(zip("零一二三四五六七八九十", range(11), strict=True))
    | {"영": 0, "하나": 1, "둘": 2, "셋": 3, "넷": 4}
)


# The grammar of a number, and the looser one of what is made of its words.


def _any(words: dict[str, int]) -> str:
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"


_GAP, _AND = r"(?:\s*-\s*|\s+)", r"(?:,?\s+and\s+|,\s+|\s*-\s*|\s+)"
_BELOW_100 = rf"(?:{_any(_TENS)}(?:{_GAP}{_any({w: v for w, v in _ONES.items() if 0 < v < 10})})?|{_any(_ONES)})"
_BELOW_1000 = rf"(?:(?:{_BELOW_100}|an?){_GAP}hundred(?:{_AND}{_BELOW_100})?|{_BELOW_100})"
_GROUP = rf"(?:{_BELOW_1000}|an?){_GAP}{_any(_POWERS)}"
_WHOLE = rf"(?:{_GROUP}(?:{_AND}{_GROUP})*(?:{_AND}{_BELOW_1000})?|{_BELOW_1000})"
_MANY = r"(?P<many>dozen|hundred|thousand|million|billion|trillion)"
_NUMBER = re.compile(
    rf"(?P<sign>(?:minus|negative)\s+)?(?:half{_GAP}an?{_GAP}{_MANY}"
    rf"|(?P<dozens>{_WHOLE}|an?){_GAP}dozen"
    rf"|(?P<top>{_WHOLE}|an?){_GAP}(?P<part>{_any(_PARTS)})|(?P<half>half)"
    rf"|(?P<over>{_WHOLE})\s+(?:over|divided\s+by)\s+(?P<under>{_WHOLE})"
    rf"|(?P<whole>{_WHOLE})(?:\s+point(?P<places>(?:\s+{_any({w: v for w, v in _ONES.items() if v < 10})})+)"
    rf"|\s+and\s+(?P<parts>an?|{_any(_ONES)}){_GAP}(?P<of>{_any(_PARTS)}))?"
    rf"|(?P<elsewhere>{_any(_ELSEWHERE)}))(?![\w-])",
    re.IGNORECASE,
)
_ALONE = rf"{_any(_ONES)}|{_any(_TENS)}|{_any(_POWERS)}|hundred|dozen|half|{_any(_ELSEWHERE)}"
_WORD = rf"(?:{_ALONE}|{_any(_PARTS)}|squared|cubed)"
_LINK = (
    r"(?:[ \t,–-]|\b(?:and|or|maybe|perhaps|possibly|over|point|to|plus|minus|times|divided|multiplied|by|out|of|in"
    r"|an?)\b)"
)
RUN = re.compile(
    rf"(?<![\w-])(?:(?:minus|negative)\s+)?(?:half\s+an?\s+|an?\s+)?(?:{_ALONE}|(?<=\ba\s){_any(_PARTS)})"
    rf"(?:{_LINK}+{_WORD})*(?![\w-])",
    re.IGNORECASE,
)
"""A run of number words in a sentence, with all that links them: "two", "two or three", "two times six"."""


class InWords(NamedTuple):
    """A number in words.

    Attributes:
        value: what it says.
        places: how many digits it has behind "point".
        is_fraction: it is made of halves, thirds, ...
        reduced: False for a fraction that is not in lowest terms.
    """

    value: Fraction
    places: int = 0
    is_fraction: bool = False
    reduced: bool = True


def number_in_words(text: str) -> InWords | None:
    """The number that `text` is in words, or None."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or (read := _value(match)) is None:
        return None
    return read._replace(value=-read.value) if match["sign"] else read


def number_and_rest(text: str) -> tuple[str, str]:
    """ "two" and "apples" of "two apples"; ("", text) if no number in words stands at the beginning."""
    match = _NUMBER.match(text)
    rest = "" if match is None else text[match.end() :].strip()
    if match is None or not rest or re.match(rf"(?:{_WORD})\b", rest, re.IGNORECASE):
        return "", text
    return match[0], rest


def _value(match: re.Match[str]) -> InWords | None:
    if match["elsewhere"]:
        return InWords(Fraction(_ELSEWHERE[match["elsewhere"].lower()]))
    if match["half"]:
        return InWords(Fraction(1, 2), is_fraction=True)
    if match["many"]:
        return InWords(Fraction(6 if match["many"].lower() == "dozen" else (_whole(f"a {match['many']}") or 0) // 2))
    whole = _whole(match["whole"] or match["dozens"] or match["top"] or match["over"])
    if whole is None:
        return None
    if match["dozens"]:
        return InWords(Fraction(12 * whole))
    if match["part"] or match["over"]:
        return _fraction(0, whole, _PARTS[match["part"].lower()] if match["part"] else _whole(match["under"]))
    if match["of"]:
        return _fraction(whole, _whole(match["parts"]), _PARTS[match["of"].lower()])
    places = [_ONES[word] for word in (match["places"] or "").lower().split()]
    digits = sum((Fraction(digit, 10 ** (n + 1)) for n, digit in enumerate(places)), Fraction(0))
    return InWords(whole + digits, len(places))


def _fraction(whole: int, top: int | None, bottom: int | None) -> InWords | None:
    """A fraction, or a mixed number: "two and three halves" is none."""
    if top is None or not bottom or (whole and not 0 < top < bottom):
        return None
    part = Fraction(top, bottom)
    return InWords(whole + part, is_fraction=True, reduced=part.denominator == bottom != 1)


def _whole(words: str) -> int | None:
    """The value of a whole number in words; None where its thousands and millions do not descend."""
    total, group, last = 0, 0, max(_POWERS.values()) + 1
    for word in re.findall(r"\w+", words.lower()):
        if word in _POWERS:
            if _POWERS[word] >= last:
                return None
            last = _POWERS[word]
            total, group = total + group * last, 0
        elif word == "hundred":
            group *= 100
        elif word != "and":
            group += 1 if word in ("a", "an") else _ONES.get(word, _TENS.get(word, 0))
    return total + group
