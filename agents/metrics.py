"""What correction changes, in numbers: pure functions of the scores and texts of finished episodes.

Scores are 1.0 (correct), 0.0 (not) and None (unjudged: left out wherever it would be needed). An episode that ended early keeps
its last answer in later turns. All shares are in [0, 1]; a share of nothing is nan.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

Score = float | None
Interval = tuple[float, float]

_Z95 = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The figures of one evaluation.

    Attributes:
        setting: the name of the graph; with "feedback" in it, the policy was told the checker's findings.
        n: episodes.
        accuracy: share of correct answers at each turn, unjudged ones left out.
        accuracy_ci95: Wilson interval of each.
        accuracy_t1: of the first answers.
        accuracy_t2: of the second ones (of the first, where there is only one).
        delta: accuracy of the last answers minus that of the first, over episodes of which both are judged.
        delta_ci95: paired 95 % interval of delta.
        mcnemar_p: exact two-sided McNemar test of as many fixed as broken answers.
        i_to_c: share of episodes whose first answer was incorrect and whose last is correct.
        c_to_i: share whose first answer was correct and whose last is not.
        unchanged: share of episodes with a second answer whose last answer, as the checker read it, is the first one.
        edit_distance: mean word edit distance between first and last answer, divided by the longer one's length.
        tokens_per_turn: mean sampled tokens of each turn, critiques included.
        truncated: share of turns cut off by the token limit.
        unjudged: share of answers that the checker could not judge.
    """

    setting: str
    n: int
    accuracy: list[float]
    accuracy_ci95: list[Interval]
    accuracy_t1: float
    accuracy_t2: float
    delta: float
    delta_ci95: Interval
    mcnemar_p: float
    i_to_c: float
    c_to_i: float
    unchanged: float
    edit_distance: float
    tokens_per_turn: list[float]
    truncated: float
    unjudged: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data: intervals are lists, nan is None."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def accuracy_at(scores: Sequence[Sequence[Score]], turn: int) -> tuple[float, Interval]:
    """Share of correct answers at `turn` (from 0) and its Wilson interval."""
    judged = [score for score in (_at(episode, turn) for episode in scores) if score is not None]
    right = sum(score >= 0.5 for score in judged)
    return share(right, len(judged)), wilson(right, len(judged))


def flips(scores: Sequence[Sequence[Score]]) -> tuple[int, int, int]:
    """(incorrect to correct, correct to incorrect, episodes of which first and last answer are judged)."""
    pairs = [(episode[0], episode[-1]) for episode in scores if episode]
    judged = [(first >= 0.5, last >= 0.5) for first, last in pairs if first is not None and last is not None]
    return judged.count((False, True)), judged.count((True, False)), len(judged)


def wilson(right: int, n: int) -> Interval:
    """Wilson's 95 % score interval of a share `right` / `n` (Journal of the American Statistical Association 22, 1927)."""
    if n == 0:
        return math.nan, math.nan
    p, z2 = right / n, _Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_interval(fixed: int, broken: int, n: int) -> Interval:
    """95 % interval of the paired difference (`fixed` - `broken`) / `n`.

    Wald's interval after half an observation is added to each of the four cells (Agresti and Min, Statistics in Medicine 24,
    2005): unlike the plain one it has a width when nothing flipped.
    """
    if n == 0:
        return math.nan, math.nan
    total = n + 2
    centre = (fixed - broken) / total
    half = _Z95 * math.sqrt(fixed + broken + 1 - (fixed - broken) ** 2 / total) / total
    return max(-1.0, centre - half), min(1.0, centre + half)


def mcnemar(fixed: int, broken: int) -> float:
    """Exact two-sided p that flips go both ways equally often: twice the binomial tail, at most 1."""
    flipped, fewer = fixed + broken, min(fixed, broken)
    tail = sum(math.comb(flipped, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / (1 << flipped))


def edit_distance(first: str, last: str) -> float:
    """Word edit distance (insert, delete, replace cost 1) divided by the longer text's length; 0.0 is equal, 1.0 all new.

    By bit-parallel dynamic programming (Myers, Journal of the ACM 46, 1999; this form by Hyyrö, 2003).
    """
    a, b = first.split(), last.split()
    if not a or not b:
        return float(len(a) != len(b))
    where: dict[str, int] = {}
    for place, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << place
    full, top = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, distance = full, 0, len(a)
    for word in b:
        match = where.get(word, 0)
        diagonal = ((((match & plus) + plus) ^ plus) | match | minus) & full
        up, down = minus | (full & ~(diagonal | plus)), plus & diagonal
        distance += bool(up & top) - bool(down & top)
        up = (up << 1 | 1) & full
        plus, minus = (down << 1 & full) | (full & ~(diagonal | up)), up & diagonal
    return distance / max(len(a), len(b))


def share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def mean_by_turn(numbers: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column of rows of different lengths, over the rows that have it."""
    columns = zip_longest(*numbers)
    present = [[number for number in column if number is not None] for column in columns]
    return [sum(column) / len(column) for column in present]


def _at(episode: Sequence[Score], turn: int) -> Score:
    return episode[min(turn, len(episode) - 1)] if episode else None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
