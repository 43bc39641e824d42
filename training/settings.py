"""The settings of a training run: frozen, complete, checked before anything starts. All groups can be had from here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from selfcorrect.agents.critiques import CRITIQUES
from selfcorrect.agents.prompts import PromptSettings
from selfcorrect.errors import ConfigurationError
from selfcorrect.setting_groups import ByKind, Count, NonNegative, Positive, Seed, Settings
from selfcorrect.settings import combine, load_settings
from selfcorrect.tasks.countdown import CountdownSettings
from selfcorrect.tasks.equations import EquationsSettings
from selfcorrect.tasks.jsonl import JsonlSettings
from selfcorrect.tasks.registry import TASKS, TaskSettings
from selfcorrect.training.arms.supervised.settings import PairSftSettings, SftSettings, StarSettings, SupervisedSettings
from selfcorrect.training.credit.settings import RECIPES, GivenAnswers, refuse_idle_baseline, refuse_stunted_trees
from selfcorrect.training.engines import LoraSettings, PolicySettings, refuse_contradictions
from selfcorrect.training.ppo.config import CreditedSettings, OptimiserSettings
from selfcorrect.training.ppo.keeping import KeepingSettings
from selfcorrect.training.ppo.objectives import StageOne, StageTwo
from selfcorrect.training.vstar.settings import GeneratorSettings, HeadSettings, PreferenceSettings, VstarSettings

__all__ = [
    "CountdownSettings",
    "EquationsSettings",
    "EvaluationSettings",
    "GraphSettings",
    "JsonlSettings",
    "LookSettings",
    "LoraSettings",
    "OptimiserSettings",
    "PairSftSettings",
    "PolicySettings",
    "RunSettings",
    "ScoreSettings",
    "SftSettings",
    "StarSettings",
    "SupervisedSettings",
    "TaskSettings",
    "VstarSettings",
    "read_settings",
]


GIVEN = "(given)"
"""Stands in config.yaml for an object that was given in Python."""


MOST_REVISIONS = 32
"""Of an episode."""


class GraphSettings(Settings):
    """The loop that is played; see `selfcorrect.agents.graph.build_graph`."""

    build: str | None = None
    """A user's own loop: `package.module:Name` of a function from a policy to its graph, with the roles of `Turn`."""
    revisions: int = Field(default=1, ge=1, le=MOST_REVISIONS)
    """How often an answer is revised."""
    fewest_revisions: int | None = Field(default=None, ge=0)
    """Training episodes draw how many revisions they may have from this to `revisions`, each as likely; None always
    plays `revisions`. Evaluation draws nothing."""
    critique: str = "instruction"
    """How a revision is asked for: instruction, self, feedback, or `package.module:Name` of a user's own."""

    @field_validator("critique")
    @classmethod
    def _known_critique(cls, name: str) -> str:
        try:
            CRITIQUES.find(name)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return name

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.fewest_revisions is not None and self.fewest_revisions >= self.revisions:
            raise ValueError(
                f"fewest_revisions {self.fewest_revisions} must be below revisions {self.revisions}: leave it out to "
                "play as many in every episode"
            )
        return self

    @property
    def is_own(self) -> bool:
        """Whether a user's own loop is played.

        Raises:
            ConfigurationError: and revisions or critique are set too, which it does not know.
        """
        if self.build is not None and (self.revisions, self.critique) != _USUAL_LOOP:
            raise ConfigurationError(
                f"graph.build {self.build} is a loop of its own, and graph.revisions {self.revisions} with "
                f"graph.critique {self.critique!r} asks for another (some arms do so by themselves, such as "
                "single-turn and pag): leave one of the two away"
            )
        return self.build is not None


_USUAL_LOOP = (1, "instruction")


class ScoreSettings(GivenAnswers):
    """SCoRe (arXiv 2409.12917): steps and weights of its two stages."""

    stage_one_steps: Count = 150
    """Steps of Stage I, which teaches to correct and holds the first answer where it was."""
    stage_two_steps: Count = 60
    """Steps of Stage II, which pays both answers and the progress between them."""
    alpha: NonNegative = StageTwo.alpha
    """Weight of the progress bonus r_2 - r_1 in Stage II."""
    beta1: NonNegative = StageOne.beta1
    """KL coefficient, reward per nat: of the last turn in Stage I, of every turn in Stage II."""
    beta2: NonNegative = StageOne.beta2
    """KL coefficient of the first turn in Stage I."""
    objective: str | None = None
    """What the steps after Stage I pay: a name of `OBJECTIVES`, or `package.module:Name` of a user's own `Objective` (a
    class gets those of these weights that its parameters name). None is Stage II."""
    beta_first: NonNegative | None = None
    """KL coefficient of the first turn in Stage II, if not beta1: a guard against a falling first turn."""

    @property
    def total_steps(self) -> int:
        """Training steps of both stages."""
        return self.stage_one_steps + self.stage_two_steps

    @model_validator(mode="after")
    def _some_step(self) -> Self:
        if self.total_steps == 0:
            raise ValueError("stage_one_steps and stage_two_steps are both 0: there is nothing to train")
        return self


