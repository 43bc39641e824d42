"""How a run tells what it is doing. Training knows only this protocol; the command line draws it.

Names of the figures of one step, in `ProgressSink.step` and in `metrics.jsonl`. Shares are of the step's episodes,
sampled:

    step                 counted from 1 over both stages
    stage                1 or 2
    accuracy_t1          share of correct first answers; accuracy_t2 of second ones
    delta                accuracy_t2 - accuracy_t1
    i_to_c, c_to_i       share of episodes that went from incorrect to correct, and the reverse
    unchanged            share of episodes whose answer stayed the same
    kl_t1, kl_t2         KL(policy || reference) of the turn, in nats per token
    tokens_per_second    sampled tokens over the wall-clock time of the rollout
    eval_accuracy_t1 ... the same figures on held-out problems, greedy; only in steps that evaluate

    alarm/NAME           1.0 while the alarm NAME stands (see `alarms.py`)

Others (policy_loss, entropy, clipped, ...) are written down and drawn as they come.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tqdm import tqdm

from selfcorrect.training.processes import is_first

if TYPE_CHECKING:
    from rich.console import Console


@runtime_checkable
class ProgressSink(Protocol):
    """Receives the progress of a run. Called from one thread; must not raise."""

    def start(self, total_steps: int, stage: str) -> None:
        """A stage of `total_steps` steps begins; ends the stage before it."""
        ...

    def step(self, metrics: Mapping[str, float]) -> None:
        """One step of the stage is done."""
        ...

    def message(self, text: str) -> None:
        """Something to tell once, in one line."""
        ...

    def close(self) -> None:
        """Nothing more will come. May be called twice."""
        ...


class SilentProgress:
    """Shows nothing: for tests, notebooks and `--json`."""

    def start(self, total_steps: int, stage: str) -> None: ...

    def step(self, metrics: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None: ...

    def close(self) -> None: ...


# What Python programs get that give no sink of their own.


def usual_progress(console: "Console | None" = None) -> ProgressSink:
    """A bar where a person looks, on a terminal or in a notebook; nothing in pipes, log files and tests, nor of the
    other processes of a distributed run.

    Args:
        console: where to show it; None is standard error.
    """
    from rich.console import Console

    shown = console or Console(stderr=True)
    if not is_first():
        return SilentProgress()
    if shown.is_jupyter:
        return NotebookProgress()
    return BarProgress(shown) if shown.is_terminal else SilentProgress()


_SHOWN = {"accuracy_t1": "accuracy@1", "accuracy_t2": "accuracy@2", "reward": "reward", "agreement": "agreement"}


class BarProgress:
    """rich's bar on a terminal, redrawn in place, with the figures of the last step beside it."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        self._bar = Progress(*columns, TextColumn("{task.fields[figures]}"), console=console)
        self._task = self._bar.add_task("", total=None, figures="", visible=False)
        self._steps = 0

    def start(self, total_steps: int, stage: str) -> None:
        self._steps += total_steps
        self._bar.start()
        self._bar.update(self._task, total=self._steps, description=stage, visible=True)

    def step(self, metrics: Mapping[str, float]) -> None:
        self._bar.update(self._task, completed=metrics["step"], figures=_figures(metrics))

    def message(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()


class NotebookProgress:
    """tqdm's line, which notebooks redraw in place: rich's bar would need widgets, and catches what libraries write."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._steps = 0

    def start(self, total_steps: int, stage: str) -> None:
        self._steps += total_steps
        if self._bar is None:
            self._bar = tqdm(total=self._steps)
        self._bar.total = self._steps
        self._bar.set_description(stage)

    def step(self, metrics: Mapping[str, float]) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_figures(metrics), refresh=False)
            self._bar.update(int(metrics["step"]) - self._bar.n)

    def message(self, text: str) -> None:
        tqdm.write(text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _figures(metrics: Mapping[str, float]) -> str:
    """The figures that are told beside a bar."""
    told = (f"{label} {metrics[name]:.3f}" for name, label in _SHOWN.items() if metrics.get(name) is not None)
    return ", ".join(told)
