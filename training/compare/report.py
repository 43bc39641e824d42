"""The comparison as one HTML page that needs no network."""

import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from selfcorrect.training.compare.wording import (
    COLUMNS,
    alarm_lines,
    budget_text,
    difference_text,
    figure_text,
    interval_note,
    interval_text,
)
from selfcorrect.training.reporting.curves import INK, inline_svg
from selfcorrect.training.reporting.page import CSS

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
    sections = [_head(result)]
    if result["greedy"]:
        sections += [_table(result, "greedy", "Greedy"), _drawing(result), _tests(result, "greedy")]
    if result["sampled"]:
        title = f"Sampled at temperature {result['temperature']:g}"
        sections += [_table(result, "sampled", title), _tests(result, "sampled")]
    sections += [_budgets(result), _alarms(result)]
    title = f"selfcorrect compare: {escape(result['task'])}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>\n<body>\n'
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _head(result: Mapping[str, Any]) -> str:
    lead = (
        f"{len(result['arms'])} arms on {result['task']}, policy {result['policy']}, seeds {', '.join(map(str, result['seeds']))}: "
        "the same base, the same generated tokens and optimiser steps, the same held-out problems"
    )
    return f'<h1>Ways to teach correction</h1><p class="lead">{escape(lead)}</p>'


def _table(result: Mapping[str, Any], way: str, title: str) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("arm", "seeds", *COLUMNS.values()))
    rows = "".join(_table_row(result, arm, row) for arm, row in result[way].items())
    note = escape(interval_note(result))
    return (
        f"<h2>{escape(title)}, {result['problems']:,} held-out problems</h2><table><thead><tr>{heads}</tr></thead>"
        f'<tbody>{rows}</tbody></table><p class="note">{note}</p>'
    )


def _table_row(result: Mapping[str, Any], arm: str, row: Mapping[str, Any]) -> str:
    cells = "".join(
        f'<td>{figure_text(name, row[name])}<br><span class="ci">{interval_text(name, row[name])}</span></td>'
        for name in COLUMNS
    )
    says = escape(result["arms"][arm])
    return f'<tr><td>{escape(arm)}<br><span class="note">{says}</span></td><td>{len(row["seeds"])}</td>{cells}</tr>'


def _tests(result: Mapping[str, Any], way: str) -> str:
    lines = "".join(
        f"<li>{escape(difference_text(result['reference'], arm, figure, test))}</li>"
        for figure, tests in result[f"{way}_tests"].items()
        for arm, test in tests.items()
    )
    return f"<h2>Against {escape(result['reference'])}</h2><ul>{lines}</ul>" if lines else ""


def _drawing(result: Mapping[str, Any]) -> str:
    import matplotlib

    style = {"svg.fonttype": "none", "svg.hashsalt": "compare", "font.size": 9}
    inks = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context({**style, **inks}):
        buffer = io.StringIO()
        compare_figure(result).savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return f'<div class="card">{inline_svg(buffer.getvalue())}</div>'


def _budgets(result: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(arm)}</td><td>{budget_text(budget['planned'])}</td><td>{budget_text(budget['measured'])}</td></tr>"
        for arm, budget in result["budgets"].items()
    )
    return (
        "<h2>What training cost</h2><table><thead><tr><th>arm</th><th>planned</th><th>measured, mean of the seeds</th></tr></thead>"
        f'<tbody>{rows}</tbody></table><p class="note">Tokens are sampled ones; evaluations are left out.</p>'
    )


def _alarms(result: Mapping[str, Any]) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in alarm_lines(result))
    return f"<h2>Alarms</h2><ul>{lines}</ul>" if lines else '<h2>Alarms</h2><p class="note">None was raised.</p>'
