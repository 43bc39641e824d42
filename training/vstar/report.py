"""The page of a run's verifiers: choosing, reliability, risk against coverage."""

import io
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from selfcorrect.training.reporting.charts import INK, inline_svg
from selfcorrect.training.reporting.rows import render

_COLOURS = {
    "without review": "#1f5c9c",
    "likelihood": "#1f7a5c",
    "classifier": "#b8642b",
    "lowest": "#b89ae0",
    "stepwise": "#6b5cb8",
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
