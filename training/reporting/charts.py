"""What reports draw, as SVG that takes its text colour from the page: curves over the steps of a run, and what became
of the answers."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from selfcorrect.training.reporting.rows import render

INK = "#010203"
"""Stands for the page's text colour while matplotlib draws; replaced by `currentColor`."""
_SMOOTHING = 9


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: a name in `metrics.jsonl`, a label, a colour that reads on light and dark."""

    name: str
    label: str
    colour: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves that share their axes. `title` is what the y axis shows."""

    title: str
    curves: tuple[Curve, ...]
    clipped: bool = False
    """Whether rare large values are cut off, with a mark, so that the rest can be read."""


CHARTS = (
    Chart(
        "accuracy of sampled answers",
        (Curve("accuracy_t1", "first answer", "#8a8f98"), Curve("accuracy_t2", "second answer", "#2f81f7")),
    ),
    Chart("delta: second − first", (Curve("delta", "delta", "#2f81f7"),)),
    Chart(
        "flips: share of episodes",
        (Curve("i_to_c", "incorrect → correct", "#2da44e"), Curve("c_to_i", "correct → incorrect", "#e5534b")),
    ),
    Chart(
        "KL to the reference, nats per token",
        (Curve("kl_t1", "first answer", "#8a8f98"), Curve("kl_t2", "second answer", "#2f81f7")),
        clipped=True,
    ),
)


_LATER = ("#2da44e", "#bf8700", "#8250df", "#1b7c83", "#e5534b", "#bc4c00")
_ORDINALS = ("third", "fourth", "fifth", "sixth", "seventh", "eighth")


