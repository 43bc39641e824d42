"""The page itself."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from selfcorrect.settings import settings_as_yaml
from selfcorrect.training.reporting.curves import CHARTS, chart_svg
from selfcorrect.training.reporting.flips import flips_svg
from selfcorrect.training.reporting.rows import Result, interval_of, result_rows
from selfcorrect.training.reporting.side_by_side import episodes_html
from selfcorrect.training.settings import RunSettings

# The look of the report. No fonts, scripts or pictures from elsewhere; follows the reader's light or dark setting.

CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --card: #f6f8fa; --line: #d1d9e0;
  --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --card: #161b22;
  --line: #30363d; --good: #3fb950; --bad: #f85149; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 32px 24px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 40px 0 12px; }
p.lead, .note { color: var(--soft); margin: 0 0 8px; } .note { font-size: 13px; }
p.finding { font-size: 17px; margin: 12px 0; }
svg { display: block; width: 100%; height: auto; color: var(--ink); font-family: inherit; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 20px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 12px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 500; } td .ci { color: var(--soft); font-size: 13px; margin-left: 8px; }
.better { color: var(--good); font-weight: 600; } .worse { color: var(--bad); font-weight: 600; }
.episode { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px; margin-bottom: 14px; }
.episode header { display: flex; justify-content: space-between; gap: 12px; align-items: baseline; }
.episode header code { white-space: pre-wrap; font-weight: 600; }
.kind { font-size: 13px; white-space: nowrap; color: var(--soft); } .kind.fixed { color: var(--good); }
.kind.broken { color: var(--bad); }
.played { margin-top: 10px; } .who { font-size: 12px; color: var(--soft); }
.turns { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 10px; margin-top: 2px; }
.turn { border-left: 3px solid var(--line); padding: 2px 0 2px 10px; min-width: 0; }
.turn.correct { border-color: var(--good); } .turn.wrong, .turn.unreadable { border-color: var(--bad); }
.turn h4 { margin: 0; font-size: 12px; font-weight: 400; color: var(--soft); display: flex; justify-content: space-between; }
.turn.correct b { color: var(--good); } .turn.wrong b, .turn.unreadable b { color: var(--bad); }
pre { margin: 2px 0; max-height: 26em; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
.reason { margin: 2px 0 0; font-size: 12px; color: var(--soft); overflow-wrap: anywhere; }
details summary { cursor: pointer; color: var(--soft); }
@media (max-width: 640px) { .grid { grid-template-columns: 1fr; } .turns { grid-auto-flow: row; } body { padding: 20px 14px; } }
@media print { .card, .episode { break-inside: avoid; } }
"""


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
    title = f"selfcorrect: {escape(settings.task.title)}"
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
    lead = f"{name} on {settings.task.title}, policy {settings.policy.model}: {done}, seed {settings.seed}"
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
