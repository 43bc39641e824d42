"""What LaTeX sets apart in a response: boxes and formulas. The last boxes count if they are one answer."""

import re

from selfcorrect.rewards.maths.finding.bounds import is_asked
from selfcorrect.rewards.maths.text import UNKNOWN

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=[{\w-])")
_NOTHING = r"(?:[\s.$]|\\(?:text|mathrm)\s*\{\s*\})*"
EMPTY_BOX = re.compile(rf"\\(?:boxed|fbox|framebox)\s*\{{{_NOTHING}\}}")
FORMULA = re.compile(
    r"\$\$(.{1,2000}?)\$\$|(?<!\\)\$((?:\\.|[^$\n\\])+)\$|\\\((.{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]", re.DOTALL
)

# What is offered behind an answer as another one: "12, or maybe 13".

OR_WORDS = r"or|and/or|alternatively|oder|ou|oppure|или|либо|或|或者|または|또는"
HEDGE_AFTER = re.compile(
    rf"[\s$.,;)*]*\(?\s*(?:(?:{OR_WORDS})\b|\bo\b(?=\s+\d))[\s,]*(?:(?:maybe|perhaps|possibly|also|even|it is|is it"
    rf"|could be|it could be)\s+)*(?P<other>[$\\]?[^\s,;)$]+)",
    re.IGNORECASE,
)


def hedged_value(text: str) -> str:
    box = BOX.match(text)
    return text[box.end() :].strip("{}$ .") if box else text.strip("$ .")


def is_value(text: str) -> bool:
    return any(character.isdigit() or character == UNKNOWN for character in text) or text.startswith(("$", "\\"))


def hedged_after(text: str, at: int) -> str:
    """ " or 13" if behind position `at` another answer is offered, else ""."""
    hedge = HEDGE_AFTER.match(text, at)
    return f" or {hedged_value(hedge['other'])}" if hedge is not None and is_value(hedge["other"]) else ""


_GAP = r"(?:[\s$,;]|\\[()\[\],;! ]|\\q?quad)*"
_LABEL = r"(?:(?:[a-z](?:_\{?\d\}?)?|\([a-z],\s*[a-z]\))\s*=\s*)?"
_PART = (
    r"(?:\*\*)?(?:part\s*|question\s*)?(?:\((?:[a-h]|i{1,3}|iv|v|[1-9])\)|(?:[a-h]|[1-9])\)|(?<=part )[a-h])"
    r"(?:\*\*)?\s*[:.]?\s*(?:\*\*)?"
)
_BETWEEN_BOXES = re.compile(
    rf"{_GAP}\.?{_GAP}{_LABEL}{_GAP}"
    rf"|{_GAP}(?:(?!wait\b|no\b|actually\b)[a-z]+\s+){{0,4}}(?:and/or|and|or"
    rf"|\\text\s*\{{[^{{}}]{{0,30}}?\b(?:and|or)\s*\}}){_GAP}(?:{_PART})?{_LABEL}{_GAP}"
    rf"|{_GAP}[.;]?{_GAP}(?:and\s+)?{_PART}{_LABEL}{_GAP}",
    re.IGNORECASE,
)


def last_box(text: str, *, skip_empty: bool) -> tuple[int, str | None]:
    """Where the last box begins, and its content; ("" if it is never closed or empty, None if there is no box).

    A box that is asked, "is it \\boxed{42}?", is passed over. Boxes joined by nothing but "and", "or", a comma or the
    names of parts, "(b)", are one answer.

    Args:
        text: of a response.
        skip_empty: look for the last box that is not empty.
    """
    boxes = [(match.start(), match.end()) for match in BOX.finditer(text)]
    found: list[tuple[int, int, str]] = []
    for start, end in reversed(boxes[-20:]):
        content = _content(text, end)
        if content is None:
            return (start, "") if not found else _joined(text, found)
        inside, after = content
        if not found and is_asked(text, start, after):
            continue
        if re.fullmatch(_NOTHING, inside):
            if not found and not skip_empty:
                return start, ""
            continue
        if found and not _BETWEEN_BOXES.fullmatch(text[after : found[-1][0]]):
            break
        found.append((start, after, inside))
    return _joined(text, found) if found else (-1, None)


_PART_BEFORE = re.compile(rf"(?:^|(?<=[\s$,;.(*])){_PART}{_LABEL}{_GAP}$", re.IGNORECASE)
_PART_NAME = re.compile(r"[a-z0-9]+(?=\W*$)", re.IGNORECASE)
_NAMES_OF_PARTS = ("abcdefgh", ("i", "ii", "iii", "iv", "v"), "123456789")
_NAMED = re.compile(r"(?<![a-zA-Z\\])([a-zA-Z])(?:_\{?\d\}?)?\s*=\s*[$\s({]*$")


def _joined(text: str, found: list[tuple[int, int, str]]) -> tuple[int, str]:
    first, last = found[-1], found[0]
    joined = first[2]
    names = [named[1] for box in found if (named := _NAMED.search(text[max(0, box[0] - 20) : box[0]]))]
    listed = len(set(names)) == len(found)  # a = 3 and b = 4: in this order
    if (parts := _in_order_of_parts(text, found)) is not None:
        return first[0], ", ".join(parts) + hedged_after(text, last[1])
    for before, box in zip(reversed(found[1:]), reversed(found[:-1]), strict=True):
        link = "or" if re.search(r"\bor\b", text[before[1] : box[0]], re.IGNORECASE) else "and"
        joined += f", {box[2]}" if listed and link == "and" else f" {link} {box[2]}"
    around = text[: first[0]].rstrip(" $")[-1:] + text[last[1] :].lstrip(" $")[:1]
    if len(found) > 1 and around == "()":  # (\boxed{3}, \boxed{4}) is a point
        return first[0], f"({', '.join(box[2] for box in reversed(found))})"
    return first[0], joined + hedged_after(text, last[1])


def _in_order_of_parts(text: str, found: list[tuple[int, int, str]]) -> list[str] | None:
    """The contents of boxes each of which is named as a part, "(a)", "(b)", in the order of the names; else None."""
    names = [_part_before(text[max(0, start - 40) : start]) for start, _, _ in found]
    for order in _NAMES_OF_PARTS:
        if len(found) > 1 and len(set(names)) == len(names) and all(name in order for name in names):
            return [inside for _, (_, _, inside) in sorted(zip(map(order.index, names), found, strict=True))]
    return None


def _part_before(text: str) -> str:
    """The name of the part that what comes behind `text` belongs to: "b" of "Part (b): $"; else something else."""
    part = _PART_BEFORE.search(text)
    name = _PART_NAME.search(re.split(r"[:.=]", part[0])[0]) if part is not None else None
    return name[0].lower() if name is not None else "none"


def _content(text: str, start: int) -> tuple[str, int] | None:
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
