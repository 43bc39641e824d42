"""The examples that a problem shows: calls and what they return, as its prompt writes them.

They are all that a program can be tried on where nobody knows its tests: in use, and at test time in general. Read are
doctests, asserts, and calls with their value behind them, as in HumanEval's and MBPP's prompts:

    >>> gcd(25, 15)                       assert gcd(25, 15) == 5
    5                                     gcd(25, 15) => 5      gcd(25, 15) should return 5

Only the prompt is read, and it is parsed, never run: what an example comes to is found out in the jail.
"""

import ast
import builtins
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

MOST = 32
"""Examples of one prompt that are read; who shows more is cut off there."""

_LONGEST = 4_000
"""Characters of an example that are looked through."""
_MOST_PLACES = 256
"""Places of one form where an example may begin that are looked at: users' questions are read, too, by servers."""
_CALL = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\(")
_DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
_ASSERT = re.compile(r"^[ \t]*(?:[-*][ \t]+)?(assert\b.*)", re.MULTILINE)
_DOCTEST = re.compile(r"^[ \t]*>>>[ \t]*(.+)(?:\n[ \t]*(?!>>>)(\S.*))?", re.MULTILINE)
_RETURNS = re.compile(
    r"[ \t]*\#?[ \t]*(?:=+>|-+>|➞|→|==?|:|"
    r"(?:should|will|must)[ \t]+(?:return|be|give|output)|returns?|gives|outputs?|is|evaluates[ \t]+to)[ \t]*"
)
_PLAIN_VALUE = re.compile(r"(?:[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[A-Za-z]+)(?![\w.]*\w)")
_CALCULATION = re.compile(r"[ \t]*[-+*/%](?:[^\n]*=)?[ \t]*")
_OF_OTHER_LANGUAGES = {"true": "True", "false": "False", "null": "None"}
_AT_HAND = {"math"}
"""Modules that an example may use without importing them."""
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Example:
    """One example, in Python.

    Attributes:
        expression: what is evaluated, "gcd(25, 15)".
        expected: what it is to be equal to, "5".
    """

    expression: str
    expected: str

    @property
    def as_assert(self) -> str:
        """As a test."""
        return f"assert ({self.expression}) == ({self.expected})"


def as_tests(prompt: str) -> list[str]:
    """The examples that `prompt` shows as tests for a `UnitTestChecker`; [] if it shows none."""
    asserts = [one.as_assert for one in shown_examples(prompt)]
    return ["import math", *asserts] if any("math." in one for one in asserts) else asserts


@lru_cache(maxsize=1024)
def shown_examples(prompt: str) -> tuple[Example, ...]:
    """The examples in `prompt`, in the order of their forms: asserts, doctests, calls with a value behind them.

    Where the prompt begins functions (`def gcd(`), the last of them is what is asked for, and its examples alone count;
    elsewhere those of any function that Python does not have itself.
    """
    defined = _DEFINED.findall(prompt)
    wanted = defined[-1] if defined else None
    with warnings.catch_warnings(action="ignore"):  # of "\\d" in what the prompt quotes
        found = [*_asserts(prompt, wanted), *_doctests(prompt, wanted), *_calls(prompt, wanted)]
    return tuple(dict.fromkeys(one for one in found if one is not None))[:MOST]


def names_called(expressions: Iterable[str]) -> frozenset[str]:
    """The names that `expressions` need a program to define."""
    trees = (_parsed(expression, "eval") for expression in expressions)
    return frozenset(name for tree in trees if tree is not None for name in _called(tree))


def _asserts(prompt: str, wanted: str | None) -> Iterator[Example | None]:
    for match in islice(_ASSERT.finditer(prompt), _MOST_PLACES):
        tree = _parsed(_logical_line(prompt[match.start(1) : match.start(1) + _LONGEST]), "exec")
        statement = tree.body[0] if isinstance(tree, ast.Module) and tree.body else None
        if isinstance(statement, ast.Assert) and _asks(statement, wanted):
            yield _of_test(statement.test)


def _of_test(test: ast.expr) -> Example | None:
    """What is to hold as an example: of a comparison, its left side's value is the right one."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        return _example(test.left, test.comparators[0])
    return _example(ast.Call(ast.Name("bool"), [test], []), ast.Constant(True))


def _logical_line(text: str) -> str:
    """The first line of `text`, with those over which its brackets go on; "" where one of them is not closed."""
    place = 0
    while place < len(text) and text[place] != "\n":
        if text[place] in _CLOSING:
            closed = _bracketed(text, place)
            if closed is None:
                return ""
            place = len(closed)
        else:
            place = (_end_of_text(text, place) or place + 1) if text[place] in "'\"" else place + 1
    return text[:place]


def _doctests(prompt: str, wanted: str | None) -> Iterator[Example | None]:
    for match in islice(_DOCTEST.finditer(prompt), _MOST_PLACES):
        tree = _parsed(match[1].strip(), "eval")
        if not isinstance(tree, ast.Expression) or not _asks(tree, wanted):
            continue
        value = None if match[2] is None else _value(prompt[match.start(2) : match.start(2) + _LONGEST])
        if value is not None:
            yield _in_python(match[1].strip(), value)
        elif isinstance(tree.body, ast.Compare):
            yield _of_test(tree.body)


def _calls(prompt: str, wanted: str | None) -> Iterator[Example | None]:
    """Calls within a text: their arguments are values, and behind them stands what they return."""
    for match in islice(_CALL.finditer(prompt), _MOST_PLACES):
        if match[1] != wanted if wanted else hasattr(builtins, match[1]):
            continue
        call = _bracketed(prompt[match.start() : match.start() + _LONGEST], match.end() - match.start() - 1)
        if call is None or not _has_values_only(call):
            continue
        behind = prompt[match.start() + len(call) :][:_LONGEST]
        returns = _RETURNS.match(behind)
        value = None if returns is None else _worked_out(behind[returns.end() :])
        if value is not None:
            yield _in_python(call, value)


def _worked_out(text: str) -> str | None:
    """The value at the beginning of `text`, or that which stands behind a calculation: "19 - 5 - 6 = 8" is 8."""
    end = _end_of_value(text)
    more = None if end is None else _CALCULATION.match(text, end)
    if more is None:
        return _value(text)
    return _value(text[more.end() :]) if more[0].rstrip().endswith("=") else None


def _in_python(expression: str, expected: str) -> Example | None:
    asked, value = _parsed(expression, "eval"), _parsed(expected, "eval")
    return None if asked is None or value is None else _example(asked, value)


def _example(expression: ast.AST, expected: ast.AST) -> Example | None:
    """Spelt as Python spells it, so that an example that stands there twice is one; None if it is nested too deep."""
    try:
        return Example(ast.unparse(expression), ast.unparse(expected))
    except RecursionError:
        return None


def _asks(tree: ast.AST, wanted: str | None) -> bool:
    """Whether something is called that the program has to define, and nothing else is needed."""
    called = _called(tree)
    used = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and not hasattr(builtins, one.id)}
    own = {wanted} if wanted else called
    return bool(called & own) and used <= called | _AT_HAND


def _called(tree: ast.AST) -> set[str]:
    calls = (one.func for one in ast.walk(tree) if isinstance(one, ast.Call))
    return {one.id for one in calls if isinstance(one, ast.Name) and not hasattr(builtins, one.id)}


def _has_values_only(call: str) -> bool:
    tree = _parsed(call, "eval")
    if not (isinstance(tree, ast.Expression) and isinstance(tree.body, ast.Call)):
        return False
    given = [*tree.body.args, *(one.value for one in tree.body.keywords)]
    return all(map(is_value, given))


def is_value(tree: ast.AST) -> bool:
    """Whether `tree` is a value by itself: numbers, texts, and what holds nothing else."""
    try:
        ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _value(text: str) -> str | None:
    """The value at the beginning of `text`, in Python; None if there is none."""
    end = _end_of_value(text)
    if end is None:
        return None
    found = _OF_OTHER_LANGUAGES.get(text[:end], text[:end])
    tree = _parsed(found, "eval")
    return found if isinstance(tree, ast.Expression) and is_value(tree.body) else None


def _end_of_value(text: str) -> int | None:
    if text[:1] in _CLOSING:
        found = _bracketed(text, 0)
        return None if found is None else len(found)
    if text[:1] in ("'", '"'):
        end = None if text.startswith(('"""', "'''")) else _end_of_text(text, 0)
        return None if end is None or text[end : end + 1].isalnum() else end
    plain = _PLAIN_VALUE.match(text)
    return None if plain is None else plain.end()


def _bracketed(text: str, start: int) -> str | None:
    """`text` up to the bracket that closes the one at `start`, texts in quotes passed over."""
    waiting: list[str] = []
    place = start
    while place < len(text):
        letter = text[place]
        if letter in "'\"":
            end = _end_of_text(text, place)
            if end is None:
                return None
            place = end
            continue
        if letter in _CLOSING:
            waiting.append(_CLOSING[letter])
        elif letter in _CLOSING.values() and (not waiting or waiting.pop() != letter):
            return None
        place += 1
        if not waiting:
            return text[:place]
    return None


def _end_of_text(text: str, start: int) -> int | None:
    """Behind the quote that closes the one at `start`; no text goes on over lines."""
    place = start + 1
    while place < len(text) and text[place] != "\n":
        if text[place] == text[start]:
            return place + 1
        place += 2 if text[place] == "\\" else 1
    return None


def _parsed(text: str, mode: str) -> ast.AST | None:
    try:
        return ast.parse(text, mode=mode)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
