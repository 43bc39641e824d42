"""Where texts come from: procedural chains without end, or the spans of a file."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from selfcorrect.agents.policy import derive_seed
from selfcorrect.errors import TaskError
from selfcorrect.training.pretraining.second_looks import EOS

# Chains of arithmetic whose intermediate results the text leaves out: text in which thinking can pay.
#
#     plain     3 + 9 / 4 * 5 = 15 <eos>                    what is thought about: worked from the left, 12, 3, 15
#     worked    3 + 9 / 4 * 5 = : 12 3 15 ; 15 <eos>        an aside between ":" and ";" that helps
#     idle      3 + 9 / 4 * 5 = : 5 17 5 ; 15 <eos>         an aside that does not
#
# A model is first pre-trained on all three kinds, as language models have seen asides of every kind, and then goes on
# with plain chains alone. It knows how to write intermediate results, and the text never asks for them. An aside may
# stop early, or say the last value again, so that its length tells nothing.

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


_MOST_UNKNOWN = 0.1


@dataclass(frozen=True, slots=True)
class Text:
    """One text: its ids, and the columns that hold an answer (none in a file)."""

    ids: list[int]
    answers: tuple[int, ...] = ()


class Texts(Protocol):
    """A source of texts. Both methods depend on their arguments alone, so that a run can be taken up again."""

    def training(self, step: int, count: int) -> list[Text]:
        """The texts of a step, counted from 0."""
        ...

    def held_out(self, count: int) -> list[Text]:
        """Up to `count` texts that are never trained on."""
        ...


@dataclass(frozen=True, slots=True)
class ChainTexts:
    """Plain chains of arithmetic: a new one every time."""

    tokenizer: Any
    seed: int

    def training(self, step: int, count: int) -> list[Text]:
        return self._texts(derive_seed(self.seed, step), count, held_out=False)

    def held_out(self, count: int) -> list[Text]:
        return self._texts(0, count, held_out=True)

    def _texts(self, seed: int, count: int, *, held_out: bool) -> list[Text]:
        drawn = islice(chains(seed, held_out=held_out), count)
        rows = [self.tokenizer.encode(f"{chain.plain} {EOS}") for chain in drawn]
        return [Text(ids, answers=(len(ids) - 2,)) for ids in rows]


@dataclass(frozen=True, slots=True)
class FileTexts:
    """The spans of a file, in an order of their own in every epoch; its end is held out."""

    spans: list[list[int]]
    reserved: list[list[int]]
    seed: int

    def training(self, step: int, count: int) -> list[Text]:
        return [Text(self.spans[self._place(step * count + number)]) for number in range(count)]

    def held_out(self, count: int) -> list[Text]:
        return [Text(span) for span in self.reserved[:count]]

    def _place(self, number: int) -> int:
        epoch, place = divmod(number, len(self.spans))
        order = list(range(len(self.spans)))
        random.Random(f"{self.seed}-{epoch}").shuffle(order)
        return order[place]


def read_file(path: Path, tokenizer: Any, *, span: int, ahead: int, held_out: float, seed: int) -> FileTexts:
    """The texts of a UTF-8 file, `span` tokens each.

    Args:
        path: the file.
        tokenizer: of the model.
        span: tokens of a text; what remains at the end of the file is a shorter one, if it holds more than `ahead`
            tokens.
        ahead: tokens that a thought is judged by.
        held_out: the share of the spans that is held out, at least one.
        seed: of their order.

    Raises:
        TaskError: the file cannot be read, is empty or too short, or is written in words that the tokenizer does not
            know.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read the text {path}: {error}") from error
    if not text.strip():
        raise TaskError(f"the text {path} is empty: there is nothing to think about")
    ids = list(tokenizer.encode(text, add_special_tokens=False))
    _refuse_unknown_words(path, ids, tokenizer)
    spans = [ids[begin : begin + span] for begin in range(0, len(ids), span)]
    spans = [piece for piece in spans if len(piece) > ahead]
    if len(spans) < 2:
        raise TaskError(
            f"the text {path} has {len(ids)} tokens, too few for two spans of {span}, one to learn from and one to "
            f"hold out; each must be longer than the {ahead} tokens ahead that judge a thought: use a longer text, a "
            "smaller span or a smaller thought.ahead"
        )
    reserved = max(1, round(held_out * len(spans)))
    return FileTexts(spans[:-reserved], spans[-reserved:], seed)


def _refuse_unknown_words(path: Path, ids: list[int], tokenizer: Any) -> None:
    unknown = sum(number == tokenizer.unk_token_id for number in ids)
    if unknown > _MOST_UNKNOWN * len(ids):
        raise TaskError(
            f"the model's tokenizer does not know {unknown} of the {len(ids)} words of {path}; choose a model that "
            "reads this kind of text with --model (the embedded policy knows numbers and signs, separated by spaces)"
        )


def padded(texts: list[Text], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (B, T), padded on the right with 0, and the mask (B, T) of what are tokens."""
    width = max(len(text.ids) for text in texts)
    ids_BT = torch.tensor([text.ids + [0] * (width - len(text.ids)) for text in texts], device=device)
    length_B = torch.tensor([len(text.ids) for text in texts], device=device)
    return ids_BT, torch.arange(width, device=device)[None] < length_B[:, None]
