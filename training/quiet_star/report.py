"""report.html of a Quiet-STaR run: one page that needs no network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from selfcorrect.settings import settings_as_yaml
from selfcorrect.training.quiet_star.settings import QuietSettings
from selfcorrect.training.reporting.curves import Chart, Curve, chart_svg
from selfcorrect.training.reporting.page import CSS

# Text that is coloured by what thinking gained, and the thoughts that gained most.

Row = Mapping[str, Any]

_TEXTS = 12
_THOUGHTS = 20
_STRONGEST = 1.0
"""Nats at which a colour is full."""


def coloured_texts(texts: Sequence[Row]) -> str:
    """The first texts; green tokens were easier to predict with a thought, red ones harder."""
    rows = "".join(f'<p class="coloured">{"".join(map(_token, text["tokens"]))}</p>' for text in texts[:_TEXTS])
    note = (
        f"Green: predicted better after a thought, full colour at {_STRONGEST:g} nat or more; red: worse. Outlined: answers. Point at a token for "
        "its figures and the thought before it."
    )
    return f'<h2>Which tokens gain</h2><p class="note">{note}</p>{rows}'


def _token(token: Row) -> str:
    text = escape(token["token"]) or "&nbsp;"
    if token.get("nll") is None:
        return f"<span>{text}</span> "
    gain = token["nll"] - token["talk"]
    strength = min(1.0, abs(gain) / _STRONGEST)
    colour = "46,164,78" if gain > 0 else "229,83,75"
    title = f"gain {gain:+.3f} nats (NLL {token['nll']:.3f} -> {token['talk']:.3f}), weight {token['weight']:.3f}"
    title += f"; thought: {token['thought']}" if token["thought"] else ""
    kind = ' class="answer"' if token["answer"] else ""
    return f'<span{kind} style="background:rgba({colour},{0.75 * strength:.2f})" title="{escape(title)}">{text}</span> '


def thoughts_table(texts: Sequence[Row]) -> str:
    """The thoughts that gained most, with what came before and after them; "" if nobody thought."""
    found = [
        (token["nll"] - token["talk"], number, text["tokens"])
        for text in texts
        for number, token in enumerate(text["tokens"])
        if token.get("thought")
    ]
    if not found:
        return ""
    best = sorted(found, key=lambda item: -item[0])[:_THOUGHTS]
    rows = "".join(_thought(gain, number, tokens) for gain, number, tokens in best)
    return (
        "<h2>What the best thoughts say</h2><table><thead><tr><th>text before</th><th>thought</th><th>token</th>"
        f"<th>gain</th><th>weight</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _thought(gain: float, number: int, tokens: Sequence[Row]) -> str:
    before = " ".join(token["token"] for token in tokens[max(0, number - 16) : number])
    token = tokens[number]
    return (
        f"<tr><td><code>{escape(before)}</code></td><td><code>{escape(token['thought'])}</code></td>"
        f"<td><code>{escape(token['token'])}</code></td><td>{gain:+.3f}</td><td>{token['weight']:.3f}</td></tr>"
    )


_GREY, _BLUE, _GREEN = "#8a8f98", "#2f81f7", "#2da44e"
CHARTS = (
    Chart(
        "NLL of the next token, nats",
        (Curve("nll_base", "without thoughts", _GREY), Curve("nll", "with thoughts", _BLUE)),
    ),
    Chart("gain of thinking, nats per token", (Curve("gain", "gain", _GREEN),)),
    Chart(
        "weight of thoughts in the mixture",
        (Curve("weight", "mean", _GREY), Curve("weight_top", "mean of the largest tenth", _BLUE)),
    ),
    Chart("advantage of thoughts, mean size, nats", (Curve("advantage", "advantage", _GREEN),)),
)
MORE_CSS = """
.coloured { line-height: 2; font: 14px/2 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
.coloured span { padding: 1px 3px; border-radius: 3px; } .coloured span.answer { outline: 1px solid var(--soft); }
.coloured details { display: inline; } code { font-family: ui-monospace, Menlo, "DejaVu Sans Mono", monospace; }
"""


def report_page(
    settings: QuietSettings, steps: Sequence[Row], final: Mapping[str, Row] | None, texts: Sequence[Row]
) -> str:
    """The page, from the files of a run; parts of an unfinished run are left out."""
    sections = [_head(settings, steps, final)]
    if final is not None:
        sections += [_table(final), _difficulty(final["after"])]
    if texts:
        sections += [coloured_texts(texts), thoughts_table(texts), _usual_thoughts(texts)]
    if steps:
        sections.append(_curves(steps))
    sections.append(_settings(settings))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>selfcorrect: Quiet-STaR</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}{MORE_CSS}</style></head>\n<body>\n'
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _head(settings: QuietSettings, steps: Sequence[Row], final: Mapping[str, Row] | None) -> str:
    thought = settings.thought
    how = {
        "thought": f"thoughts of {thought.tokens} tokens, {thought.per_position} at each position",
        "pause": f"{thought.tokens + 2} pause tokens at each position",
        "none": "no thoughts",
    }[thought.kind]
    lead = f"{settings.text}, model {settings.model_name}: {how}, {len(steps)} of {settings.steps} steps, seed {settings.seed}"
    return (
        f'<h1>Thinking before speaking</h1><p class="lead">{escape(lead)}</p><p class="finding">{_finding(final)}</p>'
    )


def _finding(final: Mapping[str, Row] | None) -> str:
    """The outcome in one sentence, with no more said than the interval allows."""
    if final is None:
        return "The run is not finished: there is no final evaluation yet."
    after = final["after"]
    gain, error = after["all_gain"], after["all_gain_standard_error"]
    low, high = gain - 1.96 * error, gain + 1.96 * error
    verdict = "it helps" if low > 0 else "it harms" if high < 0 else "that cannot be told from no change"
    words = f"Thinking changes the NLL of held-out tokens by {-gain:+.4f} nats; 95% interval of the gain [{low:+.4f}, {high:+.4f}]: {verdict}."
    if "answer_accuracy" in after:
        words += f" Answers: {after['answer_accuracy']:.3f} right without, {after['answer_accuracy_talk']:.3f} with thoughts."
    return escape(words)


def _table(final: Mapping[str, Row]) -> str:
    parts = [(part, label) for part, label in _PARTS if f"{part}_nll" in final["after"]]
    rows = []
    for part, label in parts:
        for name, what, form in _FIGURES:
            cells = "".join(f"<td>{_number(final[when], f'{part}_{name}', form)}</td>" for when in ("before", "after"))
            rows.append(f"<tr><td>{label}: {what}</td>{cells}</tr>")
    count = final["after"]["all_n"]
    return (
        "<h2>Before and after</h2><table><thead><tr><th></th><th>before</th><th>after</th></tr></thead>"
        f'<tbody>{"".join(rows)}</tbody></table><p class="note">{count:,} held-out tokens, thoughts greedy; nats per token.</p>'
    )


_PARTS = (("all", "all tokens"), ("answer", "answers"), ("other", "other tokens"))
_FIGURES = (
    ("nll", "NLL without thoughts", ".4f"),
    ("nll_talk", "NLL with thoughts", ".4f"),
    ("gain", "gain", "+.4f"),
    ("accuracy", "likeliest is right, without", ".3f"),
    ("accuracy_talk", "likeliest is right, with", ".3f"),
    ("weight", "weight of thoughts", ".3f"),
)


def _number(figures: Row, name: str, form: str) -> str:
    value = figures.get(name)
    return "–" if value is None else format(value, form)


def _difficulty(after: Row) -> str:
    gains = after["gain_by_difficulty"]
    cells = "".join(f"<td>{gain:+.4f}</td>" for gain in gains)
    heads = "".join(
        f"<th>{name}</th>" for name in ("easiest quarter", "second", "third", "hardest quarter")[: len(gains)]
    )
    return (
        "<h2>Where the gain sits</h2><table><thead><tr><th>tokens by NLL without thoughts</th>"
        f"{heads}</tr></thead><tbody><tr><td>gain, nats per token</td>{cells}</tr></tbody></table>"
    )


def _usual_thoughts(texts: Sequence[Row]) -> str:
    """What is thought most often, before answers where the text has any."""
    tokens = [token for text in texts for token in text["tokens"] if token.get("thought")]
    answers = [token for token in tokens if token["answer"]]
    counted = Counter(token["thought"] for token in answers or tokens).most_common(12)
    if not counted:
        return ""
    where = "before answers" if answers else "anywhere"
    rows = "".join(f"<tr><td><code>{escape(thought)}</code></td><td>{count}</td></tr>" for thought, count in counted)
    return f"<h2>The most frequent thoughts {where}</h2><table><tbody>{rows}</tbody></table>"


def _curves(steps: Sequence[Row]) -> str:
    drawn = [svg for chart in CHARTS if (svg := chart_svg(chart, steps))]
    cards = "".join(f'<div class="card">{svg}</div>' for svg in drawn)
    note = "Thin: each step, on its own sampled thoughts. Thick: running mean of nine steps."
    return f'<h2>While training</h2><div class="grid">{cards}</div><p class="note">{note}</p>'


def _settings(settings: QuietSettings) -> str:
    return f"<h2>Settings</h2><details><summary>config.yaml</summary><pre>{escape(settings_as_yaml(settings))}</pre></details>"
