"""Advantages against numbers worked out by hand, and the properties that make a baseline harmless."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.training.ppo.advantages import (
    ClassSums,
    Moments,
    class_sums,
    leave_one_out,
    leave_one_out_given_previous,
    normalised_by_role,
    without,
)

NAN = math.nan


def test_leave_one_out_compares_each_reward_with_the_others_of_its_group() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 5.0, 3.0])
    groups = torch.tensor([7, 7, 7, 2, 2])
    # group 7: 1 - 0, 0 - 1/2, 0 - 1/2; group 2: 5 - 3, 3 - 5
    assert leave_one_out(rewards, groups).tolist() == [1.0, -0.5, -0.5, 2.0, -2.0]


def test_an_abstaining_turn_has_no_advantage_and_no_part_in_the_baseline() -> None:
    rewards = torch.tensor([1.0, NAN, 0.0])
    groups = torch.tensor([0, 0, 0])
    assert leave_one_out(rewards, groups).tolist() == [1.0, 0.0, -1.0]


def test_a_turn_without_company_has_no_advantage() -> None:
    assert leave_one_out(torch.tensor([1.0, 4.0, NAN]), torch.tensor([0, 1, 1])).tolist() == [0.0, 0.0, 0.0]


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 11.0, -10.0]), st.integers(0, 3)), min_size=2, max_size=30))
def test_leave_one_out_sums_to_zero_in_every_group(rows: list[tuple[float, int]]) -> None:
    rewards = torch.tensor([reward for reward, _ in rows], dtype=torch.float64)
    groups = torch.tensor([group for _, group in rows])
    advantages = leave_one_out(rewards, groups)
    for group in groups.unique():
        assert abs(float(advantages[groups == group].sum())) < 1e-9


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 2), st.sampled_from([0.0, 1.0, NAN])), min_size=2, max_size=20),
    st.data(),
)
def test_no_baseline_depends_on_the_reward_it_is_subtracted_from(
    rows: list[tuple[float, int, float]], data: st.DataObject
) -> None:
    """The condition for an unbiased gradient: moving one reward by 1 moves its own advantage by exactly 1 (or not at
    all)."""
    rewards = torch.tensor([row[0] for row in rows], dtype=torch.float64)
    groups, previous = (
        torch.tensor([row[1] for row in rows]),
        torch.tensor([row[2] for row in rows], dtype=torch.float64),
    )
    index = data.draw(st.integers(0, len(rows) - 1))
    moved = rewards.clone()
    moved[index] += 1
    for advantages in (
        lambda r: leave_one_out(r, groups),
        lambda r: leave_one_out_given_previous(r, groups, previous),
    ):
        step = float((advantages(moved) - advantages(rewards))[index])
        assert step == pytest.approx(1.0, abs=1e-9) or step == pytest.approx(0.0, abs=1e-9)


def test_the_baseline_that_knows_the_previous_score_by_hand() -> None:
    rewards = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])
    groups = torch.tensor([0, 0, 0, 0, 1])
    previous = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])
    # previous right: the other one of the problem got 1 and the other ones of the class 1: (1 + 1) / 2 = 1 -> 0.
    # row 2: same problem and class: row 3 (1); others of the class: rows 3, 4 -> mean 1/2; (1 + 1/2) / 2 = 3/4 -> -3/4
    # row 3: row 2 (0); rows 2, 4 -> mean 0; 0 -> 1.    row 4: none; rows 2, 3 -> mean 1/2; (0 + 1/2) / 1 -> -1/2
    expected = torch.tensor([0.0, 0.0, -0.75, 1.0, -0.5])
    torch.testing.assert_close(leave_one_out_given_previous(rewards, groups, previous), expected)


def test_the_baseline_that_knows_the_previous_score_needs_one_other_answer_after_it() -> None:
    # both after a right answer: of the problem and of all, the other one got 0, or 1
    two = leave_one_out_given_previous(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), torch.tensor([1.0, 1.0]))
    assert two.tolist() == [1.0, -1.0]
    # after another score each: a previous answer that was not judged is a class of its own
    apart = leave_one_out_given_previous(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), torch.tensor([0.0, NAN]))
    assert apart.tolist() == [0.0, 0.0]


def test_who_abstains_after_a_previous_score_has_no_advantage_and_no_part() -> None:
    rewards, previous = torch.tensor([NAN, 1.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])
    assert leave_one_out_given_previous(rewards, torch.tensor([0, 0, 0]), previous).tolist() == [0.0, 1.0, -1.0]


def test_of_no_episodes_there_are_no_advantages() -> None:
    nothing, no_groups = torch.tensor([]), torch.tensor([], dtype=torch.long)
    assert leave_one_out(nothing, no_groups).tolist() == []
    assert leave_one_out_given_previous(nothing, no_groups, nothing).tolist() == []


def test_the_sums_of_one_process_by_the_score_before() -> None:
    rewards, previous = torch.tensor([1.0, 2.0, 3.0, NAN, 4.0]), torch.tensor([1.0, 0.0, 1.0, 0.5, NAN])
    assert class_sums(rewards, previous) == {1.0: (4.0, 2.0), 0.0: (2.0, 1.0), -1.0: (4.0, 1.0)}


def test_what_the_others_have_is_the_whole_without_ones_own() -> None:
    mine = {1.0: (1.0, 1.0), 0.0: (2.0, 1.0)}
    others = without(mine, [{1.0: (3.0, 2.0), -1.0: (5.0, 1.0)}, mine, {-1.0: (1.0, 3.0)}])
    assert others == {1.0: (3.0, 2.0), 0.0: (0.0, 0.0), -1.0: (6.0, 4.0)}


@given(
    st.lists(
        st.tuples(st.floats(-5, 5) | st.just(NAN), st.integers(0, 3), st.sampled_from([0.0, 1.0, NAN])),
        min_size=1,
        max_size=20,
    )
)
def test_processes_with_problems_of_their_own_have_the_advantages_of_one(rows: list[tuple[float, int, float]]) -> None:
    rewards, previous = (torch.tensor([row[part] for row in rows], dtype=torch.float64) for part in (0, 2))
    groups = torch.tensor([row[1] for row in rows])
    parts = [groups < 2, groups >= 2]
    sums: list[ClassSums] = [class_sums(rewards[part], previous[part]) for part in parts]
    whole = leave_one_out_given_previous(rewards, groups, previous)
    for part, mine in zip(parts, sums, strict=True):
        found = leave_one_out_given_previous(rewards[part], groups[part], previous[part], elsewhere=without(mine, sums))
        torch.testing.assert_close(found, whole[part])


def test_processes_that_number_their_roles_differently_normalise_by_the_same_moments() -> None:
    """Answers 1, 3 and 5 in two processes: mean 3, variance 8/3. Critiques 7 and 9: mean 8, variance 1."""
    told: list[Moments] = []

    def gather(mine: Moments) -> list[Moments]:
        told.append(mine)
        return told

    yes = torch.tensor([True, True])
    normalised_by_role(torch.tensor([1.0, 7.0]), torch.tensor([0, 1]), yes, names=("answer", "critique"), gather=gather)
    found = normalised_by_role(
        torch.tensor([9.0, 3.0, 5.0]), torch.tensor([0, 1, 1]), torch.tensor([True] * 3), names=("critique", "answer"),
        gather=gather,
    )  # fmt: skip
    assert found.tolist() == pytest.approx([1.0, 0.0, 2 / math.sqrt(8 / 3)])


def test_what_rounding_leaves_is_no_spread() -> None:
    """Of seven times 0.1 the variance comes out as 2e-18."""
    same = torch.full((7,), 0.1, dtype=torch.float64)
    assert (
        normalised_by_role(same, torch.zeros(7, dtype=torch.long), torch.ones(7, dtype=torch.bool)).tolist() == [0] * 7
    )
