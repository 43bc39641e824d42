"""The rows of the before/after table, for the terminal and for the report."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
}
_LESS_IS_BETTER = {"c_to_i"}
_NEUTRAL = {"unchanged", "edit_distance", "unjudged", "truncated", "tokens_per_turn"}


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
    accuracies = sorted(filter(re.compile(r"accuracy_t\d+").fullmatch, present), key=lambda name: int(name[10:]))
    return [_row(name, flat) for name in [*accuracies, *_LABELS] if name in present]


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
    return flat


def _row(name: str, reports: Sequence[Mapping[str, Any]]) -> Result:
    intervals = [interval_of(report, name) for report in reports]
    signed = "+.3f" if name == "delta" else ".3f"
    return Result(
        name=name,
        label=_LABELS.get(name, f"accuracy@{name[10:]}"),
        values=tuple(_value(report.get(name), signed) for report in reports),
        intervals=tuple("" if found is None else f"[{found[0]:{signed}}, {found[1]:{signed}}]" for found in intervals),
        change=_change(name, intervals),
    )


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
