"""The best checkpoint of a run: found by a figure, kept through rotation, and if asked for the run's result; and the
early end of a run that gets no better.

A figure and the weights that it is of belong together. A held-out figure of step n is measured after the update, so the
checkpoint of step n is saved for it. The figure of a step's episodes is of the weights that played them, those after
step n - 1: it judges the checkpoint n - 1, where one was saved. What transformers knows of this is in
`trainer_state.json` (`best_global_step`), and its rotation leaves that checkpoint alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.keeping import BestSettings


class BestCheckpoint(TrainerCallback):  # type: ignore[misc]
    """Compares the checkpoints of the last stage by `config.best`; does nothing where that is None.

    Stands behind the callback that adds the held-out figures to the step's.

    Args:
        config: the run's.
        steps: the rows of metrics.jsonl up to where the run goes on.
        tell: told in one line what is decided.
    """

    def __init__(self, config: TurnPPOConfig, steps: Sequence[Mapping[str, Any]], tell: Callable[[str], None]) -> None:
        self._config, self._tell = config, tell
        self._first = sum(config.stages[:-1]) + 1
        self._found: list[tuple[int, float]] = []  # (training step of the checkpoint, its figure)
        self._known = False
        for row in steps:
            self._compared(int(row["step"]), row)

    @property
    def step(self) -> int | None:
        """The training step whose checkpoint is the best so far; of equals the first."""
        if not self._found or self._config.best is None:
            return None
        sign = 1 if self._config.best.higher_is_better else -1
        return max(self._found, key=lambda one: sign * one[1])[0]

    @property
    def path(self) -> Path | None:
        """That checkpoint."""
        return None if self.step is None else _checkpoint(self._config, self.step)

    @property
    def is_over(self) -> bool:
        """Whether the run has got no better for `patience` comparisons."""
        best = self._config.best
        if best is None or not best.patience or not self._found:
            return False
        position = [step for step, _ in self._found].index(self.step or 0)
        return len(self._found) - 1 - position >= best.patience

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._note(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        best = self._config.best
        if best is None or not logs or "tokens" not in logs:
            return
        step = state.global_step // self._config.updates_per_step
        self._refuse_unknown(best, step, logs)
        compared = self._compared(step, logs)
        if compared is None:
            return
        if compared == self.step:
            self._note(state)
            control.should_save = control.should_save or best.held_out
        if self.is_over:
            self._tell(
                f"{best.metric} got no better in {best.patience} comparisons: the run stops early, at step {step}; the "
                f"best is the checkpoint of step {self.step}"
            )
            control.should_save = control.should_training_stop = True

    def _compared(self, step: int, figures: Mapping[str, Any]) -> int | None:
        """Take note of what the figures of `step` say of a checkpoint; the step of that, or None."""
        best = self._config.best
        if best is None:
            return None
        value = figures.get(best.metric)
        judged = step if best.held_out else step - 1
        saved = best.held_out or (judged > 0 and judged % self._config.save_every == 0)
        if value is None or not math.isfinite(value) or not saved or judged < self._first:
            return None
        self._found.append((judged, float(value)))
        return judged

    def _refuse_unknown(self, best: BestSettings, step: int, logs: Mapping[str, Any]) -> None:
        due = not best.held_out or step % self._config.evaluate_every == 0
        if self._known or not due:
            return
        if best.metric not in logs:
            known = ", ".join(sorted(name for name in logs if name.startswith("eval_") == best.held_out))
            raise ConfigurationError(f"best.metric: step {step} has no figure {best.metric!r}; it has {known}")
        self._known = True

    def _note(self, state: Any) -> None:
        if self.step is not None:
            state.best_global_step = self.step * self._config.updates_per_step
            state.best_metric = dict(self._found)[self.step]
            state.best_model_checkpoint = str(self.path)

    def give_back(self, trainer: Any) -> None:
        """Give `trainer` the weights of the best checkpoint, if they are to be the run's result.

        Raises:
            TrainingError: the checkpoint is gone.
        """
        best = self._config.best
        if best is None or not best.final:
            return
        if self.path is None:
            self._tell(f"no checkpoint was compared by {best.metric}: the weights of the last step are the result")
            return
        if not self.path.is_dir():
            raise TrainingError(
                f"the best checkpoint by {best.metric}, {self.path}, is gone; the weights of the last step are in the "
                "newest one"
            )
        trainer.load_weights(self.path)
        value = dict(self._found)[self.step or 0]
        self._tell(f"the result is the checkpoint of step {self.step}, the best by {best.metric} ({value:.4g})")


def _checkpoint(config: TurnPPOConfig, step: int) -> Path:
    return config.output_dir / f"checkpoint-{step * config.updates_per_step}"
