"""A critic with GAE, inside turns and across them, against exact enumeration: episodes of one to three turns of one or
two tokens each, in every state of which the critic says what it is told to say."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from enumerated import LONGEST, SAID, Level, Spoken, State, Step, Toy, Values
from torch import Tensor

from selfcorrect.training.credit.gae import Decay, SampledTokens, earned, estimated
from selfcorrect.training.ppo.batching import RowTensors
from selfcorrect.training.ppo.config import CriticConfig
from selfcorrect.training.ppo.critic import Critic

Advantages = Callable[[Spoken, Values, Decay, Decay, Level], Tensor]
"""The expected gradient with a critic that says `Values`."""

DECAYS: Sequence[tuple[Decay, Decay]] = (
    (Decay(1.0, 0.95), Decay(0.0, 0.95)),
    (Decay(1.0, 0.95), Decay(1.0, 0.95)),
    (Decay(0.9, 0.5), Decay(0.7, 0.3)),
    (Decay(0.8, 0.0), Decay(0.9, 0.6)),
    (Decay(0.9, 0.7), Decay(0.8, 0.0)),
)
"""Inside a turn, and from one to the next."""
LEVELS: Sequence[Level] = ("token", "turn")


@pytest.fixture(params=[True, False], ids=["three turns", "one to three turns"])
def spoken(request: pytest.FixtureRequest) -> Spoken:
    return Spoken(Toy(fixed=request.param))


def error(gradient: Tensor, exact: Tensor) -> float:
    return float((gradient - exact).norm() / exact.norm())


def trusting(decay: Decay) -> Decay:
    return Decay(decay.discount, 1.0)


def wrong_by(spoken: Spoken) -> Values:
    """Errors of a critic, other ones in every state."""
    return {state: 0.3 * ((7 * number) % 5) - 0.5 for number, state in enumerate(spoken.logits)}


def off(values: Values, errors: Values) -> Values:
    return {state: value + errors[state] for state, value in values.items()}


# The library's estimator on all episodes at once, in rows as training has them.


@dataclass(frozen=True)
class Laid:
    """All episodes of a toy as rows: one an episode with context between its turns, or one a turn."""

    rows: RowTensors
    states: Mapping[tuple[int, int], State]

    @classmethod
    def of(cls, spoken: Spoken, *, apart: bool = False) -> "Laid":
        rows: list[list[int]] = []
        states: dict[tuple[int, int], State] = {}
        call = 0
        for tokens in spoken.toy.episodes:
            for k, turn in enumerate(tokens):
                if k == 0 or apart:
                    rows.append([])
                rows[-1] += [-1] * k  # context
                for place in range(len(SAID[turn])):
                    states[len(rows) - 1, len(rows[-1])] = (tokens[:k], SAID[turn][:place])
                    rows[-1].append(call)
                call += 1
        longest = max(map(len, rows))
        calls_RT = torch.tensor([row + [-1] * (longest - len(row)) for row in rows])
        nothing = torch.zeros_like(calls_RT)
        return cls(RowTensors(nothing, nothing, nothing, nothing, calls_RT, nothing.double()), states)

    def filled(self, of: Callable[[State], float]) -> Tensor:
        values_RT = torch.full(self.rows.calls_RT.shape, 99.0, dtype=torch.float64)  # of context: must not matter
        for place, state in self.states.items():
            values_RT[place] = of(state)
        return values_RT

    def in_order(self, values_RT: Tensor) -> list[float]:
        """Of every sampled token, episode after episode."""
        return [float(values_RT[place]) for place in self.states]


def library(
    spoken: Spoken, values: Values, within: Decay, across: Decay, level: Level, *, apart: bool = False
) -> Tensor:
    laid = Laid.of(spoken, apart=apart)
    table = spoken.toy.table([range(len(spoken.toy.episodes))])
    config = CriticConfig(
        level=level,
        discount=within.discount,
        trace=within.trace,
        turn_discount=across.discount,
        turn_trace=across.trace,
    )
    paid_C = earned(table.rewards_C, table.unjudged_C, table.episodes_C, across=across.discount > 0)
    sampled = SampledTokens.of(laid.rows.calls_RT, table.episodes_C)
    values_RT = laid.filled(lambda state: values.get(state, 99.0))
    advantages_RT, _ = estimated(paid_C, values_RT, sampled, config)
    return gradient(spoken, laid.in_order(torch.nan_to_num(advantages_RT)))


def gradient(spoken: Spoken, advantages: Sequence[float]) -> Tensor:
    """Expected, of advantages token by token."""
    given = iter(advantages)
    return spoken.expected(lambda steps: [next(given) for _ in steps])


@pytest.mark.parametrize("apart", [False, True], ids=["one row an episode", "one row a turn"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("within", "across"), DECAYS)
def test_a_perfect_critic_has_the_exact_gradient_whatever_lambda(
    spoken: Spoken, within: Decay, across: Decay, level: Level, apart: bool
) -> None:
    values = spoken.perfect(within, across, level)
    found = library(spoken, values, within, across, level, apart=apart)
    assert error(found, spoken.exact(within, across, level)) < 1e-12


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("within", "across"), DECAYS)
def test_at_lambda_one_any_critic_is_unbiased(spoken: Spoken, within: Decay, across: Decay, level: Level) -> None:
    within, across = trusting(within), trusting(across)
    for values in (wrong_by(spoken), dict.fromkeys(spoken.logits, 0.0)):
        found = library(spoken, values, within, across, level)
        assert error(found, spoken.exact(within, across, level)) < 1e-12


def bias_of(spoken: Spoken, errors: Values, within: Decay, across: Decay, level: Level) -> Tensor:
    """What errors e of the critic add: at a step t, the sum over later steps s of the product of discount x lambda on
    the way, at the last of it discount x (1 - lambda), times e(s). (-e(t) itself is no bias.)"""

    def added(steps: list[Step]) -> list[float]:
        found = []
        for first in range(len(steps)):
            weight, total = 1.0, 0.0
            for before, here in itertools.pairwise(steps[first:]):
                decay = within if before.turn == here.turn else across
                total += weight * decay.discount * (1 - decay.trace) * errors[here.state]
                weight *= decay.discount * decay.trace
            found.append(total)
        return found

    return spoken.expected(added, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("within", "across"), DECAYS)
def test_below_lambda_one_a_wrong_critic_is_biased_by_the_derived_amount(
    spoken: Spoken, within: Decay, across: Decay, level: Level
) -> None:
    errors, exact = wrong_by(spoken), spoken.exact(within, across, level)
    found = library(spoken, off(spoken.perfect(within, across, level), errors), within, across, level)
    bias = bias_of(spoken, errors, within, across, level)
    assert error(found, exact + bias) < 1e-12
    if level == "token" or across.discount > 0:
        assert error(found, exact) > 0.005


def test_the_bias_of_one_wrong_state_by_hand() -> None:
    """Both tokens are as likely everywhere, and the critic says 1 too much after a first token 0. At discount 0.9 and
    lambda 0.5 that token looks better by 0.9 x 0.5 x 1; its logit's gradient by p (1 - p) = 1/4 of that."""
    spoken = Spoken(Toy(), scale=0.0)
    within, across = Decay(0.9, 0.5), Decay(0.0, 1.0)
    wrong = off(spoken.perfect(within, across), {state: float(state == ((), (0,))) for state in spoken.logits})
    bias = (library(spoken, wrong, within, across, "token") - spoken.exact(within, across)).view(-1, 2)
    assert bias[list(spoken.logits).index(((), ()))].tolist() == pytest.approx([0.1125, -0.1125])
    assert float(bias.abs().sum()) == pytest.approx(0.225)


