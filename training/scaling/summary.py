"""Figures of a comparison of strategies: accuracy against generated tokens, overall and by difficulty, and their
drawing."""

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import comb
from statistics import fmean, quantiles
from typing import Any

from selfcorrect.agents.evaluation import wilson
from selfcorrect.training.reporting.charts import on_any_page
from selfcorrect.training.scaling.measuring import Asked, Measured


@dataclass(frozen=True, slots=True)
class Point:
    """One strategy at one budget.

    Attributes:
        family: of the strategy.
        answers: the budget, in answers of mean length.
        bin: of difficulty, 0 is easy; None is all problems.
        n: judged problems.
        accuracy, ci95: share of right answers and its Wilson interval.
        tokens: generated, mean over the problems; `saved`: what early stopping saved of them.
    """

    family: str
    answers: int
    bin: int | None
    n: int
    accuracy: float
    ci95: tuple[float, float]
    tokens: float
    saved: float


def summarise(asked: Sequence[Asked], measured: Iterable[Measured], *, bins: int = 5) -> list[Point]:
    """Points of every family and budget, for all problems and for each bin of their true pass rate (Snell et al.'s
    oracle difficulty, from all first answers; quintiles by default)."""
    bin_of = oracle_bins(asked, bins)
    rows: dict[tuple[str, int, int | None], list[Measured]] = {}
    for one in measured:
        for bin_ in (None, bin_of[one.problem]):
            rows.setdefault((one.family, one.answers, bin_), []).append(one)
    return [_point(*key, members) for key, members in rows.items()] + _pass_and_oracle(asked, bin_of)


def oracle_bins(asked: Sequence[Asked], bins: int) -> dict[str, int]:
    """Of each problem the bin of its pass rate, from 0 (highest) to `bins` - 1."""
    rates = [one.pass_rate for one in asked]
    edges = quantiles(rates, n=bins, method="inclusive") if len(rates) > 1 and bins > 1 else []
    return {one.problem: sum(one.pass_rate < edge for edge in edges) for one in asked}


def _point(family: str, answers: int, bin_: int | None, rows: Sequence[Measured]) -> Point:
    judged = [row.correct for row in rows if row.correct is not None]
    right = round(sum(judged))
    return Point(
        family,
        answers,
        bin_,
        len(judged),
        right / len(judged) if judged else float("nan"),
        wilson(right, len(judged)),
        fmean(row.tokens for row in rows),
        fmean(row.saved for row in rows),
    )


def _pass_and_oracle(asked: Sequence[Asked], bin_of: dict[str, int]) -> list[Point]:
    """pass@k: what a perfect verifier would reach with best of k, by the unbiased estimator (Chen et al. 2021, arXiv
    2107.03374)."""
    points = []
    most = min((len(one.correct) for one in asked), default=0)
    sizes = [2**power for power in range(most.bit_length())]
    for bin_ in [None, *sorted(set(bin_of.values()))]:
        members = [one for one in asked if bin_ is None or bin_of[one.problem] == bin_]
        for k in sizes:
            share = fmean(pass_at_k(one, k) for one in members)
            interval = wilson(round(share * len(members)), len(members))
            points.append(Point("perfect verifier", k, bin_, len(members), share, interval, float("nan"), 0.0))
    return points


def pass_at_k(one: Asked, k: int) -> float:
    """Probability that k of the problem's first answers, drawn without replacement, hold a right one."""
    n, right = len(one.correct), sum(score == 1.0 for score in one.correct)
    return 1.0 - comb(n - right, k) / comb(n, k)


def tokens_to_reach(points: Iterable[Point], family: str, accuracy: float) -> float | None:
    """Mean tokens at which `family` first reaches `accuracy` over all problems, interpolated between its budgets;
    None: it does not."""
    line = sorted(
        ((one.tokens, one.accuracy) for one in points if one.family == family and one.bin is None),
        key=lambda pair: pair[0],
    )
    before: tuple[float, float] | None = None
    for tokens, reached in line:
        if reached >= accuracy:
            if before is None or reached == before[1]:
                return tokens
            return before[0] + (tokens - before[0]) * (accuracy - before[1]) / (reached - before[1])
        before = (tokens, reached)
    return None


def best_played(points: Iterable[Point], measured: Iterable[Measured]) -> str | None:
    """The strategy that was right most often, of those the cheapest; None where only others were played: those that
    need a plan or a step verifier."""
    names = {(one.family, one.answers): one.strategy for one in measured if one.strategy != one.family}
    playable = {key: name for key, name in names.items() if not name.startswith("beam:")}
    known = [one for one in points if one.bin is None and one.n and (one.family, one.answers) in playable]
    best = min(known, key=lambda point: (-point.accuracy, point.tokens), default=None)
    return None if best is None else playable[best.family, best.answers]


def as_rows(points: Iterable[Point]) -> list[dict[str, Any]]:
    """Plain JSON data; what is not a number is None."""
    return [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(point).items()
        }
        for point in points
    ]


# The drawing: one panel for all problems, one for each bin of difficulty.

_COLOURS = (
    "#8a8f98",
    "#2f81f7",
    "#2da44e",
    "#e5534b",
    "#a371f7",
    "#bf8700",
    "#1b7c83",
    "#bf3989",
    "#bc4c00",
    "#4b96ae",
)
_LABELS = {
    "majority": "majority",
    "best_of_n": "best of N",
    "weighted": "weighted best of N",
    "beam": "beam search",
    "revise": "revisions, best scored",
    "mixed": "half attempts, half revisions",
    "self_judged": "judged by the policy itself",
    "compute_optimal": "compute-optimal",
}


def label_of(family: str) -> str:
    """A family as people read it."""
    kind, _, options = family.partition(":")
    return _LABELS.get(kind, kind) + (f" ({options.replace(':', ', ').replace('=true', '')})" if options else "")


def scale_svg(points: Sequence[Point]) -> str:
    """The drawing as SVG text; it reads on light and on dark pages."""
    import matplotlib
    from matplotlib.figure import Figure

    bins = sorted({point.bin for point in points if point.bin is not None})
    families = list(dict.fromkeys(point.family for point in points if point.tokens == point.tokens))
    style = {"svg.fonttype": "none", "svg.hashsalt": "scale", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 3.8 if not bins else 6.4), layout="constrained")
        grid = figure.add_gridspec(2 if bins else 1, max(1, len(bins)), height_ratios=[2, 1] if bins else [1])
        whole = figure.add_subplot(grid[0, :])
        _panel(whole, points, families, None, "accuracy on held-out problems")
        whole.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for column, bin_ in enumerate(bins):
            _panel(figure.add_subplot(grid[1, column]), points, families, bin_, _bin_title(bin_, len(bins)))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return on_any_page(buffer.getvalue())


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
