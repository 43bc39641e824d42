"""The gradient of the whole path (objective, ledger, batch, advantages, loss) against exact enumeration.

All 81 episodes of a toy policy are put through the training code, each weighted with its probability, so that there is
no sampling error: the gradient must equal that of SCoRe's objective.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toy_policy import EPISODES, TURN, TabularPolicy, episode, exact_objective

from selfcorrect.training.credit.estimators import call_advantages
from selfcorrect.training.ppo.batching import call_table, placed_rows, row_tensors
from selfcorrect.training.ppo.loss import TokenBatch, future_kl_BT, ppo_loss
from selfcorrect.training.ppo.objectives import MultiTurn, Objective, SingleTurn, StageOne, StageTwo

Change = Callable[[dict[str, Tensor]], None]


def training_gradient(
    policy: TabularPolicy,
    reference: TabularPolicy,
    objective: Objective,
    *,
    kl_over: str = "turn",
    change: Change | None = None,
) -> Tensor:
    """Minus the gradient of the training loss, every episode weighted with its probability."""
    episodes = [episode(policy, first, second, objective) for first, second in EPISODES]
    table = call_table(episodes)
    rows = row_tensors(placed_rows(episodes, table), pad_id=9)
    sampled = [[*first, *second] for first, second in EPISODES]
    place = lambda values: _at_sampled_positions(values, rows.calls_RT)
    logprobs_RT = place([policy.token_logprobs(tokens) for tokens in sampled])
    tensors = {
        "advantages": rows.spread(call_advantages(table, "none")).double(),
        "betas": rows.spread(table.kl_coefficients_C).double(),
        "reference": place([reference.token_logprobs(tokens).detach() for tokens in sampled]),
        "mask": rows.spread(table.learns_C).double(),
        "old": logprobs_RT.detach(),
        "logprobs": logprobs_RT,
    }
    if kl_over == "turn":
        tensors["advantages"] = tensors["advantages"] - future_kl_BT(
            tensors["old"], tensors["reference"], tensors["betas"], rows.calls_RT
        )
    if change is not None:
        change(tensors)
    probabilities_R1 = torch.stack([policy.token_logprobs(tokens).sum().exp() for tokens in sampled]).detach()[:, None]
    batch = TokenBatch(
        old_logprobs_BT=tensors["old"],
        reference_logprobs_BT=tensors["reference"],
        advantages_BT=tensors["advantages"],
        kl_coefficients_BT=tensors["betas"],
        mask_BT=tensors["mask"] * probabilities_R1,
        normaliser=1.0,
    )
    return -policy.gradient_of(ppo_loss(tensors["logprobs"], batch).total)


def _at_sampled_positions(values: list[Tensor], calls_RT: Tensor) -> Tensor:
    placed = torch.zeros(calls_RT.shape, dtype=torch.float64)
    return placed.masked_scatter(calls_RT >= 0, torch.cat(values))


@pytest.fixture
def policies() -> tuple[TabularPolicy, TabularPolicy]:
    return TabularPolicy(seed=1), TabularPolicy(seed=2)


def test_stage_one_gradient_is_exact(policies: tuple[TabularPolicy, TabularPolicy]) -> None:
    policy, reference = policies
    exact = exact_objective(policy, reference, lambda r1, r2: 0.0, lambda r1, r2: r2, beta_one=0.3, beta_two=0.02)
    gradient = training_gradient(policy, reference, StageOne(beta1=0.02, beta2=0.3))
    torch.testing.assert_close(gradient, policy.gradient_of(exact), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 10.0])
def test_stage_two_gradient_is_exact(policies: tuple[TabularPolicy, TabularPolicy], alpha: float) -> None:
    policy, reference = policies
    exact = exact_objective(
        policy, reference, lambda r1, r2: r1, lambda r1, r2: r2 + alpha * (r2 - r1), beta_one=0.05, beta_two=0.05
    )
    gradient = training_gradient(policy, reference, StageTwo(alpha=alpha, beta1=0.05))
    torch.testing.assert_close(gradient, policy.gradient_of(exact), rtol=1e-6, atol=1e-7)


def test_multi_and_single_turn_gradients_are_exact(policies: tuple[TabularPolicy, TabularPolicy]) -> None:
    policy, reference = policies
    both = exact_objective(policy, reference, lambda r1, r2: r1, lambda r1, r2: r2, 0.1, 0.1)
    torch.testing.assert_close(
        training_gradient(policy, reference, MultiTurn(beta1=0.1)), policy.gradient_of(both), rtol=1e-6, atol=1e-8
    )
    first = exact_objective(policy, reference, lambda r1, r2: r1, lambda r1, r2: 0.0, 0.1, 0.1)
    torch.testing.assert_close(
        training_gradient(policy, reference, SingleTurn(beta1=0.1)), policy.gradient_of(first), rtol=1e-6, atol=1e-8
    )


def test_the_stage_two_bonus_only_scales_the_second_turn(policies: tuple[TabularPolicy, TabularPolicy]) -> None:
    """With credit per turn, -alpha * r1 is a constant for turn 2: the gradient is (1 + alpha) times that of r2
    alone."""
    policy, reference = policies
    plain = training_gradient(policy, reference, StageTwo(alpha=0.0, beta1=0.0))
    shaped = training_gradient(policy, reference, StageTwo(alpha=4.0, beta1=0.0))
    first = sum(policy.tables[position].numel() for position in range(TURN))
    torch.testing.assert_close(shaped[:first], plain[:first], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(shaped[first:], 5.0 * plain[first:], rtol=1e-6, atol=1e-7)


def test_first_turn_tokens_receive_nothing_from_the_second_score(policies: tuple[TabularPolicy, TabularPolicy]) -> None:
    policy, reference = policies
    gradient = training_gradient(policy, reference, StageOne(beta1=0.0, beta2=0.0))
    first = sum(policy.tables[position].numel() for position in range(TURN))
    assert gradient[:first].abs().max() == 0
    assert gradient[first:].abs().max() > 1e-3


def test_second_turn_tokens_receive_nothing_from_the_first_score(policies: tuple[TabularPolicy, TabularPolicy]) -> None:
    policy, reference = policies
    gradient = training_gradient(policy, reference, SingleTurn(beta1=0.0))
    first = sum(policy.tables[position].numel() for position in range(TURN))
    assert gradient[first:].abs().max() == 0
    assert gradient[:first].abs().max() > 1e-3


def test_a_huge_beta2_moves_the_first_turn_only(policies: tuple[TabularPolicy, TabularPolicy]) -> None:
    policy, reference = policies
    small = training_gradient(policy, reference, StageOne(beta1=0.02, beta2=0.3))
    huge = training_gradient(policy, reference, StageOne(beta1=0.02, beta2=3000.0))
    first = sum(policy.tables[position].numel() for position in range(TURN))
    torch.testing.assert_close(huge[:first], 10_000 * small[:first], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(huge[first:], small[first:], rtol=1e-6, atol=1e-9)


def test_token_kl_leaves_out_what_a_token_does_to_later_ones(policies: tuple[TabularPolicy, TabularPolicy]) -> None:
    """`kl_over="token"` is a different objective on turns of several tokens; on the last token of a turn they agree."""
    policy, reference = policies
    turn = training_gradient(policy, reference, StageOne(beta1=0.3, beta2=0.3))
    token = training_gradient(policy, reference, StageOne(beta1=0.3, beta2=0.3), kl_over="token")
    last_of_turn_one = slice(policy.tables[0].numel(), policy.tables[0].numel() + policy.tables[1].numel())
    assert (turn - token)[: policy.tables[0].numel()].abs().max() > 1e-3
    torch.testing.assert_close(turn[last_of_turn_one], token[last_of_turn_one], rtol=1e-6, atol=1e-9)


def _joint_return(tensors: dict[str, Tensor]) -> None:
    tensors["advantages"] = tensors["advantages"].sum(dim=1, keepdim=True).expand_as(tensors["advantages"])


def _mask_with_the_instruction(tensors: dict[str, Tensor]) -> None:
    tensors["mask"] = tensors["mask"].roll(1, dims=1)


def _kl_without_gradient(tensors: dict[str, Tensor]) -> None:
    tensors["betas"] = torch.zeros_like(tensors["betas"])


def _reversed_kl(tensors: dict[str, Tensor]) -> None:
    tensors["reference"] = 2 * tensors["old"] - tensors["reference"]


@pytest.mark.parametrize("mistake", [_joint_return, _mask_with_the_instruction, _kl_without_gradient, _reversed_kl])
def test_the_exact_gradient_notices_the_mistakes_others_made(
    policies: tuple[TabularPolicy, TabularPolicy], mistake: Change
) -> None:
    policy, reference = policies
    exact = exact_objective(policy, reference, lambda r1, r2: r1, lambda r1, r2: r2 + 2 * (r2 - r1), 0.3, 0.3)
    gradient = training_gradient(policy, reference, StageTwo(alpha=2.0, beta1=0.3), change=mistake)
    assert (gradient - policy.gradient_of(exact)).abs().max() > 1e-2
