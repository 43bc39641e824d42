"""A head fitted to a body as it is: logistic regression on hidden states, read once (Alain & Bengio 2016, arXiv
1610.01644; as the beginning of fine-tuning Kumar et al. 2022, arXiv 2202.10054).

A language model's hidden states at the end of an answer have most of their size in common: of Qwen2.5-Coder-1.5B's
5,700 (the sum of absolute values over 1,536 numbers) 420 differ between answers. A gradient step that moves the head
moves the logits of all answers by what they have in common, first. So the states are centred and scaled, the regression
is fitted to its optimum, and the centring is folded into the head's weights.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifiers.base import padded, reading
from selfcorrect.rewards.verifiers.encoding import in_batches
from selfcorrect.rewards.verifiers.kinds import ScoringModel

Array = NDArray[np.float64]

_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Of the squared weights, per example; the one whose held-out likelihood is highest is taken."""
_FOLDS = 5
_TOKENS, _ROWS = 8192, 256
_STILL = 1e-3
"""A number that moves less than this share of the mean one is left out: its scale would be made of rounding."""


def hidden_states(model: ScoringModel, ids: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> list[Tensor]:
    """The states (P, H) of the body at the `places` of each row of `ids`, float32 and in main memory."""
    states: list[Tensor | None] = [None] * len(ids)
    device = next(model.body.parameters()).device
    with reading([model]):
        for numbers in in_batches([len(row) for row in ids], _ROWS, _TOKENS):
            tokens, mask = padded([ids[number] for number in numbers], device=device)
            hidden = model.body(input_ids=tokens, attention_mask=mask).last_hidden_state
            for row, number in enumerate(numbers):
                states[number] = hidden[row, list(places[number])].float().cpu()
    return [state for state in states if state is not None]


@dataclass(frozen=True)
class FittedHead:
    """A logistic regression on hidden states.

    Attributes:
        weight: (H,), of the states as they are.
        bias: of the logit.
        penalty: the one that was chosen.
        held_out_loss: mean cross-entropy on the folds that were held out, in nats.
    """

    weight: Array
    bias: float
    penalty: float
    held_out_loss: float

    def put_into(self, head: torch.nn.Linear) -> None:
        """Set the head's weights."""
        with torch.no_grad():
            head.weight.copy_(torch.as_tensor(self.weight[None]))
            head.bias.fill_(self.bias)


def fit_head(states_NH: Array, targets_N: Array, groups: Sequence[Hashable]) -> FittedHead:
    """The regression of `targets_N`, each in [0, 1], on `states_NH`, with the penalty that does best on held-out
    groups.

    Args:
        states_NH: hidden states.
        targets_N: outcomes, or shares of right answers.
        groups: of each row, its problem: no problem is on both sides of a fold.

    Raises:
        TrainingError: the sizes do not agree, states are not finite, or there are fewer groups than folds.
    """
    if not len(states_NH) == len(targets_N) == len(groups):
        raise TrainingError(f"{len(states_NH)} states, {len(targets_N)} targets and {len(groups)} groups do not agree")
    if not np.isfinite(states_NH).all():
        raise TrainingError(
            "the model's hidden states are not finite: its weights are damaged, or policy.dtype too narrow"
        )
    names = list(dict.fromkeys(groups))
    if len(names) < _FOLDS:
        raise TrainingError(
            f"a head is fitted on answers to at least {_FOLDS} problems, got {len(names)}: raise vstar.problems"
        )
    fold_of = {name: number % _FOLDS for number, name in enumerate(names)}
    folds_N = np.array([fold_of[group] for group in groups])
    losses = {penalty: _held_out(states_NH, targets_N, folds_N, penalty) for penalty in _PENALTIES}
    best = min(losses, key=lambda penalty: losses[penalty])
    weight_H, bias = _fitted(states_NH, targets_N, best)
    return FittedHead(weight_H, bias, best, losses[best])


def _held_out(states_NH: Array, targets_N: Array, folds_N: NDArray[np.int64], penalty: float) -> float:
    """Mean cross-entropy of every fold under what is fitted to the others."""
    total = 0.0
    for fold in range(_FOLDS):
        out = folds_N == fold
        weight_H, bias = _fitted(states_NH[~out], targets_N[~out], penalty)
        total += float(_cross_entropy(states_NH[out] @ weight_H + bias, targets_N[out]).sum())
    return total / len(targets_N)


def _cross_entropy(logits_N: Array, targets_N: Array) -> Array:
    return np.logaddexp(0.0, logits_N) - targets_N * logits_N


def _fitted(states_NH: Array, targets_N: Array, penalty: float) -> tuple[Array, float]:
    """Weights and bias, of the states as they are, that are best under the penalty on those of the scaled ones."""
    from scipy.optimize import minimize

    mean_H, scale_H = states_NH.mean(0), states_NH.std(0)
    moving_H = scale_H > _STILL * scale_H.mean()
    inverse_H = np.divide(1.0, scale_H, out=np.zeros_like(scale_H), where=moving_H) / np.sqrt(max(1, moving_H.sum()))
    scaled_NH = (states_NH - mean_H) * inverse_H

    def loss(point: Array) -> tuple[float, Array]:
        logits_N = scaled_NH @ point[:-1] + point[-1]
        wrong_N = (0.5 * (1 + np.tanh(0.5 * logits_N)) - targets_N) / len(targets_N)
        value = _cross_entropy(logits_N, targets_N).mean() + 0.5 * penalty / len(targets_N) * (point[:-1] ** 2).sum()
        slope_H = scaled_NH.T @ wrong_N + penalty / len(targets_N) * point[:-1]
        return float(value), np.append(slope_H, wrong_N.sum())

    found = minimize(loss, np.zeros(states_NH.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    weight_H = found.x[:-1] * inverse_H
    return weight_H, float(found.x[-1] - weight_H @ mean_H)
