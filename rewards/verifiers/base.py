"""What all verifiers that are language models share: batches, abstention, calibration, folders."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfcorrect.bars import no_unseen_bars
from selfcorrect.rewards.shaping import Score
from selfcorrect.rewards.verifiers.encoding import Encoded, ResponseEncoder, in_batches
from selfcorrect.rewards.verifiers.folder import Platt, VerifierCard, fit_platt, refuse_other_tokenizer, write_card

Asked = tuple[str, str]
"""A problem's prompt and a response."""
_TOKENS = 8192
"""Tokens of one batch at most, padding included: what a language model's hidden layers make of more fills memory."""


class ModelVerifier(ABC):
    """A verifier with a model. Equal responses to a prompt are read once and get equal scores; nothing is drawn at
    random.

    Attributes:
        card: what it is; see `VerifierCard`.
        max_batch, max_tokens: at most so many responses, and tokens with padding, are read at a time.
        unreadable: how many responses it abstained on so far because it could not read them (blank, words that its
            tokenizer does not know, longer than its context).
        not_finite: how many scores came out as nan or infinite and were replaced by None.
    """

    def __init__(self, tokenizer: Any, card: VerifierCard, *, context: int | None, max_batch: int = 256) -> None:
        refuse_other_tokenizer(tokenizer, card, whose="this tokenizer")
        self.card, self.tokenizer, self.max_batch, self.max_tokens = card, tokenizer, max_batch, _TOKENS
        self.encoder = ResponseEncoder(tokenizer, card.wording, longest=context)
        self.unreadable = 0
        self.not_finite = 0

    async def scores(self, prompt: str, responses: Sequence[str]) -> list[Score]:
        """See `Verifier.scores`; one batch for all of them."""
        return self.score_all([(prompt, response) for response in responses])

    def score_all(self, asked: Sequence[Asked]) -> list[Score]:
        """Probabilities of responses to any prompts, in their order; None abstains."""
        return [None if raw is None else self._probability(raw) for raw in self.raw_scores(asked)]

    def raw_scores(self, asked: Sequence[Asked]) -> list[Score]:
        """What is behind the probabilities: larger is better, on the kind's own scale."""
        values = self._values(list(dict.fromkeys(asked)))
        return [self._counted(values[pair]) for pair in asked]

    def calibrate(self, asked: Sequence[Asked], correct: Sequence[bool]) -> None:
        """Fit the probabilities to answers that the verifier was not trained on; abstentions are left out.

        Raises:
            CheckerError: what is left has no right or no wrong answers.
        """
        known = [(raw, right) for raw, right in zip(self.raw_scores(asked), correct, strict=True) if raw is not None]
        self.card = replace(self.card, platt=fit_platt([raw for raw, _ in known], [right for _, right in known]))

    @no_unseen_bars()
    def save(self, folder: Path) -> None:
        """Write the verifier's folder."""
        write_card(folder, self.card)
        self.tokenizer.save_pretrained(folder / "model")
        self._save_weights(folder)

    @property
    def platt(self) -> Platt:
        return self.card.platt

    @abstractmethod
    def _read(self, batch: Sequence[Encoded]) -> list[float]:
        """The raw scores of a batch."""

    @abstractmethod
    def _encode(self, prompt: str, response: str) -> Encoded | None:
        """What the model reads; None if it cannot."""

    @abstractmethod
    def _models(self) -> list[Any]: ...

    @abstractmethod
    def _save_weights(self, folder: Path) -> None: ...

    def _probability(self, raw: float) -> float:
        return self.platt.probability(raw)

    def _values(self, asked: Sequence[Asked]) -> dict[Asked, float | None]:
        """The raw score of every pair; None where the response cannot be read, nan where the model failed."""
        encoded = {pair: self._encode(*pair) for pair in asked}
        readable = [(pair, one) for pair, one in encoded.items() if one is not None]
        values: dict[Asked, float | None] = dict.fromkeys(asked)
        with reading(self._models()):
            for numbers in in_batches([len(one.ids) for _, one in readable], self.max_batch, self.max_tokens):
                raw = self._read([readable[number][1] for number in numbers])
                values.update({readable[number][0]: score for number, score in zip(numbers, raw, strict=True)})
        return values

    def _counted(self, value: float | None) -> Score:
        if value is None:
            self.unreadable += 1
            return None
        if not math.isfinite(value):
            self.not_finite += 1
            return None
        return value


@contextmanager
def reading(models: Sequence[Any]) -> Iterator[None]:
    """Evaluation mode without gradients; the models' own modes afterwards."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def padded(rows: Sequence[Sequence[int]], *, device: Any = None) -> tuple[Tensor, Tensor]:
    """Ids (R, T), padded on the right with 0, and the attention mask (R, T)."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids.to(device), mask.to(device)


def context_of(model: Any) -> int | None:
    """How many tokens `model` can read; None if it does not say."""
    return getattr(model.config, "max_position_embeddings", None)
