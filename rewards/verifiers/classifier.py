"""An outcome verifier (ORM): a head on the hidden state of a response's last token (Cobbe et al. 2021, arXiv 2110.14168)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from selfcorrect.rewards.verifiers.encoding import Encoded
from selfcorrect.rewards.verifiers.folder import VerifierCard, open_tokenizer, read_card
from selfcorrect.rewards.verifiers.heads import ScoringModel
from selfcorrect.rewards.verifiers.model_verifier import ModelVerifier, context_of, padded


class ClassifierVerifier(ModelVerifier):
    """Scores a response by the logit of "right" at its EOS token; the card's logistic curve makes it a probability.

    Args:
        model: body and head.
        tokenizer: of the body.
        card: kind "classifier".
        max_batch: at most this many responses are read at a time.

    Raises:
        CheckerError: another tokenizer than the card's.
    """

    def __init__(self, model: ScoringModel, tokenizer: Any, card: VerifierCard, *, max_batch: int = 256) -> None:
        super().__init__(tokenizer, card, context=context_of(model.body), max_batch=max_batch)
        self.model = model

    @classmethod
    def load(cls, folder: Path, *, policy_tokenizer: Any = None, max_batch: int = 256) -> "ClassifierVerifier":
        """The verifier in `folder`; see `load_verifier`."""
        card = read_card(folder)
        tokenizer = open_tokenizer(folder, card, policy_tokenizer=policy_tokenizer)
        return cls(ScoringModel.load(folder), tokenizer, card, max_batch=max_batch)

    def _encode(self, prompt: str, response: str) -> Encoded | None:
        return self.encoder.whole(prompt, response)

    def _read(self, batch: Sequence[Encoded]) -> list[float]:
        ids, mask = padded([one.ids for one in batch], device=self.model.body.device)
        logits = self.model(ids, mask)
        last = torch.tensor([len(one.ids) - 1 for one in batch], device=ids.device)
        return [float(value) for value in logits.gather(1, last[:, None])[:, 0]]

    def _models(self) -> list[Any]:
        return [self.model]

    def _save_weights(self, folder: Path) -> None:
        self.model.save(folder)
