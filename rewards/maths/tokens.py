"""The tokens of mathematical notation, LaTeX or plain."""

import re
from dataclasses import dataclass

MAX_DIGITS = 80
_LETTERS = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi "
    "varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar"
)
GREEK = tuple(_LETTERS.split())
TRIGONOMETRIC = ("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan")
FUNCTIONS = (*TRIGONOMETRIC, "ln", "exp", "log", "lg", "abs", "floor", "ceil", "gcd", "lcm")
ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "choose": "binom", "C": "binom"}
_WORDS = sorted(
    {*FUNCTIONS, *ALIASES, *GREEK, "sqrt", "pi", "infty", "infinity", "cbrt"} - {"C", "choose"}, key=len, reverse=True
)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<command>\\[a-zA-Z]+|\\[{}|])|(?P<word>[a-zA-Z]+)|(?P<sign>\^\s*\\circ"
    r"|\*\*|[-+*/^!(){}\[\],|_%]))"
)


class NotUnderstood(Exception):
    """The text is no expression that this parser knows. Says nothing about whether it is right."""


class TooIntricate(Exception):
    """The text has more levels, operations or digits than any answer needs. Nobody else is asked to parse it."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str


def tokens_of(text: str) -> list[Token]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotUnderstood(f"unknown sign {text[at]!r}")
        at = match.end()
        kind = str(match.lastgroup)
        token = match[kind]
        if kind == "number" and len(token) > MAX_DIGITS:
            raise TooIntricate(f"more than {MAX_DIGITS} digits in a row")
        if kind == "word":
            found += [Token("word", word) for word in _split_word(token)]
        elif kind == "sign":
            found.append(Token(r"^\circ", "") if token.endswith("circ") else Token(token.replace("**", "^"), token))
        else:
            found.append(Token(kind, token))
    return [*found, Token("end", "")]


def _split_word(run: str) -> list[str]:
    """Function and Greek names out of a run of letters; what is left are single-letter variables, at most four."""
    for word in _WORDS:
        if run.startswith(word):
            return [word] + (_split_word(run[len(word) :]) if run[len(word) :] else [])
    if len(run) > 4:
        raise NotUnderstood(f"{run!r} is a word")
    return [run[0]] + (_split_word(run[1:]) if run[1:] else [])


# A place in a list of tokens, and how much work has been done on them: it is bounded.

MAX_DEPTH = 30
MAX_OPERATIONS = 150


class TokenReader:
    """Tokens are taken one after the other; levels and operations are counted."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._bars = 0
        self._operations = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, *kinds: str) -> Token | None:
        if self._next.kind in kinds or (self._next.kind in ("command", "word") and self._next.text in kinds):
            return self._take()
        return None

    def expect(self, kind: str) -> None:
        if self._accept(kind) is None:
            raise NotUnderstood(f"expected {kind}, found {self._next.text or 'the end'!r}")

    def _count(self) -> None:
        self._operations += 1
        if self._operations > MAX_OPERATIONS:
            raise TooIntricate(f"more than {MAX_OPERATIONS} operations")

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooIntricate(f"nested more than {MAX_DEPTH} deep")
