"""The settings of per-turn PPO, and their translation to TRL's.

`OptimiserSettings` is what a settings file and `--set optimiser.NAME=VALUE` can change; `TurnPPOConfig` adds what one
run of the trainer needs besides. Every default stands here, once.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.setting_groups import Count, NonNegative, Positive, Settings, WholeSettings
from selfcorrect.training.credit.settings import (
    Baseline,
    CreditSettings,
    Discount,
    OwnCredit,
    refuse_idle_baseline,
    refuse_stunted_trees,
)
from selfcorrect.training.engines import Mismatch
from selfcorrect.training.ppo.keeping import KeepingSettings
from selfcorrect.training.ppo.trl_options import (
    checkpointing_argument,
    faults_in,
    is_adam,
    refuse_on_cpu,
    refuse_without_launcher,
)
from selfcorrect.training.processes import count

NormaliseBy = Literal["nothing", "role"]
NormaliseLoss = Literal["token", "turn"] | int
Surrogate = Literal["clip", "cispo", "gspo"]


class CriticConfig(Settings):
    """A linear value head on the policy's last hidden states, with GAE inside turns and, if wanted, across them.

    With `turn_discount` 0 nothing flows between turns, as with credit `own`. PPO over whole episodes (MT-PPO, arXiv
    2505.11821) is `turn_discount` and `turn_trace` above 0; turn-PPO (arXiv 2512.17008) is that with `level: turn`.
    """

    level: Literal["token", "turn"] = "token"
    """Whether every token has a value and an advantage of its own, or every turn has one for all its tokens."""
    learning_rate: Positive = 1e-3
    """Of its own Adam."""
    epochs: PositiveInt = 4
    """Passes over each batch of episodes."""
    discount: Discount = 1.0
    """Per token, within a turn; of level "token" only."""
    trace: Discount = 0.95
    """Lambda of GAE per token, within a turn; of level "token" only."""
    turn_discount: Discount = 0.0
    """From a turn to the next; 0 cuts there."""
    turn_trace: Discount = 0.95
    """Lambda of GAE from a turn to the next."""
    pretraining: Count = 0
    """Training steps at the beginning in which only the critic learns (value pre-training: VC-PPO, arXiv
    2503.01491)."""


class OverlongSettings(Settings):
    """Soft overlong punishment (DAPO, arXiv 2503.14476, Eq. 13): the reward of a turn falls linearly over the last
    `buffer` tokens before `limit`, by `penalty` at the limit and beyond."""

    limit: PositiveInt
    """Tokens of a turn; usually `policy.max_new_tokens`."""
    buffer: PositiveInt
    penalty: Positive = 1.0

    def charge(self, length: int) -> float:
        """What a turn of `length` tokens is paid less, in [0, penalty]."""
        return self.penalty * min(1.0, max(0, length - (self.limit - self.buffer)) / self.buffer)


class CreditedSettings(Settings):
    """Who is paid for what."""

    credit: CreditSettings = OwnCredit()
    """Which turn is paid for what; see docs/credit.md."""
    credit_by_role: dict[str, CreditSettings] = Field(default_factory=dict)
    """Another credit for the calls of some roles: "critique", or in a graph of one's own a node, or "subgraph/node"."""


