"""The page itself."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from selfcorrect.training.reporting.curves import CHARTS, chart_svg
from selfcorrect.training.reporting.flips import flips_svg
from selfcorrect.training.reporting.rows import Result, interval_of, result_rows
from selfcorrect.training.reporting.side_by_side import episodes_html
from selfcorrect.training.reporting.style import CSS
from selfcorrect.training.settings import RunSettings
from selfcorrect.training.settings_file import settings_as_yaml

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
    sections = [_head(settings, steps, final, arm)]
    if final is not None:
        sections += [_table(final), _flips(final)]
    if steps:
        sections += [_curves(steps), _alarms(steps)]
    if episodes:
        sections.append(_episodes(episodes))
    sections.append(_settings(settings))
    title = f"selfcorrect: {escape(_task_name(settings))}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>\n<body>\n'
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _head(settings: RunSettings, steps: Sequence[Mapping[str, Any]], final: Final | None, arm: str | None) -> str:
    score, arm = settings.score, arm or "score"
    done = f"{len(steps)} steps"
    if arm.startswith("score"):
        done = (
            f"{len(steps)} of {score.total_steps} steps "
            f"({score.stage_one_steps} of Stage I, {score.stage_two_steps} of Stage II)"
        )
    name = "SCoRe" if arm == "score" else f"the arm {arm}"
    lead = f"{name} on {_task_name(settings)}, policy {settings.policy.model}: {done}, seed {settings.seed}"
    return f'<h1>Learning to self-correct</h1><p class="lead">{escape(lead)}</p>{_finding(final)}'


def _finding(final: Final | None) -> str:
    """The outcome in one sentence, with no more said than the interval allows."""
    if final is None:
        return '<p class="finding">The run is not finished: there is no final evaluation yet.</p>'
    after, before = final["after"], final["before"]
    interval = interval_of(after, "delta")
    if after["delta"] is None or before["delta"] is None:
        return '<p class="finding">No episode has both answers judged: whether revising helps cannot be said.</p>'
    words = f"Revising changed accuracy by {after['delta']:+.3f} (before training: {before['delta']:+.3f})"
    if interval is None:
        return f'<p class="finding">{words}.</p>'
    low, high = interval
    verdict = "it helps" if low > 0 else "it harms" if high < 0 else "that cannot be told from no change"
    return f'<p class="finding">{words}; 95% interval [{low:+.3f}, {high:+.3f}]: {verdict}.</p>'


def _table(final: Final) -> str:
    rows = "".join(_table_row(row) for row in result_rows(final["before"], final["after"]))
    note = f"Greedy, {final['after']['n']:,} held-out problems. Brackets: 95% intervals; coloured where they do not overlap."
    return (
        "<h2>Before and after</h2><table><thead><tr><th></th><th>before</th><th>after</th></tr></thead>"
        f'<tbody>{rows}</tbody></table><p class="note">{note}</p>'
    )


def _table_row(row: Result) -> str:
    cells = [f"<td>{escape(row.label)}</td>"]
    for column, (value, interval) in enumerate(zip(row.values, row.intervals, strict=True)):
        colour = f' class="{row.change}"' if column else ""
        cells.append(f'<td><span{colour}>{escape(value)}</span><span class="ci">{escape(interval)}</span></td>')
    return f"<tr>{''.join(cells)}</tr>"


def _flips(final: Final) -> str:
    cards = "".join(f'<div class="card">{flips_svg(final[when], when)}</div>' for when in ("before", "after"))
    return f'<h2>What revising did to the first answers</h2><div class="grid">{cards}</div>'


def _curves(steps: Sequence[Mapping[str, Any]]) -> str:
    drawn = [svg for chart in CHARTS if (svg := chart_svg(chart, steps))]
    cards = "".join(f'<div class="card">{svg}</div>' for svg in drawn)
    note = "Thin: each step, on its own sampled episodes. Thick: running mean of nine steps. Dots: held-out problems, greedy."
    return f'<h2>While training</h2><div class="grid">{cards}</div><p class="note">{note}</p>'


def _alarms(steps: Sequence[Mapping[str, Any]]) -> str:
    """Which alarms stood, and at which steps; nothing if none did."""
    stood: dict[str, list[int]] = {}
    for step in steps:
        for name in step:
            if name.startswith("alarm/"):
                stood.setdefault(name.removeprefix("alarm/"), []).append(int(step["step"]))
    lines = "".join(
        f'<li class="worse">{escape(name)}: {len(at)} steps, first {at[0]}, last {at[-1]}</li>'
        for name, at in stood.items()
    )
    return f"<h2>Alarms</h2><ul>{lines}</ul>" if lines else ""


def _episodes(episodes: Sequence[Mapping[str, Any]]) -> str:
    note = "Picked to show each kind of outcome, the first of each; for how often each happens see the table."
    return f'<h2>Ten episodes</h2><p class="note">{note}</p>{episodes_html(episodes)}'


def _settings(settings: RunSettings) -> str:
    text = escape(settings_as_yaml(settings))
    return f"<h2>Settings</h2><details><summary>config.yaml</summary><pre>{text}</pre></details>"


def _task_name(settings: RunSettings) -> str:
    task = settings.task
    if task.kind == "countdown":
        return f"countdown with {task.numbers} numbers"
    return f"equations with {task.unknowns} unknowns" if task.kind == "equations" else task.path.name
