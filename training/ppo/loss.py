"""PPO's clipped loss with a KL coefficient for every turn: pure functions over tensors of shape (B, T).

B rows, T token positions. Only positions with mask 1 (tokens the policy sampled) count. Every term shares one
normaliser, so that a KL coefficient keeps the unit of the papers: reward per nat.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from selfcorrect.training.engines import MismatchSettings
from selfcorrect.training.ppo.advantages import agree, scalar
from selfcorrect.training.ppo.config import NormaliseLoss, Surrogate

# What is maximised in place of the expected advantage, token by token: PPO's clip and those that came after it. A turn
# is the tokens of one policy call; `turns_BT` is its index, -1 for context.


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
    return ones_BT / counts[turns.clamp(min=0)].clamp(min=1).view_as(turns_BT)  # context may point at an empty turn


def learning_items(mask_BT: Tensor, weights_BT: Tensor, turns_BT: Tensor, by: NormaliseLoss) -> Tensor:
    """How many tokens (or by turns and by a number turns) learn: what the weighted loss of a batch is divided by."""
    if not isinstance(by, int):
        return (mask_BT * weights_BT).sum()
    return torch.tensor(float(torch.unique(turns_BT[mask_BT > 0]).numel()))


def mismatch_weights_BT(log_ratio_BT: Tensor, turns_BT: Tensor, rule: MismatchSettings) -> Tensor:
    """What every term of a token's loss is multiplied by, where another engine drew it: the importance ratio
    trainer / engine of the token, its turn or its row, truncated or masked (truncated importance sampling; TRL's
    `vllm_importance_sampling_mode` has the same for tokens and rows).

    Args:
        log_ratio_BT: log-probability of the sampled token under the policy before the update, by the trainer, minus
            that of the engine when it was drawn.
        turns_BT: index of the turn that sampled the token, -1 for context.
        rule: says which.

    Returns:
        (B, T), in [low, high] or 0; 1 on context.
    """
    sampled_BT = turns_BT >= 0
    whole_BT = torch.where(sampled_BT, log_ratio_BT, torch.zeros_like(log_ratio_BT)).double()
    if rule.level == "sequence":
        whole_BT = whole_BT.sum(1, keepdim=True).expand_as(whole_BT)
    elif rule.level == "turn":
        turns = turns_BT.clamp(min=0).flatten()
        totals = torch.zeros(int(turns.max()) + 1, dtype=torch.double).to(turns.device)
        whole_BT = totals.index_add(0, turns, whole_BT.flatten())[turns].view_as(whole_BT)
    ratio_BT = whole_BT.exp()
    if rule.by == "mask":
        kept_BT = torch.where((ratio_BT >= rule.low) & (ratio_BT <= rule.high), ratio_BT, torch.zeros_like(ratio_BT))
    else:
        kept_BT = ratio_BT.clamp(rule.low, rule.high)
    return torch.where(sampled_BT, kept_BT, torch.ones_like(kept_BT)).to(log_ratio_BT.dtype)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """What the loss needs besides the policy's current log-probabilities. All (B, T).

    Attributes:
        old_logprobs_BT: under the policy that sampled.
        reference_logprobs_BT: under the reference model; None where no turn has a KL coefficient.
        advantages_BT: every token carries the advantage of its turn.
        kl_coefficients_BT: beta of the token's turn, >= 0.
        mask_BT: 1.0 for sampled tokens that learn, else 0.0.
        normaliser: what the summed loss is divided by; the number of learning tokens, or of turns, of the whole batch.
        weights_BT: how much each token counts, see `token_weights_BT`; None is all alike.
        turns_BT: which turn sampled the token, -1 for context; needed where whole turns are clipped.
    """

    old_logprobs_BT: Tensor
    reference_logprobs_BT: Tensor | None
    advantages_BT: Tensor
    kl_coefficients_BT: Tensor
    mask_BT: Tensor
    normaliser: Tensor | float
    weights_BT: Tensor | None = None
    turns_BT: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss and what a log should show of it. `total` has a gradient, the rest are detached.

    Attributes:
        total: scalar to minimise.
        kl_BT: per-token k1 estimate of KL(sampling policy || reference), in nats; zeros without a reference. It can be
            negative, but its mean is unbiased and no single token makes it huge, as k3 does where the reference all but
            rules a token out.
        ratio_BT: policy / sampling policy; of whole turns where these are clipped.
        clipped_BT: bool, where the clip took the gradient away.
    """

    total: Tensor
    kl_BT: Tensor
    ratio_BT: Tensor
    clipped_BT: Tensor


