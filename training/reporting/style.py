"""The look of the report. No fonts, scripts or pictures from elsewhere; follows the reader's light or dark setting."""

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
