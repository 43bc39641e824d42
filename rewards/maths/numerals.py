"""Numbers written out: integers, decimals, fractions, mixed numbers, scientific notation, per cent, other bases."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from selfcorrect.rewards.maths.text import enclosed
from selfcorrect.rewards.maths.tokens import FUNCTIONS, GREEK, MAX_DIGITS

MAX_EXPONENT = 400

Form = Literal["integer", "decimal", "fraction", "mixed"]


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
    r"(?:\(?(?P<top>[-+]?\d+)\s*/\s*(?P<bottom>[-+]?\d+)\)?|\\frac\s*(?:\{\s*(?P<ltop>[-+]?\d+)\s*\}|(?P<dtop>\d))\s*(?:\{\s*(?P<lbottom>[-+]?\d+)\s*\}|(?P<dbottom>\d)))"
)
_POWER_OF_TEN = (
    r"10\s*(?:\^|\*\*)\s*(?:\{\s*(?P<braced>[-+]?\s*\d+)\s*\}|\(\s*(?P<round>[-+]?\d+)\s*\)|(?P<free>[-+]?\d+))"
)
_SCIENTIFIC = re.compile(rf"{_SIGN}(?:(?P<coefficient>\d+(?:\.\d*)?|\.\d+)\s*(?:\\cdot|\*|x)\s*)?{_POWER_OF_TEN}")
_E_NOTATION = re.compile(rf"{_SIGN}(?P<coefficient>\d+(?:\.\d*)?|\.\d+)[eE](?P<free>[-+]?\d+)")
_RECURRING = re.compile(
    rf"{_SIGN}(?P<whole>\d*)\.(?P<fixed>\d*)(?:\\overline\s*\{{?|\\bar\s*\{{?|\\dot\s*\{{?|\()(?P<period>\d+)[}})]?"
)
_BASE_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12,
               "sixteen": 16}  # fmt: skip
_BASED = re.compile(
    r"(?P<sign>-?)\s*\(?\s*\"?(?P<digits>[0-9A-Fa-f]+)\"?\s*\)?(?:\s*_\s*\{?\s*\(?\"?(?P<base>\d+|[a-z]+)\"?\)?\s*\}?|\s+\"?\(?(?:in )?base[ -](?P<spelled>\d+|[a-z]+)\)?\"?)"
)
_PERCENT = re.compile(r"\s*(?:%|\"?per ?cent(?:age)?\"?|\bpct\b)$", re.IGNORECASE)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SCALED = re.compile(r"(?P<number>.*\S)\s*\"?\b(?P<scale>" + "|".join(_SCALES) + r")\b\"?", re.IGNORECASE)


def read_numeral(text: str) -> Numeral | None:
    """The number that `text` (cleaned) is, or None. Linear in its length; no run of more than 80 digits is read."""
    if len(text) > 2 * MAX_DIGITS + 20 or not any(c.isdigit() for c in text):
        return None
    text = _unwrap(text)
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


def _unwrap(text: str) -> str:
    """Without braces or round brackets around the whole of it, and with a minus that stands in front of them."""
    text = text.strip()
    while (text[:1], text[-1:]) in (("{", "}"), ("(", ")")) and (pair := enclosed(text)) is not None:
        text = pair[1]
    return text


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
    return Numeral(_signed(value, match["sign"]), "fraction")


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
    """5 million, 2.5 dozen."""
    match = _SCALED.fullmatch(text)
    plain = _read_plain(match["number"]) if match is not None else None
    if match is None or plain is None:
        return None
    scale = _SCALES[match["scale"].lower()]
    return Numeral(plain.value * scale, plain.form, plain.unit * scale)


def _signed(value: Fraction, sign: str) -> Fraction:
    return -value if sign == "-" else value


# Units and other words after a number: split off, and spelled in one way.

_SPELLINGS = {
    "usd": "$ dollar dollars usd bucks", "cent": "cent cents ¢", "eur": "€ euro euros eur", "gbp": "£ pound-sterling gbp",
    "mm": "mm millimeter millimeters millimetre millimetres", "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres", "km": "km kilometer kilometers kilometre kilometres", "in": "in inch inches",
    "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mi mile miles", "mph": "mph", "kph": "kph kmh",
    "mg": "mg milligram milligrams", "g": "g gram grams", "kg": "kg kilogram kilograms", "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces", "ml": "ml mL milliliter milliliters", "l": "l L liter liters litre litres",
    "s": "s sec secs second seconds", "min": "min mins minute minutes", "h": "h hr hrs hour hours", "day": "day days",
    "week": "week weeks", "month": "month months", "year": "yr yrs year years", "hz": "Hz hertz", "n": "N newton newtons",
    "j": "J joule joules", "w": "W watt watts", "pa": "Pa pascal pascals", "k": "K kelvin", "v": "V volt volts",
    "deg": "degree degrees deg", "rad": "rad radian radians", "am": "am a.m. a.m AM A.M.", "pm": "pm p.m. p.m PM P.M.",
    "unit": "unit units", "°c": "C celsius", "°f": "F fahrenheit",
}  # fmt: skip
_CANONICAL = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_NO_UNIT = (
    "or and not maybe perhaps possibly either nor but if to no yes is times plus minus over by of the squared cubed factorial mod modulo pi "
    "infinity undefined more less hundred thousand million billion trillion dozen percent half base where with for all root sqrt tenth tenths hundredth hundredths thousandth thousandths tens hundreds thousands millions billions dozens "
    "halves third thirds quarter fourths fifth fifths half-life score gross pair pairs one two three four five six seven eight nine ten sin cos "
    "tan log ln exp choose i"
)
_NO_UNITS = frozenset(_NO_UNIT.split()) | set(FUNCTIONS + GREEK)
_SYMBOL_LETTERS = frozenset("xyzabcdefijknpqrtuw")  # after a number, these alone are variables
_WORD = r"(?:[AaPp]\.[Mm]\.?|[A-Za-z]+\.?|\$|€|£|¢)"
_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_TAIL = re.compile(
    rf"(?P<number>.*[\d)}}])(?:\s*(?P<degree>\^\s*\\circ)\s*(?P<scale>\"?[CF]\"?)?|(?P<gap>\s*)(?P<unit>\"[^\"]*\"{_POWER}(?:\s*/\s*\"[^\"]*\"{_POWER})*|{_WORD}{_POWER}(?:[ /]+{_WORD}{_POWER})*))\s*"
)
_FUNCTION = re.compile("|".join(FUNCTIONS))
_CURRENCY = re.compile(r"(?P<sign>-?)\s*(?P<unit>\$USD|USD|€|£|Rs\.?)\s*(?P<number>-?\s*[\d.].*)")


def split_unit(text: str) -> tuple[str, str]:
    """`text` (cleaned) without its unit, and the unit's canonical name, "" if there is none."""
    text = text.strip()
    if price := _CURRENCY.fullmatch(text):
        number, _ = split_unit(price["number"])
        return price["sign"] + number, canonical_unit(price["unit"].replace("$USD", "$").replace("USD", "$"))
    tail = _TAIL.fullmatch(text)
    if tail is None:
        return text, ""
    if tail["degree"]:
        if _FUNCTION.search(tail["number"]):  # sin 30 degrees: the mark belongs to the argument
            return text, ""
        scale = (tail["scale"] or "").strip('"')
        return tail["number"], {"": "deg", "C": "°c", "F": "°f"}[scale]
    unit = canonical_unit(tail["unit"], spaced=bool(tail["gap"]) or '"' in tail["unit"])
    return (tail["number"].strip(), unit) if unit else (text, "")