def test_undiscounted_over_turns_it_is_the_gradient_of_the_sum_of_rewards(spoken: Spoken) -> None:
    """By automatic differentiation; at discount 0 between turns it is that of each turn's own reward."""
    torch.testing.assert_close(spoken.exact(Decay(1.0, 1.0), Decay(1.0, 1.0)), spoken.whole())
    own = spoken.exact(Decay(1.0, 1.0), Decay(0.0, 1.0))
    assert error(own, spoken.exact(Decay(1.0, 1.0), Decay(0.0, 1.0), "turn")) < 1e-12
    assert error(own, spoken.whole()) > 0.1


# Abstaining.

UNJUDGED = frozenset({(0,), (1, 2), (1, 0, 1)})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("turn_trace", [1.0, 0.5])
@pytest.mark.parametrize("turn_discount", [0.0, 0.8])
def test_steps_whose_return_nobody_knows_do_not_learn_and_the_others_as_if_alone(
    turn_discount: float, turn_trace: float, level: Level
) -> None:
    """With a discount between turns, what comes before an unjudged turn abstains too; what comes after does not."""
    spoken = Spoken(Toy(unjudged=UNJUDGED))
    within, across = Decay(1.0, 1.0), Decay(turn_discount, turn_trace)
    values = wrong_by(spoken)

    def known(steps: list[Step]) -> list[float]:
        judged = [step.reward is not None for step in steps]
        found = []
        for number, advantage in enumerate(reference(steps, values, within, across)):
            reached = [
                ok for ok, step in zip(judged, steps, strict=True) if step.turn >= steps[number].turn
                if turn_discount > 0 or step.turn == steps[number].turn
            ]  # fmt: skip
            found.append(advantage if all(reached) else 0.0)
        return found

    expected = spoken.expected(known, level)
    assert float(expected.norm()) > 0.05
    assert error(library(spoken, values, within, across, level), expected) < 1e-12


