"""Plays the episodes of one batch: what they are paid, and the seeds that make a resumed run draw the same ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.policy import Sampling
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.config import PPOConfig
from selfcorrect.training.rollouts import Episode, Signals, collect

SignalsAt = Callable[[int], Signals]
"""From the batch number (from 0) to what its turns are paid: the schedule of stages."""


@dataclass(frozen=True, slots=True)
class EpisodePlayer:
    """Plays problems in a graph.

    Args:
        policy, graph, signals_at, trainable, inputs, context: see `PPOTrainer`.
        config: gives the temperature and the run's seed.
    """

    policy: Any
    graph: Any
    signals_at: SignalsAt
    config: PPOConfig
    trainable: frozenset[str] | None
    inputs: Callable[[Problem], dict[str, Any]] | None
    context: Any

    def play(self, problems: list[Problem], *, batch: int, process: int) -> list[Episode]:
        """One episode of each of `problems`, which are what the process with number `process` plays of batch number `batch`."""
        return run_blocking(
            collect(
                self.graph,
                problems,
                self.signals_at(batch),
                sampling=Sampling(temperature=self.config.temperature),
                seeds=self._seeds(len(problems), batch, process),
                policy=self.policy,
                trainable=self.trainable,
                inputs=self.inputs,
                context=self.context,
            )
        )

    def _seeds(self, count: int, batch: int, process: int) -> list[int]:
        """Seeds that depend on the run's seed, the batch and the row only, so that a resumed run draws the same episodes."""
        first = (self.config.seed * 1_000_003 + batch) * 65_536 + process * count
        return [first + row for row in range(count)]
