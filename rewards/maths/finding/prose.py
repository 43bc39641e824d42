"""Values in running text: which number a sentence names last, and what belongs to it: its unit, sign, ratio, power."""

import re
from dataclasses import dataclass

from selfcorrect.rewards.maths.finding.bounds import asked_in, bound_before, is_asked
from selfcorrect.rewards.maths.finding.boxes import EMPTY_BOX, FORMULA, OR_WORDS
from selfcorrect.rewards.maths.finding.number_words import RUN
from selfcorrect.rewards.maths.text import MAX_ANSWER, UNKNOWN
from selfcorrect.rewards.maths.units import PERCENT_WORDS, SCALES, is_unit_word

# What a value is made of.

_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+(?![\d,])"
    r"|\d+,\d{1,2}(?![\d,])|\d+)(?:\.\d+)?(?:[eE][-+]?\d+(?!\w))?|\.\d+"
)
_FRACTIONS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒"
_PIECE = re.compile(
    rf"(?P<number>(?<![A-Za-z])(?<![A-Za-z]_)(?:{_DIGITS})|{UNKNOWN}+|[{_FRACTIONS}]|(?<![^\W\d_])(?:pi"
    rf"|e)(?![^\W\d_])|[π∞])"
    r"|(?P<name>(?<![^\W\d_])(?:sqrt|log|ln|sin|cos|tan|exp)(?![^\W\d_])|[√∛]|\\[a-zA-Z]+)"
    r"|(?P<mark>[!%‰°²³¹⁰⁴-⁹₀-₉'∘])|(?P<operator>(?<=\d)\s?x\s?(?=10\s?\^)|(?<=\d)\s?x\s(?=\d)|\*\*|[-+*/^:×·÷⁄_±–])"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<money>[$€£¥₹₩])"
    r"|(?P<letter>(?<![^\W_])[a-zA-Z](?![^\W\d_])|(?<=\d)[a-zA-Z](?![^\W_]))|(?P<gap>[ \t]+)|(?P<other>.)",
    re.DOTALL,
)
_BINDS = frozenset({"number", "name", "mark", "operator", "open", "close", "money", "letter"})


@dataclass(frozen=True, slots=True)
class Piece:
    kind: str
    text: str
    start: int
    end: int


def _pieces(text: str) -> list[Piece]:
    return [Piece(str(m.lastgroup), m[0], m.start(), m.end()) for m in _PIECE.finditer(text)]


# What stands before a number and makes it no value, or another one.

_NAMED = re.compile(
    r"(?:\b(?:steps?|equations?|eq\.?|parts?|problem|question|case|figure|table|example|line|page|chapter|section"
    r"|round|no\.|number of steps|method|theorem"
    r"|lemma|exercise|option)|#)\s*\(?$",
    re.IGNORECASE,
)
_MINUS = re.compile(
    r"(?:(?<![a-zA-Z])(?:minus|negative|menos|moins|meno|минус)\s+|(?:マイナス|负|負|마이너스)\s*)$", re.IGNORECASE
)
_CHANGED = re.compile(
    r"(?<![a-zA-Z])(?:(?:less|fewer|more|greater|smaller|larger|higher|lower|bigger|other|older|younger|longer"
    r"|shorter)\s+than"
    r"|(?:roots?|half|third|quarter|fifth|square|cube|logarithm|log|factorial|reciprocal|inverse|opposite|negative"
    r"|sum|product|cosine|sine|tangent"
    r"|multiples?|divisors?|factors?|powers?|percent|%)\s+of|twice|double|triple|thrice|half|over|under|below|above"
    r"|times|divided by|multiplied by"
    r"|weniger als|mehr als|menos de|más de|moins de|plus de|меньше|больше|min(?:us)?)\s+(?:the\s+(?:number\s+)?"
    r"|of\s+)?$"
    r"|(?:不到|超过|少于|多于|小于|大于)\s*$",
    re.IGNORECASE,
)
_COMPARED = re.compile(r"\b(?:less|fewer|more|greater|smaller|larger|higher|lower) than\s+$", re.IGNORECASE)
_HEDGED = re.compile(
    rf"(?P<first>(?:{_DIGITS})%?)[\s,.;]*\(?(?:\b(?:(?:and/)?(?:{OR_WORDS})|maybe|perhaps|possibly)(?![^\W\d_])"
    rf"|\bo\b|或|或者|または|또는|~)[\s,]*(?:(?:maybe|perhaps|possibly|even|is it|it is|it could be)\s+)*$",
    re.IGNORECASE,
)
_OUT_OF = re.compile(r"(?<![\w.,/])(\d+)\s+(?:out of|in)\s+$")
_BETWEEN = re.compile(r"\b(?:between|zwischen|entre)\s+\S+\s+(?:and|und|y|et|e)\s+$", re.IGNORECASE)