def test_where_the_next_value_is_believed_an_unknown_reward_behind_it_does_no_harm() -> None:
    """At lambda 0 between turns the return is the reward and the next turn's value: only the unjudged turn abstains."""
    spoken = Spoken(Toy(unjudged=UNJUDGED))
    within, across = Decay(1.0, 1.0), Decay(0.8, 0.0)
    values = wrong_by(spoken)

    def known(steps: list[Step]) -> list[float]:
        unknown = {step.turn for step in steps if step.reward is None}
        found = reference([Step(s.state, s.score, s.turn, s.reward or 0.0) for s in steps], values, within, across)
        return [0.0 if step.turn in unknown else value for step, value in zip(steps, found, strict=True)]

    assert error(library(spoken, values, within, across, "token"), spoken.expected(known)) < 1e-12


@pytest.mark.parametrize("turn_discount", [0.0, 1.0])
def test_a_turn_that_earns_nothing_itself_is_paid_by_what_follows_or_not_at_all(turn_discount: float) -> None:
    """Second turns are unpaid: with a discount they earn what the third ones get, without they do not learn."""
    spoken = Spoken(Toy(fixed=True, rewards=lambda tokens: [1.0 * tokens[0], None, 1.0 * (tokens[2] == tokens[1])]))
    within, across = Decay(1.0, 1.0), Decay(turn_discount, 1.0)
    exact = spoken.exact(within, across)
    assert error(library(spoken, spoken.perfect(within, across), within, across, "token"), exact) < 1e-12
    second = [number for number, (turns, _) in enumerate(spoken.logits) if len(turns) == 1]
    assert (float(exact.view(-1, 2)[second].abs().max()) > 0.01) == (turn_discount > 0)


# Wrong implementations, which must not pass for right ones.


def reference(steps: Sequence[Step], values: Values, within: Decay, across: Decay, fault: str = "") -> list[float]:
    """GAE of one episode, step by step; with a fault if one is asked for. An unknown reward counts as 0."""
    found, running = [], 0.0
    for number in reversed(range(len(steps))):
        here, after = steps[number], steps[number + 1] if number + 1 < len(steps) else None
        decay = Decay(0.0, 0.0) if after is None else within if after.turn == here.turn else across
        value, following = values[here.state], 0.0 if after is None else values[after.state]
        reward = here.reward or 0.0
        if fault == "nothing is cut between turns" and after is not None:
            decay = within
        elif fault == "the episode's end is bootstrapped" and after is None:
            decay, following = across, values[steps[0].state]
        elif fault == "lambda discounts the value too":
            following *= decay.trace
        elif fault == "the value after the token":
            value = following
        elif fault == "every token of a turn is paid":
            reward = next(step.reward or 0.0 for step in reversed(steps) if step.turn == here.turn)
        elif fault == "the first token of a turn is paid":
            pays = next(step.reward or 0.0 for step in reversed(steps) if step.turn == here.turn)
            reward = pays if not here.state[1] else 0.0
        elif fault == "the trace is not discounted":
            running /= decay.discount or 1.0
        elif fault == "one lambda for both" and after is not None:
            decay = Decay(decay.discount, within.trace)
        running = reward + decay.discount * (following + decay.trace * running) - value
        found.append(running)
    return found[::-1]


