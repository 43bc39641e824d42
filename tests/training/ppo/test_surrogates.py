"""Losses do what their papers say: numbers by hand, and what has a gradient and what has none."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from selfcorrect.training.ppo.config import NormaliseLoss, OverlongSettings, Surrogate
from selfcorrect.training.ppo.loss import (
    TokenBatch,
    future_kl_BT,
    learning_items,
    mean_of_turn_BT,
    ppo_loss,
    token_weights_BT,
)


def batch_of(
    advantages: list[float], turns: list[int] | None = None, *, weights: Tensor | None = None, normaliser: float = 1.0
) -> TokenBatch:
    """One row, sampled at log-probability 0, without a reference."""
    row = torch.tensor([advantages])
    turns_BT = torch.tensor([turns or [0] * len(advantages)])
    zeros = torch.zeros_like(row)
    return TokenBatch(
        old_logprobs_BT=zeros,
        reference_logprobs_BT=None,
        advantages_BT=row,
        kl_coefficients_BT=zeros,
        mask_BT=(turns_BT >= 0).float(),
        normaliser=normaliser,
        weights_BT=weights,
        turns_BT=turns_BT,
    )


def slope(ratios: list[float], batch: TokenBatch, **rule: object) -> list[float]:
    """Minus the gradient of the loss by each log-probability, where the ratios to the sampling policy are `ratios`."""
    logprobs = torch.tensor([ratios]).log().requires_grad_()
    total = ppo_loss(logprobs, batch, **rule).total  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(total, logprobs)
    return [round(value, 5) for value in (-gradient[0]).tolist()]


def test_the_upper_end_of_the_clip_can_be_wider_than_the_lower() -> None:
    """DAPO's clip-higher: 1 - 0.2 and 1 + 0.28. A ratio of 1.25 still learns, with 0.2 it would not."""
    assert slope([1.25], batch_of([1.0]), clip_low=0.2, clip_high=0.28) == [1.25]
    assert slope([1.25], batch_of([1.0]), clip_low=0.2, clip_high=0.2) == [0.0]
    assert slope([0.75], batch_of([-1.0]), clip_low=0.2, clip_high=0.28) == [0.0]
    assert slope([0.75], batch_of([-1.0]), clip_low=0.3, clip_high=0.28) == [-0.75]


def test_dual_clip_bounds_what_a_bad_token_can_cost() -> None:
    """Without it a bad token that became ten times likelier has ten times the gradient; at 3 it has none."""
    assert slope([10.0], batch_of([-2.0])) == [-20.0]
    assert slope([10.0], batch_of([-2.0]), dual_clip=3.0) == [0.0]
    assert slope([2.0], batch_of([-2.0]), dual_clip=3.0) == [-4.0]
    assert slope([10.0], batch_of([2.0]), dual_clip=3.0) == slope([10.0], batch_of([2.0]))
    logprobs = torch.tensor([[10.0]]).log()
    terms = ppo_loss(logprobs, batch_of([-2.0]), dual_clip=3.0)
    assert float(terms.total) == pytest.approx(6.0) and bool(terms.clipped_BT.all())


def test_dual_clip_leaves_good_tokens_as_they_were() -> None:
    assert slope([1.1, 1.0], batch_of([0.5, 0.0]), dual_clip=3.0) == [0.55, 0.0]
    assert float(ppo_loss(torch.zeros(1, 2), batch_of([0.5, 0.0]), dual_clip=3.0).total) == -0.5


def test_the_ratio_of_whole_turns_wants_to_know_them() -> None:
    batch = replace(batch_of([1.0]), turns_BT=None)
    with pytest.raises(ValueError, match="^the ratio of whole turns needs turns_BT$"):
        ppo_loss(torch.zeros(1, 1), batch, surrogate="gspo")


def test_cispo_keeps_the_gradient_of_every_token_and_clips_its_weight() -> None:
    """Eq. 4: sg(min(ratio, 1 + high)) A log pi. PPO's clip would drop the first and the last token."""
    batch = batch_of([1.0, 1.0, -1.0, -1.0])
    ratios = [5.0, 0.5, 5.0, 0.1]
    assert slope(ratios, batch, surrogate="cispo", clip_low=1.0, clip_high=0.28) == [1.28, 0.5, -1.28, -0.1]
    assert slope(ratios, batch, clip_low=0.2, clip_high=0.28) == [0.0, 0.5, -5.0, 0.0]


