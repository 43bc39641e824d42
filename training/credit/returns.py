"""What a call is paid: its own reward, or what came of it later. Rewards (C,) to returns (C,); NaN abstains.

A call without a reward of its own earns what follows it, where anything is paid at or after it. A reward that its judge
failed to give makes every return that contains it unknown, so those calls abstain: it is never counted as 0.
"""

import torch
from torch import Tensor

from selfcorrect.training.credit.table import NAN, CallTable


def own(table: CallTable) -> Tensor:
    """Each call its own reward and nothing of any other call (SCoRe, arXiv 2409.12917, appendix A.4: discount 0)."""
    return table.rewards_C


def return_to_go(table: CallTable, gamma: float) -> Tensor:
    """G_k = r_k + gamma r_{k+1} + gamma^2 r_{k+2} + ..., over the calls of the episode from call k on.

    At gamma 1 its expected gradient is that of E[sum of all rewards]. Below 1 it is that of E[G_k] for every call k
    with the calls before it as given (the factor gamma^{k-1} of the discounted objective is left out, as everywhere in
    the field: Thomas, ICML 2014). At gamma 0 it is `own`.
    """
    return _summed(table.rewards_C, table, gamma)


def outcome(table: CallTable) -> Tensor:
    """The last reward of the episode to it and every call before it (GRPO on whole episodes; Search-R1)."""
    order = table.by_episode
    rewards_EK = order.spread(table.rewards_C, NAN)
    counts_EK = order.spread((table.paid_C | table.unjudged_C).long(), 0) > 0
    outcome_EK = torch.full_like(rewards_EK, NAN)
    last_E, found_E = torch.full_like(rewards_EK[:, :1].flatten(), NAN), torch.zeros(order.episodes, dtype=torch.bool)
    for place in reversed(range(order.longest)):
        first_seen_E = counts_EK[:, place] & ~found_E
        last_E = torch.where(first_seen_E, rewards_EK[:, place], last_E)
        found_E = found_E | first_seen_E
        outcome_EK[:, place] = last_E
    return order.collect(outcome_EK)


def progress(table: CallTable, gamma: float) -> Tensor:
    """Returns of difference rewards d_k = r_k - r_{k-1} (r_0 = 0), where k - 1 is the call of the same role before.

    Differences telescope: at gamma 1 the return is the last reward minus what had been reached before the call, which
    is `outcome` with a baseline for nothing; at gamma 0 it is `own` with the same baseline (potential-based shaping:
    Ng, Harada and Russell, ICML 1999).
    """
    return _summed(_differences(table), table, gamma)


def _differences(table: CallTable) -> Tensor:
    """(C,): NaN where the call is not paid, or the one before it in its role was not judged."""
    differences_C = torch.full_like(table.rewards_C, NAN)
    order = table.by_episode
    roles_EK = order.spread(table.roles_C, -1)
    rewards_EK = order.spread(table.rewards_C, NAN)
    counts_EK = order.spread((table.paid_C | table.unjudged_C).long(), 0) > 0
    differences_EK = order.spread(differences_C, NAN)
    for role in torch.unique(table.roles_C).tolist():
        reached_E = torch.zeros_like(rewards_EK[:, 0])
        for place in range(order.longest):
            here_E = (roles_EK[:, place] == role) & counts_EK[:, place]
            differences_EK[:, place] = torch.where(here_E, rewards_EK[:, place] - reached_E, differences_EK[:, place])
            reached_E = torch.where(here_E, rewards_EK[:, place], reached_E)
    return order.collect(differences_EK)


def _summed(rewards_C: Tensor, table: CallTable, gamma: float) -> Tensor:
    """Discounted sums from each call to the end of its episode. A NaN in the sum is 0 if the call is unpaid, else it
    stays."""
    if gamma == 0 or not len(rewards_C):
        return rewards_C
    order = table.by_episode
    unknown_C = torch.isnan(rewards_C) & (table.unjudged_C | table.paid_C)
    rewards_EK = order.spread(rewards_C, NAN)
    unknown_EK = order.spread(unknown_C.long(), 0) > 0
    returns_EK = torch.full_like(rewards_EK, NAN)
    running_E = torch.zeros_like(rewards_EK[:, 0])
    paid_E = torch.zeros(order.episodes, dtype=torch.bool)
    for place in reversed(range(order.longest)):
        reward_E = rewards_EK[:, place]
        earned_E = torch.where(torch.isnan(reward_E) & ~unknown_EK[:, place], torch.zeros_like(reward_E), reward_E)
        running_E = earned_E + gamma * running_E
        paid_E = paid_E | ~torch.isnan(reward_E) | unknown_EK[:, place]
        returns_EK[:, place] = torch.where(paid_E, running_E, torch.full_like(running_E, NAN))
    return order.collect(returns_EK)
