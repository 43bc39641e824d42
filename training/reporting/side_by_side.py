"""Ten episodes for reading, first and later answers side by side."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Row = Mapping[str, Any]

_SHARES = (("fixed", 4), ("broken", 2), ("stayed incorrect", 2), ("stayed correct", 2))
_ROLES = {"attempt": "first answer", "critique": "its own critique", "revise": "revision"}
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


def episodes_html(rows: Sequence[Row]) -> str:
    """Ten episodes of the trained policy, and under each what the base wrote for the same problem, where that is
    known."""
    before = {row["id"]: row for row in rows if row["policy"] == "before"}
    after = [row for row in rows if row["policy"] == "after"]
    return "\n".join(_episode(row, before.get(row["id"])) for row in chosen(after))


def _episode(row: Row, base: Row | None) -> str:
    kind = kind_of(row)
    head = f'<header><code>{escape(row["prompt"])}</code> <span class="kind {kind.replace(" ", "-")}">{kind}</span></header>'
    body = _turns(row, "after training")
    if base is not None:
        body += _turns(base, "before")
    return f'<article class="episode">{head}{body}</article>'


def _turns(row: Row, label: str) -> str:
    cards = "".join(_turn(turn) for turn in row["turns"])
    return f'<div class="played"><span class="who">{label}</span><div class="turns">{cards}</div></div>'


def _turn(turn: Mapping[str, Any]) -> str:
    verdict = turn.get("verdict")
    mark = {"correct": "✓", "wrong": "✗", "unreadable": "✗", "unjudged": "?"}.get(verdict or "", "")
    reason = f'<p class="reason">{escape(turn["reason"])}</p>' if turn.get("reason") and verdict != "correct" else ""
    role = _ROLES.get(turn["role"], turn["role"])
    return (
        f'<section class="turn {verdict or "plain"}"><h4>{escape(role)} <b>{mark} {escape(verdict or "")}</b></h4>'
        f"<pre>{escape(turn['text'])}</pre>{reason}</section>"
    )