# What stands behind a number and belongs to it.

_SCALE = "|".join(sorted(SCALES, key=len, reverse=True))
_CHANGES_AFTER = (
    r"squared|cubed|halved|doubled|tripled|quadrupled|factorial|percent|per cent|permille|below zero|under zero|above "
    r"zero|degrees below zero"
    r"|in (?:octal|hex(?:adecimal)?|binary|base \w+)|\(?base[ -]\w+\)?|octal|hex(?:adecimal)?|binary|mod(?:ulo)? \d+"
    r"|to the (?:power of \w+|\w+ power|second|\w+(?:rd|th))|times ten|and a (?:half|quarter|third)"
    r"|and three[ -]quarters|minus|negative|times|divided by \d+|per mill?e?|倍|分之\d+|半|の\d+倍"
)
_BEHIND = re.compile(
    rf"\s*(?:[%‰]|{PERCENT_WORDS}|(?:{_SCALE})(?![^\W\d_])(?!\s+of\b)|(?:{_CHANGES_AFTER})(?!\w))", re.IGNORECASE
)
_CJK_SCALE = re.compile(r"[十百千万萬亿億兆백천만억조半倍成割折]+")
_UNIT_BEHIND = re.compile(
    r"\s?(?:[AaPp]\.?\s?[Mm]\b\.?(?!\w)|°\s?[CF]?(?!\w)|(?:(?:square|cubic|sq\.?|cu\.?)\s+)?[^\W\d_]+(?:\^\{?\d\}?"
    r"|[²³])?"
    r"(?:\s*/\s*[^\W\d_]+(?:\^\{?\d\}?|[²³])?|\s+per\s+[^\W\d_]+)*)"
)
_UNIT_WITHOUT_SPACE = re.compile(r"(?<=\d)((?:[mck]?m|ft|in|[mk]?g|m?[lL]|s|h|min)(?:[²³]|\^\d)?)$")
_ENDS = re.compile(r"\s*(?:$|[.,;!?)*])")
_NOT_COUNTED = (
    "is was has times less plus minus always does this as us his its yes across perhaps equals makes gives gets means "
    "thus"
)
_NO_PLURALS = frozenset(_NOT_COUNTED.split())


def last_value(text: str) -> str | None:
    """The last value of a sentence with all that belongs to it; None if it names none."""
    text = text.replace("**", "  ")
    if (listed := _list_at_the_end(text)) is not None:
        return listed
    pieces = _pieces(text)
    for index in reversed(range(len(pieces))):
        if (
            pieces[index].kind == "number"
            and pieces[index].text != "e"
            and not _NAMED.search(text[: pieces[index].start])
        ):
            return _phrase(text, pieces, index)
    return None


_GROUP = re.compile(r"(?:\\\{|\\\}|[(\[{])[^()\[\]{}\n]*,[^()\[\]{}\n]*(?:\\\}|[)\]}])")


def _list_at_the_end(text: str) -> str | None:
    """The bracketed list, like (3, 4), that the last number is inside of."""
    last = None
    for match in _GROUP.finditer(text):
        last = match
    if last is None or re.search(r"\d", text[last.end() :]) or not re.search(r"\d", last[0]):
        return None
    return last[0]


_MAX_PIECES = 60
"""On either side of a number: what is longer is no value."""


def _phrase(text: str, pieces: list[Piece], index: int) -> str:
    low, high = index, index
    while index - low < _MAX_PIECES and (more := _joins_left(pieces, low)) is not None:
        low = more
    while high - index < _MAX_PIECES and (more := _joins_right(pieces, high)) is not None:
        high = more
    low, high = _trimmed(pieces, low, high)
    start, end = pieces[low].start, pieces[high].end
    before = text[:start]
    end = _end_of_unit(text, end)
    value = _UNIT_WITHOUT_SPACE.sub(r" \1", text[start:end].strip())
    if bound := bound_before(before):
        return f"{bound} {value}"
    if minus := _MINUS.search(before):
        return value if _HEDGED.search(before[: minus.start()]) else f"{_left_of(before[: minus.start()])}-{value}"
    if hedge := _HEDGED.search(before):
        return f"{hedge['first'].strip()} or {value}"
    if part := _OUT_OF.search(before):
        return f"{part[1]}/{value}"
    if changed := (_CHANGED.search(before) or _BETWEEN.search(before)):
        return f"{changed[0].strip()} {value}"
    return value


def _left_of(before: str) -> str:
    """The number that "minus" takes something away from: "31 minus 7"."""
    found = re.search(rf"(?:{_DIGITS})\s*$", before)
    return "" if found is None else found[0].strip() + " "


