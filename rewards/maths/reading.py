"""From the text of an answer to its structure."""

import re
from functools import lru_cache

from selfcorrect.rewards.maths.answers import (
    LABEL,
    TUPLE_LABEL,
    Answer,
    Collection,
    Labelled,
    Relation,
    Scalar,
    Words,
    alternatives_of,
    collection_of,
    mentions,
    names_points,
    squeezed_label,
)
from selfcorrect.rewards.maths.equality import variables
from selfcorrect.rewards.maths.numerals import minus, read_numeral
from selfcorrect.rewards.maths.syntax import Node, parse
from selfcorrect.rewards.maths.text import MAX_ANSWER, Kind, clean, enclosed, split_top_level, unbalanced
from selfcorrect.rewards.maths.tokens import FUNCTIONS, GREEK, NotUnderstood, TooIntricate
from selfcorrect.rewards.maths.units import split_unit

# From the text of one value, or of words, to what it is.

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


# Inequalities in one variable, as intervals.

ORDER = re.compile(r"\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|<|>")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}


def read_inequality(text: str) -> Answer:
    signs = tuple(sign.strip() for sign in ORDER.findall(text))
    sides = [side.strip() for side in ORDER.split(text)]
    if any("=" in side or not side for side in sides):
        raise Unreadable("it mixes equations and inequalities")
    if (between := _around_zero(signs, sides)) is not None:
        return between
    if len(sides) == 2 and signs[0] == r"\ne":
        for label, excluded in (sides, sides[::-1]):
            if LABEL.fullmatch(label):
                return Labelled(squeezed_label(label), all_but((excluded,)))
    elif len(sides) == 2:
        if LABEL.fullmatch(sides[0]):
            return _interval(sides[0], "", "", sides[1], signs[0])
        if sides[0].startswith("-") and LABEL.fullmatch(sides[0][1:].strip()):
            return _interval(sides[0][1:].strip(), "", "", minus(sides[1]), _FLIPPED[signs[0]])
        if LABEL.fullmatch(sides[1]):
            return _interval(sides[1], "", "", sides[0], _FLIPPED[signs[0]])
    if len(sides) == 3 and LABEL.fullmatch(sides[1]):
        if set(signs) <= {"<", r"\le"}:
            return _interval(sides[1], sides[0], signs[0], sides[2], signs[1])
        if set(signs) <= {">", r"\ge"}:
            return _interval(sides[1], sides[2], _FLIPPED[signs[1]], sides[0], _FLIPPED[signs[0]])
    return Relation(signs, tuple(read_scalar(side) for side in sides))


_ABSOLUTE = re.compile(rf"\|\s*({LABEL.pattern})\s*\|")


def _around_zero(signs: tuple[str, ...], sides: list[str]) -> Answer | None:
    """|x| < 3 is (-3, 3), |x| > 3 all that lies outside, 1 < |x| < 3 two intervals; None for anything else."""
    if len(sides) == 2 and _ABSOLUTE.fullmatch(sides[1]):
        signs, sides = (_FLIPPED[signs[0]],), sides[::-1]
    elif len(sides) == 3 and {">", r"\ge"} >= set(signs):
        signs, sides = tuple(_FLIPPED[sign] for sign in reversed(signs)), sides[::-1]
    name = next((found[1] for side in sides[:2] if (found := _ABSOLUTE.fullmatch(side))), None)
    if name is None or r"\ne" in signs or len(sides) > 3 or not all(map(_is_distance, set(sides) - {f"|{name}|"})):
        return None
    if len(sides) == 3:
        if _ABSOLUTE.fullmatch(sides[0]) or not set(signs) <= {"<", r"\le"}:
            return None
        (low, _, high), (low_sign, high_sign) = sides, signs
        regions = [(minus(high), high_sign, minus(low), low_sign), (low, low_sign, high, high_sign)]
    elif signs[0] in ("<", r"\le"):
        regions = [(minus(sides[1]), signs[0], sides[1], signs[0])]
    else:
        regions = [("", "", minus(sides[1]), _FLIPPED[signs[0]]), (sides[1], _FLIPPED[signs[0]], "", "")]
    intervals = tuple(_interval(name, *region) for region in regions)
    if len(intervals) == 1:
        return intervals[0]
    return Labelled(squeezed_label(name), Collection("union", tuple(one.answer for one in intervals)))


