"""Numbers as they are written: integers, decimals, fractions, mixed numbers, scientific notation, per cent, other
bases, words."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from selfcorrect.rewards.maths.finding.number_words import number_in_words
from selfcorrect.rewards.maths.text import enclosed
from selfcorrect.rewards.maths.tokens import MAX_DIGITS
from selfcorrect.rewards.maths.units import PERCENT_WORDS, SCALES

MAX_EXPONENT = 400

Form = Literal["integer", "decimal", "fraction", "mixed", "recurring"]


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number as it was written.

    Attributes:
        value: exactly what the digits say (in the base that they are in).
        form: how it was written; scientific notation is "decimal" if its coefficient has a point or its exponent a
            minus.
        unit: one in the last place of a decimal (0.01 for 3.14), otherwise 0.
        reduced: False for a fraction that is not in lowest terms.
        percent: whether a per cent sign follows; `value` is already divided by 100.
        base: 10, unless a subscript says otherwise.
    """

    value: Fraction
    form: Form
    unit: Fraction = Fraction(0)
    reduced: bool = True
    percent: bool = False
    base: int = 10


_SIGN = r"(?P<sign>[-+]?)\s*"
_DIGITS = r"[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+|\d+"
_PLAIN = re.compile(rf"{_SIGN}(?:(?P<whole>{_DIGITS})(?P<point>\.\d*)?|(?P<bare>\.\d+))")
_FRACTION = re.compile(
    rf"{_SIGN}(?:(?P<whole>\d+)(?:\s+|(?=\\)))?"
    r"(?:\(?(?P<top>[-+]?\d+|\([-+]\d+\))\s*/\s*(?P<bottom>[-+]?\d+|\([-+]\d+\))\)?"
    r"|\\frac\s*(?:\{\s*(?P<ltop>[-+]?\d+)\s*\}|(?P<dtop>\d))\s*(?:\{\s*(?P<lbottom>[-+]?\d+)\s*\}|(?P<dbottom>\d)))"
)
_POWER_OF_TEN = (
    r"10\s*(?:\^|\*\*)\s*(?:\{\s*(?P<braced>[-+]?\s*\d+)\s*\}|\(\s*(?P<round>[-+]?\d+)\s*\)|(?P<free>[-+]?\d+))"
)
_SCIENTIFIC = re.compile(rf"{_SIGN}(?:(?P<coefficient>\d+(?:\.\d*)?|\.\d+)\s*(?:\\cdot|\*|x)\s*)?{_POWER_OF_TEN}")
_E_NOTATION = re.compile(rf"{_SIGN}(?P<coefficient>\d+(?:\.\d*)?|\.\d+)[eE](?P<free>[-+]?\d+)")
_RECURRING = re.compile(
    rf"{_SIGN}(?P<whole>\d*)\.(?P<fixed>\d*)(?:\\overline\s*\{{?|\\bar\s*\{{?|\\dot\s*\{{?|\()(?P<period>\d+)[}})]?"
)
_BASE_WORDS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
    "sixteen": 16,
}
_BASED = re.compile(
    r"(?P<sign>-?)\s*\(?\s*\"?(?P<digits>[0-9A-Fa-f]+)\"?\s*\)?(?:\s*_\s*\{?\s*\(?\"?(?P<base>\d+|[a-z]+)\"?\)?\s*\}?"
    r"|\s+\"?\(?(?:in )?base[ -](?P<spelled>\d+|[a-z]+)\)?\"?)"
)
_PERCENT = re.compile(rf'\s*(?:%|"?(?:{PERCENT_WORDS})"?)$', re.IGNORECASE)
_SCALED = re.compile(
    rf'(?P<number>.*[\d)}}])\s*"?\s*(?P<scale>{"|".join(sorted(SCALES, key=len, reverse=True))})(?![^\W\d_])\.?\s*"?',
    re.IGNORECASE,
)


def read_numeral(text: str) -> Numeral | None:
    """The number that `text` (cleaned) is, in digits or in words, or None. Linear in its length; no run of more than 80
    digits is read."""
    if len(text) > 2 * MAX_DIGITS + 20:
        return None
    if not any(c.isdigit() for c in text):
        return _read_words(text)
    text = _unwrap(text)
    if (inner := _negated(text)) is not None:
        plain = read_numeral(inner)
        return None if plain is None else replace(plain, value=-plain.value)
    percent = _PERCENT.search(text)
    if percent:
        plain = read_numeral(text[: percent.start()])
        if plain is None or plain.percent or plain.base != 10:
            return None
        return Numeral(plain.value / 100, plain.form, plain.unit / 100, plain.reduced, percent=True)
    for reader in (_read_plain, _read_fraction, _read_scientific, _read_recurring, _read_based, _read_scaled):
        if (numeral := reader(text)) is not None:
            return numeral
    return None


def _read_words(text: str) -> Numeral | None:
    text = _unwrap(text.replace('"', " "))
    percent = _PERCENT.search(text)
    read = number_in_words(text[: percent.start()] if percent else text)
    if read is None:
        return None
    form: Form = "fraction" if read.is_fraction else "decimal" if read.places else "integer"
    scale = Fraction(1, 100 if percent else 1)
    unit = Fraction(1, 10**read.places) if read.places else Fraction(0)
    return Numeral(read.value * scale, form, unit * scale, read.reduced, percent=bool(percent))


