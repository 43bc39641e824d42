"""report.html of a run of a graph of one's own: the rewards of its nodes, before, after and on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

from selfcorrect.training.reporting.curves import Chart, Curve, charts_svg
from selfcorrect.training.reporting.page import alarms_of
from selfcorrect.training.reporting.rendering import render
from selfcorrect.training.reporting.rows import Result
from selfcorrect.training.reporting.side_by_side import side_by_side

_COLOURS = ("#2f81f7", "#2da44e", "#e5534b", "#8a8f98")


def own_graph_page(
    *,
    config: str,
    steps: Sequence[Mapping[str, Any]],
    final: Mapping[str, Mapping[str, Any]],
    episodes: Sequence[Mapping[str, Any]],
) -> str:
    """One HTML page that needs no network. `config` is the run's YAML, the rest what is in its files."""
    before, after = final.get("before", {}), final.get("after", {})
    rewards = sorted({name for step in steps for name in step if name.startswith("reward/")})
    charts = [Chart(_label(name), (Curve(name, _label(name), _COLOURS[0]),)) for name in rewards]
    others = Chart("share of episodes that failed", (Curve("episodes_failed", "failed", _COLOURS[2]),))
    return render(
        "run.html",
        task="a graph of one's own",
        lead=f"A graph of one's own: {len(steps)} steps",
        finding=_finding(before, after, rewards),
        rows=[_row(name, before, after) for name in rewards if name in after],
        problems=int(after.get("n", 0)),
        flips=[],
        charts=charts_svg([*charts, others], steps),
        alarms=alarms_of(steps),
        episodes=side_by_side(episodes),
        yaml=config,
    )


def _label(name: str) -> str:
    node, _, turn = name.removeprefix("reward/").rpartition("_")
    return f"reward of {node}, call {turn}"


def _row(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Result:
    values = tuple("–" if report.get(name) is None else f"{report[name]:.3f}" for report in (before, after))
    return Result(name, _label(name), values, ("", ""), "same")


def _finding(before: Mapping[str, Any], after: Mapping[str, Any], rewards: Sequence[str]) -> str:
    known = [name for name in rewards if before.get(name) is not None and after.get(name) is not None]
    if not known:
        return "Nothing was held out: there is no evaluation before and after."
    told = [f"{_label(name)}: {before[name]:.3f} → {after[name]:.3f}" for name in known]
    return f"Mean {'; '.join(told)}."