def _is_distance(text: str) -> bool:
    """Whether `text` may be how far something is from zero: a constant that is not written as a negative one."""
    scalar = read_scalar(text)
    if scalar.numeral is not None:
        return scalar.numeral.value >= 0
    return scalar.node is not None and scalar.node.op != "neg" and not variables(scalar.node)


def all_but(excluded: tuple[str, ...]) -> Answer:
    """All real numbers but these, as a union of open intervals; the numbers in ascending order where they are known."""
    scalars = [read_scalar(text) for text in excluded]
    if all(scalar.numeral is not None for scalar in scalars):
        scalars.sort(key=lambda scalar: scalar.numeral.value if scalar.numeral is not None else 0)
    ends = [_MINUS_INFINITY, *(end for scalar in scalars for end in (scalar, scalar)), _INFINITY]
    return Collection("union", tuple(Collection("()", tuple(ends[at : at + 2])) for at in range(0, len(ends), 2)))


_INFINITY = Scalar(r"\infty", None, Node("infinity"))
_MINUS_INFINITY = Scalar(r"-\infty", None, Node("neg", (Node("infinity"),)))


def _interval(label: str, low: str, low_sign: str, high: str, high_sign: str) -> Labelled:
    """low < x < high as an interval with the label x; one side may be missing ("")."""
    if high_sign in (">", r"\ge"):
        low, low_sign, high, high_sign = high, _FLIPPED[high_sign], "", ""
    opening = "[" if low_sign == r"\le" else "("
    closing = "]" if high_sign == r"\le" else ")"
    kinds: dict[str, Kind] = {"()": "()", "[]": "[]", "(]": "(]", "[)": "[)"}
    ends = (read_scalar(low) if low else _MINUS_INFINITY, read_scalar(high) if high else _INFINITY)
    return Labelled(squeezed_label(label), Collection(kinds[opening + closing], ends))


MAX_ITEMS = 40

_OR = re.compile(r'\s*,?\s*"?\s*\bor\b\s*(?:maybe|perhaps|possibly)?"?\s*', re.IGNORECASE)
_AND = re.compile(r'\s*,?\s*(?:"\s*and\s*"|\band\b|\\land(?![a-zA-Z])|\\wedge(?![a-zA-Z]))\s*', re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<![\d.])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+(?:\s*[^\d\s,;()\[\]{}=+*/^-][^\d,;=]*)?")
_ABOUT = re.compile(r'^(?:"?(?:approximately|about|roughly)"?|\\approx|=|:)\s*', re.IGNORECASE)
_ENVIRONMENT = re.compile(
    r"\\begin\s*\{([pbBvV]?matrix|array)\}(?:\s*\{[lcr|\s]*\})?((?:(?!\\begin).)*)\\end\s*\{\1\}", re.DOTALL
)
_BY_CASE = re.compile(r"\\begin\s*\{(?:d|r)?cases\}((?:(?!\\begin).)*)\\end\s*\{(?:d|r)?cases\}", re.DOTALL)
_CONDITION = re.compile(
    r'\s*,?\s*&?\s*(?:"\s*(?:if|for|when|where)\s*"|\b(?:if|for|when)\b|(?="\s*(?:otherwise|else)\s*")|&)\s*'
)
_ALL_REALS = re.compile(
    r'"?\s*(?:all|any|every)(?: (?:the))? real(?:s| numbers?| values?)?(?: of [a-z])?\s*"?', re.IGNORECASE
)
_REALS_WITHOUT = re.compile(r"\(\s*-\\infty\s*,\s*\+?\\infty\s*\)\s*(?:\\setminus|\\backslash|-|\\)\s*\\\{(.*)\\\}")
_NOT_EQUAL = re.compile(r"\\ne(?![a-zA-Z])")
_AND_OR_COMMA = re.compile(r'\s*(?:[,;]|"?\s*\band\b\s*"?|\\land(?![a-zA-Z]))\s*')
_CONGRUENT = re.compile(r"\\equiv(?![a-zA-Z])|≡")
_EQUALS = re.compile(r"(?<![<>!:])=(?!=)")
_MEMBER = re.compile(r"\\in(?![a-zA-Z])")
_CUP = re.compile(r"\\cup(?![a-zA-Z])")
_PLUS_MINUS = re.compile(r"\\pm(?![a-zA-Z])|\+/-|\+-")
_SEMICOLON = re.compile(r"\s*;\s*")
_COMMA, _COLON = re.compile(r"\s*[,;]\s*"), re.compile(r"\s*:\s*")
_APPROXIMATELY = re.compile(r"\\approx(?![a-zA-Z])")


