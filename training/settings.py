"""The settings of a training run: frozen, complete, and checked before anything starts.

All groups can be had from here, wherever they are defined.
"""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from selfcorrect.training.settings_group import Count, NonNegative, Positive, Settings
from selfcorrect.training.supervised_settings import PairSftSettings, StarSettings, SupervisedSettings
from selfcorrect.training.task_settings import CountdownSettings, EquationsSettings, JsonlSettings, TaskSettings
from selfcorrect.training.vstar.settings import VstarSettings

__all__ = [
    "CountdownSettings",
    "EquationsSettings",
    "EvaluationSettings",
    "GraphSettings",
    "JsonlSettings",
    "LoraSettings",
    "OptimiserSettings",
    "PairSftSettings",
    "PolicySettings",
    "RunSettings",
    "ScoreSettings",
    "StarSettings",
    "SupervisedSettings",
    "TaskSettings",
    "VstarSettings",
]


class LoraSettings(Settings):
    """Train low-rank adapters (Hu et al. 2021) on a frozen base, which then is the KL reference too."""

    rank: PositiveInt = 16
    alpha: Positive = 32.0
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | list[str] = "all-linear"


class PolicySettings(Settings):
    """What is trained."""

    model: str = Field(default="embedded", min_length=1)
    """"embedded", a folder, or a Hugging Face model id."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """How messages become text: with the tokenizer's chat template, without, or with it if there is one."""
    max_new_tokens: PositiveInt | None = None
    """Per turn; None leaves it to the policy."""
    lora: LoraSettings | None = None
    """None trains all weights."""


class GraphSettings(Settings):
    """The loop that is played; see `selfcorrect.agents.graph.build_graph`."""

    revisions: int = Field(default=1, ge=1, le=8)
    critique: Literal["instruction", "self", "feedback"] = "instruction"


class ScoreSettings(Settings):
    """SCoRe (arXiv 2409.12917): steps and weights of its two stages."""

    stage_one_steps: Count = 150
    stage_two_steps: Count = 60
    alpha: NonNegative = 2.0
    """Weight of the progress bonus r_2 - r_1 in Stage II."""
    beta1: NonNegative = 0.01
    """KL coefficient, reward per nat: of the last turn in Stage I, of every turn in Stage II."""
    beta2: NonNegative = 0.3
    """KL coefficient of the first turn in Stage I."""
    beta_first: NonNegative | None = None
    """KL coefficient of the first turn in Stage II, where it should differ from beta1: a guard against a falling first turn."""

    @property
    def total_steps(self) -> int:
        return self.stage_one_steps + self.stage_two_steps

    @model_validator(mode="after")
    def _some_step(self) -> Self:
        if self.total_steps == 0:
            raise ValueError("stage_one_steps and stage_two_steps are both 0: there is nothing to train")
        return self


class OptimiserSettings(Settings):
    """One training step: how many episodes, and what is learnt from them."""

    learning_rate: Positive = 2e-4
    learning_rate_decay: bool = False
    """Whether it falls linearly to 0 over the run."""
    problems_per_step: PositiveInt = 32
    episodes_per_problem: int = Field(default=8, ge=2)
    """At least 2: the baseline of an episode is the mean of the others of its problem."""
    ppo_epochs: PositiveInt = 1
    minibatches: PositiveInt = 1
    """Optimiser steps per PPO epoch; must divide the number of episodes of a step."""
    clip: Positive = 0.2
    baseline: Literal["leave_one_out", "leave_one_out_given_previous", "none"] = "leave_one_out"
    """What a turn's reward is compared with; "given previous" also knows the score of the answer before, which lowers the noise."""
    kl_over: Literal["token", "turn"] = "token"
    """Whether a token is charged for its own KL or for that of the rest of its turn too."""
    entropy: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    temperature: Positive = 1.0

    @property
    def episodes_per_step(self) -> int:
        return self.problems_per_step * self.episodes_per_problem

    @model_validator(mode="after")
    def _equal_minibatches(self) -> Self:
        if self.episodes_per_step % self.minibatches:
            raise ValueError(
                f"minibatches must divide problems_per_step x episodes_per_problem = {self.episodes_per_step}, got {self.minibatches}"
            )
        return self


class EvaluationSettings(Settings):
    """Greedy evaluation on held-out problems."""

    problems: PositiveInt = 2000
    every: Count = 0
    """Steps between evaluations while training; 0 evaluates only before and after."""
    seed: int = 0


class RunSettings(Settings):
    """Everything that decides a run. Written to `config.yaml` of its directory."""

    task: TaskSettings = CountdownSettings()
    policy: PolicySettings = PolicySettings()
    graph: GraphSettings = GraphSettings()
    score: ScoreSettings = ScoreSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    star: StarSettings = StarSettings()
    pair_sft: PairSftSettings = PairSftSettings()
    vstar: VstarSettings = VstarSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    seed: int = 0
    save_every: PositiveInt = 20
    """Steps between checkpoints."""