def _joins_left(pieces: list[Piece], low: int) -> int | None:
    return _joins(pieces, low, -1)


def _joins_right(pieces: list[Piece], high: int) -> int | None:
    return _joins(pieces, high, 1)


def _joins(pieces: list[Piece], at: int, step: int) -> int | None:
    """The next piece in a direction that belongs to the same value, or None. Across a space only operators bind."""
    next_ = at + step
    if not 0 <= next_ < len(pieces):
        return None
    if pieces[next_].kind in _BINDS:
        return next_
    beyond = next_ + step
    if pieces[next_].kind != "gap" or not 0 <= beyond < len(pieces):
        return None
    here, there = pieces[at], pieces[beyond]
    left, right = (here, there) if step > 0 else (there, here)
    if "operator" in (here.kind, there.kind):
        return beyond if there.kind in _BINDS - {"money"} and not _is_dash(pieces, at, beyond, step) else None
    mixed = left.kind == right.kind == "number" and _fraction_follows(pieces, pieces.index(right))
    known = left.kind == "name" or right.text in ("π", "pi") or right.kind == "name"
    return beyond if (mixed or known) and there.kind in ("number", "name", "open", "close") else None


def _is_dash(pieces: list[Piece], at: int, beyond: int, step: int) -> bool:
    """A dash between words and a number, as in "so - 42", is no minus; a colon behind a word is no ratio."""
    operator = pieces[beyond] if pieces[beyond].kind == "operator" else pieces[at]
    if operator is pieces[at]:
        return False
    further = beyond + step
    while 0 <= further < len(pieces) and pieces[further].kind == "gap":
        further += step
    return not (
        0 <= further < len(pieces) and pieces[further].kind in ("number", "close", "open", "letter", "mark", "name")
    )


def _fraction_follows(pieces: list[Piece], at: int) -> bool:
    return pieces[at].text in _FRACTIONS or (
        at + 2 < len(pieces) and pieces[at + 1].text == "/" and pieces[at + 2].kind == "number"
    )


def _trimmed(pieces: list[Piece], low: int, high: int) -> tuple[int, int]:
    """Without operators and brackets at the edges that belong to the sentence."""
    while low < high and (
        pieces[low].kind in ("gap", "close", "mark")
        or (pieces[low].kind == "operator" and pieces[low].text not in "-+±–")
        or (pieces[low].kind == "open" and _unmatched(pieces[low : high + 1]) > 0)
    ):
        low += 1
    while high > low and (
        pieces[high].kind in ("gap", "operator", "open", "money")
        or pieces[high].text == "'"
        or (pieces[high].kind == "close" and _unmatched(pieces[low : high + 1]) < 0)
    ):
        high -= 1
    return low, high


def _unmatched(pieces: list[Piece]) -> int:
    return sum((piece.kind == "open") - (piece.kind == "close") for piece in pieces)


def _end_of_unit(text: str, end: int) -> int:
    """Where the unit, scale word or other word that belongs to the number before position `end` ends."""
    while behind := _BEHIND.match(text, end) or _CJK_SCALE.match(text, end):
        end = behind.end()
    unit = _UNIT_BEHIND.match(text, end)
    if unit is None:
        return end
    word = unit[0].strip()
    if not word.isascii() and not text[end : end + 1].isspace():
        return end  # 42です: no unit but grammar; 个 and the like change nothing
    ends = bool(_ENDS.match(text, unit.end()))
    if is_unit_word(word, alone=ends) or (word.endswith("s") and len(word) > 3 and word.lower() not in _NO_PLURALS):
        return unit.end()
    return end


# Numbers in words.

_NOT_A_UNIT = (
    "of that which who whose with for as to we you i it is are was were will can could should would may in on at from "
    "by after before such where when than if way ways thing things digit digits decimal step steps part parts and or "
    "but not so"
)
_NO_UNIT = frozenset(_NOT_A_UNIT.split())
_AT_THE_END = re.compile(
    r"(?P<counted>(?:\s+[^\W\d_]+){0,3}?)(?:,?\s+(?:in (?:total|all)|altogether|left|each|now))?\W*"
)
_OF_THE_WHOLE = re.compile(r"\s+of\s+(?:the|a|an|all|his|her|its|their|them|it)\b.*")
_A_PART = re.compile(
    r"half|halves|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|per\s?cent", re.IGNORECASE
)
_SAYS = re.compile(
    r"(?:^|[:=,]|\b(?:is|are|was|were|be|has|have|had|equals?|gets?|gives?|makes?|leaves?|remains?|only))\W*$"
)


