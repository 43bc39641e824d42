"""Which part of a response is the program.

A policy writes the response, and every rule here is one that it could learn to lean on: so there is one program, chosen
by where text stands and what names it defines, never by what it does. Nothing is compiled here (that is for the jail),
and no regular expression may go back over what it has read.
"""

import json
import re
import textwrap
from collections.abc import Collection
from dataclasses import dataclass

_PYTHON = frozenset({"python", "py", "python3", "py3"})
_MAX_JSON = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a response.

    Attributes:
        program: the program's text; None if there is none.
        marked: it stood in a block, rather than being the whole response.
        problem: why there is none.
        cut_off: its block was not closed: if it is no Python, the answer was cut off at its length limit.
    """

    program: str | None
    marked: bool = False
    problem: str = ""
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of a Markdown answer: its language in lower case ("" if none is named), its text, whether it is
    closed."""

    language: str
    code: str
    closed: bool = True


CUT_OFF = "the answer was cut off: its last code block is not closed and no complete program"


def find_program(response: str, wanted: Collection[str] = (), *, script: bool = False) -> Found:
    """The program of an answer.

    - What a thinking section holds never counts, and one that does not end leaves no answer.
    - Blocks marked as Python go before unmarked ones; blocks in another language never count. Of several, the last that
      defines a name that is `wanted` counts (an example of use after it does not), or that is a whole program; else the
      last. Earlier blocks whose functions, classes or imports it uses and does not define itself belong to it.
    - A last block that is not closed counts if it is a complete program, which the jail finds out.
    - Without any block: what `[PYTHON]`, `<code>` or a JSON object holds; or the lines that are code, if there is prose
      around them; or all of the response.

    Args:
        response: what the policy wrote.
        wanted: names that the tests need.
        script: the tests run whole programs, and look at what they print.
    """
    answer, problem = _without_thinking(response.replace("\r\n", "\n"))
    if problem:
        return Found(None, problem=problem)
    if not answer.strip():
        return Found(None, problem="the response is empty")
    blocks = _blocks(_unwrapped(answer))
    usable = [block for block in blocks if block.language in _PYTHON] or [b for b in blocks if not b.language]
    if usable:
        chosen = _chosen(usable, wanted, script)
        if not usable[chosen].closed and not usable[chosen].code.strip():
            return Found(None, problem=CUT_OFF)
        return Found(_with_helpers(usable, chosen), marked=True, cut_off=not usable[chosen].closed)
    if blocks:
        return Found(None, problem="the response has no Python block (``` to ```)")
    return Found(_code_lines(_unwrapped(answer)))


# Around the answer: thinking before it, wrappers of it.

_WRAPPERS = (("[PYTHON]", "[/PYTHON]"), ("<code>", "</code>"), ("<python>", "</python>"))
_OPENING = re.compile(r"^[ \t]*(?:<think(?:ing)?>|<\|begin_of_thought\|>)", re.MULTILINE)
_CLOSING = re.compile(r"(?<!['\"])(?:</think(?:ing)?>|<\|end_of_thought\|>)(?!['\"])")
"""Not between quotes: a program may speak of them."""


def _without_thinking(response: str) -> tuple[str, str]:
    """What comes after the thinking, and what is wrong with it. A chat template may have opened the section itself."""
    end = max((found.end() for found in _CLOSING.finditer(response)), default=0)
    answer = response[end:]
    if _OPENING.search(answer):
        return "", "its thinking section never ends (an answer cut off, perhaps)"
    return answer, ""


def _unwrapped(answer: str) -> str:
    """The answer with `[PYTHON]...[/PYTHON]`, `<code>...</code>` or {"code": "..."} turned into a fenced block."""
    text = answer.strip()
    if text.startswith("{") and text.endswith("}") and len(text) < _MAX_JSON:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict):
            named = [fields.get(name) for name in ("code", "solution", "program", "answer", "python")]
            code = next((value for value in named if isinstance(value, str) and value.strip()), None)
            if code is not None:
                return code if _fences(code) else f"````python\n{code}\n````"
    for opening, closing in _WRAPPERS:
        if opening in answer and not _fences(answer):
            inner = answer.rpartition(opening)[2]
            code, closed, _ = inner.partition(closing)
            return f"````python\n{code}\n" + ("````" if closed or opening != "<code>" else "")
    return answer


