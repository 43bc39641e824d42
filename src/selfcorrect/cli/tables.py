"""Results as tables on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from selfcorrect.training.reporting.rows import Result, result_rows

_STYLES = {"better": "green", "worse": "red", "same": ""}


def before_after_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> RenderableType:
    """The evaluation of the base and of the trained policy, side by side."""
    table = Table(header_style="dim", box=SIMPLE_HEAD)
    table.add_column("")
    for head in ("before", "after"):
        table.add_column(head, justify="right")
    for row in result_rows(before, after):
        table.add_row(row.label, _cell(row, 0), _cell(row, 1))
    return Group(Text(f"greedy, {after['n']:,} held-out problems", style="italic"), table)


def one_table(report: Mapping[str, Any], *, title: str) -> RenderableType:
    """One evaluation."""
    table = Table(show_header=False, box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("", justify="right")
    for row in result_rows(report):
        table.add_row(row.label, _cell(row, 0))
    return Group(Text(title, style="italic"), table)


def _cell(row: Result, column: int) -> Text:
    style = _STYLES[row.change] if column else ""
    return Text.assemble((row.values[column], style), (f"  {row.intervals[column]}", "dim"))
