"""What a verifier is worth on a pool of judged answers: choosing, calibration, abstention."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from selfcorrect.agents.choosing.best_of_k import best_of_k, pass_at_k, pick_best, vote_at_k
from selfcorrect.agents.choosing.calibration import (
    area_under_risk_coverage,
    brier,
    calibration_error,
    coverage_at_risk,
    reliability,
    risk_coverage,
)
from selfcorrect.agents.choosing.sample_pool import Sample, by_problem
from selfcorrect.agents.search.answer_keys import answer_key
from selfcorrect.rewards.shaping import Score
from selfcorrect.rewards.verifiers.base import ModelVerifier
from selfcorrect.tasks.problem import Problem

RISKS = (0.05, 0.10)
_CURVE_POINTS = 200
_Z95 = 1.959963984540054


def with_answer_keys(pool: Sequence[Sample], problems: Sequence[Problem]) -> list[Sample]:
    """The pool with answers as votes count them at test time (see `answer_key`), which is a stronger vote than that
    of whole answers."""
    keys = {problem.id: answer_key(problem) for problem in problems}
    return [replace(one, answer=keys[one.id](one.text)) for one in pool]


def verifier_figures(verifier: ModelVerifier, pool: Sequence[Sample]) -> dict[str, Any]:
    """The figures of `scored_figures` for a verifier, and how often it abstained."""
    judged = [one for one in pool if one.correct is not None]
    scores = verifier.score_all([(one.prompt, one.text) for one in judged])
    figures = scored_figures(judged, scores)
    return figures | {"unreadable": verifier.unreadable, "not_finite": verifier.not_finite}


def scored_figures(pool: Sequence[Sample], scores: Sequence[Score]) -> dict[str, Any]:
    """Figures of a pool of judged samples and their scores, as plain JSON data.

    `choosing` holds, for k = 1, 2, 4, ...: the oracle's pass@k, majority@k, the verifier's best-of-k and its weighted
    vote, each a mean over problems with a 95 % interval (normal, of the mean). `gap_closed` is (best-of-N - pass@1) /
    (oracle@N - pass@1). `samples` are calibration figures of all samples, `chosen` those of the best-scored answer to
    each problem.
    """
    groups, rest = by_problem(pool), iter(scores)
    scored = [[next(rest) for _ in group] for group in groups]
    outcomes = [[bool(one.correct) for one in group] for group in groups]
    answers = [[one.answer for one in group] for group in groups]
    size = min(map(len, groups))
    choosing = {
        str(k): {
            "oracle": mean_with_interval([pass_at_k(right, k) for right in outcomes]),
            "majority": mean_with_interval(
                [vote_at_k(given, right, k, draws=20) for given, right in zip(answers, outcomes, strict=True)]
            ),
            "best_of_k": mean_with_interval(
                [best_of_k(score, right, k) for score, right in zip(scored, outcomes, strict=True)]
            ),
            "weighted": mean_with_interval(
                [
                    vote_at_k(given, right, k, score, draws=20)
                    for given, right, score in zip(answers, outcomes, scored, strict=True)
                ]
            ),
        }
        for k in _powers(size)
    }
    picked = [pick_best(score) for score in scored]
    chosen = [score[i] for score, i in zip(scored, picked, strict=True)]
    chosen_right = [right[i] for right, i in zip(outcomes, picked, strict=True)]
    return {
        "problems": len(groups),
        "candidates": size,
        "choosing": choosing,
        "gap_closed": gap_closed(choosing),
        "samples": calibration_figures(scores, [right for group in outcomes for right in group]),
        "chosen": calibration_figures(chosen, chosen_right),
    }


def calibration_figures(scores: Sequence[Score], correct: Sequence[bool]) -> dict[str, Any]:
    """Brier score, calibration error, reliability bins, and risk against coverage."""
    curve = [(point.coverage, point.risk) for point in risk_coverage(scores, correct)]
    every = max(1, math.ceil(len(curve) / _CURVE_POINTS))
    return {
        "brier": brier(scores, correct),
        "ece": calibration_error(scores, correct),
        "reliability": [asdict(one) for one in reliability(scores, correct)],
        "area_under_risk_coverage": area_under_risk_coverage(scores, correct),
        "coverage_at_risk": {f"{risk:.2f}": coverage_at_risk(scores, correct, risk) for risk in RISKS},
        "risk_coverage": [curve[i] for i in sorted({*range(0, len(curve), every), len(curve) - 1}) if curve],
    }


def gap_closed(choosing: dict[str, Any]) -> float:
    """The share of the gap between pass@1 and the oracle that the verifier closes with all candidates; nan without a
    gap."""
    single, most = choosing["1"]["oracle"]["mean"], list(choosing.values())[-1]
    gap = most["oracle"]["mean"] - single
    return (most["best_of_k"]["mean"] - single) / gap if gap > 0 else math.nan


def mean_with_interval(values: Sequence[float]) -> dict[str, Any]:
    """The mean over problems and its 95 % interval by the normal approximation."""
    mean = statistics.fmean(values)
    half = _Z95 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def _powers(largest: int) -> list[int]:
    powers = [2**exponent for exponent in range(largest.bit_length()) if 2**exponent <= largest]
    return powers if powers[-1] == largest else [*powers, largest]
