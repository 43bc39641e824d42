"""The calls of a batch of episodes as columns: what every way to give credit works on.

Legend: C policy calls of a batch, episode after episode and within an episode in the order in which they were made; E
episodes; K the most calls of an episode. NaN is "no number": a call that was not paid, or whose pay nobody knows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from selfcorrect.errors import TrainingError

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class CallTable:
    """Every policy call of a batch of episodes, as columns of length C.

    Attributes:
        rewards_C: float; NaN where a call is not paid, or its judge failed.
        groups_C: equal for calls of the same problem and the same kind: what a baseline may compare.
        previous_C: score of the answer before the call; NaN if none.
        kinds_C: number of the call's kind ("answer 1", "critique 1", ...), in the order of first appearance.
        roles_C: number of its role, the kind's first word: an index of `roles`.
        kl_coefficients_C: beta of the call.
        learns_C: 1.0, or 0.0 for calls whose tokens are left out of the loss.
        offsets: the first call of each episode.
        episodes_C: number of the call's episode, from 0, never falling.
        problems_C: equal for calls of the same problem.
        states_C: equal for calls of the same problem that were shown the very same tokens (GiGPO's anchor states).
        unjudged_C: bool, where a NaN reward is one that a judge failed to give: no return that contains it is known.
            Any other NaN is a call that earns nothing itself.
        roles, kinds: the names of the roles, and of the kinds.
        branchings_C: equal for one and the same answer that stands in several episodes, because they branched after it.
        imitated_C: bool, where the reward is the weight of a supervised loss: nothing is subtracted from it.

    Raises:
        TrainingError: the columns are not of one length.
    """

    rewards_C: Tensor
    groups_C: Tensor
    previous_C: Tensor
    kinds_C: Tensor
    roles_C: Tensor
    kl_coefficients_C: Tensor
    learns_C: Tensor
    offsets: list[int]
    episodes_C: Tensor
    problems_C: Tensor
    states_C: Tensor
    unjudged_C: Tensor
    branchings_C: Tensor
    imitated_C: Tensor
    roles: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns = {name: getattr(self, name) for name in self.__slots__ if name.endswith("_C")}
        lengths = {name: tuple(column.shape) for name, column in columns.items()}
        if len(set(lengths.values())) > 1 or self.rewards_C.dim() != 1:
            raise TrainingError(f"the columns of a call table must be of one length, got {lengths}")

    @property
    def paid_C(self) -> Tensor:
        """(C,) bool, where the reward is a number."""
        return ~torch.isnan(self.rewards_C)

    @property
    def by_episode(self) -> "ByEpisode":
        """The calls of each episode together, in the order in which they were made."""
        return ByEpisode.of(self.episodes_C)


@dataclass(frozen=True, slots=True)
class ByEpisode:
    """Where each call stands among those of its episode: turns columns of calls into rows of episodes and back.

    Attributes:
        rows_C, places_C: episode and position in it, both from 0.
        episodes, longest: E and K.
    """

    rows_C: Tensor
    places_C: Tensor
    episodes: int
    longest: int

    @classmethod
    def of(cls, episodes_C: Tensor) -> "ByEpisode":
        if not len(episodes_C):
            return cls(episodes_C, episodes_C, 0, 0)
        _, rows_C, counts_E = torch.unique_consecutive(episodes_C, return_inverse=True, return_counts=True)
        starts_E = counts_E.cumsum(0) - counts_E
        places_C = torch.arange(len(episodes_C)) - starts_E[rows_C]
        return cls(rows_C, places_C, len(counts_E), int(counts_E.max()))

    def spread(self, values_C: Tensor, fill: float) -> Tensor:
        """(E, K), `fill` where an episode had fewer calls."""
        values_EK = torch.full((self.episodes, self.longest), fill, dtype=values_C.dtype)
        values_EK[self.rows_C, self.places_C] = values_C
        return values_EK

    def collect(self, values_EK: Tensor) -> Tensor:
        """(C,) of (E, K)."""
        return values_EK[self.rows_C, self.places_C]