@lru_cache(maxsize=8192)
def read_answer(text: str) -> tuple[Answer, ...]:
    """The possible readings of an answer: one, or two where "100,200" may be a number or a list, "0,5" a half.

    Raises:
        Unreadable: empty, longer than 400 characters, unbalanced, or prose.
    """
    if len(text) > MAX_ANSWER:
        raise Unreadable(f"it is longer than {MAX_ANSWER} characters")
    cleaned = _ABOUT.sub("", clean(text))
    if not cleaned:
        raise Unreadable("it is empty")
    if problem := unbalanced(cleaned):
        raise Unreadable(problem)
    first = _read(cleaned)
    if _THOUSANDS.search(cleaned) and not _THOUSANDS.fullmatch(cleaned.lstrip("-$USD ")):
        return first, _read(cleaned.replace(",", ", "))
    if _THOUSANDS.fullmatch(cleaned):
        return first, _collection("list", cleaned.split(","))
    if _DECIMAL_COMMA.fullmatch(cleaned) and cleaned.count(",") == 1:
        return first, _read(cleaned.replace(",", "."))
    return (first,)


def _read(text: str) -> Answer:
    text = text.lstrip(" ,;").rstrip(" .,;")
    for reader in (
        _all_but,
        _alternatives,
        _number,
        _matrix,
        _cases,
        _conjunction,
        _bracketed,
        _union,
        _bare_list,
        _related,
        _plus_minus,
        _ratio,
    ):
        if (answer := reader(text)) is not None:
            return answer
    return read_scalar_or_words(text)


def _alternatives(text: str) -> Answer | None:
    parts = split_top_level(text, _OR)
    return alternatives_of(_read_all(parts)) if len(parts) > 1 else None


def _conjunction(text: str) -> Answer | None:
    parts = split_top_level(text, _AND)
    if len(parts) < 2:
        return None
    # "2, 3 and 5": what stands before the "and" is a list of its own
    pieces = [piece for part in parts for piece in split_top_level(part, _COMMA)]
    listed = _collection("list", pieces)
    return Collection("solutions", listed.items) if isinstance(listed, Collection) else listed


def _bare_list(text: str) -> Answer | None:
    groups = split_top_level(text, _SEMICOLON)
    if len(groups) > 1 and any(len(split_top_level(group, _COMMA)) > 1 for group in groups):
        return _collection("list", groups)  # p = 5, q = 2; p = 7, q = 2
    parts = split_top_level(text, _COMMA)
    return _collection("list", parts) if len(parts) > 1 else None


def _collection(kind: Kind, parts: list[str]) -> Answer:
    return collection_of(kind, _read_all([part for part in parts if part.strip()]))


def _read_all(parts: list[str]) -> tuple[Answer, ...]:
    if len(parts) > MAX_ITEMS:
        raise Unreadable(f"it has more than {MAX_ITEMS} parts")
    return tuple(_read(part) for part in parts)


def _number(text: str) -> Answer | None:
    numeral = read_numeral(text)
    if numeral is not None:
        return Scalar(text, numeral, None)
    rest, unit = split_unit(text)
    numeral = read_numeral(rest) if unit else None
    return None if numeral is None else Scalar(rest, numeral, None, unit)


def _matrix(text: str) -> Answer | None:
    match = _ENVIRONMENT.fullmatch(text)
    if match is None or match[1] in ("vmatrix", "Vmatrix"):
        return None
    rows = [row for row in re.split(r"\\\\", match[2]) if row.strip()]
    return Collection("matrix", tuple(Collection("row", _read_all(row.split("&"))) for row in rows))


def _cases(text: str) -> Answer | None:
    """Values by case, or, where no row has a condition, a system of equations."""
    match = _BY_CASE.fullmatch(text)
    if match is None:
        return None
    rows = [row.strip(" ,.;") for row in re.split(r"\\\\", match[1]) if row.strip(" ,.;")]
    parts = [[part.strip(" ,") for part in _CONDITION.split(row, 1)] for row in rows]
    if all(len(part) < 2 for part in parts):
        return _collection("list", rows)
    return Collection("cases", tuple(Collection("row", _read_all(part)) for part in parts))


