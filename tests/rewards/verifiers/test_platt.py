"""The logistic curve between raw scores and probabilities."""

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.verifiers.folder import Platt, fit_platt


def test_the_fit_finds_the_curve_that_made_the_outcomes() -> None:
    rng, made = random.Random(0), Platt(slope=3.0, intercept=-1.0)
    raw = [rng.gauss(0, 1) for _ in range(20_000)]
    correct = [rng.random() < made.probability(score) for score in raw]
    found = fit_platt(raw, correct)
    assert found.slope == pytest.approx(3.0, abs=0.15) and found.intercept == pytest.approx(-1.0, abs=0.1)


def test_the_mean_probability_is_the_share_of_right_answers() -> None:
    raw, correct = [0.1 * number for number in range(40)], [number % 3 != 0 for number in range(40)]
    found = fit_platt(raw, correct)
    # up to the smoothing of Platt's targets, (n+1)/(n+2) and 1/(n+2)
    assert sum(map(found.probability, raw)) / 40 == pytest.approx(sum(correct) / 40, abs=0.03)


def test_separated_classes_have_a_finite_curve() -> None:
    found = fit_platt([0.0, 1.0, 2.0, 3.0], [False, False, True, True])
    assert 0 < found.slope < 100 and math.isfinite(found.intercept)


@given(st.lists(st.tuples(st.floats(-10, 10), st.booleans()), min_size=2, max_size=30))
def test_the_curve_never_falls_and_keeps_the_mean(pairs: list[tuple[float, bool]]) -> None:
    raw, correct = [score for score, _ in pairs], [right for _, right in pairs]
    assume(0 < sum(correct) < len(correct))
    found = fit_platt(raw, correct)
    assert found.slope >= 0
    low, high = found.probability(min(raw)), found.probability(max(raw))
    assert low <= high + 1e-12
    if found.slope == 0:
        rights = sum(correct)
        wrongs = len(correct) - rights
        smoothed = (rights * (rights + 1) / (rights + 2) + wrongs / (wrongs + 2)) / len(correct)
        assert low == high == pytest.approx(smoothed)


def test_scores_that_are_the_wrong_way_round_tell_nothing() -> None:
    found = fit_platt([0.0, 0.1, 0.2, 0.3, 0.4], [True, True, False, False, False])
    assert found.slope == 0 and len({found.probability(raw) for raw in (-5.0, 0.0, 5.0)}) == 1


@given(st.floats(-1e6, 1e6), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_probabilities_never_leave_their_range(raw: float, slope: float, intercept: float) -> None:
    assert 0.0 <= Platt(slope, intercept).probability(raw) <= 1.0


@pytest.mark.parametrize(
    ("raw", "correct"), [([], []), ([1.0], [True]), ([1.0, 2.0], [False, False]), ([math.nan, 1.0], [True, False])]
)
def test_answers_of_one_kind_and_scores_that_are_no_numbers_are_refused(raw: list[float], correct: list[bool]) -> None:
    with pytest.raises(CheckerError, match="calibrated on"):
        fit_platt(raw, correct)
