"""The settings of a training run: frozen, complete, and checked before anything starts."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from selfcorrect.tasks.problem import Task
from selfcorrect.training.vstar.settings import VstarSettings

Share = Annotated[float, Field(gt=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """Base of all groups of settings: no unknown names, no silent conversions, no changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class CountdownSettings(Settings):
    """Procedural Countdown problems."""

    kind: Literal["countdown"] = "countdown"
    numbers: int = Field(default=4, ge=3, le=6)
    """How many numbers a problem gives."""
    words: bool = False
    """Ask in English sentences, for general language models."""

    def open(self) -> Task:
        from selfcorrect.tasks.countdown import CountdownTask

        return CountdownTask(numbers=self.numbers, words=self.words)


class EquationsSettings(Settings):
    """Procedural linear equations in positive whole numbers."""

    kind: Literal["equations"] = "equations"
    unknowns: int = Field(default=3, ge=2, le=4)
    """How many unknowns an equation has."""
    words: bool = False
    """Ask in English sentences, for general language models."""

    def open(self) -> Task:
        from selfcorrect.tasks.equations import EquationsTask

        return EquationsTask(unknowns=self.unknowns, words=self.words)


class JsonlSettings(Settings):
    """Problems from a file of {"prompt", "answer"} rows, judged by the math checker."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path = Field(strict=False)
    test_share: Share = 0.1
    """The part of the prompts that is held out."""

    def open(self) -> Task:
        """Reads the file.

        Raises:
            TaskError: the file or some of its rows are unusable.
        """
        from selfcorrect.tasks.jsonl import JsonlTask

        return JsonlTask(self.path, test_share=self.test_share)


TaskSettings = Annotated[CountdownSettings | EquationsSettings | JsonlSettings, Field(discriminator="kind")]


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