def test_cispo_can_bound_weights_from_below_and_tells_what_it_bounded() -> None:
    batch = batch_of([1.0, 1.0, 1.0])
    assert slope([0.1, 1.0, 5.0], batch, surrogate="cispo", clip_low=0.5, clip_high=0.28) == [0.5, 1.0, 1.28]
    terms = ppo_loss(torch.tensor([[0.1, 1.0, 5.0]]).log(), batch, surrogate="cispo", clip_low=0.5, clip_high=0.28)
    assert terms.ratio_BT[0].tolist() == pytest.approx([0.1, 1.0, 5.0])
    assert terms.clipped_BT[0].tolist() == [True, False, True]


def test_gspo_clips_whole_turns_by_their_geometric_mean() -> None:
    """The first turn's ratio is sqrt(4 / 4) = 1 though its tokens moved far; the second's is sqrt(1.5 * 1.5)."""
    batch = batch_of([1.0, 1.0, 1.0, 1.0], [0, 0, 1, 1])
    found = slope([4.0, 0.25, 1.5, 1.5], batch, surrogate="gspo")
    assert found == [1.0, 1.0, 0.0, 0.0]
    # unclipped, a token's gradient is A times its turn's ratio, the same for all its tokens (Eq. 10)
    assert slope([1.1, 1.0], batch_of([2.0, 2.0]), surrogate="gspo") == pytest.approx(
        [2 * math.sqrt(1.1)] * 2, abs=1e-4
    )


def test_gspo_leaves_context_between_turns_alone() -> None:
    batch = batch_of([1.0, 0.0, 1.0], [0, -1, 1])
    assert slope([1.1, 7.0, 1.0], batch, surrogate="gspo") == [1.1, 0.0, 1.0]


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=12), st.data())
def test_the_mean_of_a_turn_is_the_mean_over_its_tokens(turns: list[int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(-5, 5), min_size=len(turns), max_size=len(turns)))
    found = mean_of_turn_BT(torch.tensor([values]), torch.tensor([turns]))[0].tolist()
    for turn, mean in zip(turns, found, strict=True):
        own = [value for value, other in zip(values, turns, strict=True) if other == turn]
        assert mean == pytest.approx(0.0 if turn < 0 else sum(own) / len(own), abs=1e-5)


def test_means_of_turns_have_the_precision_of_their_values() -> None:
    found = mean_of_turn_BT(torch.tensor([[1.0, 1e-12 + 1.0]], dtype=torch.double), torch.tensor([[0, 0]]))
    assert found.dtype == torch.double and found[0].tolist() == pytest.approx([5e-13 + 1.0] * 2, abs=1e-16)


# Normalisers.

TURNS = [[0, 0, 0, 0, -1, 1], [2, 2, -1, -1, -1, -1]]
"""Three turns, of four, one and two tokens."""


@pytest.mark.parametrize(
    ("by", "weights", "items"),
    [("token", [1.0, 1.0, 1.0], 7.0), ("turn", [0.25, 1.0, 0.5], 3.0), (8, [0.125, 0.125, 0.125], 3.0)],
)
def test_normalisers_by_hand(by: NormaliseLoss, weights: list[float], items: float) -> None:
    turns = torch.tensor(TURNS)
    found = token_weights_BT(turns, by)
    for turn, weight in enumerate(weights):
        assert set(found[turns == turn].tolist()) == {weight}
    assert set(found[turns < 0].tolist()) == {0.0}
    assert float(learning_items((turns >= 0).float(), found, turns, by)) == items


@pytest.mark.parametrize("by", ["token", "turn", 8])
def test_a_row_of_context_alone_weighs_nothing(by: NormaliseLoss) -> None:
    found = token_weights_BT(torch.tensor([[-1, -1]]), by)
    assert found.dtype == torch.float32 and found.tolist() == [[0.0, 0.0]]


def test_a_longer_wrong_answer_is_punished_less_a_token_only_by_the_turn() -> None:
    """The length bias of GRPO that Dr. GRPO and DAPO take away."""
    turns = torch.tensor([[0, 0, 0, 0], [1, -1, -1, -1]])

    def of_a_token(by: NormaliseLoss) -> list[float]:
        weights = token_weights_BT(turns, by)
        items = learning_items((turns >= 0).float(), weights, turns, by)
        return [float(weights[turns == turn][0] / items) for turn in (0, 1)]

    assert of_a_token("turn") == [0.125, 0.5]
    assert of_a_token("token") == pytest.approx([0.2, 0.2])
    assert of_a_token(4) == [0.125, 0.125]


