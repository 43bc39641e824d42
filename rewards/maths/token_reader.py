"""A place in a list of tokens, and how much work has been done on them: it is bounded."""

from selfcorrect.rewards.maths.tokens import NotUnderstood, Token, TooIntricate

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
