"""report.html of a run, by the command line or of a graph of one's own: one page that needs no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from selfcorrect.settings import settings_as_yaml
from selfcorrect.training.reporting.charts import Chart, Curve, charts_of, charts_svg, flips_svg
from selfcorrect.training.reporting.rows import Result, interval_of, render, result_rows, side_by_side
from selfcorrect.training.settings import RunSettings

Final = Mapping[str, Mapping[str, Any]]


def report_page(
    *,
    settings: RunSettings,
    steps: Sequence[Mapping[str, Any]],
    final: Final | None,
    episodes: Sequence[Mapping[str, Any]],
    arm: str | None = None,
) -> str:
    """One HTML page that needs no network, from the files of a run; parts of an unfinished run are left out."""
    return render(
        "run.html",
        task=settings.task.title,
        lead=_lead(settings, len(steps), arm or "score"),
        finding=_finding(final),
        rows=[] if final is None else result_rows(final["before"], final["after"]),
        problems=0 if final is None else final["after"]["n"],
        flips=[] if final is None else [flips_svg(final[when], when) for when in ("before", "after")],
        charts=charts_svg(charts_of(steps), steps),
        alarms=alarms_of(steps),
        episodes=side_by_side(episodes),
        yaml=settings_as_yaml(settings),
    )


def _lead(settings: RunSettings, steps: int, arm: str) -> str:
    score = settings.score
    done = f"{steps} steps"
    if arm.startswith("score"):
        done = (
            f"{steps} of {score.total_steps} steps "
            f"({score.stage_one_steps} of Stage I, {score.stage_two_steps} of Stage II)"
        )
    name = "SCoRe" if arm == "score" else f"the arm {arm}"
    return f"{name} on {settings.task.title}, policy {settings.policy.model}: {done}, seed {settings.seed}"


def _finding(final: Final | None) -> str:
    """The outcome in one sentence, with no more said than the interval allows."""
    if final is None:
        return "The run is not finished: there is no final evaluation yet."
    after, before = final["after"], final["before"]
    interval = interval_of(after, "delta")
    if after["delta"] is None or before["delta"] is None:
        return "No episode has both answers judged: whether revising helps cannot be said."
    words = f"Revising changed accuracy by {after['delta']:+.3f} (before training: {before['delta']:+.3f})"
    if interval is None:
        return f"{words}."
    low, high = interval
    verdict = "it helps" if low > 0 else "it harms" if high < 0 else "that cannot be told from no change"
    return f"{words}; 95% interval [{low:+.3f}, {high:+.3f}]: {verdict}."


def alarms_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Which alarms stood, and at which steps."""
    stood: dict[str, list[int]] = {}
    for step in steps:
        for name in step:
            if name.startswith("alarm/"):
                stood.setdefault(name.removeprefix("alarm/"), []).append(int(step["step"]))
    return stood


# A graph of one's own: the rewards of its nodes, before, after and on the way.

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
    if any(step.get("episodes_failed") for step in steps):
        charts.append(Chart("share of episodes that failed", (Curve("episodes_failed", "failed", _COLOURS[2]),)))
    return render(
        "run.html",
        task="a graph of one's own",
        lead=f"A graph of one's own: {len(steps)} steps",
        finding=_change_of_rewards(before, after, rewards),
        rows=[_row(name, before, after) for name in rewards if name in after],
        problems=int(after.get("n", 0)),
        flips=[],
        charts=charts_svg(charts, steps),
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


def _change_of_rewards(before: Mapping[str, Any], after: Mapping[str, Any], rewards: Sequence[str]) -> str:
    known = [name for name in rewards if before.get(name) is not None and after.get(name) is not None]
    if not known:
        return "Nothing was held out: there is no evaluation before and after."
    told = [f"{_label(name)}: {before[name]:.3f} → {after[name]:.3f}" for name in known]
    return f"Mean {'; '.join(told)}."
