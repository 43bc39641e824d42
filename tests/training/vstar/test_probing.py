"""A head fitted to hidden states: the optimum it should be, whatever the states' scale, chosen between problems."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import llama

from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifiers.kinds import ScoringModel
from selfcorrect.training.vstar.probing import FittedHead, fit_head, hidden_states

DICE = np.random.default_rng(0)


def drawn(problems: int = 40, each: int = 4, width: int = 6) -> tuple[Any, Any, list[int]]:
    """States of which the first two numbers tell how likely an answer is right."""
    states = DICE.normal(size=(problems * each, width))
    chance = 1 / (1 + np.exp(-(2 * states[:, 0] - states[:, 1])))
    return states, (DICE.random(len(states)) < chance).astype(float), [n // each for n in range(len(states))]


def logits(head: FittedHead, states: Any) -> Any:
    return states @ head.weight + head.bias


def test_what_is_fitted_is_the_optimum_of_the_penalised_likelihood() -> None:
    states, targets, groups = drawn()
    head = fit_head(states, targets, groups)
    spread = states.std(0) * np.sqrt(states.shape[1])
    weight = head.weight * spread  # of the scaled states
    wrong = 1 / (1 + np.exp(-logits(head, states))) - targets
    slope = ((states - states.mean(0)) / spread).T @ wrong + head.penalty * weight
    assert np.abs(slope).max() < 1e-2 and abs(wrong.sum()) < 1e-2, "the likelihood is concave: one point is flat"
    assert head.weight[0] > 0 > head.weight[1]


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_neither_size_nor_what_all_states_share_matters(scale: float, shift: float) -> None:
    states, targets, groups = drawn(problems=10)
    plain, moved = fit_head(states, targets, groups), fit_head(scale * states + shift, targets, groups)
    assert moved.penalty == plain.penalty
    assert logits(moved, scale * states + shift) == pytest.approx(logits(plain, states), abs=2e-2)


def test_a_number_that_is_the_same_in_all_states_weighs_nothing() -> None:
    states, targets, groups = drawn()
    states[:, 3] = 5.0
    states[:, 4] = 7.0 + 1e-9 * DICE.normal(size=len(states))
    head = fit_head(states, targets, groups)
    assert head.weight[3] == head.weight[4] == 0.0


def test_without_anything_to_tell_by_the_head_gives_the_mean() -> None:
    share = np.array([0.25, 0.5, 1.0, 0.25, 0.0] * 4)
    head = fit_head(np.ones((20, 3)), share, list(range(20)))
    assert 1 / (1 + np.exp(-head.bias - head.weight.sum())) == pytest.approx(0.4, abs=1e-4)


def test_the_penalty_is_chosen_between_problems_not_within_them() -> None:
    """Every problem has a mark of its own, and its answers are all right or all wrong: told by heart, not known."""
    problems, each = 30, 6
    groups = [n // each for n in range(problems * each)]
    states = np.eye(problems)[groups] + 0.01 * DICE.normal(size=(len(groups), problems))
    targets = DICE.permutation(np.arange(problems) % 2)[groups].astype(float)
    known = fit_head(states, targets, groups)
    assert known.held_out_loss > 0.65 and known.penalty >= 10.0, "of other problems nothing can be known"
    leaking = fit_head(states, targets, list(range(len(groups))))
    assert leaking.held_out_loss < 0.1, "the same answers, if their problems did not matter"


def test_too_few_problems_and_unequal_sizes_are_refused() -> None:
    states, targets, _ = drawn(problems=4)
    with pytest.raises(TrainingError, match="at least 5 problems, got 4: raise vstar.problems"):
        fit_head(states, targets, [n // 4 for n in range(16)])
    with pytest.raises(TrainingError, match="16 states, 15 targets and 16 groups"):
        fit_head(states, targets[:-1], list(range(16)))
    states[3, 1] = np.nan
    with pytest.raises(TrainingError, match="hidden states are not finite"):
        fit_head(states, targets, list(range(16)))


def test_hidden_states_are_those_of_each_row_read_alone() -> None:
    model = ScoringModel(llama(30).base_model)
    rows = [[3, 4, 5, 6, 7, 8], [9, 10], [11, 12, 13]]
    places = [[5], [0, 1], [2]]
    together = hidden_states(model, rows, places)
    for row, place, states in zip(rows, places, together, strict=True):
        with torch.no_grad():
            alone = model.body(input_ids=torch.tensor([row])).last_hidden_state[0, place]
        assert states.shape == (len(place), 32) and torch.allclose(states, alone, atol=1e-5)


def test_the_head_of_a_model_gets_what_was_fitted() -> None:
    states, targets, groups = drawn(width=32)
    head = fit_head(states, targets, groups)
    linear = torch.nn.Linear(32, 1)
    head.put_into(linear)
    given = linear(torch.as_tensor(states, dtype=torch.float32))[:, 0].detach().numpy()
    assert given == pytest.approx(logits(head, states), abs=1e-4)
