"""Advantages against numbers worked out by hand, and the properties that make a baseline harmless."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.training.ppo.advantages import gae_within_turns, leave_one_out, leave_one_out_given_previous

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


def test_gae_does_not_cross_a_turn() -> None:
    turns = torch.tensor([[-1, 0, 0, -1, 1, 1]])
    values = torch.tensor([[9.0, 0.5, 0.25, 9.0, 0.5, 0.75]])
    rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    advantages, returns = gae_within_turns(rewards, values, turns, discount=1.0, trace=0.5)
    # turn 0: last 1 - 0.25 = 0.75; first 0.25 - 0.5 + 0.5 * 0.75 = 0.125
    # turn 1: last 0 - 0.75 = -0.75; first 0.75 - 0.5 + 0.5 * -0.75 = -0.125
    torch.testing.assert_close(advantages, torch.tensor([[0.0, 0.125, 0.75, 0.0, -0.125, -0.75]]))
    torch.testing.assert_close(returns, torch.tensor([[0.0, 0.625, 1.0, 0.0, 0.375, 0.0]]))


def test_gae_with_trace_one_and_no_values_is_the_reward_to_go_of_the_turn() -> None:
    turns = torch.tensor([[0, 0, 0, 1, 1]])
    rewards = torch.tensor([[0.0, 0.0, 2.0, 0.0, 3.0]])
    advantages, _ = gae_within_turns(rewards, torch.zeros(1, 5), turns, trace=1.0)
    assert advantages.tolist() == [[2.0, 2.0, 2.0, 3.0, 3.0]]


def test_gae_leaves_an_abstaining_turn_alone() -> None:
    turns = torch.tensor([[0, 0, 1, 1]])
    rewards = torch.tensor([[0.0, NAN, 0.0, 1.0]])
    advantages, returns = gae_within_turns(rewards, torch.full((1, 4), 0.5), turns)
    assert advantages[0, :2].tolist() == [0.0, 0.0] and returns[0, :2].tolist() == [0.0, 0.0]
    assert advantages[0, 3].item() == 0.5
