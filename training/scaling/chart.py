"""Accuracy against generated tokens, as a drawing: one panel for all problems, one for each bin of difficulty."""

import io
from collections.abc import Sequence
from typing import Any

from selfcorrect.training.scaling.summary import Point

_COLOURS = (
    "#8a8f98",
    "#2f81f7",
    "#2da44e",
    "#e5534b",
    "#a371f7",
    "#d29922",
    "#1b7c83",
    "#bf3989",
    "#57606a",
    "#6e7781",
)
_LABELS = {
    "majority": "majority",
    "best_of_n": "best of N",
    "weighted": "weighted best of N",
    "beam": "beam search",
    "revise": "revisions, best scored",
    "mixed": "half attempts, half revisions",
    "compute_optimal": "compute-optimal",
}


def label_of(family: str) -> str:
    """A family as people read it."""
    kind, _, options = family.partition(":")
    return _LABELS.get(kind, kind) + (f" ({options.replace(':', ', ').replace('=true', '')})" if options else "")


def scale_svg(points: Sequence[Point]) -> str:
    """The drawing as SVG text; it reads on light pages."""
    import matplotlib
    from matplotlib.figure import Figure

    bins = sorted({point.bin for point in points if point.bin is not None})
    families = list(dict.fromkeys(point.family for point in points if point.tokens == point.tokens))
    style = {"svg.fonttype": "none", "svg.hashsalt": "scale", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 3.8 if not bins else 6.4), layout="constrained", facecolor="white")
        grid = figure.add_gridspec(2 if bins else 1, max(1, len(bins)), height_ratios=[2, 1] if bins else [1])
        whole = figure.add_subplot(grid[0, :])
        _panel(whole, points, families, None, "accuracy on held-out problems")
        whole.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for column, bin_ in enumerate(bins):
            _panel(figure.add_subplot(grid[1, column]), points, families, bin_, _bin_title(bin_, len(bins)))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _panel(axes: Any, points: Sequence[Point], families: Sequence[str], bin_: int | None, title: str) -> None:
    for number, family in enumerate(families):
        line = sorted(
            (point for point in points if point.family == family and point.bin == bin_), key=lambda point: point.tokens
        )
        colour, tokens = _COLOURS[number % len(_COLOURS)], [point.tokens for point in line]
        width = 2.2 if family == "compute_optimal" else 1.4
        axes.plot(
            tokens,
            [one.accuracy for one in line],
            "o-",
            color=colour,
            linewidth=width,
            markersize=3,
            label=label_of(family),
        )
        if bin_ is None:
            low, high = [one.ci95[0] for one in line], [one.ci95[1] for one in line]
            axes.fill_between(tokens, low, high, color=colour, alpha=0.10, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_title(title, loc="left", fontsize=9 if bin_ is not None else 11)
    if bin_ is None:  # the small panels have no room for it
        axes.set_xlabel("generated tokens a problem")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y", alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _bin_title(bin_: int, bins: int) -> str:
    where = ", easiest" if bin_ == 0 else ", hardest" if bin_ == bins - 1 else ""
    return f"difficulty {bin_ + 1}{where}"
