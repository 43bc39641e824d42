"""Brackets: splitting a text at separators outside of them, and finding the pair around the whole."""

import re
from typing import Literal

Kind = Literal["()", "[]", "(]", "[)", "{}", "list", "solutions", "or", "union", "matrix", "row", ":"]
"""How items stand together: tuple or open interval, closed interval, half-open ones, set, bare list, alternatives that are all
meant (plus-minus, x = 2 or x = 3), alternatives without a label, union of intervals, matrix and its rows, ratio or time."""

MAX_NESTING = 30
_BRACKET = re.compile(r'\\\{|\\\}|\\langle|\\rangle|\\begin\s*\{[a-zA-Z]*\}|\\end\s*\{[a-zA-Z]*\}|[(\[{)\]}"]')
_OPENING = ("(", "[", "{", "\\{", "\\langle")
_PAIRS: dict[tuple[str, str], Kind] = {
    ("(", ")"): "()", ("[", "]"): "[]", ("(", "]"): "(]", ("[", ")"): "[)", ("\\{", "\\}"): "{}", ("{", "}"): "{}",
    ("\\langle", "\\rangle"): "()",
}  # fmt: skip


def split_top_level(text: str, separator: re.Pattern[str]) -> list[str]:
    """`text` split where `separator` matches outside of all brackets. Always at least one part."""
    if not separator.search(text):
        return [text]
    depths = _depths(text)
    parts, start = [], 0
    for match in separator.finditer(text):
        if depths[match.start()] == 0 and match.end() > match.start():
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def enclosed(text: str) -> tuple[Kind, str] | None:
    """If one pair of brackets stands around the whole text: which, and what is inside."""
    opening = next((b for b in ("\\{", "\\langle", "(", "[", "{") if text.startswith(b)), None)
    closing = next((b for b in ("\\}", "\\rangle", ")", "]", "}") if text.endswith(b)), None)
    if opening is None or closing is None or (opening, closing) not in _PAIRS:
        return None
    inside = text[len(opening) : len(text) - len(closing)]
    depths = _depths(text)
    if any(depth == 0 for depth in depths[len(opening) : len(text) - len(closing)]):
        return None
    return _PAIRS[opening, closing], inside.strip()


def unbalanced(text: str) -> str | None:
    """What is wrong with the brackets of `text`, or None. Intervals like (2, 5] are in order."""
    depth, deepest, braces = 0, 0, 0
    for match in _BRACKET.finditer(text):
        bracket = match[0]
        if bracket == '"' or bracket.startswith(("\\begin", "\\end")):
            continue
        depth += 1 if bracket in _OPENING else -1
        braces += (bracket == "{") - (bracket == "}")
        deepest = max(deepest, depth)
        if depth < 0 or braces < 0:
            return "a bracket is closed that was not opened"
    if depth != 0 or braces != 0:
        return "a bracket is not closed"
    return f"its brackets nest more than {MAX_NESTING} deep" if deepest > MAX_NESTING else None


def _depths(text: str) -> list[int]:
    """How many brackets (or quotation marks, or LaTeX environments) each character is inside of, brackets included."""
    depths, depth, quoted, at = [], 0, False, 0
    for match in _BRACKET.finditer(text):
        depths += [depth + quoted] * (match.start() - at)
        bracket = match[0]
        if bracket == '"':
            depths.append(depth + 1)
            quoted = not quoted
        elif bracket in _OPENING or bracket.startswith("\\begin"):
            depth += 1
            depths += [depth] * len(bracket)
        else:
            depths += [depth] * len(bracket)
            depth -= 1
        at = match.end()
    return depths + [depth + quoted] * (len(text) - at)
