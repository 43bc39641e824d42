"""Which part of a response is its answer: the last one stated. See docs/math-answers.md."""

import re
from dataclasses import dataclass

from selfcorrect.rewards.maths.text import MAX_ANSWER, clean

# What LaTeX sets apart: boxes and formulas.

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=[{\w-])")
EMPTY_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{[\s.$]*\}")
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\n\\])+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


# What is offered behind an answer as another one: "12, or maybe 13".

HEDGE_AFTER = re.compile(
    r"[\s$.,;)*]*\(?\s*(?:or|and/or)\b[\s,]*(?:(?:maybe|perhaps|possibly|also|even|it is|is it|could be|it could be)\s+)*(?P<other>[$\\]?[^\s,;)$]+)",
    re.IGNORECASE,
)


def hedged_value(text: str) -> str:
    box = BOX.match(text)
    return text[box.end() :].strip("{}$ .") if box else text.strip("$ .")


def is_value(text: str) -> bool:
    return any(character.isdigit() for character in text) or text.startswith(("$", "\\"))


# The last box of a response, or the last ones if they are one answer.

_GAP = r"(?:[\s$,;]|\\[()\[\],;! ]|\\q?quad)*"
_BETWEEN_BOXES = re.compile(
    rf"{_GAP}\.?{_GAP}"
    rf"|{_GAP}(?:(?!wait\b|no\b|actually\b)[a-z]+\s+){{0,4}}(?:and/or|and|or|\\text\s*\{{[^{{}}]{{0,30}}?\b(?:and|or)\s*\}}){_GAP}(?:[a-z](?:_\{{?\d\}}?)?\s*=\s*)?",
    re.IGNORECASE,
)


def last_box(text: str) -> tuple[int, str | None]:
    """Where the last non-empty box begins, and its content; ("" if it is never closed, None if there is no box).

    Boxes joined by nothing but "and", "or" or a comma are one answer.
    """
    boxes = [(match.start(), match.end()) for match in BOX.finditer(text)]
    found: list[tuple[int, int, str]] = []
    for start, end in reversed(boxes[-20:]):
        content = _box_content(text, end)
        if content is None:
            return (start, "") if not found else _joined(text, found)
        inside, after = content
        if not inside.strip(" .$"):
            continue
        if found and not _BETWEEN_BOXES.fullmatch(text[after : found[-1][0]]):
            break
        found.append((start, after, inside))
    return _joined(text, found) if found else (-1, None)


def _joined(text: str, found: list[tuple[int, int, str]]) -> tuple[int, str]:
    first, last = found[-1], found[0]
    joined = first[2]
    for before, box in zip(reversed(found[1:]), reversed(found[:-1]), strict=True):
        link = "or" if re.search(r"\bor\b", text[before[1] : box[0]], re.IGNORECASE) else "and"
        joined += f" {link} {box[2]}"
    hedge = HEDGE_AFTER.match(text, last[1])
    if hedge is not None and is_value(hedge["other"]):
        joined += f" or {hedged_value(hedge['other'])}"
    return first[0], joined


def _box_content(text: str, start: int) -> tuple[str, int] | None:
    """Content of a box and where it ends; None if it is not closed. `\\boxed 7` holds one word."""
    if text[start] != "{":
        word = re.match(r"-?\w+", text[start:])
        return (word[0], start + word.end()) if word else ("", start)
    depth, at = 0, start
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 2
            continue
        depth += (character == "{") - (character == "}")
        at += 1
        if depth == 0:
            return text[start + 1 : at - 1], at
    return None


# The answer of a text that marks none: the text as a whole, or its last formula or number.

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


MAX_RESPONSE = 20_000
"""Characters, counted from the end, in which an answer is looked for."""

_STATEMENT = re.compile(
    r"(?:####\s*"
    r"|<answer>\s*"
    r"|\b(?:final\s+|correct\s+|right\s+)?(?:answer|result)\b(?:\s+to\s+[^.\n:]{1,60}?)?\s*(?:\*\*)?\s*(?:(?:is|are|=|becomes|equals|should be|must be|would be)(?![a-zA-Z])(?:\s*:)?|:)\s*(?:\*\*)?"
    r")\s*(?:(?:actually|therefore|thus|simply|just|now|then|equal to|given by)\s*,?\s*)*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"[.!?](?=\s|$|\*)|\n|</answer>|<\||\bI hope\b|;\s|,\s+(?:which|so|because|since|as|where|not|but|wait)\b|\s+(?:because|since|but wait|wait)\b"
)
_THOUGHT_END = "</think>"


def find_answer(response: str, *, in_words: bool = False) -> Found:
    """The last answer that `response` states.

    Boxes (\\boxed{...}) and statements ("the answer is ...", "#### ...") count in the order in which they stand;
    without any, a short response as a whole, then the last formula or number. Text before a closing </think> does not
    count.

    Args:
        response: any text at all.
        in_words: the reference is a word or a choice letter; then a number in passing is no answer.
    """
    text = response[-MAX_RESPONSE:]
    if _THOUGHT_END in text:
        text = text[text.rindex(_THOUGHT_END) + len(_THOUGHT_END) :]
    box_start, box = last_box(text)
    statement = _last_statement(text, after=box_start)
    if statement is not None:
        return bounded(statement)
    if box is not None:
        return bounded(box) if box != "" else Found(None, "its last \\boxed{ is not closed")
    return unmarked(text, in_words)


def _last_statement(text: str, after: int) -> str | None:
    """The last "answer is ..." behind position `after`. Behind a box it needs a number or a formula to count."""
    for match in reversed(list(_STATEMENT.finditer(text, max(after, 0)))[-10:]):
        stated = _stated(text[match.end() : match.end() + 2 * MAX_ANSWER])
        if not stated or BOX.search(stated):
            continue
        if after >= 0 and not (is_value(stated) or FORMULA.search(stated)):
            continue
        return stated
    return None


def _stated(text: str) -> str:
    """The stated answer at the beginning of `text`, up to the end of its sentence."""
    text = text.lstrip(" \t\r\n*:")
    formula = FORMULA.match(text)
    end = formula.end() if formula else 0
    stop = _SENTENCE_END.search(text, end)
    stated = text[: stop.start() if stop else len(text)]
    if formula and not re.match(r"\s*(?:,|and\b|or\b|%|\\%|\w+(?:\s+per\s+\w+|\^\d)?\s*$)", stated[end:]):
        stated = stated[:end]
    stated = stated.strip(" \t*_`")
    if not looks_like_answer(stated) and (value := last_value(stated).text) is not None:
        stated = value  # "the answer is that n is 34"
    if stop is not None and (hedge := HEDGE_AFTER.match(text, stop.start())) is not None and is_value(hedge["other"]):
        stated += f" or {hedged_value(hedge['other'])}"
    return stated


# Multiple choice: the letter, and what stands behind it.

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
