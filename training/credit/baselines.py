"""What a return is compared with. All take columns (C,) and give advantages (C,), 0 where the return is NaN.

A baseline may know anything but what the call itself drew; then it changes no expected gradient. `leave_one_out` keeps
to that, the group means of GRPO and GiGPO do not: they contain the return itself, which shrinks the gradient by
(n - 1) / n in a group of n, evenly only where all groups are of the same size. docs/credit.md says what that does.
"""

import torch
from torch import Tensor

from selfcorrect.training.ppo.advantages import leave_one_out, leave_one_out_given_previous

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


def leave_one_out_by_kind(returns_C: Tensor, groups_C: Tensor, kinds_C: Tensor, previous_C: Tensor) -> Tensor:
    """`leave_one_out_given_previous`, kind by kind: what is expected of a second answer says nothing of a first."""
    advantages_C = torch.zeros_like(returns_C)
    for kind in torch.unique(kinds_C).tolist():
        here = kinds_C == kind
        advantages_C[here] = leave_one_out_given_previous(returns_C[here], groups_C[here], previous_C[here])
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
