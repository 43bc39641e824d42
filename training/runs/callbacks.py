"""What happens beside the learning: figures are written and shown, Ctrl-C is heard, bad gradients and a KL that jumps
stop the run."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from selfcorrect.errors import DivergenceError
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import Schedule
from selfcorrect.training.processes import together
from selfcorrect.training.runs.alarms import Watch
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory

Evaluation = Callable[[], Mapping[str, float]]
"""Evaluates the policy as it is now; figures by name."""


class RunLog(TrainerCallback):  # type: ignore[misc]
    """Writes every step to metrics.jsonl and to the progress sink, and announces each stage. Callbacks behind it see
    the step with held-out figures and alarms.

    Args:
        run: where the steps are written.
        progress: where they are shown.
        schedule: which stage a step belongs to.
        updates_per_step: optimiser steps per batch of episodes.
        evaluation, every: evaluate after each `every` steps; 0 never.
        watch: raises the alarms, which are told once each, and written down as `alarm/NAME` as long as they stand.
    """

    def __init__(
        self,
        run: RunDirectory,
        progress: ProgressSink,
        schedule: Schedule,
        updates_per_step: int,
        evaluation: Evaluation,
        every: int,
        watch: Watch,
    ) -> None:
        self._run, self._progress, self._schedule = run, progress, schedule
        self._updates, self._evaluation, self._every = updates_per_step, evaluation, every
        self._watch = watch
        self._stage = ""
        self._since = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._since = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "tokens" not in logs:  # transformers' closing summary, not a step
            return
        step = state.global_step // self._updates
        self._announce(step)
        metrics = {"step": step, "stage": self._stage_number(step), **logs, **self._cost(logs)}
        if self._every and step % self._every == 0:
            metrics.update({f"eval_{name}": value for name, value in self._evaluation().items()})
        standing = self._watch.standing(metrics)
        metrics.update({f"alarm/{alarm.name}": 1.0 for alarm in standing})
        logs.update(metrics)
        self._run.append_metrics(metrics)
        self._progress.step(metrics)
        for alarm in self._watch.untold(standing):
            self._progress.message(f"alarm: {alarm.words}")
        self._watch.check()
        self._since = time.perf_counter()

    def _cost(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """What the step took, playing (`rollout_seconds`), judging and learning together, held-out evaluation left out;
        the share of it in which everything waited for the judge; and the most memory that torch has held on an NVIDIA
        GPU so far, in GiB."""
        seconds = time.perf_counter() - self._since
        cost = {"step_seconds": seconds}
        if "judging_alone_seconds" in metrics:
            cost["judging_share"] = metrics["judging_alone_seconds"] / max(seconds, 1e-9)
        if torch.cuda.is_available():
            cost["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return cost

    def _stage_number(self, step: int) -> int:
        objective = self._schedule.at(step - 1)
        return [stage for stage, _ in self._schedule.stages].index(objective) + 1

    def _announce(self, step: int) -> None:
        objective = self._schedule.at(step - 1)
        if objective.name != self._stage:
            self._stage = objective.name
            steps = {stage.name: batches for stage, batches in self._schedule.stages}[objective.name]
            self._progress.start(steps, objective.name)


class FiniteGradients(TrainerCallback):  # type: ignore[misc]
    """Stops before an update with NaN or infinite gradients reaches the weights."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        for name, parameter in model.named_parameters():
            gradient = parameter.grad
            if isinstance(gradient, DTensor):
                gradient = gradient.to_local()  # every process looks at its part
            if gradient is not None and not bool(torch.isfinite(gradient).all()):
                raise DivergenceError(
                    f"the gradient of {name} is not finite in update {state.global_step + 1}; the weights were left as "
                    "they were"
                )


class BoundedKL(TrainerCallback):  # type: ignore[misc]
    """Stops a run in which one step moved the KL of a turn by more than `optimiser.max_kl`.

    A step's KL is that of the weights that it began with and of those between its updates, so the checkpoint before it
    may hold the weights that went too far: it is set aside, and the one before that is the last good one. What the
    run's very last update does shows in the evaluation only.

    Args:
        config: `max_kl`, `learning_rate`, and `updates_per_step` are read.
    """

    def __init__(self, config: TurnPPOConfig) -> None:
        self._config = config
        self._before: dict[str, float] | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "tokens" not in logs:
            return
        now = {name: float(value) for name, value in logs.items() if name.startswith("kl_t")}
        step = state.global_step // self._config.updates_per_step
        # A run starts at the reference, at KL 0; a resumed one where its first step finds it.
        before = now if self._before is None and step > 1 else self._before or {}
        for name, kl in now.items():
            if not kl - before.get(name, 0.0) <= self._config.max_kl:
                self._set_aside(Path(args.output_dir), state)
                raise DivergenceError(self._words(name, kl, before.get(name, 0.0), step))
        self._before = {**before, **now}

    def _words(self, name: str, kl: float, before: float, step: int) -> str:
        return (
            f"the policy went too far from where it began: {name} rose from {before:.3g} to {kl:.3g} nats a token in "
            f"step {step}, by more than optimiser.max_kl = {self._config.max_kl:g}. Begin again with a lower "
            f"optimiser.learning_rate (it is {self._config.learning_rate:g}; try a tenth of it), or fewer "
            "optimiser.minibatches and optimiser.ppo_epochs"
        )

    def _set_aside(self, folder: Path, state: Any) -> None:
        suspect = state.global_step - self._config.updates_per_step
        checkpoint = folder / f"checkpoint-{suspect}"
        if state.is_world_process_zero and checkpoint.is_dir():
            checkpoint.rename(folder / f"diverged-{suspect}")


class StopOnTime(TrainerCallback):  # type: ignore[misc]
    """Ends the training, saved, with the step in which it has taken `minutes`; of a resumed run its own part counts.

    Args:
        minutes: None never ends it.
        updates_per_step: optimiser steps per training step.
        tell: told in one line that the run ends.
    """

    clock = staticmethod(time.monotonic)

    def __init__(self, minutes: float | None, updates_per_step: int, tell: Callable[[str], None]) -> None:
        self._minutes, self._updates, self._tell = minutes, updates_per_step, tell
        self._began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = self.clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._minutes is None or state.global_step % self._updates or state.global_step >= state.max_steps:
            return
        taken = (self.clock() - self._began) / 60
        if not any(together(taken >= self._minutes)):  # the processes of a run stop together
            return
        self._tell(
            f"stop_after_minutes {self._minutes:g}: the training ends with step {state.global_step // self._updates} "
            f"of {state.max_steps // self._updates}"
        )
        control.should_save = control.should_training_stop = True


class StopOnInterrupt(TrainerCallback):  # type: ignore[misc]
    """Turns the first Ctrl-C into "finish this step, save, stop"; the second one interrupts at once. Of several
    processes all stop after the same step, whichever heard it first.

    Use `listening()` around the training. `interrupted` tells afterwards whether it was heard.

    Args:
        updates_per_step: optimiser steps per training step.
        saves: whether to save.
    """

    def __init__(self, updates_per_step: int, *, saves: bool = True) -> None:
        self._updates, self._saves = updates_per_step, saves
        self.interrupted = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Only between batches: a half-learnt batch of episodes could not be resumed.
        if state.global_step % self._updates:
            return
        self.interrupted = any(together(self.interrupted))
        if self.interrupted:
            control.should_save = self._saves
            control.should_training_stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear SIGINT inside the block. Outside the main thread signals cannot be heard, and nothing changes."""

        def heard(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        try:
            before = signal.signal(signal.SIGINT, heard)
        except ValueError:  # not in the main thread
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
