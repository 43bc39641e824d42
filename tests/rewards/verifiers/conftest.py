"""Small random verifiers of every kind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_models import WORDS, llama, word_tokenizer

from selfcorrect.rewards.verifiers.base import ModelVerifier
from selfcorrect.rewards.verifiers.encoding import tokenizer_fingerprint
from selfcorrect.rewards.verifiers.folder import VerifierCard
from selfcorrect.rewards.verifiers.kinds import ClassifierVerifier, LikelihoodVerifier, ScoringModel, StepwiseVerifier

Make = Callable[..., ModelVerifier]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return word_tokenizer(WORDS, pad_token="<pad>")


@pytest.fixture
def make(tokenizer: Any) -> Make:
    """A verifier of a kind, with random weights; keywords change its card."""

    def one(kind: str, **changes: Any) -> ModelVerifier:
        model = llama(len(tokenizer))
        card = replace(VerifierCard(kind, tokenizer_fingerprint(tokenizer)), **changes)  # type: ignore[arg-type]
        if kind == "likelihood":
            reference = llama(len(tokenizer))
            with torch.no_grad():
                reference.lm_head.weight.mul_(0.5)
            return LikelihoodVerifier(model, reference, tokenizer, card)
        torch.manual_seed(1)
        scoring = ScoringModel(model.base_model, torch.nn.Linear(32, 1)).eval()
        return (ClassifierVerifier if kind == "classifier" else StepwiseVerifier)(scoring, tokenizer, card)

    return one
