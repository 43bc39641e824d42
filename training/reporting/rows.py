"""What reports show in words: templates filled in, the before/after table (which the terminal shows too), and ten
episodes for reading."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment


# Templates. Whatever a model wrote is escaped on the way; what is drawn by us is `Markup` already.


def render(template: str, **values: Any) -> Markup:
    """The template of that file name in `templates/`; pages extend its `base.html`.

    Raises:
        jinja2.UndefinedError: the template asks for a value that was not given.
    """
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


# The before/after table.

Change = Literal["better", "worse", "same"]
Interval = tuple[float, float]

_LABELS = {
    "delta": "delta (last − first)",
    "i_to_c": "incorrect → correct",
    "c_to_i": "correct → incorrect",
    "unchanged": "answer unchanged",
    "edit_distance": "edit distance",
    "unjudged": "unjudged",
    "truncated": "cut off at the limit",
    "tokens_per_turn": "tokens per turn",
    "tokens": "tokens per episode",
    "answers": "answers per episode",
    "stopped": "stopped by its own word",
    "stopped_right": "of those, right",
}
_PAIRS = {"delta": "delta", "i_to_c": "incorrect → correct", "c_to_i": "correct → incorrect"}
"""What is told from each answer to the next."""
_LESS_IS_BETTER = {"c_to_i"}
_NEUTRAL = {"unchanged", "edit_distance", "unjudged", "truncated", "tokens_per_turn", "tokens", "answers", "stopped"}
_CHANGES = {"accuracy_t2", "delta", "i_to_c", "c_to_i", "unchanged", "edit_distance"}
"""What single answers have none of."""
_MANY_TURNS = 4
"""Answers of an episode whose accuracies are all shown; of longer episodes those after 1, 2, 4, 8, ... answers."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure of one or two evaluations, as text.

    Attributes:
        name: in `metrics.json`.
        label: for people.
        values: one per evaluation; "–" where it was not measured.
        intervals: its 95% interval, "" where there is none.
        change: of the second against the first: "same" unless their intervals do not overlap.
    """

    name: str
    label: str
    values: tuple[str, ...]
    intervals: tuple[str, ...]
    change: Change


def result_rows(*reports: Mapping[str, Any]) -> list[Result]:
    """The figures of one evaluation, or of two to compare, in the order in which they are read."""
    flat = [_by_turn(report) for report in reports]
    present = {name for report in flat for name in report}
    turns = sorted(int(name[10:]) for name in filter(re.compile(r"accuracy_t\d+").fullmatch, present))
    accuracies = [f"accuracy_t{turn}" for turn in shown_turns(turns)]
    gained = [f"{name}_t{turn}" for name in _PAIRS for turn in later_turns(turns)]
    names = [*accuracies, "delta", *gained, *(name for name in _LABELS if name != "delta")]
    return [_row(name, flat) for name in names if name in present and _says_something(name, flat)]


def later_turns(turns: Sequence[int]) -> list[int]:
    """The answers that are shown with what changed since the one before: of episodes of more than two, from the
    second."""
    return [turn for turn in shown_turns(turns) if turn > 1] if turns and turns[-1] > 2 else []


def shown_turns(turns: Sequence[int]) -> list[int]:
    """Of `turns`, counted from 1, those that tables show: all, or of many the powers of 2 and the last."""
    if not turns or turns[-1] <= _MANY_TURNS:
        return list(turns)
    return [turn for turn in turns if turn & (turn - 1) == 0 or turn == turns[-1]]


def _says_something(name: str, reports: Sequence[Mapping[str, Any]]) -> bool:
    """Own stops are shown where there are any, numbers of answers where they are not those of the turns, and changes
    where something was asked for again."""
    if name in _CHANGES:
        return not all(len(report.get("accuracy", ())) == 1 and not report.get("stopped") for report in reports)
    if name in ("stopped", "stopped_right", "answers"):
        return any(report.get("stopped") for report in reports)
    if name == "tokens_per_turn":
        return max((len(report.get(name) or ()) for report in reports), default=0) <= 2 * _MANY_TURNS
    return True


def interval_of(report: Mapping[str, Any], name: str) -> Interval | None:
    """The 95% interval of a figure, if the report has one."""
    interval = _by_turn(report).get(f"{name}_ci95")
    return None if interval is None or None in interval else (float(interval[0]), float(interval[1]))


def _by_turn(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report, with the lists of accuracies and their intervals also under accuracy_t1, accuracy_t1_ci95, ..."""
    flat = dict(report)
    for turn, (value, interval) in enumerate(
        zip(report.get("accuracy", []), report.get("accuracy_ci95", []), strict=True), start=1
    ):
        flat |= {f"accuracy_t{turn}": value, f"accuracy_t{turn}_ci95": interval}
    for name in _PAIRS:
        flat |= {f"{name}_t{turn}": value for turn, value in enumerate(report.get(f"{name}_by_turn", []), start=2)}
    return flat


