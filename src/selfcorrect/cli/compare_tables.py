"""A comparison on the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from selfcorrect.training.compare.words import (
    COLUMNS,
    budget_text,
    difference_text,
    figure_text,
    interval_note,
    interval_text,
)


def compare_table(result: Mapping[str, Any], way: str) -> RenderableType:
    """The paper's table: one row an arm."""
    table = Table(header_style="dim", box=SIMPLE_HEAD)
    table.add_column("arm")
    for head in ("seeds", *COLUMNS.values()):
        table.add_column(head, justify="right")
    for arm, row in result[way].items():
        cells = [
            Text.assemble(figure_text(name, row[name]), (f"\n{interval_text(name, row[name])}", "dim"))
            for name in COLUMNS
        ]
        table.add_row(arm, str(len(row["seeds"])), *cells)
    how = "greedy" if way == "greedy" else f"sampled at temperature {result['temperature']:g}"
    title = f"{result['policy']} on {result['task']}, {how}"
    return Group(Text(title, style="italic"), table, Text(interval_note(result), style="dim"))


def budget_table(result: Mapping[str, Any]) -> RenderableType:
    """What was planned, and what it came to."""
    table = Table(header_style="dim", box=SIMPLE_HEAD)
    for head in ("arm", "planned cost of training", "measured, mean of the seeds"):
        table.add_column(head)
    for arm, budget in result["budgets"].items():
        table.add_row(arm, budget_text(budget["planned"]), budget_text(budget["measured"]))
    return table


def difference_lines(result: Mapping[str, Any], way: str) -> Iterator[str]:
    """The paired tests against the reference, one sentence each."""
    for figure, tests in result[f"{way}_tests"].items():
        for arm, test in tests.items():
            yield difference_text(result["reference"], arm, figure, test)
