"""What the verifiers with a head on a model's hidden states share."""

from pathlib import Path
from typing import Any, Self

from selfcorrect.rewards.verifiers.folder import VerifierCard, open_tokenizer, read_card
from selfcorrect.rewards.verifiers.heads import ScoringModel
from selfcorrect.rewards.verifiers.model_verifier import ModelVerifier, context_of


class HeadVerifier(ModelVerifier):
    """A verifier whose scores are logits of a head.

    Args:
        model: body and head.
        tokenizer: of the body.
        card: of the verifier's kind.
        max_batch: at most this many responses are read at a time.

    Raises:
        CheckerError: another tokenizer than the card's.
    """

    def __init__(self, model: ScoringModel, tokenizer: Any, card: VerifierCard, *, max_batch: int = 256) -> None:
        super().__init__(tokenizer, card, context=context_of(model.body), max_batch=max_batch)
        self.model = model

    @classmethod
    def load(cls, folder: Path, *, policy_tokenizer: Any = None, max_batch: int = 256) -> Self:
        """The verifier in `folder`; see `load_verifier`."""
        card = read_card(folder)
        tokenizer = open_tokenizer(folder, card, policy_tokenizer=policy_tokenizer)
        return cls(ScoringModel.load(folder), tokenizer, card, max_batch=max_batch)

    def _models(self) -> list[Any]:
        return [self.model]

    def _save_weights(self, folder: Path) -> None:
        self.model.save(folder)
