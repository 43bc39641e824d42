"""A language model's body with one number a token on top."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.shaping import Score
from selfcorrect.rewards.verifiers.base import ModelVerifier, context_of, padded, reading
from selfcorrect.rewards.verifiers.encoding import Encoded
from selfcorrect.rewards.verifiers.folder import Reduction, VerifierCard, open_tokenizer, read_card

_HEAD = "head.safetensors"


class ScoringModel(nn.Module):
    """Hidden states of a transformer, and from each a logit.

    Args:
        body: a transformers model without a language-model head (`AutoModel`, or `model.base_model` of a causal one).
        head: (H,) -> (1,); None makes one whose logits are 0 everywhere.
    """

    def __init__(self, body: Any, head: nn.Linear | None = None) -> None:
        super().__init__()
        self.body = body
        self.head = head if head is not None else _silent_head(body)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (R, T) of ids (R, T)."""
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(hidden.to(self.head.weight.dtype)).squeeze(-1).float()  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write the body to `folder`/model and the head beside it."""
        from safetensors.torch import save_file

        self.body.save_pretrained(folder / "model")
        save_file({name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}, folder / _HEAD)

    @classmethod
    def load(cls, folder: Path) -> "ScoringModel":
        """What `save` wrote.

        Raises:
            CheckerError: weights are missing or do not fit.
        """
        from safetensors.torch import load_file
        from transformers import AutoModel

        body = AutoModel.from_pretrained(folder / "model")
        model = cls(body)
        try:
            model.head.load_state_dict(load_file(folder / _HEAD))
        except (OSError, RuntimeError) as error:
            raise CheckerError(f"cannot load the verifier's head from {folder / _HEAD}: {error}") from error
        return model.eval()


def _silent_head(body: Any) -> nn.Linear:
    head = nn.Linear(int(body.config.hidden_size), 1, device=body.device, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


# What the verifiers with a head on a model's hidden states share.


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


# An outcome verifier (ORM): a head on the hidden state of a response's last token (Cobbe et al. 2021, arXiv
# 2110.14168).


class ClassifierVerifier(HeadVerifier):
    """Scores a response by the logit of "right" at its EOS token; the card's logistic curve makes it a probability."""

    def _encode(self, prompt: str, response: str) -> Encoded | None:
        return self.encoder.whole(prompt, response)

    def _read(self, batch: Sequence[Encoded]) -> list[float]:
        ids, mask = padded([one.ids for one in batch], device=self.model.body.device)
        logits = self.model(ids, mask)
        last = torch.tensor([len(one.ids) - 1 for one in batch], device=ids.device)
        return [float(value) for value in logits.gather(1, last[:, None])[:, 0]]


# A process verifier (PRM): a head that says after every step how often answers that begin so come out right.


class StepwiseVerifier(HeadVerifier):
    """Scores every step as Math-Shepherd does (Wang et al. 2024, arXiv 2312.08935): by the success frequency of
    continuations.

    A response's score is the last step's (Snell et al. 2024 found that best), the lowest or the product, as the card's
    `reduction` says. With "last", an unfinished response is scored by how promising it is, and a finished one by
    whether it is right.
    """

    async def step_scores(self, prompt: str, response: str) -> list[Score]:
        """See `StepVerifier.step_scores`; [] for a response without steps, [None, ...] for one that cannot be read."""
        encoded = self._encode(prompt, response)
        if encoded is None:
            steps = response.split(self.card.wording.separator.strip())
            return [self._counted(None) for step in steps if step.strip()]
        with reading(self._models()):
            logits = [self._counted(logit) for logit in self._step_logits([encoded])[0]]
        return [None if logit is None else self.platt.probability(logit) for logit in logits]

    def _encode(self, prompt: str, response: str) -> Encoded | None:
        return self.encoder.stepwise(prompt, response)

    def _read(self, batch: Sequence[Encoded]) -> list[float]:
        return [reduced(logits, self.card.reduction) for logits in self._step_logits(batch)]

    def _step_logits(self, batch: Sequence[Encoded]) -> list[list[float]]:
        ids, mask = padded([one.ids for one in batch], device=self.model.body.device)
        logits = self.model(ids, mask).tolist()
        return [[row[end] for end in one.step_ends] for row, one in zip(logits, batch, strict=True)]


def reduced(logits: Sequence[float], reduction: Reduction) -> float:
    """The logit of a whole response from those of its steps; nan if one of them is."""
    if any(map(math.isnan, logits)):
        return math.nan
    if reduction == "last":
        return logits[-1]
    if reduction == "min":
        return min(logits)
    # log of the product of the steps' probabilities, each -softplus(-logit)
    log_product = -sum(max(-logit, 0.0) + math.log1p(math.exp(-abs(logit))) for logit in logits)
    return log_product - math.log(-math.expm1(log_product)) if log_product < 0 else math.inf
