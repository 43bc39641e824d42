"""Equations: every gold answer is right, the splits share nothing, the same seed gives the same problems."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.errors import TaskError
from selfcorrect.tasks.equations import (
    COEFFICIENTS,
    LARGEST_TOTAL,
    SMALLEST_TOTAL,
    EquationsTask,
    split_of,
    steps_of,
    written,
)
from selfcorrect.tasks.problem import Problem
from selfcorrect.tasks.validate import validate_task

UNKNOWNS = st.integers(2, 4)
SEEDS = st.integers(0, 2**32)


@given(unknowns=UNKNOWNS, seed=SEEDS, split=st.sampled_from(["train", "test"]))
def test_every_gold_answer_solves_its_equation_by_true_steps(unknowns: int, seed: int, split: str) -> None:
    task = EquationsTask(unknowns)
    for problem in itertools.islice(task.stream(split, seed=seed), 5):  # type: ignore[arg-type]
        verdict = task.checker.check_sync(str(problem.gold), problem.reference)
        assert verdict.correct, verdict.reason
        coefficients, total = problem.reference["coefficients"], problem.reference["total"]
        assert len(set(coefficients)) == unknowns and set(coefficients) <= set(COEFFICIENTS)
        assert SMALLEST_TOTAL <= total <= LARGEST_TOTAL
        assert problem.prompt == f"{written(coefficients, total)} :"
        assert all(int(word) <= LARGEST_TOTAL for word in str(problem.gold).split() if word.isdigit())


@given(unknowns=UNKNOWNS, seeds=st.tuples(SEEDS, SEEDS))
def test_no_equation_is_in_both_splits_whatever_the_seeds_and_the_order_of_its_terms(
    unknowns: int, seeds: tuple[int, int]
) -> None:
    def keys(split: str, seed: int) -> set[tuple[tuple[int, ...], int]]:
        problems: list[Problem] = list(itertools.islice(EquationsTask(unknowns).stream(split, seed=seed), 10))  # type: ignore[arg-type]
        return {(tuple(sorted(p.reference["coefficients"])), p.reference["total"]) for p in problems}

    assert not keys("train", seeds[0]) & keys("test", seeds[1])


@given(st.lists(st.integers(1, 50), min_size=2, max_size=4), st.integers(1, 500), st.randoms())
def test_the_order_of_the_terms_does_not_change_the_split(coefficients: list[int], total: int, rng: object) -> None:
    shuffled = list(coefficients)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_of(coefficients, total) == split_of(shuffled, total)


def test_the_same_seed_gives_the_same_distinct_problems_and_another_seed_others() -> None:
    task = EquationsTask()
    first = task.problems("test", 200, seed=3)
    assert first == task.problems("test", 200, seed=3)
    assert len({problem.id for problem in first}) == 200
    assert {p.id for p in first} != {p.id for p in task.problems("test", 200, seed=4)}


def test_about_one_equation_in_ten_is_held_out() -> None:
    held_out = sum(split_of([3, 5, 7], total) == "test" for total in range(2000))
    assert 150 <= held_out <= 250


@pytest.mark.slow
def test_two_unknowns_run_out_of_test_problems_and_say_so() -> None:
    with pytest.raises(TaskError, match="hardly more than"):
        EquationsTask(2).problems("test", 5000)


@pytest.mark.parametrize("unknowns", [1, 5])
def test_other_numbers_of_unknowns_are_refused(unknowns: int) -> None:
    with pytest.raises(TaskError, match="unknowns must be 2 to 4"):
        EquationsTask(unknowns)


@pytest.mark.parametrize("unknowns", [2, 3, 4])
def test_the_checker_accepts_the_tasks_own_golds(unknowns: int) -> None:
    assert validate_task(EquationsTask(unknowns), procedural=50).passed


def test_steps_and_words() -> None:
    assert steps_of([11, 7, 5], [3, 4, 7]) == "96 - 33 = 63 ; 63 - 28 = 35 ; 35 / 5 = 7"
    prompt = EquationsTask(3, words=True).problems("test", 1)[0].prompt
    assert prompt.startswith("Find positive whole numbers x, y, z with ")
