"""Where texts come from: procedural chains without end, or the spans of a file."""

import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from selfcorrect.agents.seeding import derive_seed
from selfcorrect.errors import TaskError
from selfcorrect.training.pretraining.vocabulary import EOS
from selfcorrect.training.quiet_star.chains import chains

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
        span: tokens of a text; what remains at the end of the file is a shorter one, if it holds more than `ahead` tokens.
        ahead: tokens that a thought is judged by.
        held_out: the share of the spans that is held out, at least one.
        seed: of their order.

    Raises:
        TaskError: the file cannot be read, is empty or too short, or is written in words that the tokenizer does not know.
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
            f"the text {path} has {len(ids)} tokens, too few for two spans of {span}, one to learn from and one to hold out; each must "
            f"be longer than the {ahead} tokens ahead that judge a thought: use a longer text, a smaller span or a smaller thought.ahead"
        )
    reserved = max(1, round(held_out * len(spans)))
    return FileTexts(spans[:-reserved], spans[-reserved:], seed)


def _refuse_unknown_words(path: Path, ids: list[int], tokenizer: Any) -> None:
    unknown = sum(number == tokenizer.unk_token_id for number in ids)
    if unknown > _MOST_UNKNOWN * len(ids):
        raise TaskError(
            f"the model's tokenizer does not know {unknown} of the {len(ids)} words of {path}; choose a model that reads this kind of "
            "text with --model (the embedded policy knows numbers and signs, separated by spaces)"
        )


def padded(texts: list[Text], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (B, T), padded on the right with 0, and the mask (B, T) of what are tokens."""
    width = max(len(text.ids) for text in texts)
    ids_BT = torch.tensor([text.ids + [0] * (width - len(text.ids)) for text in texts], device=device)
    length_B = torch.tensor([len(text.ids) for text in texts], device=device)
    return ids_BT, torch.arange(width, device=device)[None] < length_B[:, None]