class OptimiserSettings(Settings):
    """One training step: how many episodes, and what is learnt from them."""

    learning_rate: Positive = 5e-6
    """Of Adam, after the warm-up. 5e-6 is SCoRe's for all weights of a language model."""
    learning_rate_decay: bool = False
    """Whether it falls linearly to 0 over the run."""
    warmup_steps: Count = 0
    """Training steps in which it rises from 0."""
    problems_per_step: PositiveInt = 32
    """Different problems, over all processes."""
    episodes_per_problem: PositiveInt = 8
    """K; at least 2 for a baseline that compares the episodes of a problem."""
    ppo_epochs: PositiveInt = 1
    """Passes over the episodes of a step. With one minibatch this is the on-policy REINFORCE of the SCoRe paper."""
    minibatches: PositiveInt = 1
    """Optimiser steps per PPO epoch."""
    gradient_accumulation: PositiveInt = 1
    """Forward and backward passes per optimiser step, for memory; with `minibatches` it must divide the episodes of a
    step."""
    clip: Positive = 0.2
    """PPO's clip range: the ratio is kept within [1 - clip, 1 + clip]."""
    clip_high: Positive | None = None
    """The upper end's own range; None is that of `clip`."""
    surrogate: Surrogate = "clip"
    """What is maximised: PPO's "clip", "cispo" (arXiv 2506.13585), or "gspo" (arXiv 2507.18071), which clips whole
    turns and wants a `clip` of about 3e-4."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Bound on the loss of tokens with negative advantage, in advantages, usually 3 (arXiv 1912.09729); None is no
    bound."""
    normalise_loss: Literal["token", "turn"] | PositiveInt = "token"
    """What counts alike: every "token" of the step (DAPO), every "turn" (GRPO); or a number, the longest turn there can
    be, which every turn's tokens are divided by, however long it is (Dr. GRPO)."""
    truncated: Literal["learn", "mask"] = "learn"
    """Whether turns that were cut off at the limit are learnt from."""
    overlong: OverlongSettings | None = None
    """What turns near the limit are paid less."""
    no_spread: Literal["keep", "drop", "resample"] = "keep"
    """Problems whose episodes were all paid the same teach nothing but their KL: "drop" takes them out of the loss,
    "resample" plays other problems in their place (dynamic sampling, DAPO)."""
    resample_rounds: PositiveInt = 3
    """How often other problems are played, before what has no spread stays."""
    baseline: Baseline = "leave_one_out"
    """What a turn's return is compared with; "given previous" also knows the score of the answer before, which
    lowers the noise. docs/credit.md says which are exact."""
    normalise_by: NormaliseBy | None = None
    """"role" brings the advantages of a step's answers, and those of its critiques, to mean 0 and variance 1 each; None
    is what the arm asks for, and that is "nothing" but for PAG."""
    critic: CriticConfig | None = None
    """A value head, which then takes the place of credit and baseline."""
    kl: bool = True
    """Whether any turn may have a KL coefficient; false needs no reference model, and charges none."""
    kl_over: Literal["token", "turn"] = "token"
    """"token" charges each token for its own KL, as most trainers do; "turn" adds what it does to the KL of the later
    tokens of its turn, which makes it the KL between whole turns that SCoRe writes, at the price of more noise."""
    kl_target: Positive | None = None
    """Adaptive KL: all KL coefficients are multiplied by one factor, which rises while the KL, in nats a token, is
    above this and falls while it is below (arXiv 1909.08593, section 2.2)."""
    kl_gain: Positive = 0.1
    """How fast the factor moves: by at most a fifth of this a step."""
    max_kl: Positive = 5.0
    """The run stops (DivergenceError) when one training step raises the KL of a turn, `kl_t1` and so on, by more than
    this, in nats a token. 5 is far beyond any step that learns; without a reference (`kl: false`) nothing is
    measured."""
    stop_after_idle: Count = 10
    """After so many batches in a row from which nothing can be learnt (no correct answer yet, no problem whose episodes
    were paid differently, or a gradient of 0) a run stops; 0 is never. Each such batch raises an alarm."""
    entropy: NonNegative = 0.0
    """Bonus, per token."""
    entropy_target: Positive | None = None
    """Adaptive entropy: the bonus rises by `entropy_gain` a step while the entropy, in nats a token, is below this, and
    falls while it is above, never below 0 (arXiv 2505.22312)."""
    entropy_gain: Positive = 0.005
    """By how much the bonus moves a step, where there is an `entropy_target`."""
    log_entropy: bool = True
    """Measure the entropy even without a bonus (costs a little)."""
    temperature: Positive = 1.0
    """Of sampling; the log-probabilities are those at this temperature. Greedy episodes would teach nothing."""
    max_grad_norm: Positive = 1.0
    """Gradients are clipped to it."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Of Adam."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass rather than keep them: less memory, about a third more time."""
    pure_bf16: bool = False
    """Train all weights in bfloat16 themselves, with steps that are rounded by chance (`StochasticAdamW`), rather than
    float32 weights that are computed with in bfloat16: less memory, more noise."""
    play_ahead: bool = False
    """Play the next batch while this one is learnt from, by the weights before it (docs/engines.md)."""
    score_rows: PositiveInt | None = None
    """Rows that are scored at once where no gradient is needed (reference, critic, old log-probabilities), for memory;
    None is as many as one forward and backward pass has."""
    stage_switch: Literal["carry", "reset", "restart"] = "carry"
    """What happens to the optimiser where a new stage begins: nothing; Adam's moments are forgotten ("reset"); and the
    learning rate begins its course anew, over the steps of the stage ("restart")."""
    store_episodes: Count = 4
    """Episodes of every step, evenly spread over its problems, that the run folder keeps token for token with what each
    earned (training_episodes.jsonl, which `selfcorrect view` shows); 0 keeps none."""
    recompute_old_logprobs: bool = False
    """Score the episodes once more before learning rather than trusting the log-probabilities that came with the
    samples. `mismatch` does so by itself."""
    mismatch: Mismatch = "auto"
    """What is done about log-probabilities of a `policy.engine` that are not the trainer's: "auto" truncates the ratio
    of each token at 2 where there is such an engine; None takes the engine's for the trainer's."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Further options of `trl.GRPOConfig`, by name (weight_decay, optim, ...): those of
    `trl_options.HONOURED`."""

    @property
    def episodes_per_step(self) -> int:
        """Episodes played for one training step, over all processes."""
        return self.problems_per_step * self.episodes_per_problem

    @property
    def updates_per_step(self) -> int:
        """Optimiser steps per training step."""
        return self.minibatches * self.ppo_epochs

    @model_validator(mode="after")
    def _something_to_compare(self) -> Self:
        if self.critic is None and self.baseline != "none" and self.episodes_per_problem < 2:
            raise ValueError(
                f"episodes_per_problem is {self.episodes_per_problem}, but baseline '{self.baseline}' compares at "
                "least 2 episodes of a problem"
            )
        if self.critic is not None and self.normalise_by == "role":
            raise ValueError("normalise_by needs a baseline that compares episodes: it does not go with a critic")
        return self

    @model_validator(mode="after")
    def _options_with_an_effect(self) -> Self:
        faults = faults_in(self.trl)
        for setting, on, option, reason in (
            ("learning_rate_decay", self.learning_rate_decay, "lr_scheduler_type", "is the scheduler 'linear'"),
            ("stage_switch 'restart'", self.stage_switch == "restart", "lr_scheduler_type", "has a course of its own"),
            ("pure_bf16", self.pure_bf16, "optim", "has an optimiser of its own"),
        ):
            if on and option in self.trl:
                faults.append(f"trl.{option} does not go with {setting}, which {reason}")
        usual = type(self).model_fields["adam_beta2"].default
        if self.adam_beta2 != usual and not is_adam(self.trl):
            faults.append(f"adam_beta2 is of Adam, and trl.optim is {self.trl['optim']!r}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def _everything_has_an_effect(self) -> Self:
        refused = {
            "dual_clip is a bound on PPO's clip; CISPO has no clip to bound": self.dual_clip is not None
            and self.surrogate == "cispo",
            "play_ahead needs `mismatch`, which corrects for older weights": self.play_ahead and self.mismatch is None,
            "kl_target needs kl: true": self.kl_target is not None and not self.kl,
        }
        for reason, wrong in refused.items():
            if wrong:
                raise ValueError(reason)
        return self

    @model_validator(mode="after")
    def _equal_minibatches(self) -> Self:
        parts = self.minibatches * self.gradient_accumulation
        if self.episodes_per_step % parts:
            raise ValueError(
                f"minibatches x gradient_accumulation must divide problems_per_step x episodes_per_problem = "
                f"{self.episodes_per_step}, got {self.minibatches} x {self.gradient_accumulation}"
            )
        return self


class TurnPPOConfig(CreditedSettings, OptimiserSettings, KeepingSettings, WholeSettings):
    """Settings of one `TurnPPOTrainer`."""

    output_dir: Path = Field(strict=False)
    """Where checkpoints go."""
    steps: PositiveInt
    """How many training steps: each plays episodes and learns from them."""
    stages: list[int] = Field(default_factory=list)
    """The steps of each stage, where there are several."""
    evaluate_every: Count = 0
    """Training steps between evaluations on held-out problems; 0 evaluates only before and after."""

    @model_validator(mode="after")
    def _credit_has_an_effect(self) -> Self:
        refuse_idle_baseline(
            [self.credit, *self.credit_by_role.values()], self.baseline, critic=self.critic is not None
        )
        refuse_stunted_trees(self.credit, list(self.credit_by_role.values()), self.episodes_per_problem)
        if self.stage_switch != "carry" and len(self.stages) < 2:
            raise ValueError(f"stage_switch {self.stage_switch!r} has no effect: the run has one stage")
        self.refuse_idle(self.evaluate_every, "evaluate_every", self.trl)
        return self

    @model_validator(mode="after")
    def _equal_processes(self) -> Self:
        refuse_without_launcher(self.trl)
        if self.problems_per_step % count():
            raise ValueError(
                f"{self.problems_per_step} problems a step do not divide into {count()} processes; the episodes "
                "of a problem, which are each other's baseline, have to be played by one of them"
            )
        if self.episodes_per_step % (self.minibatches * self.gradient_accumulation * count()):
            raise ValueError(
                f"{self.episodes_per_step} episodes a step do not divide into {self.minibatches} minibatches x "
                f"{self.gradient_accumulation} accumulation steps x {count()} processes"
            )
        return self

    def refuse_idle_run(self, problems: int, *, measures: bool) -> None:
        """Raise an error if a run on so many problems would end untrained, or leave a setting without effect.

        Args:
            problems: to train on.
            measures: whether somebody plays held-out problems and compares checkpoints.

        Raises:
            TrainingError: there are fewer problems than one batch holds.
            ConfigurationError: a setting needs somebody who measures.
        """
        if problems < self.problems_per_step:
            # TRL's sampler drops an incomplete batch: the run would end at once, untrained, without an error.
            raise TrainingError(
                f"{problems} problems are fewer than one batch of {self.problems_per_step}; lower problems_per_step or "
                "add problems"
            )
        idle = [name for name in ("best", "evaluate_every", "stop_after_minutes") if getattr(self, name)]
        if idle and not measures:
            raise ConfigurationError(
                f"{idle[0]} has no effect in a TurnPPOTrainer of one's own, which plays no held-out problems, compares "
                "no checkpoints and has no clock: leave it away, or train with `selfcorrect.training.train`, which has"
            )

    def own_optimiser(self, model: Any) -> Any:
        """The optimiser of `model`'s weights where it is not TRL's: `pure_bf16`'s, else None."""
        if not self.pure_bf16:
            return None
        from selfcorrect.training.ppo.precision import StochasticAdamW

        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return StochasticAdamW(
            learning,
            self.learning_rate,
            betas=(self.trl.get("adam_beta1", 0.9), self.adam_beta2),
            eps=self.trl.get("adam_epsilon", 1e-8),
            weight_decay=self.trl.get("weight_decay", 0.0),
            seed=self.seed,
        )

    def to_trl(self, *, shuffled: bool = True, bf16: bool = False, use_cpu: bool = False) -> Any:
        """The `trl.GRPOConfig` of this run.

        Args:
            shuffled: the problems are; else TRL shuffles them.
            bf16: compute in bfloat16 under autocast.
            use_cpu: stay on the CPU, whatever the machine has.

        Raises:
            ConfigurationError: an option of TRL's has no effect there.
        """
        from trl import GRPOConfig

        if use_cpu:
            refuse_on_cpu(self.trl)
        slices = self.minibatches * self.gradient_accumulation
        settings: dict[str, Any] = {
            "output_dir": str(self.output_dir),
            "max_steps": self.steps * self.updates_per_step,
            "per_device_train_batch_size": self.episodes_per_step // (slices * count()),
            "gradient_accumulation_steps": self.gradient_accumulation,
            "steps_per_generation": slices,
            "num_generations": self.episodes_per_problem,
            "num_iterations": self.ppo_epochs,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "linear" if self.learning_rate_decay else "constant_with_warmup",
            "warmup_steps": self.warmup_steps * self.updates_per_step,
            "adam_beta2": self.adam_beta2,
            "max_grad_norm": self.max_grad_norm,
            "temperature": self.temperature,
            "beta": 0.0,  # the reference and the KL are ours: TRL would reload the reference by the model's name
            "loss_type": "dapo",
            "scale_rewards": "none",
            "disable_dropout": False,  # the model's is off already; an adapter's is asked for
            checkpointing_argument(): self.activation_checkpointing,
            "bf16": bf16,
            "use_cpu": use_cpu,
            "seed": self.seed,
            "shuffle_dataset": not shuffled,
            "logging_steps": self.updates_per_step,
            "save_strategy": "steps" if self.save_every else "no",
            "save_steps": max(1, self.save_every) * self.updates_per_step,
            "save_total_limit": self.keep_checkpoints + (self.best is not None),
            "report_to": [],
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "ddp_find_unused_parameters": False,  # every weight is in every loss; to look for others takes time
            "remove_unused_columns": False,
        }
        return GRPOConfig(**(settings | self.trl))