def _fences(text: str) -> bool:
    return any(_fence(line)[0] for line in text.split("\n"))


# Blocks of Markdown.


def _blocks(response: str) -> list[_Block]:
    """Blocks in their order; only the last can be one that is not closed."""
    if "```" not in response and "~~~" not in response:
        return []
    blocks: list[_Block] = []
    fence, language, lines = "", "", list[str]()
    # Not splitlines: a form feed or a Unicode line separator may stand inside a program's string.
    for line in response.split("\n"):
        mark, label = _fence(line)
        if fence and mark and label and (glued := _glued(lines, fence)) is not None:
            blocks.append(_Block(language, _dedented(glued)))  # and this line opens the next
            fence = ""
        if not fence:
            if mark:
                fence, lines = mark, []
                language = (label.strip(" {}.").lower().split() or [""])[0]
        elif mark.startswith(fence) and not label:
            blocks.append(_Block(language, _dedented(lines)))
            fence = ""
        else:
            lines.append(line)
    if fence:
        glued = _glued(lines, fence)
        blocks.append(_Block(language, _dedented(lines if glued is None else glued), closed=glued is not None))
    if len(blocks) > 1 and not blocks[-1].closed and not blocks[-1].code.strip():
        blocks.pop()
    return blocks


def _glued(lines: list[str], fence: str) -> list[str] | None:
    """The block's lines where the closing fence stands at the end of its last line of code ("return x```")."""
    for number, line in enumerate(lines):
        if line.rstrip().endswith(fence) and not line.strip().startswith(fence):
            return [*lines[:number], line.rstrip().removesuffix(fence)]
    return None


def _dedented(lines: list[str]) -> str:
    """A block in a list item, or all of it indented, is still a program."""
    first = next((line for line in lines if line.strip()), "")
    indent = len(first) - len(first.lstrip(" \t"))
    return "\n".join(line[indent:] if not line[:indent].strip() else line for line in lines) + "\n"


def _fence(line: str) -> tuple[str, str]:
    """The marks of a fence and what stands after them; ("", "") for any other line.

    No regular expression: a policy writes the line, and one that backtracks could be made to take minutes.
    """
    text = line.strip()
    for sign in "`~":
        rest = text.lstrip(sign)
        mark = text[: len(text) - len(rest)]
        if len(mark) >= 3:
            return (mark, rest.strip()) if "`" not in rest else ("", "")
    return "", ""


# Which block, and what belongs to it.

_DEFINITION = re.compile(
    r"^(?:async[ \t]+def|def|class)[ \t]+([^\W\d]\w*)|^([^\W\d]\w*)[ \t]*(?::[^=\n]*)?=(?!=)", re.MULTILINE
)
_IMPORT = re.compile(r"^(?:from[ \t]+[\w.]+[ \t]+)?import[ \t]+([^\n#]+)", re.MULTILINE)
_NAME = re.compile(r"[^\W\d]\w*")
_RUNS = re.compile(r"^(?!def\b|class\b|async def\b|import\b|from\b|@|#|\"\"\"|''')[^\s)\]}]", re.MULTILINE)


def _defines(code: str) -> set[str]:
    """Names that a block defines at its top level, by the look of its lines."""
    return _imported(code) | {name for pair in _DEFINITION.findall(code) for name in pair if name}


def _imported(code: str) -> set[str]:
    return {
        part.split()[-1] for names in _IMPORT.findall(code) for part in names.strip("() ").split(",") if part.split()
    }