def _row(name: str, reports: Sequence[Mapping[str, Any]]) -> Result:
    intervals = [interval_of(report, name) for report in reports]
    signed = "+.3f" if name.startswith("delta") else ".3f"
    return Result(
        name=name,
        label=_LABELS.get(name) or _label_of_turn(name),
        values=tuple(_value(report.get(name), signed) for report in reports),
        intervals=tuple("" if found is None else f"[{found[0]:{signed}}, {found[1]:{signed}}]" for found in intervals),
        change=_change(name, intervals),
    )


def _label_of_turn(name: str) -> str:
    """ "accuracy@3", "delta, 2 → 3"."""
    figure, _, turn = name.rpartition("_t")
    return f"accuracy@{turn}" if figure == "accuracy" else f"{_PAIRS[figure]}, {int(turn) - 1} → {turn}"


def _value(value: Any, form: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence):
        return " / ".join(f"{item:.1f}" for item in value)
    return format(value, form)


def _change(name: str, intervals: Sequence[Interval | None]) -> Change:
    if name in _NEUTRAL or len(intervals) < 2 or intervals[0] is None or intervals[1] is None:
        return "same"
    (low_before, high_before), (low_after, high_after) = intervals[0], intervals[1]
    if low_after > high_before:
        return "worse" if name in _LESS_IS_BETTER else "better"
    if high_after < low_before:
        return "better" if name in _LESS_IS_BETTER else "worse"
    return "same"


# Ten episodes for reading, first and later answers side by side.

Row = Mapping[str, Any]

_SHARES = (("fixed", 4), ("broken", 2), ("stayed incorrect", 2), ("stayed correct", 2))
_COUNT = 10


def kind_of(row: Row) -> str:
    """What became of the answer: "fixed", "broken", "stayed correct", "stayed incorrect", or "unjudged"; "rewarded"
    where a graph of one's own pays its calls and no checker says of any whether it is right."""
    verdicts = [turn.get("verdict") for turn in row["turns"] if turn["role"] != "critique"]
    if not any(verdicts) and any(turn.get("reward") is not None for turn in row["turns"]):
        return "rewarded"
    if not verdicts or None in verdicts or "unjudged" in verdicts:
        return "unjudged"
    match (verdicts[0] == "correct", verdicts[-1] == "correct"):
        case (False, True):
            return "fixed"
        case (True, False):
            return "broken"
        case (True, True):
            return "stayed correct"
        case _:
            return "stayed incorrect"


def chosen(rows: Sequence[Row]) -> list[Row]:
    """Ten rows (fewer if there are not ten): the first of each kind up to its share, then the first of what is left."""
    picked: list[Row] = []
    for kind, share in _SHARES:
        picked += [row for row in rows if kind_of(row) == kind][:share]
    left = [row for row in rows if row not in picked]
    return (picked + left[: _COUNT - len(picked)])[:_COUNT]


def side_by_side(rows: Sequence[Row]) -> list[tuple[str, str, dict[str, list[Row]]]]:
    """For `templates/episodes.html`: kind, problem and turns of ten episodes of the trained policy, with what the base
    wrote for the same problem, where that is known."""
    before = {row["id"]: row for row in rows if row["policy"] == "before"}
    shown = []
    for row in chosen([row for row in rows if row["policy"] == "after"]):
        played = {"after training": row["turns"]}
        if row["id"] in before:
            played["before"] = before[row["id"]]["turns"]
        shown.append((kind_of(row), row["prompt"], played))
    return shown
