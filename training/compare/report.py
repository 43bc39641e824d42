"""A comparison written for people: on the terminal, in Markdown, and as one HTML page that needs no network."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.reporting.charts import INK, inline_svg, on_any_page
from selfcorrect.training.reporting.rows import render

# Figures in words: the same in all three places.


COLUMNS = {
    "accuracy_t1": "accuracy@1",
    "accuracy_t2": "accuracy@2",
    "delta": "delta",
    "i_to_c": "i→c",
    "c_to_i": "c→i",
    "unchanged": "unchanged",
}
LOOKS = {
    "accuracy_t4": "accuracy@4",
    "accuracy_t8": "accuracy@8",
    "accuracy_t16": "accuracy@16",
    "answers": "answers",
    "tokens": "tokens",
    "stopped": "stopped",
    "stopped_right": "of those right",
}
"""Columns where answers are revised more than once."""
TITLES = {"accuracy_t2": "accuracy@2", "delta": "delta", "accuracy_final": "final accuracy"}


PAIRS = {
    "accuracy_t3": "accuracy@3",
    "delta_t2": "delta 1→2",
    "i_to_c_t2": "i→c 1→2",
    "c_to_i_t2": "c→i 1→2",
    "delta_t3": "delta 2→3",
    "i_to_c_t3": "i→c 2→3",
    "c_to_i_t3": "c→i 2→3",
    "delta_t4": "delta 3→4",
    "i_to_c_t4": "i→c 3→4",
    "c_to_i_t4": "c→i 3→4",
}
"""Columns of episodes of three or four answers: every turn, and what it changed. Those of longer ones are in
compare.json."""


def columns_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The columns of a table with these rows and their heads: of longer episodes those about many looks too, where any
    arm was evaluated so long."""
    answered = [row["longest"] for row in rows.values() if "longest" in row]
    if max(answered, default=0) <= 2:
        return COLUMNS
    looks = {
        name: head
        for name, head in LOOKS.items()
        if not name.startswith("accuracy_t") or int(name.removeprefix("accuracy_t")) <= max(answered)
    }
    if max(answered) <= 4:
        looks = {name: head for name, head in PAIRS.items() if int(name[-1]) <= max(answered)} | looks
    return COLUMNS | looks


def figure_text(name: str, figure: Mapping[str, Any]) -> str:
    """The mean: "0.520", "+0.031" for delta, "–" where nothing was measured."""
    if figure["mean"] is None:
        return "–"
    if name in ("answers", "tokens"):
        return format(figure["mean"], ".1f")
    return format(figure["mean"], "+.3f" if name.startswith("delta") else ".3f")


def interval_text(name: str, figure: Mapping[str, Any]) -> str:
    """The interval, "[+0.012, +0.050]"; "" where there is none."""
    low, high = figure["interval"]
    if low is None or high is None:
        return ""
    form = ".1f" if name in ("answers", "tokens") else "+.3f" if name.startswith("delta") else ".3f"
    return f"[{low:{form}}, {high:{form}}]"


def budget_text(budget: Mapping[str, Any] | None) -> str:
    """ "516,096 tokens, 192 steps"; "none" for an arm without training; "–" where it is not known."""
    if budget is None:
        return "–"
    if not budget["generated_tokens"] and not budget["optimiser_steps"]:
        return "none"
    return f"{budget['generated_tokens']:,} tokens, {budget['optimiser_steps']:,} steps"


def difference_text(reference: str, arm: str, figure: str, test: Mapping[str, Any]) -> str:
    """One paired test in a sentence, with no more said than the noise allows."""
    if test["mean"] is None:
        return f"{reference} and {arm}: {TITLES[figure]} cannot be compared"
    low, high = test["interval"]
    between = f"{test['mean']:+.3f} [{low:+.3f}, {high:+.3f}], p = {test['p_holm']:.3g}"
    if test["seeds"] == 1:
        between += "; one seed, so nothing about others"
    if test["verdict"] == "no difference":
        return f"{TITLES[figure]} of {reference} and {arm}: no difference ({between})"
    return f"{TITLES[figure]} of {reference} is {test['verdict']} than that of {arm} ({between})"


