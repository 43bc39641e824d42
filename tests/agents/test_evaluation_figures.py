"""Figures against numbers worked out by hand, and properties that any figure must have."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.agents.evaluation import (
    accuracy_at,
    edit_distance,
    flips,
    mcnemar,
    mean_by_turn,
    paired_interval,
    report_on,
    wilson,
)

SCORES = [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [None, 1.0], [1.0]]


def test_accuracy_leaves_unjudged_answers_out_and_lets_early_answers_stand() -> None:
    assert accuracy_at(SCORES, 0)[0] == 3 / 5
    assert accuracy_at(SCORES, 1)[0] == 5 / 6


def test_flips_count_pairs_of_judged_answers() -> None:
    assert flips(SCORES) == (2, 1, 5)


def test_wilson_for_8_of_10() -> None:
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)


def test_the_interval_of_scores_published_math_gain_is_as_recomputed_from_its_flips() -> None:
    """29 fixed and 7 broken of 500 (arXiv 2409.12917, table 2): 22/502 -+ 1.96 sqrt(37 - 22^2/502)/502."""
    low, high = paired_interval(29, 7, 500)
    assert (round(low, 4), round(high, 4)) == (0.0204, 0.0673)
    assert mcnemar(29, 7) == pytest.approx(3.1e-4, rel=0.02)


def test_mcnemar_of_three_against_none_is_a_quarter() -> None:
    assert mcnemar(3, 0) == 0.25
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1.0


def test_a_share_of_nothing_is_not_a_number() -> None:
    assert math.isnan(accuracy_at([], 0)[0])
    assert all(map(math.isnan, (*wilson(0, 0), *paired_interval(0, 0, 0))))


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_intervals_hold_their_share(right: int, more: int) -> None:
    n = right + more
    if n:
        low, high = wilson(right, n)
        assert 0 <= low <= right / n + 1e-12 and right / n - 1e-12 <= high <= 1


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_paired_intervals_mirror_when_fixed_and_broken_change_places(fixed: int, broken: int, same: int) -> None:
    n = fixed + broken + same
    if n:
        low, high = paired_interval(fixed, broken, n)
        mirrored = paired_interval(broken, fixed, n)
        assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]))
        assert low < high
        assert mcnemar(fixed, broken) == mcnemar(broken, fixed)


def levenshtein(a: list[str], b: list[str]) -> int:
    table = {(i, j): i + j for i, j in product(range(len(a) + 1), range(len(b) + 1)) if i == 0 or j == 0}
    for i, j in product(range(1, len(a) + 1), range(1, len(b) + 1)):
        swap = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
        table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, swap)
    return table[len(a), len(b)]


WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=12)


@given(WORDS, WORDS)
def test_edit_distance_is_the_textbook_one(a: list[str], b: list[str]) -> None:
    assert edit_distance(" ".join(a), " ".join(b)) == levenshtein(a, b) / max(len(a), len(b))


def test_edit_distance_of_empty_texts() -> None:
    assert (edit_distance("", " "), edit_distance("", "a b"), edit_distance("a b", "")) == (0.0, 1.0, 1.0)


def test_means_by_turn_are_over_the_episodes_that_have_the_turn() -> None:
    assert mean_by_turn([[10, 20], [30], [20, 0]]) == [20, 10]
    assert mean_by_turn([]) == []


def test_three_answers_tell_what_each_turn_changed() -> None:
    """Fixed at the second turn, broken at the third, never right, ended after the first answer, and one unjudged."""
    rows: list[list[float | None]] = [[0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0], [1.0, None, 1.0]]
    report = report_on([state_of(row) for row in rows])
    assert report.delta_by_turn == pytest.approx([1 / 4, -1 / 4])
    assert report.i_to_c_by_turn == pytest.approx([1 / 4, 0.0])
    assert report.c_to_i_by_turn == pytest.approx([0.0, 1 / 4])
    assert report.as_dict()["delta_by_turn"] == [0.25, -0.25]


def state_of(scores: Sequence[float | None]) -> Any:
    status = {1.0: "correct", 0.0: "wrong", None: "unjudged"}
    verdicts = [{"status": status[score], "answer": None, "reason": "", "seconds": 0.0} for score in scores]
    generation = {"text": "x", "prompt_ids": [1], "completion_ids": [1], "finish_reason": "stop"}
    return {
        "problem": {"id": "p"},
        "turns": [
            {"role": "revise" if number else "attempt", "generation": generation, "verdict": verdict}
            for number, verdict in enumerate(verdicts)
        ],
    }
