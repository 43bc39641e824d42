"""Calibration figures by hand, and thresholds that keep what they promise."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.agents.choosing.calibration import (
    area_under_risk_coverage,
    brier,
    calibration_error,
    coverage_at_risk,
    reliability,
    risk_coverage,
    threshold_for_risk,
    upper_bound,
)
from selfcorrect.errors import ConfigurationError

SCORED = st.lists(st.tuples(st.one_of(st.none(), st.floats(0, 1)), st.booleans()), min_size=1, max_size=40)


def test_brier_and_calibration_error_by_hand() -> None:
    scores, correct = [0.9, 0.8, 0.1, None], [True, False, False, True]
    assert brier(scores, correct) == pytest.approx((0.01 + 0.64 + 0.01) / 3)
    # bins 0.8-0.9, 0.9-1.0 and 0.1-0.2: |0 - 0.8|, |1 - 0.9|, |0 - 0.1|
    assert calibration_error(scores, correct) == pytest.approx((0.8 + 0.1 + 0.1) / 3)
    assert [one.count for one in reliability(scores, correct)] == [1, 1, 1]


def test_perfect_knowledge_has_no_error_and_a_score_of_one_belongs_to_the_last_bin() -> None:
    assert brier([1.0, 0.0], [True, False]) == 0 and calibration_error([1.0, 0.0], [True, False]) == 0
    assert len(reliability([1.0, 0.95], [True, True])) == 1


def test_figures_of_nothing_are_nan() -> None:
    assert math.isnan(brier([None], [True])) and math.isnan(calibration_error([], []))
    assert risk_coverage([None], [True]) == [] and math.isnan(area_under_risk_coverage([None], [True]))


def test_risk_coverage_by_hand() -> None:
    points = risk_coverage([0.9, 0.7, 0.7, 0.2, None], [True, True, False, False, True])
    assert [(point.threshold, point.coverage, point.risk) for point in points] == [
        (0.9, 0.2, 0.0),
        (0.7, 0.6, pytest.approx(1 / 3)),
        (0.2, 0.8, 0.5),
    ]
    assert area_under_risk_coverage([0.9, 0.7], [True, False]) == pytest.approx(0.25)
    assert coverage_at_risk([0.9, 0.7, 0.7, 0.2], [True, True, False, False], 0.34) == 0.75
    assert coverage_at_risk([0.9], [False], 0.1) == 0.0


@given(SCORED)
def test_coverage_rises_and_the_last_point_answers_all_that_is_scored(scored: list[tuple[float | None, bool]]) -> None:
    scores, correct = [score for score, _ in scored], [right for _, right in scored]
    points = risk_coverage(scores, correct)
    assert [point.coverage for point in points] == sorted({point.coverage for point in points})
    known = [right for score, right in scored if score is not None]
    if known:
        assert points[-1].coverage == pytest.approx(len(known) / len(scored))
        assert points[-1].risk == pytest.approx(1 - sum(known) / len(known))


def test_the_upper_bound_is_clopper_and_pearsons() -> None:
    # nothing wrong in n: 1 - level^(1/n); published: 0 of 10 at 2.5 % is 0.3085, 3 of 10 is 0.6525
    assert upper_bound(0, 59, 0.05) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert upper_bound(0, 10, 0.025) == pytest.approx(0.3085, abs=1e-4)
    assert upper_bound(3, 10, 0.025) == pytest.approx(0.6525, abs=1e-4)
    assert upper_bound(0, 0, 0.05) == 1.0 and upper_bound(5, 5, 0.05) == 1.0


def drawn(rng: random.Random, n: int) -> tuple[list[float], list[bool]]:
    scores = [rng.random() for _ in range(n)]
    return scores, [rng.random() < score for score in scores]  # calibrated scores


def test_a_threshold_keeps_its_promise_on_fresh_answers() -> None:
    rng, broken = random.Random(0), 0
    for _ in range(40):
        chosen = threshold_for_risk(*drawn(rng, 1500), 0.2, confidence=0.9)
        # of uniform, calibrated scores at or above t, (1 - t) / 2 are wrong
        broken += (1 - chosen.threshold) / 2 > 0.2
        assert chosen.bound <= 0.2 + 1e-9 and chosen.observed <= chosen.bound and 0.1 < chosen.coverage < 0.5
    assert broken <= 4


def test_the_promise_is_told_with_its_conditions() -> None:
    told = str(threshold_for_risk(*drawn(random.Random(1), 3000), 0.1))
    assert "95% confidence at most 10% of them are wrong" in told and "come as those of the calibration" in told


def test_a_risk_that_cannot_be_shown_is_refused_with_what_it_would_take() -> None:
    with pytest.raises(
        ConfigurationError, match=r"takes at least 136 calibration answers above it.*there are 50 in all"
    ):
        threshold_for_risk([0.99] * 50, [True] * 50, 0.05)
    with pytest.raises(ConfigurationError, match="no score is known"):
        threshold_for_risk([None] * 500, [True] * 500, 0.2)
    with pytest.raises(ConfigurationError, match="above 0 and below 1"):
        threshold_for_risk([0.5], [True], 0.0)
    with pytest.raises(ConfigurationError, match="1 scores but 2 outcomes"):
        brier([0.5], [True, False])