def by_reference(fault: str) -> Advantages:
    def expected(spoken: Spoken, values: Values, within: Decay, across: Decay, level: Level) -> Tensor:
        return spoken.expected(lambda steps: reference(steps, values, within, across, fault), level)

    return expected


def largest_error(estimate: Advantages) -> float:
    """Over all that is asked above of a critic token by token."""
    spoken, errors = Spoken(Toy()), wrong_by(Spoken(Toy()))
    found = []
    for within, across in DECAYS:
        exact, perfect = spoken.exact(within, across), spoken.perfect(within, across)
        found.append(error(estimate(spoken, perfect, within, across, "token"), exact))
        found.append(error(estimate(spoken, errors, trusting(within), trusting(across), "token"), exact))
        biased = exact + bias_of(spoken, errors, within, across, "token")
        found.append(error(estimate(spoken, off(perfect, errors), within, across, "token"), biased))
    return max(found)


FAULTS = [
    "nothing is cut between turns",
    "the episode's end is bootstrapped",
    "lambda discounts the value too",
    "the value after the token",
    "every token of a turn is paid",
    "the first token of a turn is paid",
    "the trace is not discounted",
    "one lambda for both",
]


def test_right_implementations_pass() -> None:
    assert largest_error(library) < 1e-12
    assert largest_error(by_reference("")) < 1e-12


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_implementations_are_noticed(fault: str) -> None:
    assert largest_error(by_reference(fault)) > 0.02


def test_the_value_of_a_turn_is_the_one_before_its_first_token() -> None:
    """At level "turn" what the critic says later in the turn must not matter; here it says 99, as on context."""
    spoken, within = Spoken(Toy()), Decay(1.0, 0.95)
    across = Decay(1.0, 0.5)
    perfect = spoken.perfect(within, across, "turn")
    assert all(not said for _, said in perfect) and len(perfect) < len(spoken.logits)
    assert error(library(spoken, perfect, within, across, "turn"), spoken.exact(within, across, "turn")) < 1e-12


# The critic itself: a head on hidden states.


@pytest.mark.parametrize("level", LEVELS)
def test_a_head_that_knows_every_state_has_the_exact_gradient_and_stays(level: Level, tmp_path: Path) -> None:
    """Hidden states that tell all states apart, and the head of a checkpoint whose weights are their values."""
    spoken, across = Spoken(Toy()), Decay(0.8, 0.6)
    config = CriticConfig(level=level, turn_discount=0.8, turn_trace=0.6)
    within = Decay(config.discount, config.trace)
    perfect, order = spoken.perfect(within, across, level), list(spoken.logits)
    critic = Critic(len(order), config)
    critic.save(tmp_path)
    kept = torch.load(tmp_path / "critic.pt", weights_only=True)
    kept["head"]["weight"] = torch.tensor([[perfect.get(state, 0.0) for state in order]])
    torch.save(kept, tmp_path / "critic.pt")
    critic.load(tmp_path)
    laid = Laid.of(spoken)
    hidden_RTH = torch.eye(len(order))[laid.filled(order.index).long().clamp(max=len(order) - 1)]
    table = spoken.toy.table([range(len(spoken.toy.episodes))])
    advantages_RT, _ = critic.learn(hidden_RTH, laid.rows, table)
    found = gradient(spoken, laid.in_order(advantages_RT))
    assert error(found, spoken.exact(within, across, level)) < 1e-6


def test_the_spoken_toy_has_turns_of_one_and_two_tokens() -> None:
    spoken = Spoken(Toy())
    assert sum(spoken.probabilities) == pytest.approx(1.0)
    assert sorted({len(spoken.steps(tokens)) for tokens in spoken.toy.episodes}) == [2, 3, 4, 5, 6]
    assert all(len(spoken.steps(tokens, "turn")) == len(tokens) <= LONGEST for tokens in spoken.toy.episodes)