def test_a_constant_does_not_depend_on_how_long_the_answers_are() -> None:
    """Twice as long answers: the weight of a token halves by "token", and stays by a number."""
    short, long = torch.tensor([[0, 0, -1, -1]]), torch.tensor([[0, 0, 0, 0]])
    for by, changes in (("token", True), (4, False)):
        shares = [
            float(weights[0, 0] / learning_items((turns >= 0).float(), weights, turns, by))  # type: ignore[arg-type]
            for turns in (short, long)
            for weights in [token_weights_BT(turns, by)]  # type: ignore[arg-type]
        ]
        assert (shares[0] != shares[1]) == changes


def test_weights_scale_all_terms_of_a_token() -> None:
    turns = [0, 0, 1]
    weights = token_weights_BT(torch.tensor([turns]), "turn")
    assert slope([1.0, 1.0, 1.0], batch_of([1.0, 1.0, 1.0], turns, weights=weights, normaliser=2.0)) == [
        0.25,
        0.25,
        0.5,
    ]


# KL.


@given(st.lists(st.sampled_from([-1, 0, 1, 2]), min_size=1, max_size=10), st.integers(0, 10_000))
def test_the_kl_of_later_tokens_is_that_of_a_double_loop(pattern: list[int], seed: int) -> None:
    """Turns are contiguous; two rows, so that no sum runs over a row's end."""
    turns = sorted(pattern)
    rows = [turns, [3 if turn >= 0 else -1 for turn in turns]]
    generator = torch.Generator().manual_seed(seed)
    old, reference = torch.randn(2, len(turns), generator=generator), torch.randn(2, len(turns), generator=generator)
    beta = torch.rand(2, len(turns), generator=generator)
    found = future_kl_BT(old, reference, beta, torch.tensor(rows))
    for row, t in itertools.product(range(2), range(len(turns))):
        later = [s for s in range(t + 1, len(turns)) if rows[row][s] == rows[row][t] >= 0]
        expected = sum(float(beta[row, s] * (old[row, s] - reference[row, s])) for s in later)
        assert float(found[row, t]) == pytest.approx(expected, abs=1e-5)


def test_the_logged_kl_stays_readable_where_the_reference_rules_a_token_out() -> None:
    """A token at log-probability -1 now and -9 in the reference: k3 of the other direction would be exp(8) = 2,980."""
    old, reference = torch.tensor([[-9.0, -1.0]]), torch.tensor([[-1.0, -1.0]])
    batch = TokenBatch(old, reference, torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2), 2.0)
    assert ppo_loss(old.clone(), batch).kl_BT.tolist() == [[-8.0, 0.0]]
    other = TokenBatch(reference, old, torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2), 2.0)
    assert ppo_loss(reference.clone(), other).kl_BT.tolist() == [[8.0, 0.0]]


def test_the_logged_kl_is_unbiased() -> None:
    """Over the whole distribution its mean is KL(policy || reference)."""
    policy, reference = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    batch = TokenBatch(
        policy.log()[None], reference.log()[None], torch.zeros(1, 3), torch.zeros(1, 3), torch.ones(1, 3), 1.0
    )
    logged = ppo_loss(policy.log()[None], batch).kl_BT[0]
    assert float((policy * logged).sum()) == pytest.approx(float((policy * (policy / reference).log()).sum()))


@pytest.mark.parametrize("surrogate", ["clip", "cispo", "gspo"])
def test_all_surrogates_have_the_policy_gradient_where_nothing_has_moved(surrogate: Surrogate) -> None:
    batch = batch_of([0.5, 0.5, -2.0], [0, 0, 1])
    assert slope([1.0, 1.0, 1.0], batch, surrogate=surrogate) == [0.5, 0.5, -2.0]


def test_a_masked_token_cannot_spoil_the_loss() -> None:
    batch = batch_of([1.0, 1.0], [0, -1])
    logprobs = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    for surrogate in ("clip", "cispo", "gspo"):
        total = ppo_loss(logprobs, batch, surrogate=surrogate).total  # type: ignore[arg-type]
        assert math.isfinite(float(total.detach()))


def test_overlong_shaping_by_hand() -> None:
    """DAPO, Eq. 13: nothing up to limit - buffer, then linearly to the whole penalty at the limit."""
    overlong = OverlongSettings(limit=20, buffer=4, penalty=2.0)
    assert [overlong.charge(length) for length in (1, 16, 17, 18, 20, 30)] == [0.0, 0.0, 0.5, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("by", ["token", "turn", 7])
def test_where_nothing_was_sampled_no_token_counts(by: NormaliseLoss) -> None:
    found = token_weights_BT(torch.full((2, 3), -1), by)
    assert found.tolist() == [[0.0] * 3] * 2 and found.dtype == torch.float32