def ppo_loss(
    logprobs_BT: Tensor,
    batch: TokenBatch,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    surrogate: Surrogate = "clip",
    dual_clip: float | None = None,
    entropies_BT: Tensor | None = None,
    entropy_coefficient: float = 0.0,
) -> LossTerms:
    """Minus PPO's surrogate or a later one, plus beta_turn * KL(policy || reference), minus an entropy bonus.

    The KL term is k3 times the importance ratio: on-policy its expected gradient is that of KL(policy || reference)
    given the prefix, where k1 as a loss has none and plain k3 has that of the other direction. How a token changes the
    KL of *later* tokens of its turn is `future_kl_BT`'s business.

    Args:
        logprobs_BT: (B, T) log-probabilities of the sampled tokens under the current policy, with gradient.
        batch: the rest.
        clip_low, clip_high, surrogate, dual_clip: see `ClipRule`.
        entropies_BT: (B, T) entropy of the policy's next-token distribution, with gradient; needed for a bonus.
        entropy_coefficient: weight of the bonus, per token.

    Raises:
        ValueError: if a tensor has not the shape of `logprobs_BT`, the normaliser is no single number, or a bonus lacks
            its entropies.
    """
    _check(logprobs_BT, batch, entropies_BT)
    mask_BT = batch.mask_BT
    # Context positions hold no meaningful log-probabilities: keep their possible infinities out of exp().
    log_ratio_BT = torch.where(mask_BT > 0, logprobs_BT - batch.old_logprobs_BT, torch.zeros_like(logprobs_BT))
    rule = ClipRule(surrogate, clip_low, clip_high, dual_clip)
    maximised = surrogates(rule, logprobs_BT, log_ratio_BT, batch.advantages_BT, batch.turns_BT)
    loss_BT = -maximised.objective_BT + batch.kl_coefficients_BT * _k3(logprobs_BT, batch) * torch.exp(log_ratio_BT)
    if entropy_coefficient:
        if entropies_BT is None:
            raise ValueError("an entropy bonus needs entropies_BT")
        loss_BT = loss_BT - entropy_coefficient * entropies_BT
    weights_BT = mask_BT if batch.weights_BT is None else mask_BT * batch.weights_BT
    # 0 times what a masked token has, be it infinite, must stay 0.
    total = torch.where(mask_BT > 0, loss_BT * weights_BT, torch.zeros_like(loss_BT)).sum() / batch.normaliser
    return LossTerms(total, _k1(batch).detach(), maximised.ratio_BT, maximised.clipped_BT & (mask_BT > 0))


def _check(logprobs_BT: Tensor, batch: TokenBatch, entropies_BT: Tensor | None) -> None:
    agree(
        logprobs_BT=logprobs_BT,
        old_logprobs_BT=batch.old_logprobs_BT,
        reference_logprobs_BT=batch.reference_logprobs_BT,
        advantages_BT=batch.advantages_BT,
        kl_coefficients_BT=batch.kl_coefficients_BT,
        mask_BT=batch.mask_BT,
        entropies_BT=entropies_BT,
        weights_BT=batch.weights_BT,
        turns_BT=batch.turns_BT,
    )
    scalar("normaliser", batch.normaliser)


def _k3(logprobs_BT: Tensor, batch: TokenBatch) -> Tensor:
    if batch.reference_logprobs_BT is None:
        return torch.zeros_like(logprobs_BT)
    difference_BT = batch.reference_logprobs_BT - logprobs_BT
    difference_BT = torch.where(batch.mask_BT > 0, difference_BT, torch.zeros_like(difference_BT))
    return torch.exp(difference_BT) - 1 - difference_BT


def _k1(batch: TokenBatch) -> Tensor:
    if batch.reference_logprobs_BT is None:
        return torch.zeros_like(batch.old_logprobs_BT)
    difference_BT = batch.old_logprobs_BT - batch.reference_logprobs_BT
    return torch.where(batch.mask_BT > 0, difference_BT, torch.zeros_like(difference_BT))


def future_kl_BT(
    old_logprobs_BT: Tensor, reference_logprobs_BT: Tensor, kl_coefficients_BT: Tensor, turns_BT: Tensor
) -> Tensor:
    """What each token is charged for the KL of the later tokens of its own turn: beta * sum over s > t of k1_s.

    Subtracted from the advantages, it completes the per-token KL term to the gradient of the KL between whole turns,
    KL(policy(.|x) || reference(.|x)), which is what SCoRe's equations 3 and 4 say.

    Args:
        old_logprobs_BT, reference_logprobs_BT: (B, T), under the sampling policy and the reference; no gradient.
        kl_coefficients_BT: (B, T) beta of each token's turn.
        turns_BT: (B, T) turn index, -1 for context; a turn's tokens are contiguous.

    Returns:
        (B, T), 0 on context.

    Raises:
        ValueError: if the shapes differ.
    """
    agree(
        turns_BT=turns_BT,
        old_logprobs_BT=old_logprobs_BT,
        reference_logprobs_BT=reference_logprobs_BT,
        kl_coefficients_BT=kl_coefficients_BT,
    )
    sampled_BT = turns_BT >= 0
    charge_BT = kl_coefficients_BT * (old_logprobs_BT - reference_logprobs_BT)
    charge_BT = torch.where(sampled_BT, charge_BT, torch.zeros_like(charge_BT))
    # What all of the row's tokens up to here are charged; a turn's own is the difference to where it ends.
    so_far_BT = charge_BT.double().cumsum(1)
    after_BT = torch.cat([turns_BT[:, 1:], torch.full_like(turns_BT[:, :1], -2)], dim=1)
    ends = (turns_BT != after_BT).flatten().nonzero().flatten()
    stretch = torch.searchsorted(ends, torch.arange(turns_BT.numel(), device=ends.device))
    at_end_BT = so_far_BT.flatten()[ends[stretch]].view_as(so_far_BT)
    later_BT = (at_end_BT - so_far_BT).to(charge_BT.dtype)
    return torch.where(sampled_BT, later_BT, torch.zeros_like(later_BT))


def value_loss(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor, normaliser: Tensor | float) -> Tensor:
    """Half the squared error of the critic on sampled tokens, over the normaliser.

    Raises:
        ValueError: if the shapes differ, or the normaliser is no single number.
    """
    agree(values_BT=values_BT, returns_BT=returns_BT, mask_BT=mask_BT)
    scalar("normaliser", normaliser)
    return 0.5 * (((values_BT - returns_BT) ** 2) * mask_BT).sum() / normaliser
