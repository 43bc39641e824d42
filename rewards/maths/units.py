"""Words after a number: scale words, which multiply; units, which are spelled in one way; and what is refused."""

import re
from fractions import Fraction

from selfcorrect.rewards.maths.finding.number_words import number_and_rest
from selfcorrect.rewards.maths.text import UNKNOWN
from selfcorrect.rewards.maths.tokens import FUNCTIONS, GREEK

# Words that multiply the number before them.

_SCALE_WORDS: dict[str, str] = {
    "10": "十",
    "12": "dozen dozens dutzend docena docenas douzaine douzaines",
    "20": "score scores",
    "144": "gross grosses",
    "100": "hundred hundreds hundert 百 백",
    "1000": "thousand thousands tausend mil mille тысяча тысячи тысяч тыс 千 천",
    "10000": "万 萬 만",
    "100000": "lakh lakhs lac lacs",
    "1000000": "million millions millionen millón millones milhão milhões milione milioni миллион миллиона миллионов "
    "млн",
    "10000000": "crore crores",
    "100000000": "亿 億 억",
    "1000000000": "billion billions milliarde milliarden milliard milliards миллиард миллиарда миллиардов млрд",
    "1000000000000": "trillion trillions 兆 조",
    "1000000000000000": "quadrillion quadrillions",
    "1000000000000000000": "quintillion quintillions",
    "1/2": "half halves",
    "1/3": "third thirds",
    "1/4": "quarter quarters fourth fourths",
    "1/5": "fifth fifths",
    "1/6": "sixth sixths",
    "1/7": "seventh sevenths",
    "1/8": "eighth eighths",
    "1/9": "ninth ninths",
    "1/10": "tenth tenths",
    "1/12": "twelfth twelfths",
    "1/16": "sixteenth sixteenths",
    "1/20": "twentieth twentieths",
    "1/100": "hundredth hundredths",
    "1/1000": "thousandth thousandths",
}
SCALES = {word: Fraction(factor) for factor, words in _SCALE_WORDS.items() for word in words.split()}
PERCENT_WORDS = (
    r"per ?cent(?:age)?|\bpct\b|prozent|por ?ciento|por ?cento|per ?cento|pour ?cents?"
    r"|процент(?:а|ов)?|パーセント|퍼센트|프로"
)

# Units, under one name each; and the words after a number that change what it says, so that it is not read at all.

_SPELLINGS = {
    "usd": "$ dollar dollars usd bucks",
    "cent": "cent cents ¢",
    "eur": "€ euro euros eur",
    "gbp": "£ pound-sterling gbp",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yard yards",
    "mi": "mi mile miles",
    "mi / h": "mph",
    "km / h": "kph kmh",
    "mg": "mg milligram milligrams",
    "g": "g gram grams",
    "kg": "kg kilogram kilograms",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "ml": "ml mL milliliter milliliters",
    "l": "l L liter liters litre litres",
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "yr yrs year years",
    "hz": "Hz hertz",
    "n": "N newton newtons",
    "j": "J joule joules",
    "w": "W watt watts",
    "pa": "Pa pascal pascals",
    "k": "K kelvin",
    "v": "V volt volts",
    "deg": "degree degrees deg",
    "rad": "rad radian radians",
    "am": "am a.m. a.m AM A.M.",
    "pm": "pm p.m. p.m PM P.M.",
    "unit": "unit units",
    "°c": "C celsius",
    "°f": "F fahrenheit",
}
_CANONICAL = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_CHANGES = (
    "or and not no maybe perhaps possibly probably either neither nor but if to yes is times fold twofold threefold "
    "plus minus over by of the "
    "below above under beneath negative positive short less fewer more least most half squared cubed doubled tripled "
    "quadrupled halved quartered "
    "inverted negated reversed multiplied divided factorial mod modulo root sqrt log base octal hex hexadecimal "
    "binary ternary infinity undefined "
    "percent permille ppm bps where with for all alternatively otherwise else versus vs another cents-on tens pair "
    "pairs half-life one two three four "
    "five six seven eight nine ten sin cos tan ln exp choose i oder nicht vielleicht mal minus plus weniger unter ou "
    "o ni pas moins menos peut-être "
    "quizás puede tal vez bajo sous oppure forse meno или не нет минус может либо ниже примерно mn bn mio mrd tsd "
    "hunderttausend myriad myriads inverse reciprocal owed owing loss debt deficit bc bce kilo mega giga tera "
    "googol googols reverse reversed off away"
)
_CHANGING = frozenset(_CHANGES.split()) | set(FUNCTIONS + GREEK) | set(SCALES)
_TENS = "(?:twen|thir|for|fif|six|seven|eigh|nine)ty"
_CHANGING_KIND = re.compile(
    rf"\w*(?:tausend|hundert)|[a-z]*illi?(?:on(?:en|es)?|ard(?:e|en|s)?)s?|[a-z]*fold|(?:thir|four|fif|six|seven|eigh|nine)teen(?:ths?)?"
    rf"|{_TENS}-?[a-z]*"
    r"|(?:hundred|thousand|[a-z]*illion|eleven|twentie|thirtie|fortie|fiftie|sixtie|seventie|eightie|ninetie)ths?"
)
"""More of the kind, and any number word or ordinal."""
_CHANGING_SIGNS = re.compile(
    r"[十百千万萬亿億兆半倍成割折又零一二三四五六七八九不非或负負마배반만억천백조십余餘多几幾超未]|以上|以下|이상|이하|미만|초과|分之|点|없|아니|또는|または|では"
)
_FIRST_IDEOGRAPH = 0x2E80
"""Before it, a single letter behind a number is a variable, a prefix or whatever else; from it on, a counter: 42個."""
_SYMBOL_LETTERS = frozenset("xyzabcdefijknpqrtuw")  # after a number, these alone are variables
_WORD = r"(?:[AaPp]\.[Mm]\.?|[^\W\d_]+\.?|\$|€|£|¢)"
_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_TAIL = re.compile(
    rf"(?P<number>.*[\d)}}])(?:\s*(?P<degree>\^\s*\\circ)\s*(?P<temperature>\"?[CF]\"?)?"
    rf"|(?P<gap>\s*)(?P<unit>\"[^\"]*\"{_POWER}(?:\s*/\s*\"[^\"]*\"{_POWER})*"
    rf"|{_WORD}{_POWER}(?:[ /]+{_WORD}{_POWER})*))\s*"
)
_SCALED_TAIL = re.compile(
    rf'(?P<number>.*[\d)}}]\s*"?\s*(?:{"|".join(sorted(SCALES, key=len, reverse=True))}))\s*"?\s+"?'
    r'(?P<unit>(?!of\b)[^"\d]+)"?',
    re.IGNORECASE,
)
_FUNCTION = re.compile("|".join(FUNCTIONS))
_CURRENCY = re.compile(r"(?P<sign>-?)\s*(?P<unit>\$USD|USD|€|£|Rs\.?|¥|₹|₩|₽)\s*(?P<number>-?\s*[\d.].*)")
_IN_BRACKETS = re.compile(
    r'(?P<number>.*[\d)}])\s*\(\s*"?\s*(?:in |of )?'
    r'(?P<unit>[^\W\d_]{2,}\.?(?:\^\d)?(?:[ /][^\W\d_]{2,}\.?(?:\^\d)?)*)\s*"?\s*\)'
)
_RESIDUE = re.compile(
    r"(?P<number>.*\S)\s*(?:\\p?mod(?![a-zA-Z])\s*\{?\s*|\(\s*(?:\\(?:bmod|mod)|\"?mod\"?)\s*)(?P<modulus>\w+)\s*[})]?"
)
_MAX_WORDS = 6


