"""Tensors of the wrong shape are refused by name: torch would broadcast them into a loss like any other."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from selfcorrect.training.ppo.advantages import (
    agree,
    leave_one_out,
    leave_one_out_given_previous,
    normalised_by_role,
)
from selfcorrect.training.ppo.loss import TokenBatch, future_kl_BT, ppo_loss, value_loss

ROWS, TOKENS = 2, 3


def loss(logprobs_BT: Tensor, normaliser: Any, entropies_BT: Tensor, **rest: Tensor) -> Tensor:
    return ppo_loss(logprobs_BT, TokenBatch(**rest, normaliser=normaliser), entropies_BT=entropies_BT).total


TOKEN_TENSORS = ["old_logprobs_BT", "reference_logprobs_BT", "advantages_BT", "kl_coefficients_BT", "mask_BT"]
TOKEN_TENSORS += ["weights_BT", "turns_BT"]
TAKERS: dict[str, tuple[Callable[..., Any], list[str], list[str]]] = {
    "ppo_loss": (loss, ["logprobs_BT", *TOKEN_TENSORS, "entropies_BT"], ["normaliser"]),
    "value_loss": (value_loss, ["values_BT", "returns_BT", "mask_BT"], ["normaliser"]),
    "future_kl_BT": (
        future_kl_BT,
        ["turns_BT", "old_logprobs_BT", "reference_logprobs_BT", "kl_coefficients_BT"],
        [],
    ),
    "leave_one_out": (leave_one_out, ["rewards_B", "groups_B"], []),
    "leave_one_out_given_previous": (leave_one_out_given_previous, ["rewards_B", "groups_B", "previous_B"], []),
    "normalised_by_role": (normalised_by_role, ["advantages_C", "roles_C", "counted_C"], []),
}
CASES = [(taker, name) for taker, (_, names, _) in TAKERS.items() for name in names]


def _ones(name: str) -> Tensor:
    dtype = {"turns": torch.long, "groups": torch.long, "roles": torch.long, "counted": torch.bool}.get(
        name.split("_")[0], torch.float
    )
    return torch.ones((ROWS, TOKENS) if name.endswith("_BT") else (ROWS,), dtype=dtype)


def arguments(taker: str) -> dict[str, Tensor]:
    """Arguments of fitting shapes."""
    _, names, scalars = TAKERS[taker]
    made = {name: _ones(name) for name in names}
    return made | {name: torch.tensor(1.0) for name in scalars}


@pytest.mark.parametrize("taker", TAKERS)
def test_fitting_shapes_are_taken(taker: str) -> None:
    TAKERS[taker][0](**arguments(taker))


@pytest.mark.parametrize(("taker", "name"), CASES)
def test_an_axis_of_length_one_is_not_broadcast(taker: str, name: str) -> None:
    made = arguments(taker)
    made[name] = made[name][..., :1]
    with pytest.raises(ValueError, match=r"_(BT|B|C) should have the shape \(.+\), but it has \("):
        TAKERS[taker][0](**made)


@pytest.mark.parametrize(("taker", "name"), CASES)
def test_an_axis_too_many_or_too_few_is_refused_by_name(taker: str, name: str) -> None:
    for wrong in (lambda tensor: tensor.unsqueeze(-1), lambda tensor: tensor[0]):
        made = arguments(taker)
        made[name] = wrong(made[name])
        with pytest.raises(ValueError, match=f"{name} should have the shape"):
            TAKERS[taker][0](**made)


@pytest.mark.parametrize("taker", [taker for taker, (_, _, scalars) in TAKERS.items() if "normaliser" in scalars])
def test_a_normaliser_for_each_row_is_refused(taker: str) -> None:
    for wrong in (torch.ones(1), torch.ones(ROWS, 1)):
        with pytest.raises(ValueError, match="normaliser should be one number, but it has the shape"):
            TAKERS[taker][0](**(arguments(taker) | {"normaliser": wrong}))


def test_what_is_told_is_the_tensor_the_shape_it_should_have_and_the_one_it_has() -> None:
    told = "advantages_BT should have the shape (B=2, T=5), but it has (2, 1)"
    with pytest.raises(ValueError, match=re.escape(told)):
        agree(logprobs_BT=torch.ones(2, 5), reference_BT=None, advantages_BT=torch.ones(2, 1))
    with pytest.raises(ValueError, match=re.escape("values_BT should have the shape (B, T), but it has (5,)")):
        agree(values_BT=torch.ones(5))
    agree(rewards_B=torch.ones(2), values_BT=torch.ones(2, 7), table_TB=torch.ones(7, 2))