class LookSettings(Settings):
    """What arms of many turns pay; see docs/arms/many-turns.md for which arm reads which."""

    warm_up_steps: Count = 12
    """judge-then-act, s2r, self-rewarding: the run's first steps, which imitate own turns that the checker chooses."""
    word_weight: Positive = 1.0
    """judge-then-act: lambda, of a word that agrees with the checker."""
    turn_cost: NonNegative = 0.02
    """judge-then-act: what saying "wrong", and so a further turn, costs."""
    balanced: bool = True
    """judge-then-act: whether words on right and on wrong answers count alike, however rare one is."""
    repeat_cost: NonNegative = 0.0
    """judge-then-act: what a wrong answer costs that the episode gave before."""
    level: Literal["process", "outcome"] = "process"
    """s2r: whether every turn is paid for itself, or all for the last answer."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    """ufo: what being right is worth less with every further answer. murphy: discount of what flows back."""
    novelty: NonNegative = 0.1
    """ufo: weight of answers that were given before."""
    branches: int = Field(default=2, ge=2)
    """murphy: episodes that share a first answer."""
    progress_gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
    """cocos: what progress is worth less with every answer that follows it."""


class EvaluationSettings(Settings):
    """Greedy evaluation on held-out problems."""

    problems: PositiveInt = 2000
    """How many held-out problems; all there are, if a file holds out fewer."""
    every: Count = 0
    """Steps between evaluations while training; 0 evaluates only before and after."""
    revisions: int | None = Field(default=None, ge=1, le=MOST_REVISIONS)
    """How often an answer is revised there, where that should be more or less often than in training; None is
    `graph.revisions`."""
    seed: Seed = 0
    """Of the draw of the problems."""


class RunSettings(CreditedSettings, KeepingSettings):
    """Everything that decides a run. Written to `config.yaml` of its directory."""

    task: Annotated[TaskSettings, ByKind(TASKS)] = CountdownSettings()
    policy: PolicySettings = PolicySettings()
    graph: GraphSettings = GraphSettings()
    prompts: PromptSettings = PromptSettings()
    score: ScoreSettings = ScoreSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    star: StarSettings = StarSettings()
    pair_sft: PairSftSettings = PairSftSettings()
    sft: SftSettings = SftSettings()
    looks: LookSettings = LookSettings()
    vstar: VstarSettings = VstarSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def for_evaluation(self) -> Self:
        """The same with the loop of the evaluation in the place of that of training."""
        revisions = self.evaluation.revisions or self.graph.revisions
        graph = self.graph.model_copy(update={"revisions": revisions, "fewest_revisions": None})
        return self.model_copy(update={"graph": graph})

    @model_validator(mode="after")
    def _credit_has_an_effect(self) -> Self:
        if unknown := set(self.credit_by_role) - {"answer", "critique"}:
            raise ValueError(f"credit_by_role: the calls are answer and critique, and none is {min(unknown)!r}")
        by_role = list(self.credit_by_role.values())
        refuse_idle_baseline([self.credit, *by_role], self.optimiser.baseline, critic=self.optimiser.critic is not None)
        refuse_stunted_trees(self.credit, by_role, self.optimiser.episodes_per_problem, self.score.offline_attempts)
        self.refuse_idle(self.evaluation.every, "evaluation.every", self.optimiser.trl)
        refuse_contradictions(self.policy.engine, self.policy, self.optimiser)
        return self


# Ready-made settings.

DEMO = RunSettings(
    policy=PolicySettings(max_new_tokens=40),
    score=ScoreSettings(stage_one_steps=30, stage_two_steps=130, alpha=1.0, beta1=0.05, beta2=0.1, beta_first=0.1),
    optimiser=OptimiserSettings(
        learning_rate=5e-4,
        learning_rate_decay=True,
        problems_per_step=32,
        episodes_per_problem=8,
        minibatches=2,
        ppo_epochs=2,
        baseline="leave_one_out_given_previous",
        # Stage II's gradients are about twice Stage I's: at 0.999 Adam took too large steps for dozens of updates after
        # the switch, the KL could double within a step, and one run of eight never came back from there
        adam_beta2=0.95,
    ),
    evaluation=EvaluationSettings(problems=2000),
)
"""The embedded policy on Countdown with four numbers: minutes on two CPU cores."""

FULL = combine(
    DEMO,
    {
        "save_every": 50,
        "evaluation": {"every": 100},
        "score": {"stage_one_steps": 75, "stage_two_steps": 325},
        "optimiser": {"adam_beta2": 0.999},  # as its published figures were made; none of their three runs failed
    },
    [],
    source="the preset full",
)
"""As `DEMO`, for two and a half times as long, and with Adam's usual memory."""

