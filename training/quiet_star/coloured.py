"""Text that is coloured by what thinking gained, and the thoughts that gained most."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

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
