"""The comparison as one HTML page that needs no network."""

import io
from collections.abc import Mapping
from html import escape
from typing import Any

from selfcorrect.training.compare.drawing import compare_figure
from selfcorrect.training.compare.words import (
    COLUMNS,
    alarm_lines,
    budget_text,
    difference_text,
    figure_text,
    interval_note,
    interval_text,
)
from selfcorrect.training.reporting.curves import INK, inline_svg
from selfcorrect.training.reporting.style import CSS


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
