"""Curves over the steps of a run, as SVG that takes its text colour from the page."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

INK = "#010203"
"""Stands for the page's text colour while matplotlib draws; replaced by `currentColor`."""
_SMOOTHING = 9


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: a name in `metrics.jsonl`, a label, a colour that reads on light and dark."""

    name: str
    label: str
    colour: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves that share their axes. `title` is what the y axis shows."""

    title: str
    curves: tuple[Curve, ...]
    clipped: bool = False
    """Whether rare large values are cut off, with a mark, so that the rest can be read."""


CHARTS = (
    Chart(
        "accuracy of sampled answers",
        (Curve("accuracy_t1", "first answer", "#8a8f98"), Curve("accuracy_t2", "second answer", "#2f81f7")),
    ),
    Chart("delta: second − first", (Curve("delta", "delta", "#2f81f7"),)),
    Chart(
        "flips: share of episodes",
        (Curve("i_to_c", "incorrect → correct", "#2da44e"), Curve("c_to_i", "correct → incorrect", "#e5534b")),
    ),
    Chart(
        "KL to the reference, nats per token",
        (Curve("kl_t1", "first answer", "#8a8f98"), Curve("kl_t2", "second answer", "#2f81f7")),
        clipped=True,
    ),
)


def charts_svg(charts: Sequence[Chart], steps: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Those of the charts of which something was measured."""
    return [svg for chart in charts if (svg := chart_svg(chart, steps))]


def chart_svg(chart: Chart, steps: Sequence[Mapping[str, Any]]) -> Markup:
    """`chart` over `steps`; "" if none of its curves was measured.

    Thin lines are the steps, thick ones a running mean of nine, dots the evaluations on held-out problems. Vertical
    lines part the stages.
    """
    import matplotlib
    from matplotlib.figure import Figure

    measured = [curve for curve in chart.curves if any(step.get(curve.name) is not None for step in steps)]
    if not measured:
        return Markup("")
    style = {"svg.fonttype": "none", "svg.hashsalt": chart.title, "font.size": 9, "text.color": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for curve in measured:
            _draw(axes, curve, steps)
        _mark_stages(axes, steps)
        _dress(axes, chart.title)
        if chart.clipped:
            _clip(axes, [float(step[curve.name]) for curve in measured for step in steps if curve.name in step])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline_svg(buffer.getvalue())


def _draw(axes: Any, curve: Curve, steps: Sequence[Mapping[str, Any]]) -> None:
    points = [(step["step"], step[curve.name]) for step in steps if step.get(curve.name) is not None]
    numbers, values = zip(*points, strict=True)
    axes.plot(numbers, values, color=curve.colour, linewidth=0.7, alpha=0.35)
    axes.plot(numbers, running_mean(values), color=curve.colour, linewidth=1.8, label=curve.label)
    held_out = [
        (step["step"], step[f"eval_{curve.name}"]) for step in steps if step.get(f"eval_{curve.name}") is not None
    ]
    if held_out:
        numbers, values = zip(*held_out, strict=True)
        axes.plot(numbers, values, "o", color=curve.colour, markersize=4)


_LARGE = 4.0
"""Values above so many times the 95th percentile are cut off."""


def readable_limit(values: Sequence[float]) -> float | None:
    """Where to cut an axis off so that all but a few of `values` can be read; None if nothing towers over the rest."""
    ranked = sorted(value for value in values if value is not None)
    usual = ranked[int(0.95 * (len(ranked) - 1))] if ranked else 0.0
    return 1.5 * usual if usual > 0 and ranked[-1] > _LARGE * usual else None


def _clip(axes: Any, values: Sequence[float]) -> None:
    """Cut the axis off above what is usual, and say what was highest."""
    limit = readable_limit(values)
    if limit is None:
        return
    axes.set_ylim(top=limit)
    mark = f"▲ up to {max(values):,.3g}"
    axes.text(0.5, 0.98, mark, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=INK)


def running_mean(values: Sequence[float]) -> list[float]:
    """Mean of each value and up to eight before it."""
    windows = [values[max(0, end - _SMOOTHING) : end] for end in range(1, len(values) + 1)]
    return [sum(window) / len(window) for window in windows]


def _mark_stages(axes: Any, steps: Sequence[Mapping[str, Any]]) -> None:
    for before, after in pairwise(steps):
        if before.get("stage") != after.get("stage"):
            place = (before["step"] + after["step"]) / 2
            axes.axvline(place, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), alpha=0.6)
            label = f" stage {after['stage']}"
            axes.text(
                place, 1.0, label, transform=axes.get_xaxis_transform(), ha="left", va="top", fontsize=8, alpha=0.8
            )


def _dress(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel("step", color=INK)
    axes.tick_params(colors=INK, which="both", length=3)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=INK, alpha=0.4)
    axes.margins(y=0.12)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="best")


def inline_svg(svg: str) -> Markup:
    """The drawing as an element of a page: no XML head, the page's colour and font, its width decided by the page."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL).replace(
        INK, "currentColor"
    )
    svg = re.sub(r"""font:[^;"']*;?|font-family:[^;"']*;?""", _keep_size, svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return Markup(re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1))  # matplotlib has escaped its words


def _keep_size(declaration: re.Match[str]) -> str:
    size = re.search(r"\d+(\.\d+)?px", declaration[0])
    return f"font-size: {size[0]};" if size else ""
