"""The kinds of verifiers that are language models: by the likelihood of a response, or by a head on hidden states."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from selfcorrect.bars import no_unseen_bars
from selfcorrect.errors import CheckerError
from selfcorrect.rewards.shaping import Score
from selfcorrect.rewards.verifiers.base import ModelVerifier, context_of, padded, reading
from selfcorrect.rewards.verifiers.encoding import Encoded
from selfcorrect.rewards.verifiers.folder import Reduction, VerifierCard, open_tokenizer, read_card
from selfcorrect.rewards.verifiers.weights import is_adapted, open_base, open_weights, save_weights
from selfcorrect.undivided import undivided

# V-STaR's verifier: a language model trained by DPO, whose likelihood of a response is the score.


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
        reference: what DPO started from; None with the measure "log_likelihood", and of a model with an adapter, whose
            base it is.
        tokenizer: of both.
        card: kind "likelihood".
        max_batch: at most this many responses are read at a time.

    Raises:
        CheckerError: the measure needs a reference and there is none; another tokenizer than the card's.
    """

    def __init__(self, model: Any, reference: Any, tokenizer: Any, card: VerifierCard, *, max_batch: int = 256) -> None:
        super().__init__(tokenizer, card, context=context_of(model), max_batch=max_batch)
        self.max_tokens = min(self.max_tokens, max(1, _LOGITS // model.config.get_text_config().vocab_size))
        if card.measure == "log_ratio" and reference is None and not is_adapted(model):
            raise CheckerError("the measure 'log_ratio' compares with the reference model, and none was given")
        self.model, self.reference = model, reference

    @classmethod
    def load(
        cls, folder: Path, *, policy_tokenizer: Any = None, max_batch: int = 256, device: str = "auto"
    ) -> "LikelihoodVerifier":
        """The verifier in `folder`; see `load_verifier`."""
        from transformers import AutoModelForCausalLM

        card = read_card(folder)
        tokenizer = open_tokenizer(folder, card, policy_tokenizer=policy_tokenizer)
        model = open_weights(AutoModelForCausalLM, folder / "model", device, card.dtype)
        compares = card.measure == "log_ratio" and not is_adapted(model)
        reference = open_weights(AutoModelForCausalLM, folder / "reference", device) if compares else None
        return cls(model, reference, tokenizer, card, max_batch=max_batch)

    def _encode(self, prompt: str, response: str) -> Encoded | None:
        return self.encoder.whole(prompt, response)

    def _read(self, batch: Sequence[Encoded]) -> list[float]:
        ids, mask = padded([one.ids for one in batch], device=self.model.device)
        begins = torch.tensor([one.begin for one in batch], device=ids.device)
        logprobs = mean_logprobs(self.model, ids, mask, begins)
        if self.card.measure == "log_ratio":
            logprobs = logprobs - self._reference_logprobs(ids, mask, begins)
        return [float(value) for value in logprobs]

    def _reference_logprobs(self, ids: Tensor, mask: Tensor, begins: Tensor) -> Tensor:
        if self.reference is not None:
            return mean_logprobs(self.reference, ids, mask, begins)
        with self.model.disable_adapter():
            return mean_logprobs(self.model, ids, mask, begins)

    def _models(self) -> list[Any]:
        return [self.model] if self.reference is None else [self.model, self.reference]

    def _save_weights(self, folder: Path) -> None:
        save_weights(self.model, folder / "model")
        if self.reference is not None and self.card.measure == "log_ratio":
            save_weights(self.reference, folder / "reference")


_LOGITS = 2**28
"""Logits of one batch at most: 1 GiB in float32. A vocabulary of 150,000 makes a batch of 1,700 tokens of it."""


def mean_logprobs(model: Any, ids: Tensor, mask: Tensor, begins: Tensor) -> Tensor:
    """Mean log-probability (R,) of the tokens of rows `ids` (R, T) from place `begins` (R,) on, given all before
    them."""
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    places = torch.arange(1, ids.shape[1], device=ids.device)
    response = (places[None] >= begins[:, None]) & (mask[:, 1:] == 1)
    return -(losses * response).sum(1) / response.sum(1)


_HEAD = "head.safetensors"


# A language model's body with one number a token on top.


class ScoringModel(nn.Module):
    """Hidden states of a transformer, and from each a logit.

    Args:
        body: a transformers model without a language-model head (`AutoModel`, or `model.base_model` of a causal one),
            or an adapter on one.
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

    def save(self, folder: Path, *, body: bool = True) -> None:
        """Write the body to `folder`/model, unless it is kept elsewhere, and the head beside it."""
        from safetensors.torch import save_file

        if body:
            save_weights(self.body, folder / "model")
        save_file({name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}, folder / _HEAD)

    @classmethod
    def load(cls, folder: Path, *, base: str = "", device: str = "auto", dtype: str = "auto") -> "ScoringModel":
        """What `save` wrote, on `device`; its body is `base`, where that is given, or an adapter, in `dtype`.

        Raises:
            CheckerError: weights are missing or do not fit.
        """
        from safetensors.torch import load_file
        from transformers import AutoModel

        if base:
            body = open_base(AutoModel, base, folder, device, dtype)
        else:
            body = open_weights(AutoModel, folder / "model", device, dtype)
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
    def load(cls, folder: Path, *, policy_tokenizer: Any = None, max_batch: int = 256, device: str = "auto") -> Self:
        """The verifier in `folder`; see `load_verifier`."""
        card = read_card(folder)
        tokenizer = open_tokenizer(folder, card, policy_tokenizer=policy_tokenizer)
        model = ScoringModel.load(folder, base=card.base, device=device, dtype=card.dtype)
        return cls(model, tokenizer, card, max_batch=max_batch)

    def _models(self) -> list[Any]:
        return [self.model]

    def _save_weights(self, folder: Path) -> None:
        self.model.save(folder, body=not self.card.base)


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


# A verifier from its folder, whatever its kind.


_KINDS: dict[str, type[LikelihoodVerifier] | type[ClassifierVerifier] | type[StepwiseVerifier]] = {
    "likelihood": LikelihoodVerifier,
    "classifier": ClassifierVerifier,
    "stepwise": StepwiseVerifier,
}


@no_unseen_bars()
@undivided()
def load_verifier(
    folder: str | Path, *, policy_tokenizer: Any = None, max_batch: int = 256, device: str = "auto"
) -> ModelVerifier:
    """The verifier that was saved in `folder`, ready to read on `device`.

    Args:
        folder: as `ModelVerifier.save` and `selfcorrect train vstar` write it.
        policy_tokenizer: of the policy whose answers are to be scored; it must be the verifier's own.
        max_batch: at most this many responses are read at a time.
        device: "auto" is the accelerator where there is one; else as torch calls them.

    Raises:
        CheckerError: the folder is no verifier's or is damaged, its base cannot be found, or a tokenizer is not the one
            it was trained with.
        ConfigurationError: the device is not there.
    """
    path = Path(folder)
    kind = _KINDS[read_card(path).kind]
    return kind.load(path, policy_tokenizer=policy_tokenizer, max_batch=max_batch, device=device)
