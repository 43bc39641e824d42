"""The progress of training, drawn: a live panel on a terminal, a line now and then elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from selfcorrect.cli.tables import FIGURES, Figure, sparkline
from selfcorrect.training.compare.wording import budget_text
from selfcorrect.training.runs.progress import ProgressSink

if TYPE_CHECKING:
    from selfcorrect.training.runs.progress import ProgressSink
    from selfcorrect.training.runs.run_directory import Budget


_SMOOTHED_STEPS = 10
_LINES = 20


def progress_for(console: Console, total_steps: int) -> "ProgressSink":
    """The way to show a run of `total_steps` steps that suits `console`."""
    return LivePanel(console, total_steps) if console.is_terminal else PlainLines(console, total_steps)


class Clock:
    """Elapsed and remaining time of a run, of which the first steps may have been done earlier (a resumed one)."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self.done = 0
        self._first: tuple[int, float] | None = None
        self._last = 0.0

    def tick(self, step: int) -> None:
        self.done, self._last = step, time.monotonic()
        self._first = self._first or (step, self._last)

    def left(self) -> str:
        """Time until the last step at the pace so far, as "3:05"; "" before there is a pace."""
        if self._first is None or self.done == self._first[0]:
            return ""
        pace = (self._last - self._first[1]) / (self.done - self._first[0])
        return _minutes(pace * (self.total_steps - self.done))


