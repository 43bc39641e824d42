"""Held-out texts with and without thoughts: how much better tokens are predicted, and which; and the
page that shows it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selfcorrect.settings import settings_as_yaml
from selfcorrect.training.quiet_star.learners import Learner
from selfcorrect.training.quiet_star.settings import QuietSettings
from selfcorrect.training.quiet_star.texts import Text, padded
from selfcorrect.training.reporting.charts import Chart, Curve, charts_svg
from selfcorrect.training.reporting.rows import render

_ROWS = 64


@dataclass(frozen=True, slots=True)
class JudgedToken:
    """One token of a held-out text.

    Attributes:
        text: the number of its text; `column` its place in it.
        nll: nats without a thought; `talk` with one.
        right, talk_right: whether it was the likeliest token.
        weight: of the thought before it, whose ids are `thought`.
        answer: whether it is an answer.
    """

    text: int
    column: int
    id: int
    nll: float
    talk: float
    right: bool
    talk_right: bool
    weight: float
    thought: tuple[int, ...]
    answer: bool

    @property
    def gain(self) -> float:
        """Nats that the thought saves."""
        return self.nll - self.talk


def judge(learner: Learner, texts: Sequence[Text]) -> list[JudgedToken]:
    """Every token but the first of `texts`, with greedy thoughts."""
    device = next(learner.module.parameters()).device
    mode = learner.module.training
    learner.module.eval()
    judged: list[JudgedToken] = []
    for begin in range(0, len(texts), _ROWS):
        rows = list(texts[begin : begin + _ROWS])
        ids_BT, mask_BT = padded(rows, device)
        found = learner.predict(ids_BT, mask_BT)
        columns = zip(
            *(
                values.tolist()
                for values in (
                    found.nll_BU, found.talk_BU, found.right_BU, found.talk_right_BU, found.weight_BU,
                    found.thoughts_BUM,
                )
            ),
            strict=True,
        )  # fmt: skip
        for number, (row, values) in enumerate(zip(rows, columns, strict=True)):
            judged += _tokens(begin + number, row, values)
    learner.module.train(mode)
    return judged


def _tokens(number: int, row: Text, values: tuple[Any, ...]) -> list[JudgedToken]:
    tokens = []
    for column in range(1, len(row.ids)):
        nll, talk, right, talk_right, weight, thought = (value[column - 1] for value in values)
        answer = column in row.answers
        tokens.append(
            JudgedToken(number, column, row.ids[column], nll, talk, right, talk_right, weight, tuple(thought), answer)
        )
    return tokens


def summarise(tokens: Sequence[JudgedToken]) -> dict[str, Any]:
    """Means over tokens, in nats: all, answers, and quarters of the tokens by how hard they are without a thought."""
    summary: dict[str, Any] = {f"all_{name}": value for name, value in _means(tokens).items()}
    answers = [token for token in tokens if token.answer]
    if answers:
        others = [token for token in tokens if not token.answer]
        summary |= {f"answer_{name}": value for name, value in _means(answers).items()}
        summary |= {f"other_{name}": value for name, value in _means(others).items()}
    ordered = sorted(tokens, key=lambda token: token.nll)
    bounds = [len(ordered) * part // 4 for part in range(5)]
    quarters = [ordered[bounds[part] : bounds[part + 1]] for part in range(4)]
    summary["gain_by_difficulty"] = [_means(quarter)["gain"] for quarter in quarters if quarter]
    return summary


def _means(tokens: Sequence[JudgedToken]) -> dict[str, float]:
    count = len(tokens)
    if not count:
        return {"n": 0}
    columns = torch.tensor(
        [(token.nll, token.talk, token.gain, token.right, token.talk_right, token.weight) for token in tokens],
        dtype=torch.float64,
    )
    names = ("nll", "nll_talk", "gain", "accuracy", "accuracy_talk", "weight")
    means = dict(zip(names, columns.mean(0).tolist(), strict=True))
    return {"n": count, **means, "gain_standard_error": _standard_error(tokens, means["gain"])}


def _standard_error(tokens: Sequence[JudgedToken], mean: float) -> float:
    """Of the mean gain, from the differences between texts: tokens of one text are not independent. 0 for a single
    text."""
    rest: dict[int, float] = {}
    for token in tokens:
        rest[token.text] = rest.get(token.text, 0.0) + token.gain - mean
    texts = len(rest)
    if texts < 2:
        return 0.0
    squares = sum(value**2 for value in rest.values())
    return float((squares * texts / (texts - 1)) ** 0.5 / len(tokens))


# report.html of a Quiet-STaR run: one page that needs no network.

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