def alarm_lines(result: Mapping[str, Any]) -> list[str]:
    """What was feared while training, what the evaluation gives reason to fear, and who did not cost what was
    planned."""
    training = [
        f"{arm}, while training: {name} (seeds {', '.join(map(str, seeds))})"
        for arm, raised in result["alarms"].items()
        for name, seeds in raised.items()
    ]
    held_out = [
        f"{arm}, on held-out problems: {words}" for arm, raised in result["held_out_alarms"].items() for words in raised
    ]
    return training + held_out + drift_lines(result["budgets"])


def drift_lines(budgets: Mapping[str, Any]) -> list[str]:
    """Arms that generated other than planned: what a policy learns to write, or to leave out, is only known
    afterwards."""
    from selfcorrect.training.arms.budgets import TOLERANCE  # it brings the graph along

    lines = []
    for arm, budget in budgets.items():
        planned, measured = ((budget[kind] or {}).get("generated_tokens") for kind in ("planned", "measured"))
        drift = measured / planned - 1 if planned and measured is not None else 0.0
        if abs(drift) > TOLERANCE:
            words = f"{abs(drift):.0%} {'more' if drift > 0 else 'fewer'} tokens than planned"
            lines.append(f"{arm} generated {words}, so it was not compared at equal cost")
    return lines


def interval_note(result: Mapping[str, Any]) -> str:
    """What the intervals are about."""
    seeds = len(result["seeds"])
    over_seeds = f"Student's t over {seeds} training seeds, on the same {result['problems']:,} held-out problems"
    of_one = "over problems (Wilson's; of delta the paired one), which says nothing about other seeds"
    told = f"{over_seeds}; of rows of one seed {of_one}" if seeds > 1 else f"{of_one}; there is one seed"
    return f"Intervals: 95 %, {told}. Tests: paired by seed and problem, with the noise of both; p after Holm."


def markdown_table(result: Mapping[str, Any], way: str) -> str:
    """The paper's table, for a README."""
    columns = columns_of(result[way])
    lines = ["| | seeds | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 2) + "|"]
    for arm, row in result[way].items():
        cells = [f"{figure_text(name, row[name])} {interval_text(name, row[name])}".strip() for name in columns]
        lines.append(f"| {arm} | {len(row['seeds'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# The comparison as a picture: accuracy of both turns by arm, and held-out accuracy over generated tokens.

FIRST, SECOND = "#8a8f98", "#2f81f7"
_COLOURS = ("#2f81f7", "#2da44e", "#e5534b", "#bf8700", "#8250df", "#1b7c83", "#8a8f98", "#bc4c00", "#d4579c")


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
    """Write the picture as an SVG file that reads on light and dark pages, and does not change when it is drawn again
    from the same figures."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "compare", "font.size": 9}):
        compare_figure(result).savefig(buffer, format="svg", metadata={"Date": None})
    path.write_text(on_any_page(buffer.getvalue()), encoding="utf-8")


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


_NEEDED = (
    *("task", "policy", "problems", "temperature", "seeds", "reference", "arms", "budgets", "curves", "alarms"),
    *("held_out_alarms", "greedy", "sampled", "greedy_tests", "sampled_tests"),
)


def compare_page(result: Mapping[str, Any]) -> str:
    """The page of what compare.json holds, of one that was written before there were more `exams` than one, too; ways
    of evaluating that are not done yet are left out.

    Raises:
        ConfigurationError: `result` is no comparison.
    """
    if missing := [name for name in _NEEDED if name not in result]:
        raise ConfigurationError(f"no result of a comparison: it lacks {', '.join(missing)}; compare.json has them")
    tables = [table for exam in (None, *result.get("exams", ())) for table in _tables(result, exam)]
    return render(
        "compare.html",
        result=result,
        tables=tables,
        drawing=_drawing(result) if result["greedy"] else "",
        alarms=alarm_lines(result),
        interval_note=interval_note(result),
        figure_text=figure_text,
        interval_text=interval_text,
        budget_text=budget_text,
    )


def _tables(result: Mapping[str, Any], exam: str | None) -> list[dict[str, Any]]:
    """What the page shows of an exam; None is the task of training."""
    found = result if exam is None else {**result, **result["exams"][exam]}
    titles = {"greedy": "Greedy", "sampled": f"Sampled at temperature {result['temperature']:g}"}
    return [
        {
            "title": title if exam is None else f"{exam}: {title[0].lower()}{title[1:]}",
            "problems": found["problems"],
            "rows": found[way],
            "columns": columns_of(found[way]),
            "tests": _tests(found, way),
            "drawn": way == "greedy" and exam is None,
        }
        for way, title in titles.items()
        if found[way]
    ]


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
