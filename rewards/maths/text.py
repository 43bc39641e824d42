"""From what people and models write to one plain spelling of it. Text in, text out; nothing is evaluated."""

import re
import unicodedata
from typing import Literal

MAX_ANSWER = 400
"""Characters of an answer; longer ones are not read."""

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""What stands for a sign that could be read in more ways than one; nothing that holds it is a number."""

# Character by character, so that every position stays where it is: digits of any script, minus signs, punctuation.

_SIGNS = str.maketrans(
    "−﹣－‒：；，、。．！？（）［］｛｝＝＋／＊＜＞％＄＆｜～＾＿‘’“”„«»「」『』＂＇",
    '----:;,,..!?()[]{}=+/*<>%$&|~^_\'\'""""""""""\'',
)
_NUMBER_RUN = re.compile(r"\d(?:[\d.,]*\d)?")


def plain_signs(text: str) -> str:
    """`text` with digits of every script, minus signs, full-width punctuation and quotation marks in ASCII.

    A number whose digits are of two scripts becomes a run of U+FFFD: it is not read.
    """
    if text.isascii():
        return text
    return _NUMBER_RUN.sub(_ascii_digits, text.translate(_SIGNS))


def _ascii_digits(match: re.Match[str]) -> str:
    run = match[0]
    if run.isascii():
        return run
    digits = [character for character in run if character.isdecimal()]
    if len({ord(digit) - unicodedata.decimal(digit) for digit in digits}) > 1:
        return UNKNOWN * len(run)
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in run)


_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_CHARACTERS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "—": "-",
        "×": r"\cdot ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "∙": r"\cdot ",
        "÷": "/",
        "√": r"\sqrt ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "°": r"^\circ ",
        "′": "'",
        "’": "'",
        "±": r"\pm ",
        "∅": r"\emptyset ",
        "θ": r"\theta ",
        "≈": r"\approx ",
        "⁄": "/",
        "⟨": r"\langle ",
        "⟩": r"\rangle ",
        "∶": ":",
        "α": r"\alpha ",
        "β": r"\beta ",
        "λ": r"\lambda ",
        "…": "...",
        "∛": r"\sqrt[3]",
        "τ": r"\tau ",
        "φ": r"\phi ",
    }
)

_TEXT_MACROS = r"text|textbf|textit|textrm|textsf|texttt|textnormal|mbox|hbox|mathrm|mathsf|mathit|operatorname\*?"
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d)(?:,\\!\s*|\{,\})(?=\d{3})", ""),  # set as thousands
        (r"(?:\\mathbb\s*\{?\s*R\s*\}?|\\Reals?(?![a-zA-Z])|ℝ)(?!\s*[\^_+*{0-9])", r"(-\\infty,\\infty)"),
        (r"\\mathbb\s+([A-Z])", r"\\mathbb{\1}"),
        (r"\\\$", "\N{DOLLAR SIGN}USD "),  # a price, not the border of a formula
        (r"\$(?=\s*\d[\d,.]*(?:\s*(?:USD|dollars?|million|billion|thousand))?\s*\.?$)", "$USD "),
        (r"(?<!\\)\\[()\[\]]|\$(?!USD)", " "),
        (r"\\(?:left|right)\s*\.", ""),
        (r"\\(?:left|right|[bB]igg?)[lrm]?(?![a-zA-Z])", ""),
        (r"(?<!\\)\\[,;:! ]|\\q?quad|~|\\displaystyle(?![a-zA-Z])|\\textstyle(?![a-zA-Z])", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
        (r"\\(?:leqslant|leqq|leq)(?![a-zA-Z])|<=", r"\\le "),
        (r"\\(?:geqslant|geqq|geq)(?![a-zA-Z])|>=", r"\\ge "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\(?:neq|not\s*=)(?![a-zA-Z])|!=", r"\\ne "),
        (r"\\(?:cdot|times|ast)(?![a-zA-Z])|\*\*(?=\s*$)", r"\\cdot "),
        (r"\\div(?![a-zA-Z])", "/"),
        (r"\\(?:lbrace)(?![a-zA-Z])", r"\\{"),
        (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
        (r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])", "|"),
        (r"\\(?:lbrack)(?![a-zA-Z])", "["),
        (r"\\(?:rbrack)(?![a-zA-Z])", "]"),
        (r"\\(?:varnothing)(?![a-zA-Z])", r"\\emptyset "),
        (r"\\(?:degree|degrees)(?![a-zA-Z])", r"^\\circ "),
        (r"\^\s*\{\s*\\circ\s*\}", r"^\\circ "),
        (r"\^\s*\{\s*\\prime\s*\}|\^\s*\\prime(?![a-zA-Z])|\\prime(?![a-zA-Z])", "'"),
        (r"\\(?:mathbf|mathbb|mathcal|boldsymbol|bm|vec|hat)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:boxed|fbox)\s*\{([^{}]*)\}", r"\1"),
        (r"\\mathrm\s*\{([edi])\}", r"\1"),
        (r"\\(?:underline|mathbf|bold|color\s*\{\w+\})\s*\{([^{}]*)\}", r"\1"),
        (r"\\%", "%"),
        (r"^\s*(?:\\text\s*\{\s*(?:minus|negative)\s+([\d.,]+)\s*\}|(?:minus|negative)\s+([\d.,]+))\s*$", r"-\1\2"),
        (r"\{,\}", ","),
    )
)
_TEXT = re.compile(rf"\\(?:{_TEXT_MACROS})\s*\{{([^{{}}]*)\}}")
_FUNCTION_IN_TEXT = re.compile(r"\s*(arc)?(sin|cos|tan|sec|csc|cot|log|ln|exp|lcm|gcd)\s*")
_LEFT_EDGE, _RIGHT_EDGE = " \t\r\n,;:*_`", " \t\r\n.,;:*_`\\"
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """One spelling for many: LaTeX layout dropped, Unicode signs as LaTeX, `\\text{...}` kept as `"..."`.

    Quotation marks in the result only ever stand around words that were set as text.
    """
    text = plain_signs(text).replace('"', " ")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _one_way(_powers_and_indices(text)).translate(_CHARACTERS))
    if "\\\\begin" in text:
        text = text.replace("\\\\", "\\")
    elif "\\begin" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z{}()\[\]])", r"\\", text)  # escaped once too often on its way through JSON
    text = re.sub(r"\*\*|__", "", text) if text.startswith(("**", "__")) else text
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _TEXT.sub(_words, text)
    text = _SPACE.sub(" ", text).lstrip(_LEFT_EDGE).rstrip(_RIGHT_EDGE)
    return text[1:-1].strip() if text[:1] == "'" == text[-1:] else text


