"""What a return is compared with. Baselines take columns (C,) and give advantages (C,), 0 where the return is NaN.

A baseline may know anything but what the call itself drew; then it changes no expected gradient. `leave_one_out` keeps
to that, the group means of GRPO and GiGPO do not: they contain the return itself, which shrinks the gradient by
(n - 1) / n in a group of n, evenly only where all groups are of the same size. docs/credit.md says what that does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from selfcorrect.training.credit.returns import outcome, return_to_go
from selfcorrect.training.credit.settings import AnchorGroups, Tree, TurnOutcome
from selfcorrect.training.credit.table import NAN, CallTable
from selfcorrect.training.ppo.advantages import class_sums, leave_one_out, leave_one_out_given_previous, without
from selfcorrect.training.processes import together

_NO_SPREAD = 1e-6
"""Standard deviations below this are rounding errors."""


def uncompared(returns_C: Tensor) -> Tensor:
    """No baseline: REINFORCE."""
    return torch.nan_to_num(returns_C, nan=0.0)


def group_mean(returns_C: Tensor, groups_C: Tensor, *, divide_by_std: bool = False) -> Tensor:
    """GRPO (arXiv 2402.03300, section 4.1.2): each return minus the mean of its group, the return itself included.

    Args:
        returns_C: (C,) float; NaN abstains.
        groups_C: (C,) integer, equal for what is compared.
        divide_by_std: by the group's standard deviation too, which pays rare successes and rare failures most; without
            it this is Dr. GRPO (arXiv 2503.20783).

    Returns:
        (C,) advantages; 0 in groups of one, and with `divide_by_std` in groups without spread.
    """
    group = _Group.of(returns_C, groups_C)
    centred_C = group.filled_C - group.mean_C
    several_C = group.valid_C & (group.counts_C > 1)
    if not divide_by_std:
        return torch.where(several_C, centred_C, torch.zeros_like(centred_C))
    squares_C = _Group.of(torch.where(group.valid_C, centred_C.square(), returns_C), groups_C)
    # The sample's standard deviation, as torch.std and GRPO's implementations have it.
    spread_C = (squares_C.sums_C / (group.counts_C - 1).clamp(min=1)).sqrt()
    spread_C = torch.where(spread_C > _NO_SPREAD, spread_C, torch.full_like(spread_C, torch.inf))
    return torch.where(several_C, centred_C / spread_C, torch.zeros_like(centred_C))


def leave_one_out_exact(returns_C: Tensor, groups_C: Tensor, episodes_C: Tensor) -> Tensor:
    """As `leave_one_out`, and unbiased where episodes differ in their number of turns too.

    A call that has nobody to be compared with keeps its whole return, where `leave_one_out` drops it: dropping shrinks
    the gradient of turns that few episodes reach. The whole episode of a call is left out of its baseline, since it may
    stand in a group several times.
    """
    group = _Group.of(returns_C, groups_C)
    others = group.of_other_episodes(returns_C, groups_C, episodes_C)
    return torch.where(group.valid_C, group.filled_C - others.mean_C, torch.zeros_like(group.filled_C))


def leave_one_out_same_state(returns_C: Tensor, states_C: Tensor, groups_C: Tensor, episodes_C: Tensor) -> Tensor:
    """Compared with the calls of other episodes that were shown the very same tokens; where there are none, with the
    same turn of the other episodes of the problem; alone in that too, a call keeps its whole return."""
    group = _Group.of(returns_C, states_C)
    here = group.of_other_episodes(returns_C, states_C, episodes_C)
    elsewhere_C = leave_one_out_exact(returns_C, groups_C, episodes_C)
    return torch.where(group.valid_C & (here.counts_C > 0), group.filled_C - here.mean_C, elsewhere_C)


def leave_one_out_by_kind(
    returns_C: Tensor, groups_C: Tensor, kinds_C: Tensor, previous_C: Tensor, *, names: Sequence[str] = ()
) -> Tensor:
    """`leave_one_out_given_previous`, kind by kind: what is expected of a second answer says nothing of a first.

    Args:
        names: of the kinds, by number; processes may number them differently, and the prior is that of all of them.
    """
    kinds = {kind: names[kind] if names else str(kind) for kind in torch.unique(kinds_C).tolist()}
    mine = {name: class_sums(returns_C[kinds_C == kind], previous_C[kinds_C == kind]) for kind, name in kinds.items()}
    everywhere = together(mine)
    advantages_C = torch.zeros_like(returns_C)
    for kind, name in kinds.items():
        here = kinds_C == kind
        elsewhere = without(mine[name], [sums[name] for sums in everywhere if name in sums])
        advantages_C[here] = leave_one_out_given_previous(
            returns_C[here], groups_C[here], previous_C[here], elsewhere=elsewhere
        )
    return advantages_C


__all__ = [
    "group_mean",
    "leave_one_out",
    "leave_one_out_by_kind",
    "leave_one_out_exact",
    "leave_one_out_same_state",
    "uncompared",
]


class _Group:
    """Sums and numbers of the returns of each call's group, at the call."""

    def __init__(self, filled_C: Tensor, valid_C: Tensor, sums_C: Tensor, counts_C: Tensor) -> None:
        self.filled_C, self.valid_C, self.sums_C, self.counts_C = filled_C, valid_C, sums_C, counts_C

    @classmethod
    def of(cls, returns_C: Tensor, groups_C: Tensor) -> "_Group":
        valid_C = ~torch.isnan(returns_C)
        filled_C = torch.nan_to_num(returns_C, nan=0.0)
        inverse_C = torch.unique(groups_C, return_inverse=True)[1]
        size = int(inverse_C.max()) + 1 if len(inverse_C) else 0
        zeros = torch.zeros(size, dtype=returns_C.dtype)
        sums_C = zeros.index_add(0, inverse_C, filled_C)[inverse_C]
        counts_C = zeros.index_add(0, inverse_C, valid_C.to(returns_C.dtype))[inverse_C]
        return cls(filled_C, valid_C, sums_C, counts_C)

    def of_other_episodes(self, returns_C: Tensor, groups_C: Tensor, episodes_C: Tensor) -> "_Group":
        """The group without the calls of the call's own episode."""
        pairs_C = torch.unique(torch.stack([groups_C, episodes_C], dim=1), dim=0, return_inverse=True)[1]
        mine = _Group.of(returns_C, pairs_C)
        return _Group(self.filled_C, self.valid_C, self.sums_C - mine.sums_C, self.counts_C - mine.counts_C)

    @property
    def mean_C(self) -> Tensor:
        return self.sums_C / self.counts_C.clamp(min=1)


# Ways that bring a comparison of their own: GiGPO, MT-GRPO, and revisions of one shared answer.


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