LOOKS = combine(
    FULL,
    {
        "policy": {"model": "embedded-looks"},
        "graph": {"revisions": 8, "fewest_revisions": 1},
        "score": {"stage_one_steps": 90, "stage_two_steps": 390},
        "looks": {"repeat_cost": 1.0},
        # 15 problems: an episode of up to nine answers and their verdicts has about three times the tokens of two
        "optimiser": {"problems_per_step": 15, "baseline": "leave_one_out"},
        "evaluation": {"every": 0, "revisions": 8},
    },
    [],
    source="the preset looks",
)
"""The embedded policy for many looks, in episodes of up to nine answers: about as many tokens as `FULL`. For the arms
of many turns."""

_LM_RATE = 1e-5
"""Twice SCoRe's for all weights; at 5e-4 one step took SmolLM2-135M's KL to 5.5e10 nats, at 1e-5 to 0.012."""


def _language_model(rate: float) -> RunSettings:
    """`rate` is that of what learns, all weights or adapters."""
    # a head that learns by steps with a language model's body is hard to give a rate; a fitted one has none, and chose
    # better (docs/arms/vstar.md)
    head = HeadSettings(body="frozen", optimiser="adamw", learning_rate=rate, batch=32, micro_batch=8)
    return RunSettings(
        task=CountdownSettings(words=True),  # asked in sentences: symbols mean nothing to a chat model
        policy=PolicySettings(max_new_tokens=512),  # LoRA above 0.5 B parameters is the default's "auto"
        optimiser=OptimiserSettings(
            learning_rate=rate,
            warmup_steps=5,  # Adam's first steps, before it knows the gradients' size, are its wildest
            problems_per_step=16,  # half the demo's (of 8 episodes): one has up to 1024 tokens, not 80
            episodes_per_problem=8,
            gradient_accumulation=16,  # 8 episodes in a pass: their logits are what memory is needed for
            max_kl=1.0,  # a step of all weights at 1e-5 moves about 0.01
        ),
        # A quarter of the problems and steps of the defaults, which are for the small policy's short answers.
        # 8 examples in a pass, as above.
        star=StarSettings(problems=640, steps=40, batch_size=32, micro_batch=8, learning_rate=rate),
        pair_sft=PairSftSettings(problems=2560, steps=160, batch_size=32, micro_batch=8, learning_rate=rate),
        sft=SftSettings(micro_batch=8),
        vstar=VstarSettings(
            problems=500, calibration_problems=100,
            generator=GeneratorSettings(learning_rate=rate, batch=32, micro_batch=8),
            # as DPO of a language model is usually done: AdamW, and the beta of 0.1 of Rafailov et al. 2023
            likelihood=PreferenceSettings(optimiser="adamw", learning_rate=rate, batch=32, micro_batch=4, beta=0.1),
            classifier=head, stepwise=head,
        ),
        evaluation=EvaluationSettings(problems=200),  # a standard error of 0.035 at most, for 400 answers
        save_every=10,  # steps are slow: twice as often as the default
    )  # fmt: skip


LM = _language_model(_LM_RATE)
"""A language model of a user's own: a start that does not break it, to be changed for the model and the task."""
LM_ADAPTERS = _language_model(10 * _LM_RATE)
"""`LM` where adapters are trained, which want ten times the rate of all weights (docs/reproduce.md)."""

PRESETS: Mapping[str, RunSettings] = MappingProxyType(
    {"demo": DEMO, "full": FULL, "looks": LOOKS, "lm": LM}
    | {name: combine(DEMO, {}, changes, source=f"recipe {name}") for name, changes in RECIPES.items()}
)


def read_settings(path: Path, *, overrides: Sequence[str] = (), base: RunSettings | None = None) -> RunSettings:
    """The settings in `path`, over those of `base` (default: the defaults), under `overrides` such as "score.alpha=5".

    Raises:
        ConfigurationError: as `selfcorrect.settings.load_settings` does.
    """
    return load_settings(path, base or RunSettings(), overrides=overrides)
