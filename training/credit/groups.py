"""Ways that bring a comparison of their own: GiGPO, MT-GRPO, and revisions of one shared answer."""

import torch
from torch import Tensor

from selfcorrect.training.credit.baselines import group_mean, leave_one_out_exact, leave_one_out_same_state
from selfcorrect.training.credit.returns import outcome, return_to_go
from selfcorrect.training.credit.settings import AnchorGroups, Tree, TurnOutcome
from selfcorrect.training.credit.table import NAN, CallTable


def anchor_groups(table: CallTable, settings: AnchorGroups) -> Tensor:
    """GiGPO (arXiv 2505.10978, Eq. 3, 6 and 8): A = A_E(episode) + omega A_S(turn).

    A_E compares the sum of the episode's rewards with the other episodes of the problem, A_S the discounted return from
    the turn on with the turns of any episode that started from the same state: here, that were shown the same tokens.
    Its objective is E[sum of rewards] + omega E[discounted return], turn by turn.

    Returns:
        (C,) advantages; 0 for calls whose return is not known. A call that is alone in its state has A_S 0, or with
        `leave_one_out` is compared with the same turn of the other episodes.
    """
    to_go_C, returns_C = return_to_go(table, 1.0), return_to_go(table, settings.gamma)
    episode_C = _episode_advantage(_of_first_call(to_go_C, table), table, settings)
    if settings.leave_one_out:
        state_C = leave_one_out_same_state(returns_C, table.states_C, table.groups_C, table.episodes_C)
    else:
        state_C = group_mean(returns_C, table.states_C, divide_by_std=settings.divide_by_std)
    return torch.where(torch.isnan(to_go_C), torch.zeros_like(to_go_C), episode_C + settings.weight * state_C)


def turn_outcome(table: CallTable, settings: TurnOutcome) -> Tensor:
    """MT-GRPO (arXiv 2505.11821, section 3): A = A_T + lambda A_O before the last turn, A_O at the last.

    A_T compares the turn's own reward with the same turn of the other episodes, A_O the last reward with that of all
    other episodes of the problem. The paper has two turns; where the number differs, the last turn is that of the
    episode. Then whether a turn is the last depends on what it says, and two baselines that are subtracted at some
    answers and not at others are no baselines any more: `leave_one_out` compares their sum instead, turn by turn.
    """
    outcome_C, last_C = outcome(table), _is_last_paid(table)
    if settings.leave_one_out:
        own_C = torch.where(table.paid_C | table.unjudged_C, table.rewards_C, torch.zeros_like(outcome_C))
        worth_C = torch.where(last_C, outcome_C, own_C + settings.weight * outcome_C)
        return leave_one_out_exact(worth_C, table.groups_C, table.episodes_C)
    of_episode_C = _episode_advantage(_of_first_call(outcome_C, table), table, settings)
    own_C = torch.where(last_C, torch.full_like(outcome_C, NAN), table.rewards_C)
    of_turn_C = group_mean(own_C, table.groups_C, divide_by_std=settings.divide_by_std)
    advantages_C = torch.where(last_C, of_episode_C, of_turn_C + settings.weight * of_episode_C)
    return torch.where(torch.isnan(outcome_C), torch.zeros_like(advantages_C), advantages_C)


def tree(table: CallTable, settings: Tree) -> Tensor:
    """Leave-one-out over a tree (arXiv 2506.05183 has the mean instead): siblings against each other.

    A shared answer stands in every branch, but learns in one only, so it counts once: its return is the mean over its
    branches. Calls that were shown the same tokens are siblings; first answers are all shown the problem.
    """
    returns_C = return_to_go(table, settings.gamma)
    shared_C = _mean_over_branches(returns_C, table)
    counted_C = torch.where(table.learns_C > 0, shared_C, torch.full_like(shared_C, NAN))
    return leave_one_out_exact(counted_C, table.states_C, table.episodes_C)


def _mean_over_branches(returns_C: Tensor, table: CallTable) -> Tensor:
    """(C,): for calls of one branching the mean of its branches' known returns, for others their own."""
    branching_C = table.branchings_C
    valid_C = ~torch.isnan(returns_C)
    inverse_C = torch.unique(branching_C, return_inverse=True)[1]
    zeros = torch.zeros(int(inverse_C.max()) + 1 if len(inverse_C) else 0, dtype=returns_C.dtype)
    sums_C = zeros.index_add(0, inverse_C, torch.nan_to_num(returns_C, nan=0.0))[inverse_C]
    counts_C = zeros.index_add(0, inverse_C, valid_C.to(returns_C.dtype))[inverse_C]
    return torch.where(counts_C > 0, sums_C / counts_C, torch.full_like(sums_C, NAN))


def _episode_advantage(values_C: Tensor, table: CallTable, settings: AnchorGroups | TurnOutcome) -> Tensor:
    """(C,): the episode's value, which all its calls bear, against those of the other episodes of the problem; a long
    episode weighs no more than a short one."""
    first_C = torch.where(table.by_episode.places_C == 0, values_C, torch.full_like(values_C, NAN))
    if settings.leave_one_out:
        compared_C = leave_one_out_exact(first_C, table.problems_C, table.episodes_C)
    else:
        compared_C = group_mean(first_C, table.problems_C, divide_by_std=settings.divide_by_std)
    return _of_first_call(compared_C, table)


def _of_first_call(values_C: Tensor, table: CallTable) -> Tensor:
    """(C,): each call gets the value of its episode's first call."""
    order = table.by_episode
    return order.collect(order.spread(values_C, NAN)[:, :1].expand(-1, order.longest)) if order.episodes else values_C


def _is_last_paid(table: CallTable) -> Tensor:
    """(C,) bool: the last call of its episode that is paid, or would be if its judge had not failed."""
    counts_C = table.paid_C | table.unjudged_C
    order = table.by_episode
    counts_EK = order.spread(counts_C.long(), 0)
    later_EK = counts_EK.flip(1).cumsum(1).flip(1) - counts_EK
    return counts_C & (order.collect(later_EK) == 0)
