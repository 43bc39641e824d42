"""The clipped loss, the charge for later tokens and the critic's loss, against numbers worked out by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from selfcorrect.training.ppo.loss import LossTerms, TokenBatch, future_kl_BT, ppo_loss, value_loss

NAN, INFINITE = math.nan, math.inf


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def batch(old: Tensor, advantages: Tensor, **rest: Any) -> TokenBatch:
    """No reference, no KL, every token learns, and the sum is the loss, unless said otherwise."""
    made: dict[str, Any] = {
        "reference_logprobs_BT": None,
        "kl_coefficients_BT": torch.zeros_like(old),
        "mask_BT": torch.ones_like(old),
        "normaliser": 1.0,
    }
    return TokenBatch(old_logprobs_BT=old, advantages_BT=advantages, **(made | rest))


def ratios(*ratios: float, advantages: Tensor, **options: float) -> tuple[LossTerms, Tensor]:
    """The loss where the policy is `ratios` times as likely to write each token as the one that sampled, and its
    gradient."""
    old = row(*[-1.0] * len(ratios))
    logprobs = (old + row(*ratios).log()).requires_grad_()
    terms = ppo_loss(logprobs, batch(old, advantages), **options)
    return terms, torch.autograd.grad(terms.total, logprobs)[0]


def test_the_ratio_is_clipped_where_that_would_pay_more() -> None:
    # advantage 2: min(r * 2, clip(r) * 2) = 1.2 * 2, 1.1 * 2, 0.5 * 2; advantage -1: max(r, clip(r)) = 1.5, 0.9, 0.8
    terms, gradient = ratios(1.5, 1.1, 0.5, 1.5, 0.9, 0.5, advantages=row(2, 2, 2, -1, -1, -1))
    assert terms.total.item() == pytest.approx(-(2.4 + 2.2 + 1.0) + (1.5 + 0.9 + 0.8))
    assert terms.clipped_BT.tolist() == [[True, False, False, False, False, True]]
    # d(-r A)/d(log p) = -r A where the clip does not hold
    torch.testing.assert_close(gradient, row(0, -2.2, -1.0, 1.5, 0.9, 0))
    torch.testing.assert_close(terms.ratio_BT, row(1.5, 1.1, 0.5, 1.5, 0.9, 0.5))


def test_the_bounds_of_the_clip_are_one_minus_low_and_one_plus_high() -> None:
    terms, _ = ratios(3.0, 0.1, advantages=row(1, -1), clip_low=0.5, clip_high=1.5)
    assert terms.total.item() == pytest.approx(-2.5 + 0.5)
    assert ratios(1.25, 0.75, advantages=row(1, -1))[0].total.item() == pytest.approx(-1.2 + 0.8)  # both are 0.2


def test_the_kl_is_k3_times_the_ratio_and_beta() -> None:
    # d = reference - policy: ln 2 and -ln 2; k3 = e^d - 1 - d = 1 - ln 2 and ln 2 - 1/2; ratios 1 and 2; betas 1 and 3
    logprobs, old = row(-2.0, -1.0), row(-2.0, -1.0 - math.log(2))
    reference = logprobs + row(math.log(2), -math.log(2))
    terms = ppo_loss(
        logprobs, batch(old, row(0, 0), reference_logprobs_BT=reference, kl_coefficients_BT=row(1, 3), normaliser=2.0)
    )
    # what is logged is k1 of the sampling policy: its mean is the KL, and no token makes it huge
    torch.testing.assert_close(terms.kl_BT, old - reference)
    assert terms.total.item() == pytest.approx(((1 - math.log(2)) + 3 * 2 * (math.log(2) - 0.5)) / 2)


def test_on_policy_the_gradient_of_the_kl_term_is_that_of_the_kl() -> None:
    """Summed over all next tokens with their probabilities, exactly."""
    logits = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.0, 0.5, -0.5], dtype=torch.float64).log_softmax(0)
    logprobs = logits.log_softmax(0)
    exact = torch.autograd.grad((logprobs.exp() * (logprobs - reference)).sum(), logits, retain_graph=True)[0]
    sampled = batch(
        logprobs.detach()[None],
        torch.zeros(1, 3, dtype=torch.float64),
        reference_logprobs_BT=reference[None],
        kl_coefficients_BT=torch.ones(1, 3, dtype=torch.float64),
        mask_BT=logprobs.detach().exp()[None],
    )
    torch.testing.assert_close(torch.autograd.grad(ppo_loss(logprobs[None], sampled).total, logits)[0], exact)


@pytest.mark.parametrize("strange", [NAN, INFINITE, -INFINITE])
def test_what_stands_at_context_positions_changes_nothing(strange: float) -> None:
    def loss(at_context: float) -> tuple[LossTerms, Tensor]:
        logprobs = row(-1.0, at_context).requires_grad_()
        given = batch(
            row(-1.1, -at_context),
            row(2.0, 5.0),
            reference_logprobs_BT=row(-1.3, 0.5),
            kl_coefficients_BT=row(0.1, 0.1),
            mask_BT=row(1, 0),
        )
        terms = ppo_loss(logprobs, given)
        return terms, torch.autograd.grad(terms.total, logprobs)[0]

    (one, gradient), (other, same) = loss(-3.0), loss(strange)
    assert one.total.item() == other.total.item() and math.isfinite(one.total.item())
    assert other.kl_BT[0, 1] == 0 and other.ratio_BT[0, 1] == 1 and not other.clipped_BT[0, 1]
    assert gradient.tolist() == same.tolist() and gradient[0, 1] == 0


def test_a_clip_at_a_context_position_is_not_counted() -> None:
    terms = ppo_loss(row(0.0, 0.0), batch(row(-1.0, -1.0), row(1, 1), mask_BT=row(1, 0)))
    assert terms.clipped_BT.tolist() == [[True, False]]


def test_the_entropy_bonus_is_taken_off_for_every_token_that_learns() -> None:
    given = batch(row(-1, -1, -1), row(0, 0, 0), mask_BT=row(1, 1, 0), normaliser=torch.tensor(4.0))
    entropies = row(0.5, 0.25, 9.0).requires_grad_()
    terms = ppo_loss(row(-1, -1, -1), given, entropies_BT=entropies, entropy_coefficient=0.2)
    assert terms.total.item() == pytest.approx(-0.2 * 0.75 / 4)
    torch.testing.assert_close(torch.autograd.grad(terms.total, entropies)[0], row(-0.05, -0.05, 0))
    # a coefficient of zero, the default, asks for no entropies
    assert ppo_loss(row(-1, -1, -1), given, entropies_BT=entropies).total.item() == 0
    with pytest.raises(ValueError, match="^an entropy bonus needs entropies_BT$"):
        ppo_loss(row(-1, -1, -1), given, entropy_coefficient=0.2)


def test_only_the_total_has_a_gradient() -> None:
    logprobs = row(-1.0).requires_grad_()
    terms = ppo_loss(logprobs, batch(row(-1.2), row(1), reference_logprobs_BT=row(-0.9), kl_coefficients_BT=row(0.1)))
    assert terms.total.requires_grad
    assert not any(tensor.requires_grad for tensor in (terms.kl_BT, terms.ratio_BT, terms.clipped_BT))


def test_a_token_weighs_what_it_is_told_and_one_that_does_not_learn_nothing() -> None:
    # -A w, summed: -(1 * 2 + 3 * 0.5); the third is infinite, and does not learn
    given = batch(row(-1, -1, -1), row(1, 3, 5), mask_BT=row(1, 1, 0), weights_BT=row(2, 0.5, 7))
    terms = ppo_loss(row(-1, -1, -1), given, entropies_BT=row(0, 0, INFINITE), entropy_coefficient=0.1)
    assert terms.total.item() == pytest.approx(-3.5)


# The KL of later tokens.


def test_each_token_is_charged_for_the_later_ones_of_its_own_turn() -> None:
    turns = torch.tensor([[-1, 0, 0, 0, -1, 1, 1]])
    old, reference = row(NAN, 1, 2, 4, NAN, 8, 16), row(NAN, 0, 0, 1, NAN, 0, 0)
    # k1 = old - reference: 1 2 3 | 8 16; times beta: 0.5 1 1.5 | 16 32; of the later ones: 2.5 1.5 0 | 32 0
    charged = future_kl_BT(old, reference, row(9, 0.5, 0.5, 0.5, 9, 2, 2), turns)
    torch.testing.assert_close(charged, row(0, 2.5, 1.5, 0, 0, 32, 0))


def test_the_charge_has_the_precision_of_what_it_is_taken_from() -> None:
    ones = torch.ones(1, 2, dtype=torch.float32)
    assert future_kl_BT(ones, torch.zeros_like(ones), ones, torch.zeros(1, 2, dtype=torch.long)).dtype == torch.float32


def test_rows_and_turns_do_not_mix() -> None:
    turns = torch.tensor([[0, 0], [1, 1], [-1, -1]])
    ones = torch.ones(3, 2)
    charged = future_kl_BT(ones, torch.zeros(3, 2), ones, turns)
    assert charged.tolist() == [[1, 0], [1, 0], [0, 0]]
    assert future_kl_BT(ones[:1], ones[:1], ones[:1], turns[2:]).tolist() == [[0, 0]]


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=5), st.integers(0, 2**31))
def test_the_charge_agrees_with_a_sum_written_out(stretches: list[tuple[int, bool]], seed: int) -> None:
    turns: list[int] = []
    for length, is_turn in stretches:
        turns += [max(turns, default=-1) + 1 if is_turn else -1] * length
    dice = torch.Generator().manual_seed(seed)
    old, reference, betas = (torch.rand(1, len(turns), generator=dice, dtype=torch.float64) for _ in range(3))
    charged = future_kl_BT(old, reference, betas, torch.tensor([turns]))[0]
    for t, turn in enumerate(turns):
        later = [s for s in range(t + 1, len(turns)) if turns[s] == turn and turn >= 0]
        assert charged[t].item() == pytest.approx(sum(float(betas[0, s] * (old - reference)[0, s]) for s in later))


def test_the_critics_loss_is_half_the_squared_error_of_what_learns() -> None:
    values, returns, mask = row(1, 2, 5), row(0, 4, 0), row(1, 1, 0)
    assert value_loss(values, returns, mask, 2.0).item() == pytest.approx(0.5 * (1 + 4) / 2)
    assert value_loss(values, returns, mask, torch.tensor(5.0)).item() == pytest.approx(0.5)
