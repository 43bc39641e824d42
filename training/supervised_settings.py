"""Settings of the supervised arms: how much is sampled, what becomes an example, how long is learnt from them."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from selfcorrect.training.settings_group import NonNegative, Positive, Settings


class SupervisedSettings(Settings):
    """What the supervised arms share: what is sampled, and how long is learnt from it. All counts are per loop; Pair-SFT has one."""

    problems: PositiveInt = 2560
    """How many training problems are asked; of a smaller file, each problem once."""
    samples_per_problem: PositiveInt = 4
    tokens: PositiveInt | None = None
    """Sample until this many tokens are generated, however many of `problems` that takes: for comparisons at equal cost."""
    temperature: NonNegative = 1.0
    """Of sampling; 0 is greedy, as in the STaR paper, and wants one sample per problem."""
    steps: PositiveInt = 160
    """Optimiser steps; exactly so many, however many examples there are."""
    batch_size: PositiveInt = 64
    """Examples per optimiser step."""
    learning_rate: Positive = 5e-4
    """Of AdamW; falls linearly to 0."""

    @model_validator(mode="after")
    def _different_samples(self) -> Self:
        if self.temperature == 0 and self.samples_per_problem > 1:
            raise ValueError("at temperature 0 all samples of a problem are the same: set samples_per_problem to 1")
        return self


class StarSettings(SupervisedSettings):
    """STaR (arXiv 2203.14465), and the SCoRe paper's way to teach correction with it."""

    data: Literal["single", "single+rationalised", "multi", "multi+correct"] = "multi"
    """What is learnt: right first answers; those and what the hinted policy makes of failures; second answers that mend a wrong first
    one (D_STaR); those and second answers that keep to a right one (D+_STaR)."""
    loops: PositiveInt = 4

    @property
    def optimiser_steps(self) -> int:
        """Of all loops."""
        return self.loops * self.steps


class PairSftSettings(SupervisedSettings):
    """Pair-SFT (arXiv 2211.00053, as in the SCoRe paper)."""

    data: Literal["pairs", "pairs+correct"] = "pairs"
    """What is learnt: right answers after wrong ones (D_SFT); and right answers after right ones too (D+_SFT)."""
    problems: PositiveInt = 10_240
    samples_per_problem: int = Field(default=4, ge=2)
    """At least 2: a pair is made of two."""
    steps: PositiveInt = 640