def _unwrap(text: str) -> str:
    """Without braces or round brackets around the whole of it, and with a minus that stands in front of them."""
    text = text.strip()
    while (text[:1], text[-1:]) in (("{", "}"), ("(", ")")) and (pair := enclosed(text)) is not None:
        text = pair[1]
    return text


def _negated(text: str) -> str | None:
    """What stands in the brackets of -(2/3) or -{5}, or None. -(-5) is two signs that nobody has put together."""
    if not text.startswith("-"):
        return None
    inner = text[1:].strip()
    within = inner if inner[:1] in ("(", "{") and enclosed(inner) is not None else None
    return None if within is None or _unwrap(within)[:1] == "-" else within


def minus(text: str) -> str:
    """The negative of what is written in `text`; of -1 it is 1, not two signs that nobody has put together."""
    return text[1:].strip() if re.fullmatch(r"-[^-+]+", text) else f"-({text})"


def _read_plain(text: str) -> Numeral | None:
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    digits = (match["whole"] or "").replace(",", "").replace(" ", "")
    places = (match["point"] or match["bare"] or ".")[1:]
    if len(digits) > MAX_DIGITS or len(places) > MAX_DIGITS:
        return None
    value = Fraction(int((digits + places) or 0), 10 ** len(places))
    unit = Fraction(1, 10 ** len(places)) if places else Fraction(0)
    return Numeral(_signed(value, match["sign"]), "decimal" if places else "integer", unit)


def _read_fraction(text: str) -> Numeral | None:
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    top, bottom = (match[name] or match[f"l{name}"] or match[f"d{name}"] for name in ("top", "bottom"))
    whole = match["whole"]
    top, bottom = top.strip("()"), bottom.strip("()")
    if max(map(len, (top, bottom, whole or ""))) > MAX_DIGITS or int(bottom) == 0:
        return None
    value = Fraction(int(top), int(bottom))
    reduced = value.denominator == abs(int(bottom)) and value.denominator != 1
    if whole is None:
        return Numeral(_signed(value, match["sign"]), "fraction", reduced=reduced)
    if not 0 < value < 1:  # "2 5/3" is no mixed number, and nothing else either
        return None
    return Numeral(_signed(int(whole) + value, match["sign"]), "mixed", reduced=reduced)


def _read_scientific(text: str) -> Numeral | None:
    match = _SCIENTIFIC.fullmatch(text)
    if match is not None:
        exponent = match["braced"] or match["round"] or match["free"]
    elif (match := _E_NOTATION.fullmatch(text)) is not None:
        exponent = match["free"]
    else:
        return None
    coefficient = _read_plain(match["coefficient"] or "1")
    exponent = exponent.replace(" ", "")
    if coefficient is None or len(exponent) > 5 or abs(int(exponent)) > MAX_EXPONENT:
        return None
    scale = Fraction(10) ** int(exponent)
    # 3 x 10^8 is a decimal too: its coefficient is rounded to a whole number
    rounded = coefficient.unit or (Fraction(1) if match["coefficient"] and int(exponent) < 0 else Fraction(0))
    form: Form = "decimal" if rounded else "integer"
    return Numeral(_signed(coefficient.value * scale, match["sign"]), form, rounded * scale)


def _read_recurring(text: str) -> Numeral | None:
    match = _RECURRING.fullmatch(text)
    if match is None or len(text) > MAX_DIGITS:
        return None
    fixed, period = match["fixed"], match["period"]
    cycle = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    value = int(match["whole"] or 0) + Fraction(int(fixed or 0), 10 ** len(fixed)) + cycle
    return Numeral(_signed(value, match["sign"]), "recurring")


def _read_based(text: str) -> Numeral | None:
    match = _BASED.fullmatch(text)
    if match is None:
        return None
    name = match["base"] or match["spelled"]
    base = int(name) if name.isdigit() and len(name) < 3 else _BASE_WORDS.get(name, 0)
    if not 2 <= base <= 16 or len(match["digits"]) > MAX_DIGITS:
        return None
    digits = [int(digit, 16) for digit in match["digits"]]
    if max(digits) >= base:
        return None
    value = 0
    for digit in digits:
        value = value * base + digit
    return Numeral(_signed(Fraction(value), match["sign"]), "integer", base=base)


def _read_scaled(text: str) -> Numeral | None:
    """5 million, 2.5 dozen, 3 quarters; 1.2万."""
    match = _SCALED.fullmatch(text)
    plain = read_numeral(match["number"]) if match is not None else None
    if match is None or plain is None or plain.percent or plain.base != 10:
        return None
    scale = SCALES[match["scale"].lower()]
    form: Form = "fraction" if scale < 1 else plain.form
    return replace(plain, value=plain.value * scale, unit=plain.unit * scale, form=form)


def _signed(value: Fraction, sign: str) -> Fraction:
    return -value if sign == "-" else value
