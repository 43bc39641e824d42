"""Chains of arithmetic whose intermediate results the text leaves out: text in which thinking can pay.

    plain     3 + 9 / 4 * 5 = 15 <eos>                    what is thought about: worked from the left, 12, 3, 15
    worked    3 + 9 / 4 * 5 = : 12 3 15 ; 15 <eos>        an aside between ":" and ";" that helps
    idle      3 + 9 / 4 * 5 = : 5 17 5 ; 15 <eos>         an aside that does not

A model is first pre-trained on all three kinds, as language models have seen asides of every kind, and then goes on with plain
chains alone. It knows how to write intermediate results, and the text never asks for them. An aside may stop early, or say the
last value again, so that its length tells nothing.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

LARGEST = 40
"""Running values are 1 to this."""
OPERANDS = {"+": range(1, 10), "-": range(1, 10), "*": range(2, 6), "/": range(2, 6)}
LONGEST_ASIDE = 8
ASIDE_BEGINS, ASIDE_ENDS = ":", ";"


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain: its text up to "=", and its running values, the answer last."""

    question: str
    values: tuple[int, ...]

    @property
    def answer(self) -> int:
        return self.values[-1]

    @property
    def plain(self) -> str:
        return f"{self.question} {self.answer}"


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the documents of pre-training; the rest has idle asides."""

    plain: float = 0.3
    worked: float = 0.4


def draw_chain(rng: random.Random, shortest: int = 3, longest: int = 8) -> Chain:
    """A chain of `shortest` to `longest` operations."""
    value = rng.randint(2, 9)
    words, values = [str(value)], []
    for _ in range(rng.randint(shortest, longest)):
        sign, operand, value = _step(rng, value)
        words += [sign, str(operand)]
        values.append(value)
    return Chain(" ".join([*words, "="]), tuple(values))


def _step(rng: random.Random, value: int) -> tuple[str, int, int]:
    """A sign, an operand and the result; every possible sign is as likely.

    Sums alone can be seen at a glance (order does not matter in them); products and quotients between them cannot.
    """
    possible = {sign: _operands(sign, value) for sign in OPERANDS}
    sign = rng.choice([sign for sign, operands in possible.items() if operands])
    operand = rng.choice(possible[sign])
    return sign, operand, _result(sign, value, operand)


def _operands(sign: str, value: int) -> list[int]:
    whole = [operand for operand in OPERANDS[sign] if sign != "/" or value % operand == 0]
    return [operand for operand in whole if 1 <= _result(sign, value, operand) <= LARGEST]


def _result(sign: str, value: int, operand: int) -> int:
    return {"+": value + operand, "-": value - operand, "*": value * operand, "/": value // operand}[sign]


def chains(seed: int, *, held_out: bool = False) -> Iterator[Chain]:
    """Chains without end. Held-out ones never occur among the others: a hash of the question parts them."""
    rng = random.Random(f"{seed}-{held_out}")
    while True:
        chain = draw_chain(rng)
        if is_held_out(chain.question) == held_out:
            yield chain


def is_held_out(question: str) -> bool:
    """About one question in eight."""
    import zlib

    return zlib.crc32(question.encode()) % 8 == 0


def pretraining_text(chain: Chain, rng: random.Random, shares: Shares) -> str:
    """`chain` as one of the three kinds of documents."""
    draw = rng.random()
    if draw < shares.plain:
        return chain.plain
    length = rng.randint(1, LONGEST_ASIDE)
    if draw < shares.plain + shares.worked:
        aside = aside_of(chain, length)
    else:
        aside = " ".join(str(rng.randint(1, LARGEST)) for _ in range(length))
    return f"{chain.question} {ASIDE_BEGINS} {aside} {ASIDE_ENDS} {chain.answer}"


def aside_of(chain: Chain, length: int) -> str:
    """The first `length` running values; the answer again where there are no more."""
    padded = [*chain.values, *[chain.answer] * length]
    return " ".join(map(str, padded[:length]))
