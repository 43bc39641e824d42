"""Every way to give credit against the exact gradient of what it says it maximises, without sampling error: all groups
of episodes of a policy that can be written out, of equal and of different numbers of turns."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from enumerated import LONGEST, STOP, Tokens, Toy, rewards_of, to_go
from torch import Tensor

from selfcorrect.training.credit.estimators import (
    credited,
)
from selfcorrect.training.credit.returns import outcome, return_to_go
from selfcorrect.training.credit.settings import (
    AnchorGroups,
    Baseline,
    CreditSettings,
    Outcome,
    OwnCredit,
    Progress,
    ReturnToGo,
    TurnOutcome,
)
from selfcorrect.training.credit.table import CallTable

Worth = Callable[[list[float]], list[float]]


def of_outcome(rewards: list[float]) -> list[float]:
    return [rewards[-1]] * len(rewards)


def of_progress(gamma: float) -> Worth:
    def worth(rewards: list[float]) -> list[float]:
        return to_go([now - before for before, now in itertools.pairwise([0.0, *rewards])], gamma)

    return worth


def own_and_outcome(weight: float) -> Worth:
    return lambda rewards: [own + weight * rewards[-1] for own in rewards[:-1]] + [rewards[-1]]


STATED: list[tuple[CreditSettings, Worth]] = [
    (OwnCredit(), lambda rewards: rewards),
    (ReturnToGo(gamma=1.0), lambda rewards: to_go(rewards, 1.0)),
    (ReturnToGo(gamma=0.8), lambda rewards: to_go(rewards, 0.8)),
    (ReturnToGo(gamma=0.0), lambda rewards: rewards),
    (Outcome(), of_outcome),
    (Progress(gamma=1.0), of_progress(1.0)),
    (Progress(gamma=0.5), of_progress(0.5)),
]
EXACT_ALWAYS: list[Baseline] = ["none", "leave_one_out_exact", "leave_one_out_same_state"]
OWN_COMPARISON: list[tuple[CreditSettings, Worth]] = [
    (
        AnchorGroups(gamma=0.9, weight=0.5, leave_one_out=True),
        lambda rewards: [a + 0.5 * b for a, b in zip(to_go(rewards, 1.0), to_go(rewards, 0.9), strict=True)],
    ),
    (TurnOutcome(weight=0.5, divide_by_std=False, leave_one_out=True), own_and_outcome(0.5)),
]


def error(gradient: Tensor, exact: Tensor) -> float:
    """Relative to the exact one."""
    return float((gradient - exact).norm() / exact.norm())


@pytest.fixture(params=[True, False], ids=["three turns", "one to three turns"])
def toy(request: pytest.FixtureRequest) -> Toy:
    return Toy(fixed=request.param)


def size(toy: Toy) -> int:
    return 2 if toy.fixed else 3


def test_the_toy_knows_its_own_gradient(toy: Toy) -> None:
    """The sum over turns is the gradient of the whole, by automatic differentiation, for the ways that claim so."""
    torch.testing.assert_close(toy.exact(lambda rewards: to_go(rewards, 1.0)), toy.whole(sum))
    torch.testing.assert_close(toy.exact(of_outcome), toy.whole(lambda rewards: rewards[-1]))
    torch.testing.assert_close(toy.exact(of_progress(1.0)), toy.whole(lambda rewards: rewards[-1]))
    assert float(toy.probabilities.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("baseline", [*EXACT_ALWAYS[:-1], pytest.param(EXACT_ALWAYS[-1], marks=pytest.mark.slow)])
@pytest.mark.parametrize(("credit", "worth"), STATED, ids=lambda value: getattr(value, "kind", ""))
def test_credit_has_the_gradient_that_it_states(
    toy: Toy, credit: CreditSettings, worth: Worth, baseline: Baseline
) -> None:
    gradient = toy.expected(lambda table: credited(table, credit, baseline), size(toy))
    assert error(gradient, toy.exact(worth)) < 1e-12


@pytest.mark.parametrize(("credit", "worth"), STATED, ids=lambda value: getattr(value, "kind", ""))
def test_leave_one_out_is_exact_where_all_episodes_have_as_many_turns(credit: CreditSettings, worth: Worth) -> None:
    toy = Toy(fixed=True)
    gradient = toy.expected(lambda table: credited(table, credit, "leave_one_out"), 2)
    assert error(gradient, toy.exact(worth)) < 1e-12


@pytest.mark.parametrize(("credit", "worth"), OWN_COMPARISON, ids=["anchor groups", "mt-grpo"])
def test_gigpo_and_mt_grpo_are_exact_once_the_episode_is_left_out(
    toy: Toy, credit: CreditSettings, worth: Worth
) -> None:
    assert error(toy.expected(lambda table: credited(table, credit), size(toy)), toy.exact(worth)) < 1e-12


def test_the_baseline_that_knows_the_previous_reward_is_exact_in_a_batch_of_several_problems(toy: Toy) -> None:
    """It looks at all problems of the batch: one with every turn after every previous reward is enough."""
    company = [number for number, tokens in enumerate(toy.episodes) if len(tokens) == LONGEST]
    total = torch.zeros_like(toy.exact(lambda rewards: rewards))
    for number, probability in enumerate(toy.probabilities.tolist()):
        table = toy.table([[number], company])
        advantages = credited(table, OwnCredit(), "leave_one_out_given_previous")[: len(toy.episodes[number])]
        total += probability * advantages @ torch.stack(toy.scores[number])
    assert error(total, toy.exact(lambda rewards: rewards)) < 1e-12


# What is biased, and by how much: derived anew, not measured.


def reach(toy: Toy) -> list[float]:
    """The probability that an episode has a turn k."""
    return [
        float(sum(p for p, tokens in zip(toy.probabilities, toy.episodes, strict=True) if len(tokens) > k))
        for k in range(LONGEST)
    ]


def by_turn(toy: Toy) -> list[Tensor]:
    """The exact gradient of `own`, turn by turn."""

    def alone(turn: int) -> Worth:
        return lambda rewards: [reward * (k == turn) for k, reward in enumerate(rewards)]

    return [toy.exact(alone(turn)) for turn in range(LONGEST)]


def test_leave_one_out_shrinks_turns_that_few_episodes_reach() -> None:
    """A turn that no other episode of the group has is dropped: its gradient shrinks by 1 - (1 - p)^(K - 1)."""
    toy = Toy()
    for group in (2, 3):
        gradient = toy.expected(lambda table: credited(table, OwnCredit(), "leave_one_out"), group)
        shrunk = sum((1 - (1 - p) ** (group - 1)) * turn for p, turn in zip(reach(toy), by_turn(toy), strict=True))
        torch.testing.assert_close(gradient, shrunk)


def test_a_mean_that_contains_the_reward_shrinks_every_turn_by_another_factor() -> None:
    """(m - 1) / m in a group of m that have the turn; m - 1 is binomial."""
    toy, group = Toy(), 3

    def factor(p: float) -> float:
        others = group - 1
        return sum(math.comb(others, m) * p**m * (1 - p) ** (others - m) * m / (m + 1) for m in range(others + 1))

    gradient = toy.expected(lambda table: credited(table, OwnCredit(), "group_mean"), group)
    torch.testing.assert_close(
        gradient, sum(factor(p) * turn for p, turn in zip(reach(toy), by_turn(toy), strict=True))
    )


def test_dividing_by_the_standard_deviation_turns_the_gradient_even_at_fixed_length() -> None:
    toy = Toy(fixed=True)
    exact = toy.exact(lambda rewards: rewards)
    gradient = toy.expected(lambda table: credited(table, OwnCredit(), "group_mean_std"), 2)
    assert float(gradient @ exact / gradient.norm() / exact.norm()) < 0.99


def test_gigpo_and_mt_grpo_as_published_are_biased_where_episodes_differ_in_length() -> None:
    """No rescaling of the whole mends them."""
    toy = Toy()
    for credit, worth in (
        (AnchorGroups(gamma=1.0), lambda rewards: [2 * value for value in to_go(rewards, 1.0)]),
        (TurnOutcome(divide_by_std=False), own_and_outcome(1.0)),
    ):
        exact = toy.exact(worth)
        gradient = toy.expected(lambda table, credit=credit: credited(table, credit), 3)
        best = float(gradient @ exact / (exact @ exact))
        assert error(gradient / best, exact) > 0.05


# Abstaining.


def test_a_turn_nobody_could_judge_counts_as_if_it_had_not_been_asked() -> None:
    """What is maximised is the expected reward of the judged: neither does it pay to make a judge fail nor the
    contrary. Without a baseline a failed judge would count as 0."""
    unjudged = frozenset({(0,), (1, 2), (1, 0, 1)})
    toy = Toy(unjudged=unjudged)
    group = 3
    judged = [[tokens[: k + 1] not in unjudged for k in range(len(tokens))] for tokens in toy.episodes]
    chance = [
        float(sum(p for p, ok in zip(toy.probabilities, judged, strict=True) if len(ok) > k and ok[k]))
        for k in range(LONGEST)
    ]
    mean = [
        float(
            sum(
                p * (rewards_of(tokens)[k] or 0.0)
                for p, tokens, ok in zip(toy.probabilities, toy.episodes, judged, strict=True)
                if len(ok) > k and ok[k]
            )
        )
        / chance[k]
        for k in range(LONGEST)
    ]
    total = torch.zeros_like(toy.exact(lambda rewards: rewards))
    for number, tokens in enumerate(toy.episodes):
        for k, score in enumerate(toy.scores[number]):
            if judged[number][k]:
                compared = 1 - (1 - chance[k]) ** (group - 1)
                total += toy.probabilities[number] * compared * ((rewards_of(tokens)[k] or 0.0) - mean[k]) * score
    gradient = toy.expected(lambda table: credited(table, OwnCredit(), "leave_one_out"), group)
    torch.testing.assert_close(gradient, total)
    as_zero = toy.expected(lambda table: credited(table, OwnCredit(), "none"), 1)
    assert error(as_zero, total) > 0.1


# Wrong implementations, which must not pass for right ones.


def joint_return(table: CallTable) -> Tensor:
    """One number for the whole episode, where each turn should be paid its own reward."""
    order = table.by_episode
    totals = order.spread(table.rewards_C, 0.0).sum(1, keepdim=True).expand(-1, order.longest)
    return order.collect(totals)


def mean_over_all_calls(table: CallTable) -> Tensor:
    """Each call is compared with all others of the problem, those of its own episode too."""
    returns = outcome(table)
    sums = torch.zeros(int(table.problems_C.max()) + 1, dtype=returns.dtype)
    counts = sums.index_add(0, table.problems_C, torch.ones_like(returns))[table.problems_C]
    totals = sums.index_add(0, table.problems_C, returns)[table.problems_C]
    return returns - (totals - returns) / (counts - 1).clamp(min=1)


def dead_turns_padded_with_zero(table: CallTable) -> Tensor:
    """Episodes that ended are counted in the baseline of later turns as if they had got 0, whoever asks."""
    returns = table.rewards_C
    order = table.by_episode
    padded = order.spread(returns, 0.0)
    per_problem = padded.view(-1, 3, order.longest)
    baseline = per_problem.mean(1, keepdim=True).expand_as(per_problem).reshape(padded.shape)
    return returns - order.collect(baseline)


def future_alone(table: CallTable) -> Tensor:
    """The return without the turn's own reward."""
    return return_to_go(table, 1.0) - table.rewards_C


