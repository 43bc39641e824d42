"""Generalised advantage estimation inside turns and across them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from selfcorrect.training.credit.table import NAN, ByEpisode
from selfcorrect.training.ppo.config import CriticConfig


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """The sampled tokens of a batch, episode by episode in the order in which they were drawn, whatever rows they are
    in.

    Attributes:
        flat_N: their places in the flattened (R, T) tensors of the batch, call after call.
        calls_N: the call that sampled each.
        order: where each stands in its episode.
    """

    flat_N: Tensor
    calls_N: Tensor
    order: ByEpisode

    @classmethod
    def of(cls, calls_RT: Tensor, episodes_C: Tensor) -> "SampledTokens":
        """From the index of the sampling call at every position, -1 for context."""
        calls = calls_RT.flatten()
        flat_N = (calls >= 0).nonzero().flatten()
        flat_N = flat_N[torch.argsort(calls[flat_N], stable=True)]  # rows grow to the right: positions stay in order
        calls_N = calls[flat_N]
        return cls(flat_N, calls_N, ByEpisode.of(episodes_C[calls_N]))

    def gather(self, values_RT: Tensor) -> Tensor:
        """(N,)"""
        return values_RT.flatten()[self.flat_N]

    def scatter(self, values_N: Tensor, like_RT: Tensor) -> Tensor:
        """(R, T), 0 on context."""
        flat = torch.zeros(like_RT.numel(), dtype=values_N.dtype)
        flat[self.flat_N] = values_N
        return flat.view(like_RT.shape)

    @property
    def starts_N(self) -> Tensor:
        """Bool, the first token of each call."""
        before_N = torch.cat([self.calls_N[:1] - 1, self.calls_N[:-1]])
        return self.calls_N != before_N

    @property
    def ends_N(self) -> Tensor:
        """Bool, the last token of each call."""
        after_N = torch.cat([self.calls_N[1:], self.calls_N[-1:] + 1])
        return self.calls_N != after_N


@dataclass(frozen=True, slots=True)
class Decay:
    """What is left of the future one step on: `discount` of the rewards, `trace` (lambda) of trust in them."""

    discount: float
    trace: float


def gae(
    rewards_EN: Tensor, values_EN: Tensor, turns_EN: Tensor, *, within: Decay, across: Decay
) -> tuple[Tensor, Tensor]:
    """Schulman et al. 2016 (arXiv 1506.02438), Eq. 16, with a decay of its own from a turn to the next.

    Args:
        rewards_EN: (E, N) reward of each token (usually the turn's on its last token); NaN is not known: it makes
            everything before it that it reaches unknown too.
        values_EN: (E, N) value predicted before each token.
        turns_EN: (E, N) which turn sampled the token; -1 for padding, at the end only.
        within: from a token to the next of its turn.
        across: from the last token of a turn to the first of the next; discount 0 lets nothing flow between turns.

    Returns:
        advantages and returns (the critic's targets), (E, N), NaN where not known, 0 on padding.
    """
    advantages_EN = torch.zeros_like(values_EN)
    running_E, value_E = torch.zeros_like(values_EN[:, 0]), torch.zeros_like(values_EN[:, 0])
    turn_E = torch.full_like(turns_EN[:, 0], -1)
    for place in reversed(range(values_EN.shape[1])):
        here_E = turns_EN[:, place]
        same_E, none_E = here_E == turn_E, turn_E < 0
        discount_E = _chosen(same_E, within.discount, across.discount, like=values_EN).masked_fill(none_E, 0.0)
        trace_E = _chosen(same_E, within.trace, across.trace, like=values_EN)
        # 0 times unknown is 0: what does not flow back makes nothing unknown.
        trusted_E = torch.where(trace_E > 0, trace_E * running_E, torch.zeros_like(running_E))
        future_E = torch.where(discount_E > 0, discount_E * (value_E + trusted_E), torch.zeros_like(running_E))
        running_E = rewards_EN[:, place] + future_E - values_EN[:, place]
        running_E = torch.where(here_E >= 0, running_E, torch.zeros_like(running_E))
        advantages_EN[:, place] = running_E
        value_E, turn_E = values_EN[:, place], here_E
    returns_EN = torch.where(turns_EN >= 0, advantages_EN + values_EN, torch.zeros_like(values_EN))
    return advantages_EN, returns_EN


def _chosen(where_E: Tensor, yes: float, no: float, *, like: Tensor) -> Tensor:
    """(E,) of the dtype of `like`: torch.where makes float32 of two numbers."""
    return torch.where(where_E, like.new_tensor(yes), like.new_tensor(no))


def earned(rewards_C: Tensor, unjudged_C: Tensor, episodes_C: Tensor, *, across: bool) -> Tensor:
    """(C,) rewards as `gae` wants them: a call that earns nothing itself gets 0 if something is paid after it and
    flows back (`across`), else NaN, so that it abstains."""
    if not across:
        return rewards_C
    order = ByEpisode.of(episodes_C)
    counts_EK = order.spread((~torch.isnan(rewards_C) | unjudged_C).long(), 0)
    paid_later_C = order.collect(counts_EK.flip(1).cumsum(1).flip(1)) > 0
    silent_C = torch.isnan(rewards_C) & ~unjudged_C
    nothing_C = torch.where(paid_later_C, torch.zeros_like(rewards_C), torch.full_like(rewards_C, NAN))
    return torch.where(silent_C, nothing_C, rewards_C)


def estimated(paid_C: Tensor, values_RT: Tensor, sampled: SampledTokens, config: CriticConfig) -> tuple[Tensor, Tensor]:
    """Advantages and returns (R, T) of every sampled token, NaN where not known, 0 on context.

    Args:
        paid_C: what each call earned, see `earned`.
        values_RT: the critic's value before each token.
        sampled: where the tokens are.
        config: at level "turn" a turn has one step, with the value before its first token.
    """
    across = Decay(config.turn_discount, config.turn_trace)
    values_N = sampled.gather(values_RT)
    if config.level == "turn":
        return _turn_by_turn(paid_C, values_N, sampled, across, values_RT)
    order = sampled.order
    rewards_N = torch.where(sampled.ends_N, paid_C[sampled.calls_N], torch.zeros_like(values_N))
    advantages_EN, returns_EN = gae(
        order.spread(rewards_N, 0.0),
        order.spread(values_N, 0.0),
        order.spread(sampled.calls_N, -1),
        within=Decay(config.discount, config.trace),
        across=across,
    )
    return (
        sampled.scatter(order.collect(advantages_EN), values_RT),
        sampled.scatter(order.collect(returns_EN), values_RT),
    )


def _turn_by_turn(
    paid_C: Tensor, values_N: Tensor, sampled: SampledTokens, across: Decay, like_RT: Tensor
) -> tuple[Tensor, Tensor]:
    starts_N = sampled.starts_N
    calls_M, places_N = sampled.calls_N[starts_N], starts_N.long().cumsum(0) - 1
    order = ByEpisode.of(sampled.order.rows_C[starts_N])
    advantages_EK, returns_EK = gae(
        order.spread(paid_C[calls_M], 0.0),
        order.spread(values_N[starts_N], 0.0),
        order.spread(calls_M, -1),
        within=across,
        across=across,
    )
    return (
        sampled.scatter(order.collect(advantages_EK)[places_N], like_RT),
        sampled.scatter(order.collect(returns_EK)[places_N], like_RT),
    )
