"""Advantages per turn: how much better an answer's reward was than expected.

The letters at the end of a tensor's name are its axes, and they are checked: B rows or episodes, T token positions, K
turns of an episode, C policy calls of a batch, R rows of a minibatch, P prompt positions. That is the legend all over
`training/`.

NaN in a reward means "abstain": such a turn takes no part in any baseline
and its advantage is 0. Every function raises a ValueError where the shapes it is given do not agree.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

# A function that takes several tensors calls `agree` first: torch would broadcast a (B, 1) beside a (B, T), and the
# loss would be a number like any other.


def agree(**tensors: Tensor | None) -> None:
    """Check that each tensor has the axes its name ends in, and that equal letters are equally long.

    `agree(values_BT=values, mask_BT=mask)` passes if both are two-dimensional and of one shape. None is not looked at.

    Raises:
        ValueError: naming the first tensor that does not fit, the shape it should have and the one it has.
    """
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        axes = name.rpartition("_")[2]
        wanted = [sizes.get(axis) for axis in axes]
        fits = tensor.ndim == len(axes) and all(
            want in (None, got) for want, got in zip(wanted, tensor.shape, strict=True)
        )
        if not fits:
            told = ", ".join(
                axis if want is None else f"{axis}={want}" for axis, want in zip(axes, wanted, strict=True)
            )
            raise ValueError(f"{name} should have the shape ({told}), but it has {tuple(tensor.shape)}")
        sizes.update(zip(axes, tensor.shape, strict=True))


def scalar(name: str, value: Tensor | float) -> None:
    """Check that `value` is one number: dividing by a (B,) would broadcast too.

    Raises:
        ValueError: naming it and the shape it has.
    """
    if isinstance(value, Tensor) and value.ndim != 0:
        raise ValueError(f"{name} should be one number, but it has the shape {tuple(value.shape)}")


_NO_SCORE = -1.0
"""The class of those that come after no judged answer."""
_NO_SPREAD = 1e-6
"""Standard deviations below this are rounding errors."""


def leave_one_out(rewards_B: Tensor, groups_B: Tensor) -> Tensor:
    """RLOO: each reward minus the mean of the other rewards of its group (Ahmadian et al. 2024; SCoRe section 5).

    Args:
        rewards_B: (B,) float; NaN abstains.
        groups_B: (B,) integer; equal for episodes of the same problem.

    Returns:
        (B,) advantages; 0 where the reward is NaN or the group has no other reward.
    """
    agree(rewards_B=rewards_B, groups_B=groups_B)
    valid_B = ~torch.isnan(rewards_B)
    filled_B = torch.where(valid_B, rewards_B, torch.zeros_like(rewards_B))
    inverse_B = torch.unique(groups_B, return_inverse=True)[1]
    groups = int(inverse_B.max()) + 1 if len(inverse_B) else 0
    sums_B = torch.zeros(groups, dtype=rewards_B.dtype).index_add(0, inverse_B, filled_B)[inverse_B]
    counts_B = torch.zeros(groups, dtype=rewards_B.dtype).index_add(0, inverse_B, valid_B.to(rewards_B.dtype))[
        inverse_B
    ]
    others_B = (sums_B - filled_B) / (counts_B - 1).clamp(min=1)
    return torch.where(valid_B & (counts_B > 1), filled_B - others_B, torch.zeros_like(rewards_B))


ClassSums = Mapping[float, tuple[float, float]]
"""By the previous answer's score: the sum of the rewards after it, and how many there are."""


def class_sums(rewards_B: Tensor, previous_B: Tensor) -> ClassSums:
    """Those of one process; (B,) each, as `leave_one_out_given_previous` takes them."""
    valid_B = ~torch.isnan(rewards_B)
    class_B = torch.nan_to_num(previous_B, nan=_NO_SCORE)
    found = {}
    for score in torch.unique(class_B[valid_B]).tolist():
        here_B = valid_B & (class_B == score)
        found[score] = float(rewards_B[here_B].sum()), float(here_B.sum())
    return found


def without(mine: ClassSums, everywhere: Sequence[ClassSums]) -> ClassSums:
    """What all processes but this one have."""
    others: dict[float, tuple[float, float]] = {score: (-total, -number) for score, (total, number) in mine.items()}
    for score, (total, number) in (item for sums in everywhere for item in sums.items()):
        so_far = others.get(score, (0.0, 0.0))
        others[score] = so_far[0] + total, so_far[1] + number
    return others


