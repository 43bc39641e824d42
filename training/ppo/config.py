"""Settings of one PPO run, and their translation to TRL's."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.ppo.advantages import Baseline, NormaliseBy

# Settings of the critic.


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """A linear value head on the policy's last hidden states.

    Args:
        learning_rate: of its own Adam.
        epochs: passes over each batch.
        discount: per token, within a turn.
        trace: lambda of GAE.
    """

    learning_rate: float = 1e-3
    epochs: int = 4
    discount: float = 1.0
    trace: float = 0.95


@dataclass(frozen=True, slots=True)
class TurnPPOConfig:
    """Settings of `TurnPPOTrainer`.

    Args:
        output_dir: where checkpoints go.
        batches: how many batches of episodes to learn from.
        problems_per_batch: different problems in a batch, over all processes.
        episodes_per_problem: K, at least 2 for a leave-one-out baseline.
        learning_rate: of Adam, after `warmup_batches`.
        learning_rate_decay: it falls linearly to 0 over the run; else it is constant.
        minibatches: optimiser steps per pass over a batch. 1 with `ppo_epochs` 1 is the on-policy REINFORCE of the
            SCoRe paper.
        ppo_epochs: passes over each batch.
        gradient_accumulation: forward-backward passes per optimiser step, for memory.
        clip_low, clip_high: PPO's clip range.
        baseline: what a reward is compared with; see `advantages`.
        normalise_by: "role" brings the advantages of a batch's answers, and those of its critiques, to mean 0 and
            variance 1 each.
        critic: settings of a value head with GAE inside each turn, which then takes the place of the baseline; None for
            none.
        kl: whether any turn may have a KL coefficient; False needs no reference model.
        kl_over: "token" charges each token for its own KL, as most trainers do; "turn" adds what it does to the KL of
            the later tokens of its turn, which makes it the KL between whole turns that SCoRe writes, at the price of
            more noise.
        entropy_coefficient: bonus per token.
        log_entropy: measure the entropy even without a bonus (costs a little).
        temperature: of sampling; the log-probabilities are those at this temperature.
        max_grad_norm: gradient clipping.
        recompute_old_logprobs: score the batch once more before learning rather than trusting the log-probabilities
            that came with the samples; for engines whose numbers differ from the trainer's (vLLM).
        save_every: batches between checkpoints; 0 saves at the end only.
        keep_checkpoints: how many to keep.
        seed: of everything random.
        trl: further `trl.GRPOConfig` fields by name (bf16, deepspeed, fsdp, activation_checkpointing, report_to, ...).
    """

    output_dir: Path
    batches: int
    problems_per_batch: int = 32
    episodes_per_problem: int = 8
    learning_rate: float = 5e-6
    learning_rate_decay: bool = False
    warmup_batches: int = 0
    minibatches: int = 1
    ppo_epochs: int = 1
    gradient_accumulation: int = 1
    clip_low: float = 0.2
    clip_high: float = 0.2
    baseline: Baseline = "leave_one_out"
    normalise_by: NormaliseBy = "nothing"
    critic: CriticConfig | None = None
    kl: bool = True
    kl_over: Literal["turn", "token"] = "token"
    entropy_coefficient: float = 0.0
    log_entropy: bool = True
    temperature: float = 1.0
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    recompute_old_logprobs: bool = False
    save_every: int = 0
    keep_checkpoints: int = 2
    seed: int = 0
    trl: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.critic is None and self.baseline != "none" and self.episodes_per_problem < 2:
            raise ConfigurationError(
                f"episodes_per_problem is {self.episodes_per_problem}, but baseline '{self.baseline}' compares at "
                "least 2 episodes of a problem"
            )
        if self.critic is not None and self.normalise_by != "nothing":
            raise ConfigurationError(
                "normalise_by needs a baseline that compares episodes: it does not go with a critic"
            )
        for name in ("batches", "problems_per_batch", "minibatches", "ppo_epochs", "gradient_accumulation"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ConfigurationError(
                f"temperature must be above 0 for training, got {self.temperature}: greedy episodes teach nothing"
            )
        if self.problems_per_batch % _processes():
            raise ConfigurationError(
                f"{self.problems_per_batch} problems a batch do not divide into {_processes()} processes; the episodes "
                "of a problem, which are each other's baseline, have to be played by one of them"
            )
        if self.episodes_per_batch % (self.minibatches * self.gradient_accumulation * _processes()):
            raise ConfigurationError(
                f"{self.episodes_per_batch} episodes a batch do not divide into {self.minibatches} minibatches x "
                f"{self.gradient_accumulation} accumulation steps x {_processes()} processes"
            )

    @property
    def episodes_per_batch(self) -> int:
        return self.problems_per_batch * self.episodes_per_problem

    @property
    def updates_per_batch(self) -> int:
        """Optimiser steps per batch of episodes."""
        return self.minibatches * self.ppo_epochs

    def to_trl(self) -> Any:
        """The `trl.GRPOConfig` of this run."""
        from trl import GRPOConfig

        slices = self.minibatches * self.gradient_accumulation
        settings: dict[str, Any] = {
            "output_dir": str(self.output_dir),
            "max_steps": self.batches * self.updates_per_batch,
            "per_device_train_batch_size": self.episodes_per_batch // (slices * _processes()),
            "gradient_accumulation_steps": self.gradient_accumulation,
            "steps_per_generation": slices,
            "num_generations": self.episodes_per_problem,
            "num_iterations": self.ppo_epochs,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "linear" if self.learning_rate_decay else "constant_with_warmup",
            "warmup_steps": self.warmup_batches * self.updates_per_batch,
            "adam_beta2": self.adam_beta2,
            "max_grad_norm": self.max_grad_norm,
            "temperature": self.temperature,
            "beta": 0.0,  # the reference and the KL are ours: TRL would reload the reference by the model's name
            "loss_type": "dapo",
            "scale_rewards": "none",
            "disable_dropout": True,
            "activation_checkpointing": False,
            "bf16": False,
            "seed": self.seed,
            "logging_steps": self.updates_per_batch,
            "save_strategy": "steps" if self.save_every else "no",
            "save_steps": max(1, self.save_every) * self.updates_per_batch,
            "save_total_limit": self.keep_checkpoints,
            "report_to": [],
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "remove_unused_columns": False,
        }
        return GRPOConfig(**(settings | self.trl))


def _processes() -> int:
    """How many processes the launcher started (accelerate and torchrun say so in the environment)."""
    return int(os.environ.get("WORLD_SIZE", "1"))
