"""Which part of a response is the program."""

from dataclasses import dataclass

_PYTHON = frozenset({"python", "py", "python3", "py3"})


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a response.

    Attributes:
        program: the program's text; None if there is none.
        marked: it stood in a block, rather than being the whole response.
        problem: why there is none.
    """

    program: str | None
    marked: bool = False
    problem: str = ""


def find_program(response: str) -> Found:
    """The last complete Python block of a Markdown answer, or all of a response without any fence.

    Blocks marked as Python go before unmarked ones, wherever they stand; blocks marked as another language never count.
    A block that is not closed (a response cut off at its length limit) is not complete.
    """
    blocks, fences = _blocks(response)
    marked = [code for language, code in blocks if language in _PYTHON]
    unmarked = [code for language, code in blocks if language == ""]
    if marked or unmarked:
        return Found((marked or unmarked)[-1], marked=True)
    if fences:
        return Found(None, problem="the response has no complete Python block (``` to ```)")
    return Found(response) if response.strip() else Found(None, problem="the response is empty")


def _blocks(response: str) -> tuple[list[tuple[str, str]], int]:
    """Closed blocks, each with its language in lower case; and how many were opened."""
    blocks: list[tuple[str, str]] = []
    opened = 0
    fence, language, indent, lines = "", "", 0, list[str]()
    # Not splitlines: a form feed or a Unicode line separator may stand inside a program's string.
    for line in response.replace("\r\n", "\n").split("\n"):
        mark, label = _fence(line)
        if not fence:
            if mark:
                opened += 1
                fence, lines = mark, []
                language = (label.strip(" {}.").lower().split() or [""])[0]
                indent = len(line) - len(line.lstrip(" \t"))
        elif mark.startswith(fence) and not label:
            blocks.append((language, "\n".join(lines) + "\n"))
            fence = ""
        else:
            lines.append(line[indent:] if not line[:indent].strip() else line)
    return blocks, opened


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
