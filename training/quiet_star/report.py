"""report.html of a Quiet-STaR run: one page that needs no network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from selfcorrect.settings import settings_as_yaml
from selfcorrect.training.quiet_star.settings import QuietSettings
from selfcorrect.training.reporting.charts import Chart, Curve, charts_svg
from selfcorrect.training.reporting.rows import render

Row = Mapping[str, Any]

_TEXTS = 12
_THOUGHTS = 20
_STRONGEST = 1.0
"""Nats at which a colour is full."""


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
_PARTS = (("all", "all tokens"), ("answer", "answers"), ("other", "other tokens"))
_FIGURES = (
    ("nll", "NLL without thoughts", ".4f"),
    ("nll_talk", "NLL with thoughts", ".4f"),
    ("gain", "gain", "+.4f"),
    ("accuracy", "likeliest is right, without", ".3f"),
    ("accuracy_talk", "likeliest is right, with", ".3f"),
    ("weight", "weight of thoughts", ".3f"),
)


_QUARTERS = ("easiest quarter", "second", "third", "hardest quarter")


def report_page(
    settings: QuietSettings, steps: Sequence[Row], final: Mapping[str, Row] | None, texts: Sequence[Row]
) -> str:
    """The page, from the files of a run; parts of an unfinished run are left out."""
    answers, usual = _usual_thoughts(texts)
    return render(
        "quiet_star.html",
        lead=_lead(settings, len(steps)),
        finding=_finding(final),
        rows=[] if final is None else _rows(final),
        tokens=0 if final is None else final["after"]["all_n"],
        difficulty={} if final is None else dict(zip(_QUARTERS, final["after"]["gain_by_difficulty"], strict=False)),
        texts=coloured_texts(texts),
        strongest=_STRONGEST,
        thoughts=best_thoughts(texts),
        usual=usual,
        answers=answers,
        charts=charts_svg(CHARTS, steps),
        yaml=settings_as_yaml(settings),
    )


def _lead(settings: QuietSettings, steps: int) -> str:
    thought = settings.thought
    how = {
        "thought": f"thoughts of {thought.tokens} tokens, {thought.per_position} at each position",
        "pause": f"{thought.tokens + 2} pause tokens at each position",
        "none": "no thoughts",
    }[thought.kind]
    done = f"{steps} of {settings.steps} steps, seed {settings.seed}"
    return f"{settings.text}, model {settings.model_name}: {how}, {done}"


def _finding(final: Mapping[str, Row] | None) -> str:
    """The outcome in one sentence, with no more said than the interval allows."""
    if final is None:
        return "The run is not finished: there is no final evaluation yet."
    after = final["after"]
    gain, error = after["all_gain"], after["all_gain_standard_error"]
    low, high = gain - 1.96 * error, gain + 1.96 * error
    verdict = "it helps" if low > 0 else "it harms" if high < 0 else "that cannot be told from no change"
    words = f"Thinking changes the NLL of held-out tokens by {-gain:+.4f} nats; "
    words += f"95% interval of the gain [{low:+.4f}, {high:+.4f}]: {verdict}."
    if "answer_accuracy" in after:
        without, with_thoughts = after["answer_accuracy"], after["answer_accuracy_talk"]
        words += f" Answers: {without:.3f} right without, {with_thoughts:.3f} with thoughts."
    return words


def _rows(final: Mapping[str, Row]) -> list[tuple[str, str, str]]:
    """Label, before and after of every figure."""
    before, after = final["before"], final["after"]
    return [
        (f"{label}: {what}", _number(before, f"{part}_{name}", form), _number(after, f"{part}_{name}", form))
        for part, label in _PARTS
        if f"{part}_nll" in after
        for name, what, form in _FIGURES
    ]


def _number(figures: Row, name: str, form: str) -> str:
    value = figures.get(name)
    return "–" if value is None else format(value, form)


# Text that is coloured by what thinking gained, and the thoughts that gained most: for `templates/thoughts.html`.


def coloured_texts(texts: Sequence[Row]) -> list[list[Row]]:
    """The tokens of the first texts; green ones were easier to predict with a thought, red ones harder."""
    return [[_token(token) for token in text["tokens"]] for text in texts[:_TEXTS]]


def _token(token: Row) -> Row:
    if token.get("nll") is None:
        return {"text": token["token"], "title": ""}
    gain = token["nll"] - token["talk"]
    title = f"gain {gain:+.3f} nats (NLL {token['nll']:.3f} -> {token['talk']:.3f}), weight {token['weight']:.3f}"
    return {
        "text": token["token"],
        "title": title + (f"; thought: {token['thought']}" if token["thought"] else ""),
        "answer": token["answer"],
        "colour": "46,164,78" if gain > 0 else "229,83,75",
        "strength": 0.75 * min(1.0, abs(gain) / _STRONGEST),
    }


def best_thoughts(texts: Sequence[Row]) -> list[Row]:
    """The thoughts that gained most, with what came before and after them; none if nobody thought."""
    found = [
        (token["nll"] - token["talk"], number, text["tokens"])
        for text in texts
        for number, token in enumerate(text["tokens"])
        if token.get("thought")
    ]
    return [
        {
            "before": " ".join(token["token"] for token in tokens[max(0, number - 16) : number]),
            "thought": tokens[number]["thought"],
            "token": tokens[number]["token"],
            "gain": gain,
            "weight": tokens[number]["weight"],
        }
        for gain, number, tokens in sorted(found, key=lambda item: -item[0])[:_THOUGHTS]
    ]


def _usual_thoughts(texts: Sequence[Row]) -> tuple[bool, list[tuple[str, int]]]:
    """What is thought most often and how often, before answers where the text has any (which is told first)."""
    tokens = [token for text in texts for token in text["tokens"] if token.get("thought")]
    answers = [token for token in tokens if token["answer"]]
    return bool(answers), Counter(token["thought"] for token in answers or tokens).most_common(12)
