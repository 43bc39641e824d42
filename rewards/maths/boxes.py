"""The last box of a response, or the last ones if they are one answer."""

import re

from selfcorrect.rewards.maths.hedges import HEDGE_AFTER, hedged_value, is_value
from selfcorrect.rewards.maths.markup import BOX

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
