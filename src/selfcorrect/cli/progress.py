"""The progress of training, drawn: a live panel on a terminal, a line now and then elsewhere."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from selfcorrect.cli.tables import FIGURES, Figure, figures_in, sparkline
from selfcorrect.training.compare.report import budget_text
from selfcorrect.training.runs.progress import ProgressSink

if TYPE_CHECKING:
    from selfcorrect.training.arms.specs import Budget
    from selfcorrect.training.runs.progress import ProgressSink


_SMOOTHED_STEPS = 10
_LINES = 20


def progress_for(console: Console, total_steps: int) -> "ProgressSink":
    """The way to show a run of `total_steps` steps that suits `console`."""
    return LivePanel(console, total_steps) if console.is_terminal else PlainLines(console, total_steps)


def bar_of_time(total: int, console: Console) -> Progress:
    """rich's bar for a run of `total` steps, with the time left at the pace since the first step that it is told of:
    the steps that a resumed run did earlier do not count."""
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=40),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=math.inf,
        get_time=time.monotonic,
    )
    bar.add_task("", total=total)
    return bar


def time_left(bar: Progress) -> str:
    """ "0:03:05 left", as rich's column writes it; "" before there is a pace."""
    task = bar.tasks[0]
    return "" if task.time_remaining is None else f"{TimeRemainingColumn().render(task).plain} left"


class PlainLines:
    """About twenty lines for a whole run: for log files and pipes."""

    def __init__(self, console: Console, total_steps: int) -> None:
        self._console = console
        self._bar, self._total = bar_of_time(total_steps, console), total_steps
        self._every = max(1, total_steps // _LINES)
        self._stage = ""

    def start(self, total_steps: int, stage: str) -> None:
        self._stage = stage
        self._console.print(f"{stage}: {total_steps} steps", markup=False)

    def step(self, metrics: Mapping[str, float]) -> None:
        step = int(metrics["step"])
        self._bar.update(TaskID(0), completed=step)
        evaluated = any(name.startswith("eval_") for name in metrics)
        if step % self._every == 0 or step in (1, self._total) or evaluated:
            figures = figures_in(metrics)
            shown = [f"{figure.label} {figure.text(metrics)}" for figure in figures if figure.name in metrics]
            shown += [
                f"held-out {figure.label} {figure.text(metrics, 'eval_')}"
                for figure in figures
                if figure.held_out in metrics
            ]
            shown += filter(None, [time_left(self._bar)])
            line = f"{self._stage}, step {step}/{self._total}: " + ", ".join(shown)
            self._console.print(line, markup=False, soft_wrap=True)

    def message(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None: ...


class LivePanel:
    """A bar for the run and a table of the figures that matter, redrawn in place."""

    def __init__(self, console: Console, total_steps: int) -> None:
        self._bar = bar_of_time(total_steps, console)
        self._stage = ""
        self._recent: deque[Mapping[str, float]] = deque(maxlen=_SMOOTHED_STEPS)
        self._earlier: dict[str, list[float]] = {figure.name: [] for figure in FIGURES}
        self._held_out: Mapping[str, float] = {}
        self._alarms: list[str] = []
        self._activity: Spinner | None = None
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self.panel)

    def start(self, total_steps: int, stage: str) -> None:
        self._stage = stage
        self._bar.update(TaskID(0), description=escape(stage))
        self._activity = None
        self._live.start()

    def step(self, metrics: Mapping[str, float]) -> None:
        self._activity = None
        self._bar.update(TaskID(0), completed=int(metrics["step"]))
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
            parts += [self._bar.get_renderable(), self._table()]
        if self._alarms:
            parts.append(Text(f"alarm: {', '.join(self._alarms)}", style="bold red"))
        if self._activity is not None:
            parts.append(self._activity)
        return Group(*parts)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("sampled")
        table.add_column("now", justify="right")
        table.add_column("from the first step")
        if self._held_out:
            table.add_column(f"held-out, greedy (step {int(self._held_out['step'])})", justify="right")
        for figure in figures_in({name for name, values in self._earlier.items() if values}):
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


# How a comparison goes on, in lines: which part, which step, how long it will still take.

_LINES_A_PART = 4


class ComparisonLines:
    """One line when a part begins, and a few while it goes on, each with the time left for all of them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._part, self._parts, self._began = 0, 0, time.monotonic()
        self._bar = bar_of_time(0, console)

    def planned(self, budgets: "Mapping[str, Budget]") -> None:
        from dataclasses import asdict

        for arm, budget in budgets.items():
            self._console.print(f"planned  {arm}: {budget_text(asdict(budget))}", markup=False)

    def begin(self, arm: str, seed: int, part: int, parts: int) -> "ProgressSink":
        self._part, self._parts, self._began = part, parts, time.monotonic()
        self._bar.update(TaskID(0), total=parts + 1, completed=part)  # parts begun; one more would be the end
        head = f"[{part}/{parts}] {arm}, seed {seed}"
        self._console.print(f"{head}{self.left()}", markup=False)
        return PartLines(self._console, head, self.left)

    def end(self) -> None:
        took = time.monotonic() - self._began
        self._console.print(f"[{self._part}/{self._parts}] done in {timedelta(seconds=round(took))}", markup=False)

    def left(self) -> str:
        """ ", 1:05:00 left" at the pace of the parts done so far; "" before there is one."""
        return f", {left}" if (left := time_left(self._bar)) else ""


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