def last_number_in_words(sentence: str, *, announced: bool) -> str | None:
    """The number in words with which a sentence without digits ends, and its unit; None if there is none.

    Args:
        sentence: any text.
        announced: an answer is expected; else the number must follow a word such as "is" or "has".
    """
    if any(character.isdigit() for character in sentence):
        return None
    runs = list(RUN.finditer(sentence))
    if not runs or not _ends_with(sentence, runs[-1]):
        return None
    start, end = runs[-1].start(), _end_of_unit(sentence, runs[-1].end())
    said = bool(_SAYS.search(sentence[:start]))
    if announced and not said:  # "two dollars and fifty cents" is one answer
        start = runs[0].start()
    elif not said:
        return None
    before = sentence[:start]
    if _NAMED.search(before):
        return None
    if bound := bound_before(before):
        return f"{bound} {sentence[start:end]}"
    changed = _CHANGED.search(before) or re.search(r"\bbetween\s+$", before)
    return f"{changed[0].strip() if changed else ''} {sentence[start:end]}".strip()


def _ends_with(sentence: str, run: re.Match[str]) -> bool:
    """Whether nothing follows a number in words but what it counts, or the whole of which it is a part."""
    end = _end_of_unit(sentence, run.end())
    if _A_PART.search(sentence[run.start() : end]) and _OF_THE_WHOLE.fullmatch(sentence, end):
        return True
    rest = _AT_THE_END.fullmatch(sentence, end)
    return rest is not None and _NO_UNIT.isdisjoint(rest["counted"].lower().split())


# Bold text, and the texts of which nothing is marked.

_BOLD = re.compile(
    r"\*\*(?!\s)([^*\n]{1,200}?)\*\*|(?<![\w_])__(?!\s)([^_\n]{1,200}?)__(?![\w_])|<b>([^<\n]{1,200})</b>"
)
_HEADING = re.compile(
    r"\s*(?:step|part|case|example|note|problem|question|method|option|given|section|solution|check|verification)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^[^:=]*[^\W\d_][^:=]*:\s*(?=\S)")


def last_bold(text: str, *, in_words: bool) -> str | None:
    """The last bold text that can be an answer: it holds a value (or words are wanted), and is no heading."""
    for match in reversed(list(_BOLD.finditer(text))):
        inside = next(group for group in match.groups() if group is not None).strip()
        if inside.endswith(":") or text[match.end() :].startswith(":") or _HEADING.match(inside):
            continue
        if asked_in(inside, text[match.end() :]) or is_asked(text, match.start(), match.end()):
            continue
        content = _LABEL.sub("", inside)
        if in_words or re.search(rf"[\d\\{_FRACTIONS}π∞]", content):
            return content
        ends = re.match(r"\W*(?:\n|$)", text[match.end() :])
        if ends and (words := last_number_in_words(content, announced=True)):  # not "the **two** friends"
            return words
    return None


MAX_TAIL = 4000
"""Characters, counted from the end, in which an unmarked answer is looked for."""
_SENTENCE = re.compile(r"(?<=[.!?;])(?:\s+|(?=[^\x00-\x7f]))|\n+|(?<=[.])(?=\*\*)")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|approx|vs|no|dr|mr|mrs|eq|sq|cu|a\.m|p\.m)\.$", re.IGNORECASE)


def sentences(text: str) -> list[str]:
    """The sentences of the end of `text`; formulas are never cut."""
    if len(text) > MAX_TAIL:
        text = text[-MAX_TAIL:]
        text = text[text.find("\n") + 1 :]  # from the start of a line, lest dollar signs pair up wrongly
    formulas = [match.span() for match in FORMULA.finditer(text)]
    found, start = [], 0
    for cut in _SENTENCE.finditer(text):
        inside = any(low < cut.start() < high for low, high in formulas)
        if inside or _ABBREVIATION.search(text[start : cut.start()]):
            continue
        found.append(text[start : cut.start()])
        start = cut.end()
    return [one for one in [*found, text[start:]] if one.strip()]


def value_of_sentence(sentence: str) -> str | None:
    """The last formula or number of a sentence, whichever stands behind the other."""
    formulas = list(FORMULA.finditer(sentence))
    if formulas:
        rest = sentence[formulas[-1].end() :]
        if last_value(rest) is None:
            inside = next(group for group in formulas[-1].groups() if group is not None)
            before = sentence[: formulas[-1].start()]
            compared = _COMPARED.search(before)
            bound = bound_before(before) or (compared[0].strip() if compared else "")
            return f"{bound} {inside.strip()}".strip() if len(inside) <= MAX_ANSWER else None
        return last_value(rest)
    return last_value(EMPTY_BOX.sub("", sentence))
