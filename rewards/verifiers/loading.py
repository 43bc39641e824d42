"""A verifier from its folder, whatever its kind."""

from pathlib import Path
from typing import Any

from selfcorrect.rewards.verifiers.base import ModelVerifier
from selfcorrect.rewards.verifiers.folder import read_card
from selfcorrect.rewards.verifiers.heads import ClassifierVerifier, StepwiseVerifier
from selfcorrect.rewards.verifiers.likelihood import LikelihoodVerifier

_KINDS: dict[str, type[LikelihoodVerifier] | type[ClassifierVerifier] | type[StepwiseVerifier]] = {
    "likelihood": LikelihoodVerifier,
    "classifier": ClassifierVerifier,
    "stepwise": StepwiseVerifier,
}


def load_verifier(folder: str | Path, *, policy_tokenizer: Any = None, max_batch: int = 256) -> ModelVerifier:
    """The verifier that was saved in `folder`.

    Args:
        folder: as `ModelVerifier.save` and `selfcorrect train vstar` write it.
        policy_tokenizer: of the policy whose answers are to be scored; it must be the verifier's own.
        max_batch: at most this many responses are read at a time.

    Raises:
        CheckerError: the folder is no verifier's or is damaged, or a tokenizer is not the one it was trained with.
    """
    path = Path(folder)
    kind = _KINDS[read_card(path).kind]
    return kind.load(path, policy_tokenizer=policy_tokenizer, max_batch=max_batch)
