"""report.html of a run: one page that needs no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from selfcorrect.settings import settings_as_yaml
from selfcorrect.training.reporting.curves import CHARTS, charts_svg
from selfcorrect.training.reporting.flips import flips_svg
from selfcorrect.training.reporting.rendering import render
from selfcorrect.training.reporting.rows import interval_of, result_rows
from selfcorrect.training.reporting.side_by_side import side_by_side
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
        charts=charts_svg(CHARTS, steps),
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
