"""What a verifier is worth on a pool of judged answers: choosing, calibration, abstention; and the page that shows
it."""

import asyncio
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from markupsafe import Markup

from selfcorrect.agents.choosing.best_of_k import best_of_k, pass_at_k, pick_best, vote_at_k
from selfcorrect.agents.choosing.calibration import (
    area_under_risk_coverage,
    brier,
    calibration_error,
    coverage_at_risk,
    reliability,
    risk_coverage,
)
from selfcorrect.agents.choosing.sample_pool import Sample, by_problem
from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.search.state import counted_as
from selfcorrect.rewards.shaping import Score
from selfcorrect.rewards.verifiers.base import ModelVerifier
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.reporting.charts import INK, inline_svg
from selfcorrect.training.reporting.rows import render

RISKS = (0.05, 0.10)
_CURVE_POINTS = 200
_Z95 = 1.959963984540054


def with_answer_keys(pool: Sequence[Sample], problems: Sequence[Problem]) -> list[Sample]:
    """The pool with answers as votes count them at test time (see `counted_as`), which is a stronger vote than that
    of whole answers."""
    asked = {problem.id: problem for problem in problems}

    async def keys() -> list[str | None]:
        return await asyncio.gather(*(counted_as(asked[one.id], one.text) for one in pool))

    return [replace(one, answer=key) for one, key in zip(pool, run_blocking(keys()), strict=True)]


def verifier_figures(verifier: ModelVerifier, pool: Sequence[Sample]) -> dict[str, Any]:
    """The figures of `scored_figures` for a verifier, and how often it abstained."""
    judged = [one for one in pool if one.correct is not None]
    scores = verifier.score_all([(one.prompt, one.text) for one in judged])
    figures = scored_figures(judged, scores)
    return figures | {"unreadable": verifier.unreadable, "not_finite": verifier.not_finite}


def scored_figures(pool: Sequence[Sample], scores: Sequence[Score]) -> dict[str, Any]:
    """Figures of a pool of judged samples and their scores, as plain JSON data.

    `choosing` holds, for k = 1, 2, 4, ...: the oracle's pass@k, majority@k, the verifier's best-of-k and its weighted
    vote, each a mean over problems with a 95 % interval (normal, of the mean). `gap_closed` is (best-of-N - pass@1) /
    (oracle@N - pass@1). `samples` are calibration figures of all samples, `chosen` those of the best-scored answer to
    each problem.
    """
    groups, rest = by_problem(pool), iter(scores)
    scored = [[next(rest) for _ in group] for group in groups]
    outcomes = [[bool(one.correct) for one in group] for group in groups]
    answers = [[one.answer for one in group] for group in groups]
    size = min(map(len, groups))
    choosing = {
        str(k): {
            "oracle": mean_with_interval([pass_at_k(right, k) for right in outcomes]),
            "majority": mean_with_interval(
                [vote_at_k(given, right, k, draws=20) for given, right in zip(answers, outcomes, strict=True)]
            ),
            "best_of_k": mean_with_interval(
                [best_of_k(score, right, k) for score, right in zip(scored, outcomes, strict=True)]
            ),
            "weighted": mean_with_interval(
                [
                    vote_at_k(given, right, k, score, draws=20)
                    for given, right, score in zip(answers, outcomes, scored, strict=True)
                ]
            ),
        }
        for k in _powers(size)
    }
    picked = [pick_best(score) for score in scored]
    chosen = [score[i] for score, i in zip(scored, picked, strict=True)]
    chosen_right = [right[i] for right, i in zip(outcomes, picked, strict=True)]
    return {
        "problems": len(groups),
        "candidates": size,
        "choosing": choosing,
        "gap_closed": gap_closed(choosing),
        "samples": calibration_figures(scores, [right for group in outcomes for right in group]),
        "chosen": calibration_figures(chosen, chosen_right),
    }


def calibration_figures(scores: Sequence[Score], correct: Sequence[bool]) -> dict[str, Any]:
    """Brier score, calibration error, reliability bins, and risk against coverage."""
    curve = [(point.coverage, point.risk) for point in risk_coverage(scores, correct)]
    every = max(1, math.ceil(len(curve) / _CURVE_POINTS))
    return {
        "brier": brier(scores, correct),
        "ece": calibration_error(scores, correct),
        "reliability": [asdict(one) for one in reliability(scores, correct)],
        "area_under_risk_coverage": area_under_risk_coverage(scores, correct),
        "coverage_at_risk": {f"{risk:.2f}": coverage_at_risk(scores, correct, risk) for risk in RISKS},
        "risk_coverage": [curve[i] for i in sorted({*range(0, len(curve), every), len(curve) - 1}) if curve],
    }


