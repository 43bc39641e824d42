"""What every run of training keeps and tells: checkpoints, which of them is the best, the services that hear of it."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field, PositiveInt

from selfcorrect.errors import ConfigurationError
from selfcorrect.setting_groups import Count, Positive, Seed, Settings

ReporterName = Literal["tensorboard", "trackio", "wandb", "mlflow"]
"""Each has an extra of its name."""


def refuse_missing(names: Sequence[str]) -> None:
    """Raise a ConfigurationError if the package of a service is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        from selfcorrect.distribution import install_command

        commands = "; ".join(install_command(name) for name in missing)
        are = "is" if len(missing) == 1 else "are"
        raise ConfigurationError(f"report_to: {' and '.join(missing)} {are} not installed: {commands}")


class BestSettings(Settings):
    """Which checkpoint is the best of a run, and what is done with it. Only those of the last stage are compared."""

    metric: str = Field(default="episode_reward", min_length=1)
    """A figure of metrics.jsonl. One that begins with "eval_" is of held-out problems, and a checkpoint is saved
    wherever it is better than before; any other is of the episodes of a step, which the checkpoint before it has
    played: those after each `save_every` steps are compared. The mean reward of an episode, KL left out, is SCoRe's."""
    higher_is_better: bool = True
    patience: Count = 0
    """The run stops after so many comparisons in a row without a better one; 0 is never."""
    final: bool = True
    """Whether its weights are the run's result, rather than the last ones."""

    @property
    def held_out(self) -> bool:
        return self.metric.startswith("eval_")


class KeepingSettings(Settings):
    """What every run of training has: a seed, and checkpoints."""

    seed: Seed = 0
    """Of everything random."""
    save_every: Count = 20
    """Training steps between checkpoints; 0 saves at the end only."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest are kept."""
    best: BestSettings | None = None
    """Keep the best checkpoint, too; reinforced arms and `train` only."""
    stop_after_minutes: Positive | None = None
    """When the training ends with its step, saved, evaluated as it is, to be resumed; reinforced arms and `train`."""
    report_to: list[ReporterName] = Field(default_factory=list)
    """Services that are told the figures of every step and shown some episodes; each is an extra of this package."""

    def refuse_idle(self, evaluate_every: int, setting: str, trl: Mapping[str, Any]) -> None:
        """Raise a ValueError if something would never be compared or told.

        Args:
            evaluate_every: steps between held-out evaluations.
            setting: the name of that.
            trl: options of TRL's, some of which say how a service is told.
        """
        best = self.best
        if best is not None and best.held_out and not evaluate_every:
            raise ValueError(f"best.metric {best.metric} is measured where {setting} says, and that is 0: never")
        if best is not None and not best.held_out and not self.save_every:
            raise ValueError(f"best.metric {best.metric} compares checkpoints, and save_every 0 writes none")
        of_trackio = [name for name in trl if name == "project" or name.startswith("trackio_")]
        if of_trackio and "trackio" not in self.report_to:
            raise ValueError(f"trl.{of_trackio[0]} is of trackio, which is not told of this run: add it to report_to")
        if "run_name" in trl and not self.report_to:
            raise ValueError("trl.run_name is what services call the run, and report_to names none")
