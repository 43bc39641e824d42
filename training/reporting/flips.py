"""What happened to the answers between the first turn and the last, as a small flow diagram (SVG)."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _TOP = 440, 250, 34
_SCALE = _HEIGHT - _TOP - 24
_LEFT, _RIGHT, _BAR = 122, 312, 12
_GREEN, _RED, _GREY = "#2da44e", "#e5534b", "#8a8f98"


@dataclass(frozen=True, slots=True)
class Flips:
    """Shares of all problems, which sum to 1: correct or incorrect at first, correct or incorrect at last."""

    c_to_c: float
    c_to_i: float
    i_to_c: float
    i_to_i: float

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Flips":
        """From an evaluation's `accuracy_t1`, `i_to_c` and `c_to_i`; what could not be measured counts as 0."""
        first, fixed, broken = (report[name] or 0.0 for name in ("accuracy_t1", "i_to_c", "c_to_i"))
        return cls(max(0.0, first - broken), broken, fixed, max(0.0, 1 - first - fixed))


def flips_svg(report: Mapping[str, Any], title: str) -> str:
    """The flow from first to last answers; band heights are shares of the problems."""
    flips = Flips.of(report)
    first, last = flips.c_to_c + flips.c_to_i, flips.c_to_c + flips.i_to_c
    gap = 10
    wrong_at_first, wrong_at_last = _TOP + first * _SCALE + gap, _TOP + last * _SCALE + gap
    bands = [
        _band(_TOP, _TOP, flips.c_to_c, _GREEN, 0.25, f"stayed correct {flips.c_to_c:.1%}"),
        _band(
            wrong_at_first + flips.i_to_c * _SCALE,
            wrong_at_last + flips.c_to_i * _SCALE,
            flips.i_to_i,
            _GREY,
            0.22,
            f"stayed incorrect {flips.i_to_i:.1%}",
        ),
        _band(wrong_at_first, _TOP + flips.c_to_c * _SCALE, flips.i_to_c, _GREEN, 0.85, f"fixed {flips.i_to_c:.1%}"),
        _band(_TOP + flips.c_to_c * _SCALE, wrong_at_last, flips.c_to_i, _RED, 0.85, f"broken {flips.c_to_i:.1%}"),
    ]
    bars = [
        _bar(_LEFT - _BAR, _TOP, first, _GREEN),
        _bar(_LEFT - _BAR, wrong_at_first, 1 - first, _GREY),
        _bar(_RIGHT, _TOP, last, _GREEN),
        _bar(_RIGHT, wrong_at_last, 1 - last, _GREY),
    ]
    words = [
        _text(0, 14, title, bold=True),
        *_side(_LEFT - _BAR - 8, "end", first, wrong_at_first),
        *_side(_RIGHT + _BAR + 8, "start", last, wrong_at_last),
        _text(
            (_LEFT + _RIGHT) / 2, _HEIGHT - 1, f"fixed {flips.i_to_c:.1%}   broken {flips.c_to_i:.1%}", anchor="middle"
        ),
    ]
    body = "".join([*bands, *bars, *words])
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 6}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _band(left: float, right: float, share: float, colour: str, opacity: float, words: str) -> str:
    """A curved band of `share` from height `left` on the left to `right` on the right."""
    if share <= 0:
        return ""
    height, middle = share * _SCALE, (_LEFT + _RIGHT) / 2
    path = (
        f"M{_LEFT},{left:.1f} C{middle},{left:.1f} {middle},{right:.1f} {_RIGHT},{right:.1f} "
        f"L{_RIGHT},{right + height:.1f} C{middle},{right + height:.1f} {middle},{left + height:.1f} {_LEFT},{left + height:.1f} Z"
    )
    return f'<path d="{path}" fill="{colour}" fill-opacity="{opacity}"><title>{escape(words)}</title></path>'


def _bar(x: float, y: float, share: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y:.1f}" width="{_BAR}" height="{max(0.0, share) * _SCALE:.1f}" rx="2" fill="{colour}"/>'


def _side(x: float, anchor: str, correct: float, wrong_top: float) -> list[str]:
    """The two labels of one side, each at the middle of its bar."""
    return [
        _text(x, _TOP + correct * _SCALE / 2 + 4, f"correct {correct:.1%}", anchor=anchor),
        _text(x, wrong_top + (1 - correct) * _SCALE / 2 + 4, f"incorrect {1 - correct:.1%}", anchor=anchor),
    ]


def _text(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    size = 13 if bold else 11
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight} fill="currentColor" '
        f'xml:space="preserve">{escape(words)}</text>'
    )