def gap_closed(choosing: dict[str, Any]) -> float:
    """The share of the gap between pass@1 and the oracle that the verifier closes with all candidates; nan without a
    gap."""
    single, most = choosing["1"]["oracle"]["mean"], list(choosing.values())[-1]
    gap = most["oracle"]["mean"] - single
    return (most["best_of_k"]["mean"] - single) / gap if gap > 0 else math.nan


def mean_with_interval(values: Sequence[float]) -> dict[str, Any]:
    """The mean over problems and its 95 % interval by the normal approximation."""
    mean = statistics.fmean(values)
    half = _Z95 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def _powers(largest: int) -> list[int]:
    powers = [2**exponent for exponent in range(largest.bit_length()) if 2**exponent <= largest]
    return powers if powers[-1] == largest else [*powers, largest]


# The page: choosing, reliability, risk against coverage.

_COLOURS = {
    "without review": "#2f81f7",
    "likelihood": "#2da44e",
    "classifier": "#bf8700",
    "lowest": "#d4579c",
    "stepwise": "#8b7be0",
}
"""By what a verifier's name holds; the first that fits."""
_OTHER = "#7a869a"

Figures = Mapping[str, Mapping[str, Any]]


def verifier_page(figures: Figures) -> str:
    """One HTML page that needs no network, from `verifier_figures` by the verifiers' names."""
    return render(
        "verifiers.html", figures=figures, sizes=next(iter(figures.values())), charts=verifier_charts(figures)
    )


def verifier_charts(figures: Figures) -> list[Markup]:
    """Three charts as SVG: accuracy against candidates, reliability, risk against coverage of the chosen answers."""
    return [_svg(draw, figures) for draw in (draw_choosing, draw_reliability, draw_risk_coverage)]


def draw_choosing(axes: Any, figures: Figures) -> None:
    """Accuracy against the number of candidates."""
    first = next(iter(figures.values()))["choosing"]
    numbers = [int(k) for k in first]
    for name, style in (("oracle", ":"), ("majority", "--")):
        axes.plot(numbers, [one[name]["mean"] for one in first.values()], style, color=_OTHER, label=name)
    for name, one in figures.items():
        means = [point["best_of_k"]["mean"] for point in one["choosing"].values()]
        low, high = zip(*(point["best_of_k"]["ci95"] for point in one["choosing"].values()), strict=True)
        axes.plot(numbers, means, color=colour_of(name), label=f"best-of-k, {name}")
        axes.fill_between(numbers, low, high, color=colour_of(name), alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="candidates k", ylabel="accuracy", title="choosing one of k answers")
    axes.set_xticks(numbers, [str(number) for number in numbers])


def draw_reliability(axes: Any, figures: Figures) -> None:
    """Share of right answers against score, of single answers."""
    axes.plot([0, 1], [0, 1], ":", color=_OTHER)
    for name, one in figures.items():
        bins = one["samples"]["reliability"]
        scores, shares = [each["mean_score"] for each in bins], [each["accuracy"] for each in bins]
        axes.plot(scores, shares, "o-", ms=3, color=colour_of(name), label=name)
    axes.set(xlabel="score", ylabel="share of right answers", title="reliability")


def draw_risk_coverage(axes: Any, figures: Figures) -> None:
    """Share of wrong answers against share of problems answered, of the best-scored answers."""
    for name, one in figures.items():
        curve = one["chosen"]["risk_coverage"]
        axes.plot([coverage for coverage, _ in curve], [risk for _, risk in curve], color=colour_of(name), label=name)
    axes.set(xlabel="problems answered", ylabel="wrong among them", title="risk and coverage", ylim=(0, None))


def colour_of(name: str) -> str:
    """The colour of a verifier, by its name."""
    return next((colour for kind, colour in _COLOURS.items() if kind in name), _OTHER)


def _svg(draw: Any, figures: Figures) -> Markup:
    import matplotlib
    from matplotlib.figure import Figure

    colours = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": draw.__name__, "font.size": 9, **colours}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, figures)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline_svg(text.getvalue())
