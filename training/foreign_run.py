"""One run of `train`: the trainer, its callbacks, what is saved."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from selfcorrect.errors import ConfigurationError, GraphError
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.callbacks import FiniteGradients, StopOnInterrupt
from selfcorrect.training.config import PPOConfig
from selfcorrect.training.epochs import epochs
from selfcorrect.training.foreign_rewards import PaidByFunction, kind_of
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.rollouts import Episode
from selfcorrect.training.trainer import PPOTrainer


@dataclass
class ForeignRun:
    """Trains `policy` in `graph` and keeps the figures."""

    graph: Any
    policy: Any
    problems: list[Problem]
    signals: PaidByFunction
    config: PPOConfig
    progress: ProgressSink
    steps: list[dict[str, float]] = field(default_factory=list)

    def play(
        self,
        inputs: Callable[[Problem], Mapping[str, Any]],
        trainable: frozenset[str] | None,
        context: Any,
        reference: Any,
        peft_config: Any,
        *,
        resume: bool,
    ) -> tuple[list[dict[str, float]], Path]:
        """Train to the end; the figures of every batch and where the model was saved."""
        config, checkpoint = self.config, self._checkpoint(resume)
        interrupt = StopOnInterrupt(config.updates_per_batch)
        something_learns = _SomethingLearns(trainable)
        trainer = PPOTrainer(
            self.policy,
            self.graph,
            epochs(self.problems, batches=config.batches, per_batch=config.problems_per_batch, seed=config.seed),
            lambda batch: self.signals,
            replace(config, trl={"shuffle_dataset": False} | config.trl),  # they are shuffled already
            reference=reference,
            peft_config=peft_config,
            trainable=trainable,
            inputs=_checked_inputs(inputs),
            context=context,
            callbacks=[something_learns, _Figures(self), FiniteGradients(), interrupt],
        )
        something_learns.watch(trainer)
        self.progress.start(config.batches, "train")
        try:
            with interrupt.listening():
                trainer.train(resume_from_checkpoint=checkpoint)
        finally:
            self.progress.close()
        if interrupt.interrupted:
            raise KeyboardInterrupt
        return self.steps, self._save(trainer)

    def _checkpoint(self, resume: bool) -> str | None:
        if not resume:
            return None
        checkpoint = get_last_checkpoint(str(self.config.output_dir)) if self.config.output_dir.is_dir() else None
        if checkpoint is None:
            raise ConfigurationError(
                f"there is no checkpoint in {self.config.output_dir} to resume from; set save_every, or start with resume=False"
            )
        return str(checkpoint)

    def _save(self, trainer: PPOTrainer) -> Path:
        """The trained weights as a plain model, which becomes the policy's: an adapter is merged into its base."""
        path = Path(self.config.output_dir) / "model"
        model = trainer.accelerator.unwrap_model(trainer.model)
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        self.policy.model = model
        model.save_pretrained(path)
        self.policy.tokenizer.save_pretrained(path)
        return path


class _Figures(TrainerCallback):  # type: ignore[misc]
    """Keeps the figures of every batch and shows them."""

    def __init__(self, run: ForeignRun) -> None:
        self._run = run

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "tokens" in logs:
            figures = {"step": state.global_step // self._run.config.updates_per_batch, **logs}
            self._run.steps.append(figures)
            self._run.progress.step(figures)


class _SomethingLearns(TrainerCallback):  # type: ignore[misc]
    """Ends a run whose first batch could not teach anything, rather than let it run to its end for nothing."""

    def __init__(self, trainable: frozenset[str] | None) -> None:
        self._trainable = trainable
        self._trainer: PPOTrainer | None = None

    def watch(self, trainer: PPOTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._trainer is not None:
            self._refuse(self._trainer.last_episodes)
            self._trainer = None

    def _refuse(self, episodes: list[Episode]) -> None:
        pairs = [
            (call, signal) for episode in episodes for call, signal in zip(episode.calls, episode.signals, strict=True)
        ]
        learning = [signal for call, signal in pairs if call.inside(self._trainable)]
        if not learning:
            callers = sorted({kind_of(call).rpartition(" ")[0] for call, _ in pairs})
            raise GraphError(
                f"no call of the first {len(episodes)} episodes was made in {sorted(self._trainable or ())}: nothing would learn. The "
                f"nodes that called the policy: {', '.join(callers)}"
            )
        if all(signal.reward is None for signal in learning):
            raise GraphError(
                f"reward_fn paid None for every call of the first {len(episodes)} episodes: nothing would be learnt"
            )


def _checked_inputs(inputs: Callable[[Problem], Mapping[str, Any]]) -> Callable[[Problem], dict[str, Any]]:
    def checked(problem: Problem) -> dict[str, Any]:
        given = inputs(problem)
        if not isinstance(given, Mapping):
            raise GraphError(f"inputs returned a {type(given).__name__}; it must return the graph's input as a dict")
        return dict(given)

    return checked