def squeeze(text: str) -> str:
    """The key under which two cleaned texts are literally the same: no needless spaces, no braces around one
    character."""
    text = re.sub(r"\{\s*([a-zA-Z0-9])\s*\}", r"{\1}", text)
    text = re.sub(r"([_^])\s*\{([a-zA-Z0-9])\}", r"\1\2", text)
    text = re.sub(r"\\cdot\s*", "*", text)
    return re.sub(r"(?<![0-9a-zA-Z]) | (?![0-9a-zA-Z])", "", text)


def _powers_and_indices(text: str) -> str:
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", text)
    return re.sub(r"[₀₁₂₃₄₅₆₇₈₉]+", lambda run: "_{" + run[0].translate(_SUBSCRIPTS) + "}", text)


def _one_way(text: str) -> str:
    """Fractions of one character as \\frac; circled digits and their like, which NFKC would make digits, unknown."""
    return "".join(character if character.isascii() else _fraction_or_unknown(character) for character in text)


def _fraction_or_unknown(character: str) -> str:
    if unicodedata.category(character) != "No":
        return character
    top, slash, bottom = unicodedata.normalize("NFKC", character).partition("\N{FRACTION SLASH}")
    return rf"\frac{{{top}}}{{{bottom}}}" if slash and bottom else UNKNOWN


def _words(match: re.Match[str]) -> str:
    inside = match[1]
    if any(character.isdigit() for character in inside):  # no mere words: 4:30 p.m.
        return f" {inside.strip()} "
    if _FUNCTION_IN_TEXT.fullmatch(inside):
        return rf"\{inside.strip()} "
    return f' "{inside.strip()}" ' if inside.strip() else " "


# Brackets: splitting a text at separators outside of them, and finding the pair around the whole.

Kind = Literal["()", "[]", "(]", "[)", "{}", "list", "solutions", "or", "union", "matrix", "row", "cases", ":"]
"""How items stand together: tuple or open interval, closed interval, half-open ones, set, bare list, alternatives that
are all meant (plus-minus, x = 2 or x = 3), alternatives without a label, union of intervals, matrix and its rows,
values by case, ratio or time."""

MAX_NESTING = 30
_BRACKET = re.compile(r'\\\{|\\\}|\\langle|\\rangle|\\begin\s*\{[a-zA-Z]*\}|\\end\s*\{[a-zA-Z]*\}|[(\[{)\]}"]')
_OPENING = ("(", "[", "{", "\\{", "\\langle")
_PAIRS: dict[tuple[str, str], Kind] = {
    ("(", ")"): "()",
    ("[", "]"): "[]",
    ("(", "]"): "(]",
    ("[", ")"): "[)",
    ("\\{", "\\}"): "{}",
    ("{", "}"): "{}",
    ("\\langle", "\\rangle"): "()",
}


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
