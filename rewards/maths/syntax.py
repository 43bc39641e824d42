"""A small parser of mathematical notation, LaTeX or plain, into trees. It never evaluates, and its work is bounded."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

from selfcorrect.rewards.maths.tokens import ALIASES, FUNCTIONS, GREEK, NotUnderstood, Token, TokenReader, tokens_of

# Trees of expressions.


@dataclass(frozen=True, slots=True)
class Node:
    """One node of an expression.

    Attributes:
        op: "number", "symbol", "infinity", "+", "-", "*", "/", "^", "neg", "!", "root" (radicand, degree) or a
            function's name.
        args: the operands.
        value: of a number.
        name: of a symbol.
    """

    op: str
    args: tuple["Node", ...] = ()
    value: Fraction = Fraction(0)
    name: str = ""


def number(value: Fraction | int) -> Node:
    return Node("number", value=Fraction(value))


# The grammar of what joins operands: sums, products, signs, powers, and the marks behind a number.

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


def parse(text: str) -> Node:
    """The tree of `text`, which must be an expression as a whole.

    Raises:
        NotUnderstood: unknown notation or unbalanced brackets.
        TooIntricate: more than 30 levels, 150 operations or 80 digits in a row.
    """
    parser = _Parser(tokens_of(text))
    tree = parser.sum()
    parser.expect("end")
    return tree


class _Parser(OperatorParser):
    """The grammar of operands: numbers, names, calls of functions, brackets."""

    def _primary(self) -> Node:
        self._descend()
        inner = self._primary_at(self._take())
        self._depth -= 1
        return inner

    def _primary_at(self, token: Token) -> Node:
        if token.kind == "number":
            return self._mixed(token.text)
        if token.kind in ("(", "["):
            return self._until(")" if token.kind == "(" else "]")
        if token.kind == "{":
            return self._braces()
        if token.kind == "|":
            return self._bars_around()
        if token.kind in ("word", "command"):
            return self._named(token.text.lstrip("\\"))
        raise NotUnderstood(f"{token.text or 'the end'!r} where a number or a name should be")

    def _mixed(self, digits: str) -> Node:
        """A number; 2\\frac{1}{4} is two and a quarter."""
        whole = number(Fraction(digits))
        if self._next.text == r"\frac" and digits.isdigit():
            mark, tokens = self._at, list(self._tokens)
            self._take()
            top, bottom = self._argument(), self._argument()
            if top.op == bottom.op == "number" and top.value < bottom.value:
                return Node("mixed", (whole, Node("/", (top, bottom))))
            self._at, self._tokens = mark, tokens
        return whole

    def _braces(self) -> Node:
        inner = self.sum()
        if command := self._accept(r"\over", r"\choose"):
            inner = Node("/" if command.text == r"\over" else "binom", (inner, self.sum()))
        self.expect("}")
        return inner

    def _bars_around(self) -> Node:
        self._bars += 1
        inner = self.sum()
        self.expect("|")
        self._bars -= 1
        return Node("abs", (inner,))

    def _argument(self) -> Node:
        """An argument in LaTeX's way: a group, or one character (\\frac12)."""
        if self._next.kind == "{":
            return self._group()
        if self._next.kind == "number" and self._next.text.isdigit():
            digits = self._take().text
            if len(digits) > 1:
                self._at -= 1
                self._tokens[self._at] = Token("number", digits[1:])
            return number(int(digits[0]))
        return self._primary()

    def _named(self, name: str) -> Node:
        if name != "C" or self._next.kind == "(":  # C alone is a name, as of the constant of an integral
            name = ALIASES.get(name, name)
        if name == "frac":
            return Node("/", (self._argument(), self._argument()))
        if name == "binom":
            return self._binomial()
        if name in ("sqrt", "cbrt"):
            return self._root(name)
        if name in ("lfloor", "lceil"):
            inner = self.sum()
            self.expect(rf"\r{name[1:]}")
            return Node(name[1:], (inner,))
        if name in ("infty", "infinity"):
            return Node("infinity")
        if name in FUNCTIONS:
            return self._function(name)
        if name == "pi" or name in GREEK or len(name) == 1:
            return Node("symbol", name=name + self._subscript())
        raise NotUnderstood(f"unknown name {name!r}")

    def _subscript(self) -> str:
        if not self._accept("_"):
            return ""
        braced = self._accept("{")
        token = self._take()
        if token.kind not in ("number", "word") or (braced and not self._accept("}")):
            raise NotUnderstood("a subscript that is no number or letter")
        return f"_{token.text}"

    def _binomial(self) -> Node:
        if self._next.kind != "(":
            return Node("binom", (self._argument(), self._argument()))
        self._take()
        top = self.sum()
        self.expect(",")
        return Node("binom", (top, self._until(")")))

    def _root(self, name: str) -> Node:
        degree = number(3 if name == "cbrt" else 2)
        if self._next.kind == "[":
            self._take()
            degree = self._until("]")
        if self._next.kind == "number":
            return Node("root", (number(Fraction(self._take().text)), degree))
        return Node("root", (self._argument(), degree))

    def _function(self, name: str) -> Node:
        base: tuple[Node, ...] = ()
        power: Node | None = None
        if name == "log" and self._accept("_"):
            base = (self._argument(),)
        if self._accept("^"):
            power = self._exponent()
        arguments = self._function_arguments()
        if power is not None and power == Node("neg", (number(1),)) or power == number(-1):
            if f"arc{name}" not in FUNCTIONS:
                raise NotUnderstood(f"the power -1 of {name}")
            name, power = f"arc{name}", None
        call = Node(name, arguments + base)
        return call if power is None else Node("^", (call, power))

    def _function_arguments(self) -> tuple[Node, ...]:
        if self._next.kind in ("(", "{"):
            closing = ")" if self._take().kind == "(" else "}"
            bars, self._bars = self._bars, 0
            arguments = [self.sum()]
            while self._accept(","):
                arguments.append(self.sum())
            self.expect(closing)
            self._bars = bars
            return tuple(arguments)
        return (self._bare_argument(),)

    def _bare_argument(self) -> Node:
        """sin 2x: a product without brackets, which ends before the next function."""
        argument = self._power()
        while self._starts_factor() and self._next.text.lstrip("\\") not in FUNCTIONS and self._next.kind != "(":
            argument = Node("*", (argument, self._power()))
        return argument
