"""How far a verifier's scores can be trusted, and from which score on an answer is risked at all. Pure functions.

Throughout, `scores[i]` is the probability that answer i is right, as a verifier gave it, None where it abstained;
`correct[i]` says whether it is. Abstentions are left out of calibration figures; in risk-coverage they are answers that
are never given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.shaping import Score

_GRID = tuple(1 / (1 + math.exp(-step / 4)) for step in range(-16, 37))
"""The thresholds that are tried, from 0.02 to 0.9999, evenly spaced in log-odds: fixed before any answer is seen."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers with like scores: how many, their mean score, and the share of right ones."""

    count: int
    mean_score: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """Answering only where the score is `threshold` or more: the share of problems answered, and of wrong answers
    among them."""

    threshold: float
    coverage: float
    risk: float


@dataclass(frozen=True, slots=True)
class RiskThreshold:
    """A score from which on answers are given, and what is known about it.

    Attributes:
        threshold: answer if the score is this or more.
        max_risk: the share of wrong answers, among those given, that was asked for.
        confidence: probability, over the draw of the calibration answers, that the true share is no larger.
        bound: the upper bound on the true share that made the choice; at most `max_risk`.
        observed: the share among the calibration answers.
        coverage: the share of calibration problems that are answered.
        n: calibration answers.
    """

    threshold: float
    max_risk: float
    confidence: float
    bound: float
    observed: float
    coverage: float
    n: int

    def __str__(self) -> str:
        return (
            f"answers scored {self.threshold:.3f} or more are given ({self.coverage:.0%} of problems); with "
            f"{self.confidence:.0%} confidence at most {self.max_risk:.0%} of them are wrong (observed "
            f"{self.observed:.1%} of {self.n} calibration problems' answers), for problems and answers that come as "
            "those of the calibration did"
        )


def brier(scores: Sequence[Score], correct: Sequence[bool]) -> float:
    """Mean squared difference between score and outcome (Brier 1950): 0 is perfect, p (1 - p) is knowing nothing but
    the share p."""
    known = _known(scores, correct)
    return sum((score - right) ** 2 for score, right in known) / len(known) if known else math.nan


def calibration_error(scores: Sequence[Score], correct: Sequence[bool], *, bins: int = 10) -> float:
    """Expected calibration error: mean |share of right answers - mean score| over bins of equal width, weighted by
    their counts.

    Guo et al. 2017 (arXiv 1706.04599), Eq. 3.
    """
    table = reliability(scores, correct, bins=bins)
    total = sum(one.count for one in table)
    return sum(one.count * abs(one.accuracy - one.mean_score) for one in table) / total if total else math.nan


def reliability(scores: Sequence[Score], correct: Sequence[bool], *, bins: int = 10) -> list[ReliabilityBin]:
    """The bins of equal width of [0, 1] that hold answers, lowest first; a score of 1 belongs to the last."""
    groups: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for score, right in _known(scores, correct):
        groups[min(int(score * bins), bins - 1)].append((score, right))
    return [
        ReliabilityBin(
            count=len(group),
            mean_score=sum(score for score, _ in group) / len(group),
            accuracy=sum(right for _, right in group) / len(group),
        )
        for group in groups
        if group
    ]


def risk_coverage(scores: Sequence[Score], correct: Sequence[bool]) -> list[RiskPoint]:
    """The risk of answering only the best-scored answers, from few to all; one point for every different score.

    El-Yaniv and Wiener 2010. Equal scores are answered together: nothing could tell them apart.
    """
    known = sorted(_known(scores, correct), reverse=True)
    points: list[RiskPoint] = []
    wrong = 0
    for number, (score, right) in enumerate(known, start=1):
        wrong += not right
        if number == len(known) or known[number][0] != score:
            points.append(RiskPoint(score, number / len(scores), wrong / number))
    return points


def coverage_at_risk(scores: Sequence[Score], correct: Sequence[bool], risk: float) -> float:
    """The largest coverage whose risk is at most `risk` on these very answers: what is possible, not what is
    promised."""
    return max((point.coverage for point in risk_coverage(scores, correct) if point.risk <= risk), default=0.0)


def area_under_risk_coverage(scores: Sequence[Score], correct: Sequence[bool]) -> float:
    """Mean risk over the answered prefixes of the ranking (smaller is better); tied answers count their common risk."""
    points = risk_coverage(scores, correct)
    steps = [point.coverage for point in points]
    widths = [now - before for before, now in zip([0.0, *steps], steps, strict=False)]
    total = sum(widths)
    return sum(point.risk * width for point, width in zip(points, widths, strict=True)) / total if points else math.nan


def threshold_for_risk(
    scores: Sequence[Score], correct: Sequence[bool], max_risk: float, *, confidence: float = 0.95
) -> RiskThreshold:
    """The lowest threshold that keeps the share of wrong answers at `max_risk` or less, with `confidence`.

    Learn-then-Test (Angelopoulos et al. 2021, arXiv 2110.01052) with Bonferroni: each of a fixed grid of thresholds
    gets the upper Clopper-Pearson bound on its risk at level (1 - confidence) / size of the grid, so all bounds hold at
    once, and of the thresholds whose bound is within `max_risk` the one that answers most is taken. Needs no assumption
    about the scores; it needs the calibration answers to be independent draws, and later problems and answers to come
    as they did. Calibration answers must be one per problem, and chosen as the answers will be (best of 16 candidates
    for best-of-16).

    Raises:
        ConfigurationError: risk or confidence make no sense, or no threshold of the grid can be shown to be safe
            enough.
    """
    if not 0 < max_risk < 1 or not 0 < confidence < 1:
        raise ConfigurationError(f"risk and confidence must be above 0 and below 1, got {max_risk} and {confidence}")
    known, level = _known(scores, correct), (1 - confidence) / len(_GRID)
    for threshold in _GRID:
        given = [right for score, right in known if score >= threshold]
        wrong = len(given) - sum(given)
        bound = upper_bound(wrong, len(given), level)
        if bound <= max_risk:
            coverage = len(given) / len(scores)
            return RiskThreshold(threshold, max_risk, confidence, bound, wrong / len(given), coverage, len(scores))
    raise ConfigurationError(_no_threshold(max_risk, confidence, level, len(scores)))


def upper_bound(wrong: int, n: int, level: float) -> float:
    """Clopper and Pearson's upper bound on a share of which `wrong` of `n` were seen; it fails with probability
    `level` at most."""
    if n == 0 or wrong >= n:
        return 1.0
    from scipy.stats import beta  # a second to import

    return float(beta.isf(level, wrong + 1, n - wrong))


def _no_threshold(max_risk: float, confidence: float, level: float, n: int) -> str:
    fewest = math.ceil(math.log(level) / math.log1p(-max_risk))
    return (
        f"no score is known to keep the risk at {max_risk:.1%} with {confidence:.0%} confidence: that takes at least "
        f"{fewest} calibration answers above it, all of them right, and there are {n} in all. Allow a higher risk, "
        "calibrate on more problems, or train a better verifier"
    )


def _known(scores: Sequence[Score], correct: Sequence[bool]) -> list[tuple[float, bool]]:
    if len(scores) != len(correct):
        raise ConfigurationError(f"{len(scores)} scores but {len(correct)} outcomes: give one for every answer")
    return [
        (score, bool(right))
        for score, right in zip(scores, correct, strict=True)
        if score is not None and not math.isnan(score)
    ]
