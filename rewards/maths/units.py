"""Units and other words after a number: split off, and spelled in one way."""

import re

from selfcorrect.rewards.maths.tokens import FUNCTIONS, GREEK

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
