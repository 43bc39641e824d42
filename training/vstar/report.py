"""The page of a run's verifiers: choosing, reliability, risk against coverage."""

import io
from collections.abc import Mapping
from html import escape
from typing import Any

from selfcorrect.training.reporting.curves import INK, inline_svg
from selfcorrect.training.reporting.page import CSS

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
    table = "".join(_row(name, one) for name, one in figures.items())
    sizes = next(iter(figures.values()))
    lead = f"{sizes['problems']:,} held-out problems, {sizes['candidates']} sampled answers to each"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>selfcorrect: verifiers</title>'
        f'<style>{CSS}</style></head>\n<body><h1>What the verifiers are worth</h1><p class="lead">{escape(lead)}</p>'
        "<table><thead><tr><th></th><th>pass@1</th><th>majority</th><th>best-of-k</th><th>oracle</th><th>gap closed</th>"
        "<th>Brier</th><th>ECE</th><th>answered at 5 % risk</th><th>at 10 %</th></tr></thead>"
        f'<tbody>{table}</tbody></table><p class="note">k is all candidates. Brier and ECE: of single answers. Answered: the largest '
        "share of problems on which the chosen answers' risk stays within the limit.</p>"
        f'<div class="grid">{"".join(f"<div class=card>{svg}</div>" for svg in verifier_charts(figures))}</div></body></html>\n'
    )


def verifier_charts(figures: Figures) -> list[str]:
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
        axes.plot(
            [each["mean_score"] for each in bins], [each["accuracy"] for each in bins], "o-", ms=3, color=colour_of(name), label=name
        )  # fmt: skip
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


def _svg(draw: Any, figures: Figures) -> str:
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


def _row(name: str, one: Mapping[str, Any]) -> str:
    last = list(one["choosing"].values())[-1]
    cells = [
        *(f"{value:.3f}" for value in (one["choosing"]["1"]["oracle"]["mean"], last["majority"]["mean"])),
        f"<b>{last['best_of_k']['mean']:.3f}</b>",
        f"{last['oracle']['mean']:.3f}",
        f"{one['gap_closed']:.0%}",
        f"{one['samples']['brier']:.3f}",
        f"{one['samples']['ece']:.3f}",
        *(f"{coverage:.0%}" for coverage in one["chosen"]["coverage_at_risk"].values()),
    ]
    return f"<tr><td>{escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
