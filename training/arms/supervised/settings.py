"""Settings of the supervised arms: how much is sampled, what becomes an example, how long is learnt from them."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from selfcorrect.setting_groups import NonNegative, Positive, Settings


class SupervisedSettings(Settings):
    """What the supervised arms share: what is sampled, and how long is learnt from it. All counts are per loop;
    Pair-SFT has one."""

    problems: PositiveInt = 2560
    """How many training problems are asked; of a smaller file, each problem once."""
    samples_per_problem: PositiveInt = 4
    """Answers to each problem."""
    tokens: PositiveInt | None = None
    """Sample until this many tokens are generated, however many of `problems` that takes: for comparisons at equal
    cost."""
    temperature: NonNegative = 1.0
    """Of sampling; 0 is greedy, as in the STaR paper, and wants one sample per problem."""
    steps: PositiveInt = 160
    """Optimiser steps; exactly so many, however many examples there are."""
    batch_size: PositiveInt = 64
    """Examples per optimiser step."""
    micro_batch: PositiveInt | None = None
    """Examples of one forward and backward pass, at most, for memory: a step is made of several, and stays what it is.
    None: all of a step's."""
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
    """What is learnt: right first answers; those and what the hinted policy makes of failures; second answers that mend
    a wrong first one (D_STaR); those and second answers that keep to a right one (D+_STaR)."""
    loops: PositiveInt = 4
    """How often the policy is sampled, and the original made anew of what is right."""

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


Form = Literal["attempt", "pairs", "verdicts"]


class SftSettings(SupervisedSettings):
    """Supervised warm-up on the task's gold solutions, or on the checker's verdicts."""

    form: Form = "attempt"
    """What is learnt: a solution as the first answer; or as the second, after a wrong one of the policy's own; or the
    checker's verdict on answers of the policy's own, with right answers and revisions, for loops in which it judges
    itself."""
    without_gold: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of training problems that have no gold solution; leave_out counts them. Verdicts need none."""
    samples_per_problem: PositiveInt = 1
    """First answers per problem; not of form "attempt". Every different wrong one is followed by the solution, or as
    many right and wrong ones by a verdict."""
    batch_size: PositiveInt = 16
    learning_rate: Positive = 1e-4
    """Of AdamW; falls linearly to 0. For adapters; all weights of a language model want less, such as 2e-5."""

    @model_validator(mode="after")
    def _everything_has_an_effect(self) -> Self:
        if self.tokens is not None:
            raise ValueError("sft has no budget of tokens, for gold solutions cost none: set problems instead")
        sampled = {"samples_per_problem": self.samples_per_problem, "temperature": self.temperature}
        usual = {name: type(self).model_fields[name].default for name in sampled}
        changed = [name for name in sampled if sampled[name] != usual[name]]
        if self.form == "attempt" and changed:
            raise ValueError(f"form 'attempt' samples nothing: leave {' and '.join(changed)} away, or use form 'pairs'")
        if self.form == "verdicts" and self.without_gold != "refuse":
            raise ValueError("form 'verdicts' needs no gold solutions: leave without_gold away")
        return self
