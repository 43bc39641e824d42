"""Figures of a comparison, written for people: the same on the terminal, in Markdown and on the page."""

from collections.abc import Mapping
from typing import Any

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
    return COLUMNS | looks


def figure_text(name: str, figure: Mapping[str, Any]) -> str:
    """The mean: "0.520", "+0.031" for delta, "–" where nothing was measured."""
    if figure["mean"] is None:
        return "–"
    if name in ("answers", "tokens"):
        return format(figure["mean"], ".1f")
    return format(figure["mean"], "+.3f" if name == "delta" else ".3f")


def interval_text(name: str, figure: Mapping[str, Any]) -> str:
    """The interval, "[+0.012, +0.050]"; "" where there is none (one seed)."""
    low, high = figure["interval"]
    if low is None or high is None:
        return ""
    form = ".1f" if name in ("answers", "tokens") else "+.3f" if name == "delta" else ".3f"
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
        planned, measured = budget["planned"]["generated_tokens"], (budget["measured"] or {}).get("generated_tokens")
        drift = measured / planned - 1 if planned and measured is not None else 0.0
        if abs(drift) > TOLERANCE:
            words = f"{abs(drift):.0%} {'more' if drift > 0 else 'fewer'} tokens than planned"
            lines.append(f"{arm} generated {words}, so it was not compared at equal cost")
    return lines


def interval_note(result: Mapping[str, Any]) -> str:
    """What the intervals are about."""
    return (
        f"Intervals: 95 %, Student's t over {len(result['seeds'])} training seeds, on the same {result['problems']:,} "
        "held-out problems; rows of one seed have none. Tests: paired by seed and problem, with the noise of both; p "
        "after Holm."
    )


def markdown_table(result: Mapping[str, Any], way: str) -> str:
    """The paper's table, for a README."""
    columns = columns_of(result[way])
    lines = ["| | seeds | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 2) + "|"]
    for arm, row in result[way].items():
        cells = [f"{figure_text(name, row[name])} {interval_text(name, row[name])}".strip() for name in columns]
        lines.append(f"| {arm} | {len(row['seeds'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
