"""What is trained: a model that thinks (or pauses), or, for comparison, the plain model. Both answer the same two
questions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from selfcorrect.agents.quiet.model import QuietModel, greedily, sampled
from selfcorrect.agents.quiet.streams import read_texts
from selfcorrect.training.quiet_star.loss import quiet_loss, talk_logprobs, targets_of
from selfcorrect.training.quiet_star.settings import LossSettings, ThoughtSettings


@dataclass(slots=True)
class StepLoss:
    """The loss of a step, with gradient, and the figures that are logged."""

    total: Tensor
    figures: dict[str, float]


@dataclass(slots=True)
class Predictions:
    """How well each token was predicted. Column c is about token c + 1 of the text; U = T - 1 columns.

    Attributes:
        nll_BU: without a thought, nats.
        talk_BU: with one; the same where nobody thinks.
        right_BU, talk_right_BU: whether the token was the likeliest.
        weight_BU: of the thought.
        thoughts_BUM: its tokens.
        valid_BU: whether there is such a token.
    """

    nll_BU: Tensor
    talk_BU: Tensor
    right_BU: Tensor
    talk_right_BU: Tensor
    weight_BU: Tensor
    thoughts_BUM: Tensor
    valid_BU: Tensor


class Learner(Protocol):
    """Something to train on texts (B, T)."""

    module: nn.Module

    def loss(self, ids_BT: Tensor, mask_BT: Tensor, generator: torch.Generator) -> StepLoss:
        """The loss of these texts; `generator` draws the thoughts."""
        ...

    def predict(self, ids_BT: Tensor, mask_BT: Tensor) -> Predictions:
        """Predictions of every token, thoughts greedy."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model."""
        ...


class PlainLearner:
    """Goes on training a language model on the text: what thinking has to beat."""

    def __init__(self, lm: Any, tokenizer: Any) -> None:
        self.module: nn.Module = lm
        self._tokenizer = tokenizer

    def loss(self, ids_BT: Tensor, mask_BT: Tensor, generator: torch.Generator) -> StepLoss:
        logits_BTV = self.module(input_ids=ids_BT, attention_mask=mask_BT).logits
        nll_BU, _ = _plain(logits_BTV, ids_BT)
        valid_BU = mask_BT[:, 1:]
        nll = (nll_BU * valid_BU).sum() / valid_BU.sum()
        return StepLoss(
            nll, {"nll": float(nll.detach()), "nll_base": float(nll.detach()), "tokens": int(mask_BT.sum())}
        )

    @torch.no_grad()
    def predict(self, ids_BT: Tensor, mask_BT: Tensor) -> Predictions:
        nll_BU, right_BU = _plain(self.module(input_ids=ids_BT, attention_mask=mask_BT).logits, ids_BT)
        nothing = ids_BT.new_zeros(*nll_BU.shape, 0)
        return Predictions(
            nll_BU, nll_BU, right_BU, right_BU, torch.zeros_like(nll_BU), nothing, mask_BT[:, 1:] & mask_BT[:, :-1]
        )

    def save(self, folder: Path) -> None:
        self.module.save_pretrained(folder)  # type: ignore[operator]
        self._tokenizer.save_pretrained(folder)


class ThinkingLearner:
    """Thinks at every position of every text, and learns which thoughts helped."""

    def __init__(self, model: QuietModel, thought: ThoughtSettings, loss: LossSettings) -> None:
        self.module: nn.Module = model
        self._model, self._thought, self._loss = model, thought, loss

    def loss(self, ids_BT: Tensor, mask_BT: Tensor, generator: torch.Generator) -> StepLoss:
        count, ahead = self._thought.per_position, self._thought.ahead
        reading = read_texts(self._model.lm, ids_BT, mask_BT)
        anchor_BS = _everywhere(ids_BT, count)
        thoughts = self._model.think(
            reading, anchor_BS, sampled(generator), ahead=ahead, straight_through=self._loss.straight_through
        )
        targets = targets_of(ids_BT, mask_BT, anchor_BS, ahead)
        talk_BNS = talk_logprobs(reading.logits_BTV, thoughts.logits_BNSV, thoughts.weight_BS, anchor_BS, targets)
        terms = quiet_loss(
            talk_BNS,
            thoughts.logprob_BS,
            targets,
            thoughts=count,
            policy_weight=self._loss.policy_weight if self._thought.kind == "thought" else 0.0,
            positive_part=self._loss.positive_part,
        )
        next_BS = targets.valid_BNS[:, 0]
        base_BU, _ = _plain(reading.logits_BTV.detach(), ids_BT)
        valid_BU = mask_BT[:, 1:]
        nll = -float((talk_BNS[:, 0].detach() * next_BS).sum() / next_BS.sum())
        base = float((base_BU * valid_BU).sum() / valid_BU.sum())
        read = anchor_BS.numel() * (self._model.thinking.overhead + ahead - 1)
        figures = {
            "nll": nll,
            "nll_base": base,
            "gain": base - nll,
            "nll_ahead": float(terms.nll.detach()),
            "advantage": terms.advantage,
            **_weights(thoughts.weight_BS.detach()[next_BS]),
            "tokens": read + int(mask_BT.sum()),
        }
        return StepLoss(terms.total, figures)

    @torch.no_grad()
    def predict(self, ids_BT: Tensor, mask_BT: Tensor) -> Predictions:
        reading = read_texts(self._model.lm, ids_BT, mask_BT)
        anchor_BU = _everywhere(ids_BT, 1)
        thoughts = self._model.think(reading, anchor_BU, greedily)
        targets = targets_of(ids_BT, mask_BT, anchor_BU, 1)
        talk_BU = talk_logprobs(reading.logits_BTV, thoughts.logits_BNSV, thoughts.weight_BS, anchor_BU, targets)[:, 0]
        nll_BU, right_BU = _plain(reading.logits_BTV, ids_BT)
        mixed_BUV = torch.lerp(reading.logits_BTV[:, :-1], thoughts.logits_BNSV[:, 0], thoughts.weight_BS[..., None])
        return Predictions(
            nll_BU,
            -talk_BU,
            right_BU,
            mixed_BUV.argmax(-1) == ids_BT[:, 1:],
            thoughts.weight_BS,
            thoughts.ids_BSM,
            targets.valid_BNS[:, 0],
        )

    def save(self, folder: Path) -> None:
        self._model.save(folder)


def _weights(weight_W: Tensor) -> dict[str, float]:
    """The mean weight of thoughts, and that of the tenth that weighs most: whether the head has learnt where to
    listen."""
    top = weight_W.topk(max(1, len(weight_W) // 10)).values
    return {"weight": float(weight_W.mean()), "weight_top": float(top.mean())}


def _everywhere(ids_BT: Tensor, count: int) -> Tensor:
    """`count` streams at every column but the last, which nothing follows: (B, (T - 1) x count)."""
    columns_S = torch.arange(ids_BT.shape[1] - 1, device=ids_BT.device).repeat_interleave(count)
    return columns_S.expand(len(ids_BT), -1)


def _plain(logits_BTV: Tensor, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """NLL (B, U) of each next token, and whether it was the likeliest."""
    logits_BUV = logits_BTV[:, :-1].float()
    nll_BU = nn.functional.cross_entropy(logits_BUV.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
    return nll_BU.view(len(ids_BT), -1), logits_BUV.argmax(-1) == ids_BT[:, 1:]
