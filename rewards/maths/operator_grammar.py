"""The grammar of what joins operands: sums, products, signs, powers, and the marks behind a number."""

from abc import ABC, abstractmethod

from selfcorrect.rewards.maths.token_reader import TokenReader
from selfcorrect.rewards.maths.tokens import NotUnderstood
from selfcorrect.rewards.maths.tree import Node, number

_FACTOR_STARTS = ("number", "word", "command", "(", "{", "[", "|")
_NO_FACTOR = {r"\cdot", r"\}", r"\rfloor", r"\rceil", r"\over", r"\choose", r"\|"}


class OperatorParser(TokenReader, ABC):
    """Recursive descent: sum > product > sign > power > postfix > primary. What a primary is, a subclass tells."""

    @abstractmethod
    def _primary(self) -> Node:
        """An operand: a number, a name, a function's call or something in brackets."""

    def sum(self) -> Node:
        left = self._product()
        while sign := self._accept("+", "-"):
            self._count()
            left = Node(sign.kind, (left, self._product()))
        return left

    def _product(self) -> Node:
        left = self._signed()
        while True:
            self._count()
            if sign := self._accept("*", "/", r"\cdot"):
                left = Node("/" if sign.kind == "/" else "*", (left, self._signed()))
            elif self._starts_factor():
                left = Node("*", (left, self._power()))
            else:
                return left

    def _starts_factor(self) -> bool:
        token = self._next
        if token.kind == "number":  # "x2" or "2 3" is no product
            if self._tokens[self._at - 1].kind in ("number", "word", "command"):
                raise NotUnderstood("a number right after a number or a name")
            return self._tokens[self._at - 1].kind in (")", "}", "]")
        if token.kind == "|":
            return self._bars == 0
        return token.kind in _FACTOR_STARTS and token.text not in _NO_FACTOR

    def _signed(self) -> Node:
        negative = False
        while sign := self._accept("+", "-"):
            negative ^= sign.kind == "-"
        inner = self._power()
        return Node("neg", (inner,)) if negative else inner

    def _power(self) -> Node:
        base = self._postfix()
        if self._accept("^"):
            return Node("^", (base, self._exponent()))
        return base

    def _exponent(self) -> Node:
        self._descend()  # towers nest to the right
        negative = self._accept("-") is not None
        exponent = self._group() if self._next.kind == "{" else self._postfix()
        if self._accept("^"):
            exponent = Node("^", (exponent, self._exponent()))
        self._depth -= 1
        return Node("neg", (exponent,)) if negative else exponent

    def _postfix(self) -> Node:
        inner = self._primary()
        while sign := self._accept("!", r"^\circ", "%"):
            self._count()
            if sign.kind == "%":
                inner = Node("/", (inner, number(100)))
            else:
                inner = Node("!", (inner,)) if sign.kind == "!" else Node("degrees", (inner,))
        return inner

    def _until(self, closing: str) -> Node:
        bars, self._bars = self._bars, 0
        inner = self.sum()
        self.expect(closing)
        self._bars = bars
        return inner

    def _group(self) -> Node:
        self.expect("{")
        return self._until("}")
