"""Held-out texts with and without thoughts: how much better tokens are predicted, and which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selfcorrect.training.quiet_star.learners import Learner
from selfcorrect.training.quiet_star.texts import Text, padded

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
