"""Results as tables on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from selfcorrect.training.reporting.rows import Result, result_rows

_STYLES = {"better": "green", "worse": "red", "same": ""}


def before_after_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """The evaluation of the base and of the trained policy, side by side."""
    table = Table(title=f"greedy, {after['n']:,} held-out problems", title_justify="left", header_style="dim")
    table.add_column("")
    for head in ("before", "after"):
        table.add_column(head, justify="right")
    for row in result_rows(before, after):
        table.add_row(row.label, _cell(row, 0), _cell(row, 1))
    return table


def one_table(report: Mapping[str, Any], *, title: str) -> Table:
    """One evaluation."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for row in result_rows(report):
        table.add_row(row.label, _cell(row, 0))
    return table


def _cell(row: Result, column: int) -> Text:
    style = _STYLES[row.change] if column else ""
    return Text.assemble((row.values[column], style), (f"  {row.intervals[column]}", "dim"))
