"""The comparison as one HTML page that needs no network."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from selfcorrect.training.compare.wording import (
    alarm_lines,
    budget_text,
    columns_of,
    difference_text,
    figure_text,
    interval_note,
    interval_text,
)
from selfcorrect.training.reporting.charts import INK, inline_svg
from selfcorrect.training.reporting.rows import render

# The comparison as a picture: accuracy of both turns by arm, and held-out accuracy over generated tokens.

FIRST, SECOND = "#8a8f98", "#2f81f7"
_COLOURS = ("#2f81f7", "#2da44e", "#e5534b", "#bf8700", "#8250df", "#1b7c83", "#8a8f98", "#bc4c00", "#4d2d00")


def compare_figure(result: Mapping[str, Any]) -> Any:
    """A matplotlib figure; arms from top to bottom as in the tables."""
    from matplotlib.figure import Figure

    rows = result["greedy"]
    figure = Figure(figsize=(10.5, max(3.2, 0.36 * len(rows) + 1.2)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_accuracies(left, rows)
    _draw_curves(right, result)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def save_drawing(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture as a file that does not change when it is drawn again from the same figures."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "compare", "font.size": 9}):
        compare_figure(result).savefig(path, metadata={"Date": None})


def _draw_accuracies(axes: Any, rows: Mapping[str, Any]) -> None:
    """For each arm a line from accuracy@1 to accuracy@2, with the interval of the latter. What is far below is
    written at the edge."""
    edge = _left_edge(rows)
    for position, row in enumerate(rows.values()):
        first, second = row["accuracy_t1"]["mean"], row["accuracy_t2"]["mean"]
        low, high = row["accuracy_t2"]["interval"]
        if low is not None:
            axes.plot((low, high), (position, position), color=SECOND, linewidth=5, alpha=0.25, solid_capstyle="butt")
        axes.plot((first, second), (position, position), color=FIRST, linewidth=1.2)
        axes.plot(first, position, "o", color=FIRST, markersize=5, label="first answer" if position == 0 else None)
        axes.plot(second, position, "o", color=SECOND, markersize=6, label="second answer" if position == 0 else None)
        if min(first, second) < edge:
            axes.annotate(f" ← {second:.3f}", (edge, position), (0, 5), textcoords="offset points", fontsize=8)
    axes.set_xlim(left=edge)
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_title("accuracy, greedy, held out", loc="left", fontsize=10)
    axes.grid(axis="x", alpha=0.15)
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=2,
        columnspacing=0.8,
        handletextpad=0.1,
        loc="lower right",
        bbox_to_anchor=(1.02, 0.985),
    )


def _left_edge(rows: Mapping[str, Any]) -> float:
    """A little left of the lowest accuracy that is not far below the others."""
    lowest: list[float] = sorted(min(row["accuracy_t1"]["mean"], row["accuracy_t2"]["mean"]) for row in rows.values())
    usual = lowest[len(lowest) // 2]
    return max(0.0, min((value for value in lowest if value > 0.75 * usual), default=usual) - 0.02)


def _draw_curves(axes: Any, result: Mapping[str, Any]) -> None:
    """accuracy@2 over generated tokens, on the problems that are looked at while training: the same for all arms, and
    others than those of the final evaluation."""
    for number, (arm, points) in enumerate(result["curves"].items()):
        tokens, accuracies = [point["tokens"] for point in points], [point["accuracy_t2"] for point in points]
        colour, style = _COLOURS[number % len(_COLOURS)], "-" if number < len(_COLOURS) else "--"
        axes.plot(tokens, accuracies, style, color=colour, linewidth=1.3, marker="o", markersize=3, label=arm)
    axes.set_title("second answers while training, over generated tokens", loc="left", fontsize=10)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k")
    axes.grid(axis="y", alpha=0.15)
    if axes.lines:
        axes.legend(frameon=False, fontsize=7, ncols=2)


def compare_page(result: Mapping[str, Any]) -> str:
    """The page; ways of evaluating that are not done yet are left out."""
    ways = {"greedy": "Greedy", "sampled": f"Sampled at temperature {result['temperature']:g}"}
    ways = {way: title for way, title in ways.items() if result[way]}
    return render(
        "compare.html",
        result=result,
        ways=ways,
        tests={way: _tests(result, way) for way in ways},
        drawing=_drawing(result) if "greedy" in ways else "",
        alarms=alarm_lines(result),
        columns={way: columns_of(result[way]) for way in ways},
        interval_note=interval_note(result),
        figure_text=figure_text,
        interval_text=interval_text,
        budget_text=budget_text,
    )


def _tests(result: Mapping[str, Any], way: str) -> list[str]:
    return [
        difference_text(result["reference"], arm, figure, test)
        for figure, tests in result[f"{way}_tests"].items()
        for arm, test in tests.items()
    ]


def _drawing(result: Mapping[str, Any]) -> Markup:
    import matplotlib

    style = {"svg.fonttype": "none", "svg.hashsalt": "compare", "font.size": 9}
    inks = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context({**style, **inks}):
        buffer = io.StringIO()
        compare_figure(result).savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline_svg(buffer.getvalue())