def divided_by_length(table: CallTable) -> Tensor:
    """GRPO's mean over an episode's turns: long episodes teach less."""
    order = table.by_episode
    lengths = order.spread(torch.ones_like(table.rewards_C), 0.0).sum(1, keepdim=True).expand(-1, order.longest)
    return table.rewards_C / order.collect(lengths)


@pytest.mark.parametrize(
    ("wrong", "worth"),
    [
        (joint_return, lambda rewards: rewards),
        (mean_over_all_calls, of_outcome),
        (dead_turns_padded_with_zero, lambda rewards: rewards),
        (future_alone, lambda rewards: to_go(rewards, 1.0)),
        (divided_by_length, lambda rewards: rewards),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wrong_implementations_are_noticed(wrong: Callable[[CallTable], Tensor], worth: Worth) -> None:
    toy = Toy()
    assert error(toy.expected(wrong, 3), toy.exact(worth)) > 0.02


def test_stopping_early_is_part_of_the_toy() -> None:
    assert sorted({len(tokens) for tokens in Toy().episodes}) == [1, 2, 3]
    assert all(STOP not in tokens[:-1] for tokens in Toy().episodes)
    tokens: Tokens = Toy(fixed=True).episodes[-1]
    assert tokens == (STOP,) * LONGEST