def charts_of(steps: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """The charts of a run: of episodes of more than two answers with a curve for each (up to eight), and with delta
    from each answer to the next."""
    later = [turn for turn in range(3, 9) if any(step.get(f"accuracy_t{turn}") is not None for step in steps)]
    if not later:
        return CHARTS
    accuracy, _, flips, kl = CHARTS
    gained = (Curve("delta_t2", "second − first", "#2f81f7"), *_later("delta_t{}", later, "{} − the one before"))
    return (
        replace(accuracy, curves=(*accuracy.curves, *_later("accuracy_t{}", later, "{} answer"))),
        Chart("delta: last − first", (Curve("delta", "delta", "#2f81f7"),)),
        Chart("delta from answer to answer", gained),
        flips,
        replace(kl, curves=(*kl.curves, *_later("kl_t{}", later, "{} answer"))),
    )


def _later(name: str, turns: Sequence[int], label: str) -> list[Curve]:
    return [Curve(name.format(turn), label.format(_ORDINALS[turn - 3]), _LATER[turn - 3]) for turn in turns]


def charts_svg(charts: Sequence[Chart], steps: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Those of the charts of which something was measured."""
    return [svg for chart in charts if (svg := chart_svg(chart, steps))]


def chart_svg(chart: Chart, steps: Sequence[Mapping[str, Any]]) -> Markup:
    """`chart` over `steps`; "" if none of its curves was measured.

    Thin lines are the steps, thick ones a running mean of nine, dots the evaluations on held-out problems. Vertical
    lines part the stages.
    """
    import matplotlib
    from matplotlib.figure import Figure

    measured = [curve for curve in chart.curves if any(step.get(curve.name) is not None for step in steps)]
    if not measured:
        return Markup("")
    style = {"svg.fonttype": "none", "svg.hashsalt": chart.title, "font.size": 9, "text.color": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for curve in measured:
            _draw(axes, curve, steps)
        _mark_stages(axes, steps)
        _dress(axes, chart.title)
        shown = [f"{held_out}{curve.name}" for curve in measured for held_out in ("", "eval_")]
        if min(value for name in shown for value in _measured(name, steps)) >= 0:
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))  # a share is never below 0, nor is its axis
        if chart.clipped:
            _clip(axes, [_measured(curve.name, steps) for curve in measured])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline_svg(buffer.getvalue())


def _draw(axes: Any, curve: Curve, steps: Sequence[Mapping[str, Any]]) -> None:
    points = [(step["step"], step[curve.name]) for step in steps if step.get(curve.name) is not None]
    numbers, values = zip(*points, strict=True)
    axes.plot(numbers, values, color=curve.colour, linewidth=0.7, alpha=0.35)
    axes.plot(numbers, running_mean(values), color=curve.colour, linewidth=1.8, label=curve.label)
    held_out = [
        (step["step"], step[f"eval_{curve.name}"]) for step in steps if step.get(f"eval_{curve.name}") is not None
    ]
    if held_out:
        numbers, values = zip(*held_out, strict=True)
        axes.plot(numbers, values, "o", color=curve.colour, markersize=4)


_LARGE = 4.0
"""Values above so many times the 95th percentile are cut off."""


def readable_limit(values: Sequence[float]) -> float | None:
    """Where to cut an axis off so that all but a few of `values` can be read; None if nothing towers over the rest."""
    ranked = sorted(value for value in values if value is not None)
    usual = ranked[int(0.95 * (len(ranked) - 1))] if ranked else 0.0
    return 1.5 * usual if usual > 0 and ranked[-1] > _LARGE * usual else None


def _limit_of(curves: Sequence[Sequence[float]]) -> float | None:
    """`readable_limit` of all values; or, where first steps alone tower over all the others, that of the others."""
    later = max((value for curve in curves for value in curve[1:]), default=0.0)
    first = max((curve[0] for curve in curves if curve), default=0.0)
    if later > 0 and first > _LARGE * later:
        return 1.5 * later
    return readable_limit([value for curve in curves for value in curve])


def _measured(name: str, steps: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(step[name]) for step in steps if step.get(name) is not None]


def _clip(axes: Any, curves: Sequence[Sequence[float]]) -> None:
    """Cut the axis off above what is usual, and say what was highest."""
    limit = _limit_of(curves)
    if limit is None:
        return
    axes.set_ylim(top=limit)
    mark = f"▲ up to {max(map(max, curves)):,.3g}"
    axes.text(0.5, 0.98, mark, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=INK)


def running_mean(values: Sequence[float]) -> list[float]:
    """Mean of each value and up to eight before it."""
    windows = [values[max(0, end - _SMOOTHING) : end] for end in range(1, len(values) + 1)]
    return [sum(window) / len(window) for window in windows]


def _mark_stages(axes: Any, steps: Sequence[Mapping[str, Any]]) -> None:
    for before, after in pairwise(steps):
        if before.get("stage") != after.get("stage"):
            place = (before["step"] + after["step"]) / 2
            axes.axvline(place, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), alpha=0.6)
            label = f" stage {after['stage']}"
            axes.text(
                place, 1.0, label, transform=axes.get_xaxis_transform(), ha="left", va="top", fontsize=8, alpha=0.8
            )


def _dress(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel("step", color=INK)
    axes.tick_params(colors=INK, which="both", length=3)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=INK, alpha=0.4)
    axes.margins(y=0.12)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="best")


def inline_svg(svg: str) -> Markup:
    """The drawing as an element of a page: no XML head, the page's colour and font, its width decided by the page."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL).replace(
        INK, "currentColor"
    )
    svg = re.sub(r"""font:[^;"']*;?|font-family:[^;"']*;?""", _keep_size, svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return Markup(re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1))  # matplotlib has escaped its words


_INKS, _GROUNDS = ("#1f2328", "#e6edf3"), ("#ffffff", "#0d1117")
"""Of the reports, on light and on dark pages: contrasts of 15.8 and of 16."""

_DARK = f"""<style>@media (prefers-color-scheme: dark) {{
[fill="{_INKS[0]}"] {{ fill: {_INKS[1]} }} [fill="{_GROUNDS[0]}"] {{ fill: {_GROUNDS[1]} }}
[style*="stroke: {_INKS[0]}"] {{ stroke: {_INKS[1]} !important }} }}</style>"""


def on_any_page(svg: str) -> str:
    """A drawing of matplotlib's that stands alone, as it reads on light and on dark pages: what was black has the ink
    of the reports, and the ground is the drawing's own, since a page may be dark where its reader's system is light.
    Drawings that have been here are left as they are."""
    if _DARK in svg:
        return svg
    svg = svg.replace("fill: #ffffff", "fill: none").replace("stroke: #000000", f"stroke: {_INKS[0]}")
    ground = f'{_DARK}\n<rect width="100%" height="100%" fill="{_GROUNDS[0]}"/>'
    return re.sub(r"<svg ([^>]*>)", rf'<svg fill="{_INKS[0]}" \1\n{ground}', svg, count=1)


def _keep_size(declaration: re.Match[str]) -> str:
    size = re.search(r"\d+(\.\d+)?px", declaration[0])
    return f"font-size: {size[0]};" if size else ""


# What happened to the answers between the first turn and the last, as a small flow diagram .

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
        _Label(_WIDTH / 2, _HEIGHT - 1, f"fixed {flips.i_to_c:.1%}   broken {flips.c_to_i:.1%}", "middle"),
        _Label(_WIDTH / 2, _HEIGHT + 15, f"stayed correct {flips.c_to_c:.1%}, incorrect {flips.i_to_i:.1%}", "middle"),
    ]
    drawn = [band for band in bands if band.share > 0]
    return render("flips.svg", title=title, width=_WIDTH, height=_HEIGHT + 22, bands=drawn, bars=bars, labels=labels)


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