class PlainLines:
    """About twenty lines for a whole run: for log files and pipes."""

    def __init__(self, console: Console, total_steps: int) -> None:
        self._console = console
        self._clock = Clock(total_steps)
        self._every = max(1, total_steps // _LINES)
        self._stage = ""

    def start(self, total_steps: int, stage: str) -> None:
        self._stage = stage
        self._console.print(f"{stage}: {total_steps} steps", markup=False)

    def step(self, metrics: Mapping[str, float]) -> None:
        step = int(metrics["step"])
        self._clock.tick(step)
        evaluated = any(name.startswith("eval_") for name in metrics)
        if step % self._every == 0 or step in (1, self._clock.total_steps) or evaluated:
            shown = [f"{figure.label} {figure.text(metrics)}" for figure in FIGURES if figure.name in metrics]
            shown += [
                f"held-out {figure.label} {figure.text(metrics, 'eval_')}"
                for figure in FIGURES
                if figure.held_out in metrics
            ]
            left = self._clock.left()
            shown += [f"{left} left"] if left else []
            line = f"{self._stage}, step {step}/{self._clock.total_steps}: " + ", ".join(shown)
            self._console.print(line, markup=False, soft_wrap=True)

    def message(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None: ...


class LivePanel:
    """A bar for the run and a table of the figures that matter, redrawn in place."""

    def __init__(self, console: Console, total_steps: int) -> None:
        self._console = console
        self._clock = Clock(total_steps)
        self._stage = ""
        self._recent: deque[Mapping[str, float]] = deque(maxlen=_SMOOTHED_STEPS)
        self._earlier: dict[str, list[float]] = {figure.name: [] for figure in FIGURES}
        self._held_out: Mapping[str, float] = {}
        self._alarms: list[str] = []
        self._activity: Spinner | None = None
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self.panel)

    def start(self, total_steps: int, stage: str) -> None:
        self._stage = stage
        self._activity = None
        self._live.start()

    def step(self, metrics: Mapping[str, float]) -> None:
        self._activity = None
        self._clock.tick(int(metrics["step"]))
        self._recent.append(metrics)
        self._alarms = standing_alarms(metrics)
        for name, values in self._earlier.items():
            if name in metrics:
                values.append(metrics[name])
        if any(name.startswith("eval_") for name in metrics):
            self._held_out = metrics

    def message(self, text: str) -> None:
        """Shown with a spinner until the next step: what takes long between steps announces itself."""
        self._activity = Spinner("dots", Text(text))
        self._live.start()

    def close(self) -> None:
        self._activity = None
        self._live.stop()

    def panel(self) -> RenderableType:
        """What the terminal shows now."""
        parts: list[RenderableType] = []
        if self._stage:
            parts += [self._head(), self._table()]
        if self._alarms:
            parts.append(Text(f"alarm: {', '.join(self._alarms)}", style="bold red"))
        if self._activity is not None:
            parts.append(self._activity)
        return Group(*parts)

    def _head(self) -> Table:
        head = Table.grid(padding=(0, 2))
        left = self._clock.left()
        head.add_row(
            Text(self._stage, style="bold"),
            ProgressBar(total=self._clock.total_steps, completed=self._clock.done, width=40),
            f"step {self._clock.done}/{self._clock.total_steps}",
            f"{left} left" if left else "",
        )
        return head

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("sampled")
        table.add_column("now", justify="right")
        table.add_column("from the first step")
        if self._held_out:
            table.add_column(f"held-out, greedy (step {int(self._held_out['step'])})", justify="right")
        for figure in FIGURES:
            if not self._earlier[figure.name]:
                continue
            row: list[RenderableType] = [
                figure.label,
                Text(figure.text(self._smoothed(figure)), style=figure.style),
                Text(sparkline(self._earlier[figure.name]), style=figure.style),
            ]
            table.add_row(*row, *([figure.text(self._held_out, "eval_")] if self._held_out else []))
        return table

    def _smoothed(self, figure: Figure) -> dict[str, float]:
        values = [metrics[figure.name] for metrics in self._recent if figure.name in metrics]
        return {figure.name: sum(values) / len(values)} if values else {}


def standing_alarms(metrics: Mapping[str, float]) -> list[str]:
    """The names of the alarms that stand after a step."""
    return [name.removeprefix("alarm/") for name in metrics if name.startswith("alarm/")]


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# How a comparison goes on, in lines: which part, which step, how long it will still take.

_LINES_A_PART = 4


class ComparisonLines:
    """One line when a part begins, and a few while it goes on, each with the time left for all of them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._part, self._parts = 0, 0
        self._first = self._began = time.monotonic()

    def planned(self, budgets: "Mapping[str, Budget]") -> None:
        from dataclasses import asdict

        for arm, budget in budgets.items():
            self._console.print(f"planned  {arm}: {budget_text(asdict(budget))}", markup=False)

    def begin(self, arm: str, seed: int, part: int, parts: int) -> "ProgressSink":
        self._part, self._parts, self._began = part, parts, time.monotonic()
        head = f"[{part}/{parts}] {arm}, seed {seed}"
        self._console.print(f"{head}{self.left()}", markup=False)
        return PartLines(self._console, head, self.left)

    def end(self) -> None:
        took = time.monotonic() - self._began
        self._console.print(f"[{self._part}/{self._parts}] done in {clock(took)}", markup=False)

    def left(self) -> str:
        """ ", 1:05:00 left" at the pace of the parts done so far; "" before there is one."""
        if self._part < 2:
            return ""
        return f", {clock(time_left(self._first, self._began, time.monotonic(), self._part - 1, self._parts))} left"


class PartLines:
    """The steps of one part."""

    def __init__(self, console: Console, head: str, left: Callable[[], str]) -> None:
        self._console, self._head, self._left = console, head, left
        self._stage, self._steps = "", 0

    def start(self, total_steps: int, stage: str) -> None:
        self._stage, self._steps = stage, total_steps

    def step(self, metrics: Mapping[str, float]) -> None:
        step = int(metrics["step"])
        if step % max(1, self._steps // _LINES_A_PART):
            return
        figures = [f"{label} {metrics[name]:.3f}" for name, label in _SHOWN.items() if metrics.get(name) is not None]
        self._console.print(
            f"{self._head}: {self._stage}, step {step}, {', '.join(figures)}{self._left()}", markup=False
        )

    def message(self, text: str) -> None:
        self._console.print(f"{self._head}: {text}", markup=False)

    def close(self) -> None: ...


_SHOWN = {
    "accuracy_t1": "accuracy@1",
    "accuracy_t2": "accuracy@2",
    "eval_accuracy_t1": "held-out accuracy@1",
    "eval_accuracy_t2": "held-out accuracy@2",
}


def time_left(first: float, began: float, now: float, done: int, parts: int) -> float:
    """Seconds until the last of `parts` is done, if the others take as long as the `done` ones did on average.

    Args:
        first, began, now: when the first part and the current one began, and the time now.
    """
    each = (began - first) / done
    return max(0.0, each * (parts - done) - (now - began))


def clock(seconds: float) -> str:
    """ "1:05:09"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
