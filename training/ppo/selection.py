"""What of a batch is learnt from: answers that were cut off, answers that grow too long, problems without spread."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.ppo.batching import call_table
from selfcorrect.training.ppo.config import OverlongSettings
from selfcorrect.training.ppo.objectives import TurnSignal
from selfcorrect.training.ppo.rollouts import Episode

_NO_SPREAD = 1e-6
"""Rewards nearer than this are equal."""


def with_lengths(
    episodes: Sequence[Episode], *, truncated: Literal["learn", "mask"], overlong: OverlongSettings | None
) -> list[Episode]:
    """The episodes with what length does to their signals.

    Args:
        truncated: "mask" takes calls that were cut off at the limit out of the loss (DAPO's overlong filtering); their
            reward is still compared with.
        overlong: what long answers are paid less, by their length.
    """
    return [replace(episode, signals=_of_lengths(episode, truncated, overlong)) for episode in episodes]


def _of_lengths(episode: Episode, truncated: str, overlong: OverlongSettings | None) -> list[TurnSignal]:
    signals = []
    for call, signal in zip(episode.calls, episode.signals, strict=True):
        if overlong is not None and signal.reward is not None:
            length = len(call.generation["completion_ids"])
            signal = replace(signal, reward=signal.reward - overlong.charge(length))
        if truncated == "mask" and call.generation["finish_reason"] == "length":
            signal = replace(signal, learns=False)
        signals.append(signal)
    return signals


def has_spread_C(table: CallTable) -> Tensor:
    """(C,) bool, whether the call's problem can teach anything by comparison: some kind of its calls was not paid the
    same in all episodes."""
    paid: dict[int, set[float]] = {}
    for group, reward, known in zip(
        table.groups_C.tolist(), table.rewards_C.tolist(), table.paid_C.tolist(), strict=True
    ):
        if known:
            paid.setdefault(group, set()).add(reward)
    differs = {group for group, rewards in paid.items() if max(rewards) - min(rewards) > _NO_SPREAD}
    problems = zip(table.groups_C.tolist(), table.problems_C.tolist(), strict=True)
    useful = {problem for group, problem in problems if group in differs}
    return torch.tensor([problem in useful for problem in table.problems_C.tolist()], dtype=torch.bool)


def without_spread(episodes: Sequence[Episode], table: CallTable) -> set[str]:
    """The ids of the problems that teach nothing."""
    spread_C = has_spread_C(table)
    counts = (len(episode.calls) for episode in episodes)
    firsts = zip(episodes, table.offsets, counts, strict=True)
    return {episode.problem.id for episode, first, count in firsts if count and not spread_C[first]}


def share_without_spread(episodes: Sequence[Episode]) -> float:
    """Of the problems."""
    problems = {episode.problem.id for episode in episodes}
    return len(without_spread(episodes, call_table(episodes))) / max(1, len(problems))


def dropped(episodes: Sequence[Episode], table: CallTable) -> list[Episode]:
    """The episodes, those of problems without spread taken out of the loss: their KL is not charged either."""
    idle = without_spread(episodes, table)
    return [
        replace(episode, signals=[replace(signal, learns=False) for signal in episode.signals])
        if episode.problem.id in idle
        else episode
        for episode in episodes
    ]
