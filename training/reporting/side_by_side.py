"""Ten episodes for reading, first and later answers side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_SHARES = (("fixed", 4), ("broken", 2), ("stayed incorrect", 2), ("stayed correct", 2))
_COUNT = 10


def kind_of(row: Row) -> str:
    """What became of the answer: "fixed", "broken", "stayed correct", "stayed incorrect", or "unjudged"."""
    verdicts = [turn.get("verdict") for turn in row["turns"] if turn["role"] != "critique"]
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
