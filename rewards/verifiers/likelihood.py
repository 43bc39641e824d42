"""V-STaR's verifier: a language model trained by DPO, whose likelihood of a response is the score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.verifiers.base import ModelVerifier, context_of, padded
from selfcorrect.rewards.verifiers.encoding import Encoded
from selfcorrect.rewards.verifiers.folder import VerifierCard, open_tokenizer, read_card


class LikelihoodVerifier(ModelVerifier):
    """Scores a response y to a prompt x by a model pi that DPO has trained from a reference (Hosseini et al. 2024,
    section 3.2).

    The raw score, in nats per token over the |y| response tokens (the EOS token included), by the card's measure:

        log_ratio        (log pi(y|x) - log ref(y|x)) / |y|: DPO's implicit reward over beta, per token
        log_likelihood   log pi(y|x) / |y|: as the paper ranks, but per token, so that long answers are not at a
        disadvantage

    A response's probability of being right is the logistic curve of the card (`platt`) at the raw score.

    Args:
        model: the trained causal language model.
        reference: what DPO started from; None with the measure "log_likelihood".
        tokenizer: of both.
        card: kind "likelihood".
        max_batch: at most this many responses are read at a time.

    Raises:
        CheckerError: the measure needs a reference and there is none; another tokenizer than the card's.
    """

    def __init__(self, model: Any, reference: Any, tokenizer: Any, card: VerifierCard, *, max_batch: int = 256) -> None:
        super().__init__(tokenizer, card, context=context_of(model), max_batch=max_batch)
        if card.measure == "log_ratio" and reference is None:
            raise CheckerError("the measure 'log_ratio' compares with the reference model, and none was given")
        self.model, self.reference = model, reference

    @classmethod
    def load(cls, folder: Path, *, policy_tokenizer: Any = None, max_batch: int = 256) -> "LikelihoodVerifier":
        """The verifier in `folder`; see `load_verifier`."""
        from transformers import AutoModelForCausalLM

        card = read_card(folder)
        tokenizer = open_tokenizer(folder, card, policy_tokenizer=policy_tokenizer)
        model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
        compares = card.measure == "log_ratio"
        reference = AutoModelForCausalLM.from_pretrained(folder / "reference").eval() if compares else None
        return cls(model, reference, tokenizer, card, max_batch=max_batch)

    def _encode(self, prompt: str, response: str) -> Encoded | None:
        return self.encoder.whole(prompt, response)

    def _read(self, batch: Sequence[Encoded]) -> list[float]:
        ids, mask = padded([one.ids for one in batch], device=self.model.device)
        begins = torch.tensor([one.begin for one in batch], device=ids.device)
        logprobs = mean_logprobs(self.model, ids, mask, begins)
        if self.card.measure == "log_ratio":
            logprobs = logprobs - mean_logprobs(self.reference, ids, mask, begins)
        return [float(value) for value in logprobs]

    def _models(self) -> list[Any]:
        return [self.model] if self.reference is None else [self.model, self.reference]

    def _save_weights(self, folder: Path) -> None:
        self.model.save_pretrained(folder / "model")
        if self.card.measure == "log_ratio":
            self.reference.save_pretrained(folder / "reference")


def mean_logprobs(model: Any, ids: Tensor, mask: Tensor, begins: Tensor) -> Tensor:
    """Mean log-probability (R,) of the tokens of rows `ids` (R, T) from place `begins` (R,) on, given all before
    them."""
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    places = torch.arange(1, ids.shape[1], device=ids.device)
    response = (places[None] >= begins[:, None]) & (mask[:, 1:] == 1)
    return -(losses * response).sum(1) / response.sum(1)