def leave_one_out_given_previous(
    rewards_B: Tensor,
    groups_B: Tensor,
    previous_B: Tensor,
    *,
    elsewhere: ClassSums = MappingProxyType({}),
) -> Tensor:
    """As `leave_one_out`, but the expectation also knows the previous answer's score, which this turn could not change.

    A baseline may depend on anything that came before the turn without bias. The mean of the other episodes of the same
    problem with the same previous score is drawn towards the mean of all other episodes with that score, as if one more
    such episode had been seen; so small groups still have a baseline.

    Args:
        rewards_B: (B,) float; NaN abstains.
        groups_B: (B,) integer problem index.
        previous_B: (B,) score of the previous answer; NaN if there is none or it is unjudged, a class of its own.
        elsewhere: the rewards that other processes have of other problems, by class.

    Returns:
        (B,) advantages; 0 where the reward is NaN or the group has no other reward.
    """
    agree(rewards_B=rewards_B, groups_B=groups_B, previous_B=previous_B)
    valid_B = ~torch.isnan(rewards_B)
    filled_B = torch.where(valid_B, rewards_B, torch.zeros_like(rewards_B))
    class_B = torch.nan_to_num(previous_B, nan=_NO_SCORE)
    pair_B = torch.stack([groups_B.to(class_B.dtype), class_B], dim=1)
    same_sum_B, same_count_B = _sum_and_count_of_others(
        filled_B, valid_B, torch.unique(pair_B, dim=0, return_inverse=True)[1]
    )
    class_sum_B, class_count_B = _sum_and_count_of_others(
        filled_B, valid_B, torch.unique(class_B, return_inverse=True)[1]
    )
    more_B = [elsewhere.get(score, (0.0, 0.0)) for score in class_B.tolist()]
    class_sum_B = class_sum_B + torch.tensor([total for total, _ in more_B], dtype=class_sum_B.dtype)
    class_count_B = class_count_B + torch.tensor([number for _, number in more_B], dtype=class_count_B.dtype)
    prior_B = class_sum_B / class_count_B.clamp(min=1)
    expected_B = (same_sum_B + prior_B) / (same_count_B + 1)
    return torch.where(valid_B & (class_count_B > 0), filled_B - expected_B, torch.zeros_like(rewards_B))


Moments = Mapping[str, tuple[float, float, float]]
"""By role: how many, their sum, and the sum of their squares."""
Gather = Callable[[Moments], Sequence[Moments]]
"""From one process's moments to those of all."""


def normalised_by_role(
    advantages_C: Tensor,
    roles_C: Tensor,
    counted_C: Tensor,
    *,
    names: Sequence[str] = (),
    gather: Gather = lambda mine: [mine],
) -> Tensor:
    """Advantages brought to mean 0 and variance 1 within each role (PAG's RoleAdvNorm, arXiv 2506.10406).

    Judging an answer is easier than finding one, so the two roles' rewards have different spreads: without this, one
    role's gradient would drown the other's.

    Args:
        advantages_C: (C,) of the calls of a batch.
        roles_C: (C,) integer, equal for calls in the same role.
        counted_C: (C,) bool, whether a call was paid; the others are left out, and get 0.
        names: of the roles, by number; processes may number them differently.
        gather: the moments of all processes, so that all normalise alike.

    Returns:
        (C,) advantages; a role whose advantages are all the same has nothing to teach and gets 0.
    """
    agree(advantages_C=advantages_C, roles_C=roles_C, counted_C=counted_C)
    roles = {role: names[role] if names else str(role) for role in torch.unique(roles_C[counted_C]).tolist()}
    exact_C = advantages_C.double()
    mine = {name: _moments(exact_C[counted_C & (roles_C == role)]) for role, name in roles.items()}
    everywhere = gather(mine)
    normalised_C = torch.zeros_like(advantages_C)
    for role, name in roles.items():
        count, total, squares = (sum(one[name][part] for one in everywhere if name in one) for part in range(3))
        spread = math.sqrt(max(0.0, squares / count - (total / count) ** 2))
        if spread > _NO_SPREAD:
            here_C = counted_C & (roles_C == role)
            normalised_C[here_C] = ((exact_C[here_C] - total / count) / spread).to(advantages_C.dtype)
    return normalised_C


def _moments(values: Tensor) -> tuple[float, float, float]:
    return float(len(values)), float(values.sum()), float(values.square().sum())


def _sum_and_count_of_others(filled_B: Tensor, valid_B: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
    """For every row the sum and number of the valid rewards of the *other* rows with the same index."""
    size = int(index_B.max()) + 1 if len(index_B) else 0
    ones_B = valid_B.to(filled_B.dtype)
    sums = torch.zeros(size, dtype=filled_B.dtype).index_add(0, index_B, filled_B)
    counts = torch.zeros(size, dtype=filled_B.dtype).index_add(0, index_B, ones_B)
    return sums[index_B] - filled_B, counts[index_B] - ones_B
