"""What happened to the answers between the first turn and the last, as a small flow diagram (SVG)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from selfcorrect.training.reporting.rendering import render

_WIDTH, _HEIGHT, _TOP = 440, 250, 34
_SCALE = _HEIGHT - _TOP - 24
_LEFT, _RIGHT, _BAR, _GAP = 122, 312, 12, 10
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


def flips_svg(report: Mapping[str, Any], title: str) -> Markup:
    """The flow from first to last answers; band heights are shares of the problems."""
    flips = Flips.of(report)
    first, last = flips.c_to_c + flips.c_to_i, flips.c_to_c + flips.i_to_c
    wrong_at_first, wrong_at_last = _TOP + first * _SCALE + _GAP, _TOP + last * _SCALE + _GAP
    fixed_ends, broken_begins = wrong_at_first + flips.i_to_c * _SCALE, _TOP + flips.c_to_c * _SCALE
    bands = [
        _Band(_TOP, _TOP, flips.c_to_c, _GREEN, 0.25, "stayed correct"),
        _Band(fixed_ends, wrong_at_last + flips.c_to_i * _SCALE, flips.i_to_i, _GREY, 0.22, "stayed incorrect"),
        _Band(wrong_at_first, broken_begins, flips.i_to_c, _GREEN, 0.85, "fixed"),
        _Band(broken_begins, wrong_at_last, flips.c_to_i, _RED, 0.85, "broken"),
    ]
    bars = [
        *_bars(_LEFT - _BAR, first, wrong_at_first),
        *_bars(_RIGHT, last, wrong_at_last),
    ]
    labels = [
        _Label(0, 14, title, bold=True),
        *_side(_LEFT - _BAR - 8, "end", first, wrong_at_first),
        *_side(_RIGHT + _BAR + 8, "start", last, wrong_at_last),
        _Label((_LEFT + _RIGHT) / 2, _HEIGHT - 1, f"fixed {flips.i_to_c:.1%}   broken {flips.c_to_i:.1%}", "middle"),
    ]
    drawn = [band for band in bands if band.share > 0]
    return render("flips.svg", title=title, width=_WIDTH, height=_HEIGHT + 6, bands=drawn, bars=bars, labels=labels)


@dataclass(frozen=True, slots=True)
class _Band:
    """A curved band of `share` from height `left` on the left to `right` on the right."""

    left: float
    right: float
    share: float
    colour: str
    opacity: float
    name: str

    @property
    def path(self) -> str:
        height, middle = self.share * _SCALE, (_LEFT + _RIGHT) / 2
        left, right = self.left, self.right
        return (
            f"M{_LEFT},{left:.1f} C{middle},{left:.1f} {middle},{right:.1f} {_RIGHT},{right:.1f} "
            f"L{_RIGHT},{right + height:.1f} C{middle},{right + height:.1f} {middle},{left + height:.1f} "
            f"{_LEFT},{left + height:.1f} Z"
        )

    @property
    def words(self) -> str:
        return f"{self.name} {self.share:.1%}"


@dataclass(frozen=True, slots=True)
class _Bar:
    x: float
    y: float
    height: float
    colour: str
    width: float = _BAR


@dataclass(frozen=True, slots=True)
class _Label:
    x: float
    y: float
    words: str
    anchor: str = "start"
    bold: bool = False


def _bars(x: float, correct: float, wrong_top: float) -> list[_Bar]:
    """The shares of right and of wrong answers, one above the other."""
    shares = ((_TOP, correct, _GREEN), (wrong_top, 1 - correct, _GREY))
    return [_Bar(x, top, max(0.0, share) * _SCALE, colour) for top, share, colour in shares]


def _side(x: float, anchor: str, correct: float, wrong_top: float) -> list[_Label]:
    """The two labels of one side, each at the middle of its bar."""
    return [
        _Label(x, _TOP + correct * _SCALE / 2 + 4, f"correct {correct:.1%}", anchor),
        _Label(x, wrong_top + (1 - correct) * _SCALE / 2 + 4, f"incorrect {1 - correct:.1%}", anchor),
    ]
