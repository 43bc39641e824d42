"""Choosing among candidates, against brute force over all subsets and all breaks of ties."""

import math
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfcorrect.agents.choosing.best_of_k import (
    best_of_k,
    pass_at_k,
    pick_best,
    pick_by_vote,
    vote,
    vote_accuracy,
    vote_at_k,
)
from selfcorrect.errors import ConfigurationError

CANDIDATES = st.lists(st.tuples(st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=5)
ANSWERED = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, 0.0, 0.25, 0.75]), st.booleans()),
    min_size=1,
    max_size=5,
)


def by_brute_force(scores: list[float | None], correct: list[bool], k: int) -> float:
    """Every subset of k, in every order: the first of the highest scored is chosen, which breaks ties at random."""
    outcomes = []
    for subset in combinations(range(len(scores)), k):
        for order in permutations(subset):
            best = max(order, key=lambda i: -1.0 if scores[i] is None else scores[i])  # type: ignore[arg-type,return-value]
            outcomes.append(correct[best])
    return sum(outcomes) / len(outcomes)


@given(CANDIDATES, st.integers(1, 6))
@settings(max_examples=30)
def test_best_of_k_is_the_mean_over_all_subsets_and_all_breaks_of_ties(
    candidates: list[tuple[float | None, bool]], k: int
) -> None:
    scores, correct = [score for score, _ in candidates], [right for _, right in candidates]
    k = min(k, len(scores))
    assert best_of_k(scores, correct, k) == pytest.approx(by_brute_force(scores, correct, k))


@given(CANDIDATES, st.integers(1, 6))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(
    candidates: list[tuple[float | None, bool]], k: int
) -> None:
    correct = [right for _, right in candidates]
    subsets = list(combinations(correct, min(k, len(correct))))
    assert pass_at_k(correct, min(k, len(correct))) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(CANDIDATES)
def test_constant_scores_are_worth_nothing(candidates: list[tuple[float | None, bool]]) -> None:
    correct = [right for _, right in candidates]
    for k in range(1, len(correct) + 1):
        assert best_of_k([0.5] * len(correct), correct, k) == pytest.approx(sum(correct) / len(correct))


@given(CANDIDATES)
def test_no_choice_beats_the_oracle(candidates: list[tuple[float | None, bool]]) -> None:
    scores, correct = [score for score, _ in candidates], [right for _, right in candidates]
    for k in range(1, len(correct) + 1):
        assert best_of_k(scores, correct, k) <= pass_at_k(correct, k) + 1e-12
        assert best_of_k([float(right) for right in correct], correct, k) == pytest.approx(pass_at_k(correct, k))


def test_best_of_k_by_hand() -> None:
    # N 3, k 2: the best-scored is in 2 of 3 subsets, the second is best in 1 of 3
    assert best_of_k([0.9, 0.5, 0.1], [True, False, True], 2) == pytest.approx(2 / 3)
    assert best_of_k([0.9, 0.5, 0.1], [False, True, True], 2) == pytest.approx(1 / 3)


def test_an_abstention_ranks_below_every_score() -> None:
    assert best_of_k([None, 0.0], [True, False], 2) == 0.0


@given(ANSWERED, st.integers(1, 6), st.booleans())
@settings(max_examples=30)
def test_a_vote_at_k_is_the_mean_over_all_subsets(
    candidates: list[tuple[str | None, float | None, bool]], k: int, weighted: bool
) -> None:
    answers, scores, correct = (list(column) for column in zip(*candidates, strict=True))
    k = min(k, len(answers))
    outcomes = []
    for subset in combinations(range(len(answers)), k):
        counts: dict[str, float] = {}
        for counted in ((lambda i: scores[i] or 0.0) if weighted else (lambda i: 1.0)), (lambda i: 1.0):
            counts = {
                answer: sum(counted(i) for i in subset if answers[i] == answer)
                for answer in ("a", "b", "c")
                if any(answers[i] == answer for i in subset)
            }
            if any(counts.values()):
                break
        tied = [answer for answer, count in counts.items() if count == max(counts.values())]
        rights = [[correct[i] for i in subset if answers[i] == answer] for answer in tied]
        outcomes.append(sum(sum(right) / len(right) for right in rights) / len(rights) if rights else 0.0)
    found = vote_at_k(answers, correct, k, scores if weighted else None)
    assert found == pytest.approx(sum(outcomes) / len(outcomes))


def test_a_verifier_can_overrule_the_majority() -> None:
    answers, scores, correct = ["a", "a", "b"], [0.1, 0.2, 0.9], [False, False, True]
    assert vote_accuracy(answers, correct) == 0.0 and vote_accuracy(answers, correct, scores) == 1.0


def test_tied_answers_all_win_and_none_where_nothing_is_readable() -> None:
    assert vote(["a", "b", None]) == ["a", "b"]
    assert vote_accuracy(["a", "b"], [True, False]) == 0.5
    assert vote([None, None]) == [] and vote_accuracy([None], [False]) == 0.0


def test_many_subsets_are_sampled_and_the_same_seed_gives_the_same_figure() -> None:
    answers = ["a"] * 20 + ["b"] * 20
    correct = [True] * 20 + [False] * 20
    found = vote_at_k(answers, correct, 11, draws=300)
    assert found == vote_at_k(answers, correct, 11, draws=300) and abs(found - 0.5) < 0.12


def test_picking_is_deterministic() -> None:
    assert pick_best([None, 0.3, 0.7, 0.7]) == 2 and pick_best([None, None]) == 0 and pick_best([math.nan, 0.0]) == 1
    assert pick_by_vote(["b", "a", "a"]) == 1 and pick_by_vote(["b", "a"]) == 0
    assert pick_by_vote(["b", "a", "a"], [0.1, 0.2, 0.3]) == 2 and pick_by_vote([None]) is None


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="k must be 1 to the number of candidates, 2; got 3"):
        best_of_k([0.1, 0.2], [True, False], 3)
    with pytest.raises(ConfigurationError, match="2 outcomes but 1 scores"):
        best_of_k([0.1], [True, False], 1)
    with pytest.raises(ConfigurationError, match="no candidates"):
        pick_best([])
