"""The figure of benchmarks/quiet_star.py."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfcorrect.training.reporting.charts import on_any_page

COLOURS = {"plain": "#7a869a", "pause": "#bf8700", "quiet": "#2da44e", "unrewarded": "#a371f7"}


def plot(result: Mapping[str, Any], logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], folder: Path) -> None:
    """Accuracy of answers by arm and by the number of operations, and the gain of thinking while training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4))
    _bars(left, result["arms"])
    for name, table in result["arms"].items():
        found = {int(number): value for number, value in table["mean"]["accuracy_by_operations"].items()}
        middle.plot(list(found), list(found.values()), label=name, **_style(name))
    middle.set(xlabel="operations of the chain", ylabel="accuracy", title="by difficulty")
    for name, runs in logs.items():
        if not name.startswith("plain"):
            gains = [statistics.fmean(step["gain"] for step in steps) for steps in zip(*runs, strict=True)]
            right.plot(_smooth(gains), label=name, **_style(name))
    right.set(xlabel="step", ylabel="nats per token of text", title="gain of thinking while training")
    right.legend(frameon=False, fontsize=7)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    drawing = folder / "quiet_star.svg"
    figure.savefig(drawing, metadata={"Date": None})
    drawing.write_text(on_any_page(drawing.read_text(encoding="utf-8")), encoding="utf-8")


def _bars(axes: Any, arms: Mapping[str, Any]) -> None:
    for number, (name, table) in enumerate(arms.items()):
        mean, sd = table["mean"]["accuracy"], table["sd"]["accuracy"]
        axes.bar(number, mean, 0.7, yerr=sd, color=COLOURS[name.split("-")[0]], capsize=3)
        axes.text(number, mean + sd + 0.03, f"{mean:.2f}", ha="center", fontsize=8)
    axes.set(ylabel="accuracy", title="zero-shot answers, held-out chains", ylim=(0, 1.05))
    axes.set_xticks(range(len(arms)), list(arms), rotation=45, ha="right", fontsize=8)


def _style(name: str) -> dict[str, Any]:
    kind, _, length = name.partition("-")
    return {"color": COLOURS[kind], "alpha": {"2": 0.45, "4": 0.7}.get(length, 1.0), "linewidth": 1.5}


def _smooth(values: Sequence[float], window: int = 20) -> list[float]:
    return [statistics.fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
