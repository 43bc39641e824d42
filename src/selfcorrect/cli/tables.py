"""Results as tables on the terminal."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from selfcorrect.training.compare.report import (
    budget_text,
    columns_of,
    difference_text,
    figure_text,
    interval_note,
    interval_text,
)
from selfcorrect.training.reporting.rows import Result, result_rows, shown_turns

if TYPE_CHECKING:
    from selfcorrect.agents.search.state import Candidate, SearchResult
    from selfcorrect.agents.state import Turn
    from selfcorrect.rewards.checker import Verdict

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


# A turn of an episode.

_ROLES = {"attempt": "attempt", "critique": "critique", "revise": "revision"}
_VERDICTS = {"correct": ("✓", "green"), "wrong": ("✗", "red"), "unreadable": ("✗", "red"), "unjudged": ("?", "yellow")}


def turn_lines(turn: "Turn") -> RenderableType:
    """A turn, and its verdict if it has one."""
    lines = [Text(f"\n{_ROLES[turn['role']]}", style="cyan"), Text(turn["generation"]["text"])]
    if turn["generation"]["finish_reason"] == "length":
        lines.append(Text("cut off at the token limit: --max-answer-tokens", style="yellow"))
    if turn["verdict"] is not None:
        status, reason = turn["verdict"]["status"], turn["verdict"]["reason"]
        mark, style = _VERDICTS[status]
        lines.append(Text(f"{mark} {status}: {reason}".removesuffix(": "), style=style))
    return Group(*lines)


def candidate_line(candidate: "Candidate") -> Text:
    """An answer of a search, as it comes."""
    said = {True: "  calls it right", False: "  calls it wrong", None: ""}[candidate.get("called_right")]
    score = "" if candidate["score"] is None else f"  {candidate['score']:.2f}"
    unread = "" if candidate["key"] is not None else "  (unreadable)"
    tokens = f"{candidate['tokens']:>4} tokens{score}{said}  "
    return Text.assemble((tokens, "dim"), candidate["text"], (unread, "yellow"))


def search_lines(result: "SearchResult", verdict: "Verdict | None", *, earlier: int = 0) -> list[Text]:
    """What came of a search of which `earlier` answers were drawn by other calls."""
    lines = [] if result.chosen is None else [Text.assemble(("\nanswer  ", "cyan"), result.answer)]
    if verdict is not None:
        style = "green" if verdict.correct else "red"
        lines.append(Text(f"{verdict.status.value}: {verdict.reason}", style=style))
    before = f" ({earlier} of them before)" if earlier else ""
    saved = f", about {result.saved_tokens} saved" if result.saved_tokens else ""
    played = f"{result.strategy}: {len(result.candidates)} answers{before}, {result.tokens} tokens{saved}"
    return [*lines, Text(f"{played}; {result.stop_reason}", style="dim")]


# The figures that matter while training, and how each is written.

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a step.

    Attributes:
        name: in `metrics.jsonl`.
        label: for people.
        form: how its number is written.
        style: rich style of its number.
        turn: the answer that it is about, counted from 1; None is all of them.
    """

    name: str
    label: str
    form: str
    style: str = ""
    turn: int | None = None

    @property
    def held_out(self) -> str:
        """Its name when it was measured on held-out problems."""
        return f"eval_{self.name}"

    def text(self, metrics: Mapping[str, float], prefix: str = "") -> str:
        """The number in `metrics`, or a dash if it is not there."""
        value = metrics.get(prefix + self.name)
        return "–" if value is None else format(value, self.form)


_TURNS = range(1, 34)
"""As many answers as the longest loop has."""

FIGURES = (
    Figure("accuracy_t1", "accuracy@1", ".3f", turn=1),
    *(Figure(f"accuracy_t{turn}", f"accuracy@{turn}", ".3f", "bold", turn) for turn in _TURNS[1:]),
    Figure("delta", "delta", "+.3f", "bold cyan"),
    *(Figure(f"delta_t{turn}", f"delta {turn - 1}→{turn}", "+.3f", "cyan", turn) for turn in _TURNS[1:]),
    Figure("i_to_c", "i→c", ".3f", "green"),
    Figure("c_to_i", "c→i", ".3f", "red"),
    *(Figure(f"kl_t{turn}", f"KL turn {turn}", ".4f", "", turn) for turn in _TURNS),
    Figure("sft_loss", "loss", ".4f"),
    Figure("nll_base", "NLL", ".4f"),
    Figure("nll", "NLL after thinking", ".4f", "bold"),
    Figure("gain", "gain of thinking", "+.4f", "bold cyan"),
    Figure("weight", "weight of thoughts", ".3f"),
    Figure("tokens_per_second", "tokens/s", ",.0f", "dim"),
)


def figures_in(names: Collection[str]) -> list[Figure]:
    """Those of `FIGURES` among `names`, as `metrics.jsonl` has them, on held-out problems too. Of long episodes those
    of the turns that reports show: 1, 2, 4, 8, ... and the last."""
    there = {name.removeprefix("eval_") for name in names}
    found = [figure for figure in FIGURES if figure.name in there]
    shown = {None, *shown_turns(sorted({figure.turn for figure in found if figure.turn is not None}))}
    return [figure for figure in found if figure.turn in shown]


def sparkline(values: Sequence[float], *, width: int = 24) -> str:
    """`values` as at most `width` little bars, from their least to their largest; each stands for the mean of equal
    parts."""
    parts = min(width, len(values))
    bounds = [len(values) * part // parts for part in range(parts + 1)]
    means = [sum(values[start:stop]) / (stop - start) for start, stop in pairwise(bounds)]
    low, high = min(means), max(means)
    if high == low:
        return _BARS[0] * parts
    return "".join(_BARS[int((mean - low) / (high - low) * (len(_BARS) - 1))] for mean in means)


# A comparison on the terminal.


def compare_table(result: Mapping[str, Any], way: str, exam: Mapping[str, Any] | None = None) -> RenderableType:
    """The paper's table: one row an arm. `exam` is one of `result["exams"]`; None is the task of training."""
    result = result if exam is None else {**result, **exam}
    table = Table(header_style="dim", box=SIMPLE_HEAD)
    table.add_column("arm")
    columns = columns_of(result[way])
    for head in ("seeds", *columns.values()):
        table.add_column(head, justify="right")
    for arm, row in result[way].items():
        cells = [
            Text.assemble(figure_text(name, row[name]), (f"\n{interval_text(name, row[name])}", "dim"))
            for name in columns
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
