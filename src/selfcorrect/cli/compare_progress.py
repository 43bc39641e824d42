"""How a comparison goes on, in lines: which part, which step, how long it will still take."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console

from selfcorrect.training.compare.words import budget_text

if TYPE_CHECKING:
    from selfcorrect.training.progress import ProgressSink
    from selfcorrect.training.run_directory import Budget

_LINES_A_PART = 4


class ContestLines:
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
