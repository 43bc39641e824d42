"""What is maximised in place of the expected advantage, token by token: PPO's clip and those that came after it.

Pure functions over (B, T); a turn is the tokens of one policy call. `turns_BT` is its index, -1 for context.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from selfcorrect.training.ppo.config import NormaliseLoss, Surrogate


@dataclass(frozen=True, slots=True)
class ClipRule:
    """How far a policy may move from the one that sampled.

    Args:
        surrogate: "clip" is PPO's (Schulman et al. 2017, Eq. 7), token by token; "cispo" clips the weight of a token's
            log-probability and never its gradient (MiniMax-M1, arXiv 2506.13585, Eq. 4); "gspo" is PPO's clip of the
            ratio of whole turns, the geometric mean of its tokens' (arXiv 2507.18071, Eq. 5 and 7).
        low, high: the ratio is kept within [1 - low, 1 + high]. GSPO's ratios are so near to 1 that its paper has 3e-4
            and 4e-4; CISPO's paper leaves the lower end free, with a `low` of 1.
        dual: for negative advantages the loss is never more than `dual` times the advantage (dual clip, Ye et al. 2020,
            arXiv 1912.09729, Eq. 5); above 1, usually 3. None is no such bound. Of "clip" and "gspo" only.
    """

    surrogate: Surrogate = "clip"
    low: float = 0.2
    high: float = 0.2
    dual: float | None = None


@dataclass(frozen=True, slots=True)
class Surrogates:
    """`objective_BT` has a gradient, the rest are detached; `clipped_BT` is where the clip took the gradient away, or
    for CISPO where it made the weight smaller."""

    objective_BT: Tensor
    ratio_BT: Tensor
    clipped_BT: Tensor


def surrogates(
    rule: ClipRule, logprobs_BT: Tensor, log_ratio_BT: Tensor, advantages_BT: Tensor, turns_BT: Tensor | None
) -> Surrogates:
    """The objective of every token.

    Args:
        logprobs_BT: of the sampled tokens under the current policy, with gradient.
        log_ratio_BT: log of current over sampling policy, with gradient; 0 on context.
        advantages_BT: of the token's turn.
        turns_BT: needed by "gspo".
    """
    if rule.surrogate == "cispo":
        ratio_BT = log_ratio_BT.exp().detach()
        kept_BT = ratio_BT.clamp(1 - rule.low, 1 + rule.high)
        return Surrogates(kept_BT * advantages_BT * logprobs_BT, ratio_BT, kept_BT != ratio_BT)
    if rule.surrogate == "gspo":
        if turns_BT is None:
            raise ValueError("the ratio of whole turns needs turns_BT")
        log_ratio_BT = mean_of_turn_BT(log_ratio_BT, turns_BT)
    ratio_BT = torch.exp(log_ratio_BT)
    kept_BT = torch.clamp(ratio_BT, 1 - rule.low, 1 + rule.high)
    free_BT, bounded_BT = ratio_BT * advantages_BT, kept_BT * advantages_BT
    objective_BT, clipped_BT = torch.minimum(free_BT, bounded_BT), free_BT > bounded_BT
    if rule.dual is not None:
        floor_BT = torch.where(advantages_BT < 0, rule.dual * advantages_BT, torch.full_like(advantages_BT, -torch.inf))
        clipped_BT = clipped_BT | (objective_BT < floor_BT)
        objective_BT = torch.maximum(objective_BT, floor_BT)
    return Surrogates(objective_BT, ratio_BT.detach(), clipped_BT.detach())


def mean_of_turn_BT(values_BT: Tensor, turns_BT: Tensor) -> Tensor:
    """Every token of a turn gets the mean over the turn; 0 on context. With gradient."""
    turns, values = turns_BT.flatten(), values_BT.flatten()
    sampled = turns >= 0
    index_N = torch.unique(turns[sampled], return_inverse=True)[1]
    if not len(index_N):
        return torch.zeros_like(values_BT)
    zeros = torch.zeros(int(index_N.max()) + 1, dtype=values.dtype, device=values.device)
    counts = zeros.index_add(0, index_N, torch.ones_like(values[sampled]))
    means = zeros.index_add(0, index_N, values[sampled]) / counts
    return torch.zeros_like(values).masked_scatter(sampled, means[index_N]).view_as(values_BT)


def token_weights_BT(turns_BT: Tensor, by: NormaliseLoss) -> Tensor:
    """How much each sampled token counts; 0 on context. `learning_items` is what the weighted loss is divided by.

    Args:
        turns_BT: index of the turn that sampled the token, -1 for context.
        by: "token": every token of the batch alike (DAPO, arXiv 2503.14476, Eq. 8); "turn": every turn alike, its
            tokens sharing its weight (GRPO, arXiv 2402.03300, Eq. 3: long wrong answers are punished less a token); a
            number: every token 1 / number, whatever the batch holds (Dr. GRPO, arXiv 2503.20783, Eq. 2).
    """
    ones_BT = (turns_BT >= 0).to(torch.float32)
    if by == "token":
        return ones_BT
    if isinstance(by, int):
        return ones_BT / by
    turns = turns_BT.flatten()
    counts = torch.bincount(turns[turns >= 0], minlength=1)
    return ones_BT / counts[turns.clamp(min=0)].view_as(turns_BT)


def learning_items(mask_BT: Tensor, weights_BT: Tensor, turns_BT: Tensor, by: NormaliseLoss) -> Tensor:
    """How many tokens (or by turns and by a number turns) learn: what the weighted loss of a batch is divided by."""
    if not isinstance(by, int):
        return (mask_BT * weights_BT).sum()
    return torch.tensor(float(torch.unique(turns_BT[mask_BT > 0]).numel()))