def canonical_unit(text: str, *, spaced: bool = True) -> str:
    """One spelling for a unit or a counted thing ("sq. ft" is "ft^2"); "" if these words are no unit."""
    quoted = '"' in text
    text = text.replace('"', " ")
    text = re.sub(r"\{\s*(-?\d)\s*\}", r"\1", re.sub(r"\s*\^\s*", "^", text)).strip().rstrip(".")
    text = re.sub(r"\s*/\s*|\s+per\s+", " / ", text)
    words, power, parts = text.split(), "", []
    if not words or len(words) > 6:
        return ""
    for word in words:
        stem, _, exponent = word.partition("^")
        if stem.lower().rstrip(".") in ("square", "sq"):
            power = "^2"
        elif stem.lower().rstrip(".") in ("cubic", "cu"):
            power = "^3"
        elif word == "/":
            parts.append(word)
        else:
            name = _unit_name(stem, spaced, quoted)
            if not name:
                return ""
            parts.append(name + (f"^{exponent}" if exponent else power))
            power = ""
    return " ".join(parts)


def _unit_name(word: str, spaced: bool, quoted: bool) -> str:
    if word.lower() in _NO_UNITS:
        return ""
    known = _CANONICAL.get(word) or _CANONICAL.get(word.rstrip(".")) or _CANONICAL.get(word.lower())
    if len(word) == 1 and not quoted and (not spaced or word in _SYMBOL_LETTERS):
        return "" if word not in "$€£¢" else str(known)
    if known:
        return known
    a_word = len(word) > 2 and word.isalpha() and not set(word) <= set("abcxyz")
    return _singular(word.lower()) if quoted or (spaced and a_word) else ""


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