def _all_but(text: str) -> Answer | None:
    """ "all real numbers", and those but for a few: x \\ne 2, 3 or R \\setminus \\{2, 3\\}."""
    if _ALL_REALS.fullmatch(text):
        return Collection("()", (_MINUS_INFINITY, _INFINITY))
    if (without := _REALS_WITHOUT.fullmatch(text)) is not None:
        return all_but(tuple(split_top_level(without[1], _COMMA)))
    different = [part.strip() for part in _NOT_EQUAL.split(text)]
    if len(different) < 2 or (label := LABEL.fullmatch(different[0])) is None:
        return None
    name = re.escape(different[0])
    parts = re.sub(rf"(?:\\land|\"?\band\b\"?|[,;])\s*{name}\s*\\ne(?![a-zA-Z])", ", ", text.partition(r"\ne")[2])
    values = [part for part in _AND_OR_COMMA.split(parts) if part.strip()]
    return Labelled(squeezed_label(label[0]), all_but(tuple(values))) if len(values) > 1 else None


def _bracketed(text: str) -> Answer | None:
    found = enclosed(text)
    if found is None:
        return None
    kind, inside = found
    if _ENVIRONMENT.fullmatch(inside):
        return _matrix(inside)
    parts = split_top_level(inside, _COMMA)
    if text.startswith("{") and len(parts) < 2:
        return None  # LaTeX's grouping, no set
    if kind == "{}":
        return Collection("{}", _read_all([part for part in parts if part.strip()]))
    if len(parts) < 2:
        return _read(inside) if kind == "()" and _has_relation(inside) else None
    if kind == "[]" and len(parts) != 2:
        kind = "list"
    return Collection(kind, _read_all(parts))


def _has_relation(text: str) -> bool:
    return bool(_EQUALS.search(text) or ORDER.search(text))


def _union(text: str) -> Answer | None:
    parts = split_top_level(text, _CUP)
    return Collection("union", _read_all(parts)) if len(parts) > 1 else None


def _related(text: str) -> Answer | None:
    member = split_top_level(text, _MEMBER)
    if len(member) == 2 and LABEL.fullmatch(member[0].strip()):
        return Labelled(member[0].strip(), _read(member[1]))
    if ORDER.search(text):
        return read_inequality(text)
    exact = split_top_level(text, _APPROXIMATELY)
    if len(exact) > 1:  # 1/3 = 0.333...: the exact value counts, not its rounding
        return (
            _read(exact[0])
            if not LABEL.fullmatch(exact[0].strip())
            else Labelled(squeezed_label(exact[0]), _read(exact[1]))
        )
    congruent = split_top_level(text, _CONGRUENT)
    if len(congruent) == 2 and LABEL.fullmatch(congruent[0].strip()):
        return Labelled(squeezed_label(congruent[0]), _read(congruent[1]))
    sides = split_top_level(text, _EQUALS)
    if len(sides) < 2:
        return None
    first = sides[0].strip()
    label = LABEL.fullmatch(first)
    if label is not None:
        rest = _read("=".join(sides[1:]))
        if not mentions(rest, label[1].lstrip("\\")):
            return Labelled(squeezed_label(first), rest)
    elif TUPLE_LABEL.fullmatch(first) or names_points(first):
        return Labelled(squeezed_label(first), _read("=".join(sides[1:])))  # (x, y) = (3, 2), AB = 4
    return Relation(("=",) * (len(sides) - 1), tuple(read_scalar(side) for side in sides))


def _plus_minus(text: str) -> Answer | None:
    if not _PLUS_MINUS.search(text):
        return None
    plus, minus = (read_scalar(_PLUS_MINUS.sub(sign, text)) for sign in ("+", "-"))
    return Collection("solutions", (plus, minus))


def _ratio(text: str) -> Answer | None:
    parts = split_top_level(text, _COLON)
    if len(parts) < 2 or not all(
        part.strip() and (part.strip()[0].isdigit() or len(part.strip()) == 1) for part in parts
    ):
        return None
    return Collection(":", _read_all(parts))