def split_unit(text: str) -> tuple[str, str]:
    """`text` (cleaned) without its unit, and the unit's canonical name, "" if there is none."""
    text = text.strip()
    if price := _CURRENCY.fullmatch(text):
        number, _ = split_unit(price["number"])
        return price["sign"] + number, canonical_unit(price["unit"].replace("$USD", "$").replace("USD", "$"))
    if residue := _RESIDUE.fullmatch(text):
        return residue["number"], f"mod {residue['modulus']}"
    if bracketed := _IN_BRACKETS.fullmatch(text) or _SCALED_TAIL.fullmatch(text):
        unit = canonical_unit(f'"{bracketed["unit"].replace(chr(34), " ").strip()}"')
        return (bracketed["number"].replace('"', " "), unit) if unit else (text, "")
    tail = _TAIL.fullmatch(text)
    if tail is None:
        number, rest = number_and_rest(text.replace('"', " ").strip())
        unit = canonical_unit(rest) if number else ""
        return (number, unit) if unit else (text, "")
    if tail["degree"]:
        if _FUNCTION.search(tail["number"]):  # sin 30 degrees: the mark belongs to the argument
            return text, ""
        scale = (tail["temperature"] or "").strip('"')
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
    if not words or len(words) > _MAX_WORDS:
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
    if _changes_the_number(word.lower().rstrip(".")):
        return ""
    known = _CANONICAL.get(word) or _CANONICAL.get(word.rstrip(".")) or _CANONICAL.get(word.lower())
    if len(word) == 1 and ord(word) < _FIRST_IDEOGRAPH and not quoted and (not spaced or word in _SYMBOL_LETTERS):
        return "" if word not in "$€£¢" else str(known)
    if known and (len(word) > 1 or word in _CANONICAL):
        return known
    if len(word) == 1 and ord(word) < _FIRST_IDEOGRAPH:  # 42k, 42 M: thousands and millions, or whatever else
        return ""
    if not word.isascii():  # counted in another language, or by a sign that needs no space: 12个
        return word.lower() if word.replace(".", "").isalpha() and UNKNOWN not in word else ""
    a_word = len(word) > 2 and word.isalpha() and not set(word) <= set("abcxyz")
    return _singular(word.lower()) if quoted or (spaced and a_word) else ""


def _changes_the_number(word: str) -> bool:
    """Whether a word after a number says that the number is another one, or that there is a choice of two."""
    return word in _CHANGING or bool(_CHANGING_KIND.fullmatch(word) or _CHANGING_SIGNS.search(word))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


_AMBIGUOUS = frozenset({"in", "a", "am", "k", "c", "f", "v", "w", "n", "j", "l", "s", "m", "g", "h", "second", "min"})
"""Units that are other words too: "18 in total"."""


def is_unit_word(text: str, *, alone: bool) -> bool:
    """Whether `text`, from running text behind a number, is a known unit: "cm", "km/h", "miles per hour".

    Args:
        text: the words.
        alone: nothing but a full stop or a comma follows; then "5 in" are inches.
    """
    words = [re.split(r"[\^²³]", word)[0] for word in re.split(r"\s*/\s*|\s+", text) if word != "per"]
    known = [word in _CANONICAL or word.rstrip(".") in _CANONICAL or word.lower() in _CANONICAL for word in words]
    bare = [word for word in words if word.lower() not in ("square", "cubic", "sq", "sq.", "cu", "cu.")]
    if not bare or not known[-1] and len(words) < 2:
        return False
    if len(words) > 1 and ("/" in text or " per " in text):
        return known[0] or known[-1]
    return known[-1] and (alone or words[-1].lower() not in _AMBIGUOUS)
