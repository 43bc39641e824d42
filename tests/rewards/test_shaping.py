"""From scores to rewards, by hand and by property."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.rewards.shaping import Score, pag, per_turn, score_stage_one, score_stage_two, terminal

SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=1, max_size=6)
SHAPINGS: dict[str, Callable[[Sequence[Score]], list[Score]]] = {
    "terminal": terminal,
    "per_turn": per_turn,
    "score_stage_one": score_stage_one,
    "score_stage_two": lambda scores: score_stage_two(scores, alpha=3.0),
    "pag": lambda scores: pag(scores, [])[0],
}


@pytest.mark.parametrize(
    ("shaping", "paid"),
    [
        ("terminal", [None, None, 1.0]),
        ("per_turn", [1.0, 0.0, 1.0]),
        ("score_stage_one", [None, None, 1.0]),
        ("score_stage_two", [1.0, -3.0, 4.0]),  # 1; 0 + 3 (0 - 1); 1 + 3 (1 - 0)
        ("pag", [1.0, -1.0, 2.0]),  # alpha is 1
    ],
)
def test_three_answers_right_wrong_right(shaping: str, paid: list[Score]) -> None:
    assert SHAPINGS[shaping]([1.0, 0.0, 1.0]) == paid


@pytest.mark.parametrize(
    ("shaping", "paid"),
    [
        ("terminal", [None, None, None, 1.0]),
        ("per_turn", [0.0, None, 1.0, 1.0]),
        ("score_stage_one", [None, None, None, 1.0]),
        ("score_stage_two", [0.0, None, None, 1.0]),  # what is unjudged is missing in two differences
        ("pag", [0.0, None, None, 1.0]),
    ],
)
def test_an_answer_that_was_not_judged_pays_nobody(shaping: str, paid: list[Score]) -> None:
    assert SHAPINGS[shaping]([0.0, None, 1.0, 1.0]) == paid


@pytest.mark.parametrize(
    ("turn", "paid"),
    [(0, [0.25, None, None]), (1, [None, 0.5, None]), (2, [None, None, 1.0]), (None, [None, None, 1.0])],
)
def test_stage_one_pays_the_turn_it_is_told_or_the_last(turn: int | None, paid: list[Score]) -> None:
    assert score_stage_one([0.25, 0.5, 1.0], learning_turn=turn) == paid


def test_the_bonus_of_stage_two_is_alpha_times_the_progress() -> None:
    assert score_stage_two([0.25, 1.0, 0.5], alpha=10.0) == [0.25, 8.5, -4.5]  # 1 + 10 * 0.75; 0.5 + 10 * -0.5
    assert score_stage_two([0.25, 1.0, 0.5], alpha=0.0) == [0.25, 1.0, 0.5]
    assert pag([0.0, 1.0], [], alpha=4.0)[0] == [0.0, 5.0]


def test_pag_pays_a_verdict_for_agreeing_with_the_checker() -> None:
    scores = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, None, None, None]
    says_wrong = [False, True, None] * 3
    assert pag(scores, says_wrong)[1] == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, None, None, None]


def test_only_the_full_score_counts_as_right_where_a_verdict_is_paid() -> None:
    """A fraction is what a wrong program gets of a checker that was asked for it: to call it wrong is right."""
    assert pag([1.0, 0.99], [False, False])[1] == [1.0, 0.0]


def test_the_last_answer_of_an_episode_may_go_without_a_verdict() -> None:
    assert pag([0.0, 1.0], [True]) == ([0.0, 2.0], [1.0])


@pytest.mark.parametrize("shaping", SHAPINGS)
@given(scores=SCORES)
def test_there_is_one_reward_for_every_answer_and_no_number_from_nothing(shaping: str, scores: list[Score]) -> None:
    paid = SHAPINGS[shaping](scores)
    assert len(paid) == len(scores)
    assert all(reward is None for reward, score in zip(paid, scores, strict=True) if score is None)


@pytest.mark.parametrize("shaping", SHAPINGS)
@given(scores=SCORES, more=SCORES)
def test_no_answer_is_paid_for_what_comes_later(shaping: str, scores: list[Score], more: list[Score]) -> None:
    """Discount 0 between turns; the shapings that pay the last answer only are told which one that is."""
    if shaping in ("terminal", "score_stage_one"):
        fixed = score_stage_one([*scores, *more], learning_turn=len(scores) - 1)
        assert fixed[: len(scores)] == SHAPINGS[shaping](scores) and set(fixed[len(scores) :]) == {None}
    else:
        assert SHAPINGS[shaping]([*scores, *more])[: len(scores)] == SHAPINGS[shaping](scores)


@given(scores=st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), alpha=st.integers(0, 10))
def test_the_bonuses_of_an_episode_sum_to_its_progress(scores: list[float], alpha: int) -> None:
    bonuses = [reward - score for reward, score in zip(score_stage_two(scores, alpha=alpha), scores, strict=True)]
    assert sum(bonuses) == alpha * (scores[-1] - scores[0])


@given(scores=SCORES)
def test_what_is_given_is_left_alone(scores: list[Score]) -> None:
    for shaping in SHAPINGS.values():
        given_scores = list(scores)
        assert shaping(given_scores) is not given_scores and given_scores == scores