def _chosen(blocks: list[_Block], wanted: Collection[str], script: bool) -> int:
    numbers = range(len(blocks) - 1, -1, -1)
    if script:
        return next((n for n in numbers if _whole_program(blocks[n].code)), len(blocks) - 1)
    complete = (n for n in numbers if blocks[n].closed and _defines(blocks[n].code) & set(wanted))
    open_one = (n for n in numbers if not blocks[n].closed and _defines(blocks[n].code) & set(wanted))
    last_closed = next((n for n in numbers if blocks[n].closed), numbers[0])
    return next(complete, next(open_one, last_closed))


def _whole_program(code: str) -> bool:
    """Whether a block reads input and, at its top level, does something."""
    return any(word in code for word in ("input(", "stdin", "open(0")) and bool(_RUNS.search(code))


def _with_helpers(blocks: list[_Block], chosen: int) -> str:
    """The chosen block after those before it that define what it uses."""
    parts = [blocks[chosen].code]
    defined = _defines(parts[0])
    needed = set(_NAME.findall(parts[0])) - defined
    for block in reversed(blocks[:chosen]):
        own = {name for pair in _DEFINITION.findall(block.code) for name in pair[:1] if name}
        runs = _RUNS.search(block.code)  # it may be an experiment: what it imports is its own
        imports = set[str]() if runs else _imported(block.code)
        if (own | imports) & needed and not own & defined:
            parts.insert(0, block.code)
            defined |= _defines(block.code)
            needed = (needed | set(_NAME.findall(block.code))) - defined
    return "\n".join(parts)


# Code between prose, without any fence.

_MAX_LINE = 500
_CODE_LINE = re.compile(
    r"(?:async def|def|class|import|from|if|elif|for|while|with|return|raise|assert|del|global|print)\b"
    r"[^\n]*[:)\w\]\"'*}(\[{\\]$"
    r"|(?:try|else|finally)\s*:|except\b.*:$|pass$|@\w|#|[)\]}]|\"\"\"|'''|[\w.,\[\]'\" ()*]+?\s*[-+*/%&|^]?=(?!=)\s*\S"
    r"|[\w.]+\(.*\)$"
)
_PROSE_START = re.compile(
    r"(?:from|if|for|while|with|import|class|return|print|raise)\s+"
    r"(?:a(?!\s+(?:is|if|else|as)\b)|an|the|we|you|it|this|that)(?!\s+(?:in|and|or|not|import)\b)(?=\s+[a-z])",
    re.IGNORECASE,
)
"""An article or a pronoun and a further word; `class A:`, `for a in b:` and `if a is None:` are none."""


def _code_lines(answer: str) -> str:
    """The lines of code in an answer without a fence; all of it where nothing stands out as prose."""
    lines = answer.split("\n")
    looks = [bool(line[:1].isspace()) or not line.strip() or _is_code(line) for line in lines]
    flush = [look for look, line in zip(looks, lines, strict=True) if line.strip() and not line[:1].isspace()]
    if not any(flush):
        return textwrap.dedent(answer.strip("\n"))
    if all(flush) or not _DEFINITION.search(answer) and not _IMPORT.search(answer):
        return answer
    first = next(n for n, line in enumerate(lines) if not line[:1].isspace() and line.strip() and looks[n])
    kept: list[str] = []
    after_prose = False
    for line, look in zip(lines[first:], looks[first:], strict=True):
        flush_left = bool(line.strip()) and not line[:1].isspace()
        after_prose = (after_prose and not flush_left) or (flush_left and not look)
        if look and not after_prose:
            kept.append(line)
    return "\n".join(kept) + "\n"


def _is_code(line: str) -> bool:
    text = line.rstrip()
    if len(text) > _MAX_LINE:  # not for an expression that goes back
        return True
    if text.endswith(",") and sum(map(text.count, "([{")) > sum(map(text.count, ")]}")):  # it goes on
        text = text.rstrip(", ")
    return bool(_CODE_LINE.match(text)) and not _PROSE_START.match(text)
