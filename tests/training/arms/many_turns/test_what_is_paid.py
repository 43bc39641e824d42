"""What arms of many turns pay, on episodes written out by hand, and the gradient of it by enumeration."""

import asyncio
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import problem
from torch import Tensor
from toy_policy import EPISODES, TURN, TabularPolicy, exact_objective, first_score, second_score
from toy_policy import episode as toy_episode

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.agents.state import EpisodeState, Generation, Turn
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.training.arms.many_turns.cocos import Progress
from selfcorrect.training.arms.many_turns.judge_then_act import JudgeThenAct
from selfcorrect.training.arms.many_turns.playing import KeptEpisodes, TrueWords, all_words_true, class_weights
from selfcorrect.training.arms.many_turns.reflect_retry import Reflections
from selfcorrect.training.arms.many_turns.s2r import SelfVerified
from selfcorrect.training.arms.many_turns.self_rewarding import Outcome, is_a_pattern
from selfcorrect.training.arms.many_turns.ufo import Unary
from selfcorrect.training.credit.estimators import call_advantages
from selfcorrect.training.ppo.batching import call_table, placed_rows, row_tensors
from selfcorrect.training.ppo.loss import TokenBatch, ppo_loss
from selfcorrect.training.ppo.objectives import BatchObjective, MultiTurn, Objective, PlayedTurn, TurnSignal
from selfcorrect.training.ppo.rollouts import CheckerRewards, Episode

SCORES = {"good": 1.0, "fine": 1.0, "bad": 0.0, "poor": 0.0, "?": None}


def played(*words: str) -> list[PlayedTurn]:
    """An episode: "good", "fine" are right answers, "bad", "poor" wrong ones, "?" an unjudged one; "right", "wrong" and
    "hm" are verdicts on the answer before."""
    turns: list[PlayedTurn] = []
    score: float | None = None
    for word in words:
        if word in SCORES:
            score = SCORES[word]
            turns.append(PlayedTurn(False, word, score))
        else:
            turns.append(PlayedTurn(True, word, score, {"right": False, "wrong": True}.get(word)))
    return turns


def paid(objective: BatchObjective, *words: str) -> list[float | None]:
    return objective.batch_rewards([played(*words)])[0]


def test_words_on_right_and_on_wrong_answers_weigh_alike() -> None:
    batch = [
        played("good", "right"),
        played("bad", "wrong", "poor", "right"),
        played("bad", "hm"),
        played("?", "wrong"),
    ]
    assert class_weights(batch) == {True: 4 / 2, False: 4 / 6}  # four judged verdicts: one on a right answer, three not
    assert class_weights([played("good", "right")]) == {True: 0.5, False: 1.0}
    assert class_weights([]) == {True: 1.0, False: 1.0}


@given(
    st.lists(st.sampled_from([("good", "right"), ("bad", "right"), ("good", "wrong"), ("bad", "wrong")]), min_size=1)
)
def test_the_weights_of_both_classes_have_the_same_sum(episodes: list[tuple[str, str]]) -> None:
    weights = class_weights([played(*words) for words in episodes])
    sums = {
        score: sum(weights[score] for answer, _ in episodes if (answer == "good") == score) for score in (True, False)
    }
    assert all(total in (0.0, pytest.approx(len(episodes) / 2)) for total in sums.values())


def test_judge_then_act_pays_answers_their_score_and_words_their_truth() -> None:
    objective = JudgeThenAct(word_weight=2.0, turn_cost=0.25)
    batch = [played("bad", "wrong", "good", "right"), played("bad", "right"), played("bad", "hm")]
    # one verdict on a right answer and three on wrong ones: weights 2 and 2/3
    assert objective.batch_rewards(batch) == [
        [0.0, pytest.approx(2 * 2 / 3 - 0.25), 1.0, 2 * 2.0],
        [0.0, 0.0],
        [0.0, 0.0],
    ]
    assert paid(JudgeThenAct(turn_cost=0.25), "good", "wrong", "good") == [1.0, -0.25, 1.0]
    assert paid(JudgeThenAct(), "?", "wrong", "good") == [None, None, 1.0]
    unbalanced = JudgeThenAct(balanced=False)
    assert unbalanced.batch_rewards(batch)[0] == [0.0, 1.0, 1.0, 1.0]


def test_judge_then_act_charges_wrong_answers_that_were_given_before() -> None:
    new = JudgeThenAct(word_weight=1.0, repeat_cost=0.5, balanced=False)
    assert paid(new, "bad", "wrong", "bad", "wrong", "poor", "wrong", "bad") == [0.0, 1.0, -0.5, 1.0, 0.0, 1.0, -0.5]
    assert paid(new, "good", "wrong", "good", "wrong", "?", "wrong", "?") == [1.0, 0.0, 1.0, 0.0, None, None, None]
    first, second = new.batch_rewards([played("bad", "right"), played("bad", "right")])
    assert first == second == [0.0, 0.0], "what other episodes gave does not count"
    assert paid(JudgeThenAct(balanced=False), "bad", "wrong", "bad") == [0.0, 1.0, 0.0]


def test_s2r_pays_one_or_minus_one_for_every_turn_or_for_the_end() -> None:
    words = "bad", "wrong", "poor", "right"
    assert paid(SelfVerified(), *words) == [-1.0, 1.0, -1.0, -1.0]
    assert paid(SelfVerified(level="outcome"), *words) == [-1.0] * 4
    assert paid(SelfVerified(level="outcome"), "bad", "wrong", "good") == [1.0] * 3
    assert paid(SelfVerified(), "?", "wrong", "good") == [None, None, 1.0]


def test_self_rewarding_keeps_two_patterns_and_pays_the_outcome() -> None:
    kept = [("good", "right"), ("bad", "wrong", "good", "right"), ("bad", "wrong", "poor", "wrong", "good", "right")]
    refused = [("good", "wrong", "fine"), ("bad", "right"), ("bad", "wrong", "poor"), ("good",), ("bad", "hm", "good")]
    assert [is_a_pattern(played(*words)) for words in kept + refused] == [True] * 3 + [False] * 5
    assert paid(Outcome(), "bad", "wrong", "good") == [1.0] * 3
    assert paid(Outcome(), "good", "wrong", "?") == [None] * 3


def test_imitation_learns_words_and_right_answers_of_what_is_kept() -> None:
    kept = KeptEpisodes(0.0, all_words_true)
    assert paid(kept, "bad", "wrong", "good", "right") == [None, 1.0, 1.0, 1.0]
    assert paid(kept, "bad", "right") == [None, None]
    # four verdicts on wrong answers and one on a right one: weights 5/8 and 5/2
    batch = [played("bad", "wrong", "poor", "wrong", "good", "right"), played("bad", "right"), played("bad", "hm")]
    assert TrueWords().batch_rewards(batch) == [[None, 0.625, None, 0.625, None, 2.5], [None, 0.0], [None, 0.0]]


def test_ufo_pays_early_and_new_answers() -> None:
    objective = Unary(decay=0.5, novelty=0.1)
    assert paid(objective, "good") == [1.0]
    assert paid(objective, "bad", "poor", "good") == [0.25] * 3
    assert paid(objective, "bad", "bad", "good") == [pytest.approx(0.25 - 0.1 / 3)] * 3
    assert paid(objective, "bad", "bad") == [pytest.approx(-0.05)] * 2
    assert paid(objective, "bad", "?") == [None, None]


def test_cocos_pays_all_turns_the_progress_of_the_episode() -> None:
    # by hand: 1/4 * 0 + 1/2 * (1 - 0) + (0 - 1) and so on
    assert paid(Progress(), "bad", "poor", "good") == [1.0] * 3
    assert paid(Progress(), "bad", "good", "fine") == [0.5] * 3
    assert paid(Progress(), "good", "fine", "good") == [0.25] * 3
    assert paid(Progress(), "good", "bad", "poor") == [pytest.approx(0.25 - 0.5)] * 3
    assert paid(Progress(), "good", "bad") == [-0.5] * 2
    assert paid(Progress(gamma=1.0), "bad", "good", "bad", "good") == [1.0] * 4
    assert paid(Progress(), "bad", "?", "good") == [None] * 3
    shares = [PlayedTurn(False, "program", share) for share in (0.25, 0.75)]
    assert Progress().batch_rewards([shares]) == [[0.5 * 0.25 + 0.5] * 2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.1, 1))
def test_cocos_is_its_sum_for_any_scores(scores: list[float], gamma: float) -> None:
    episode = [PlayedTurn(False, "program", score) for score in scores]
    last = len(scores)
    summed = sum(gamma ** (last - t) * (scores[t - 1] - (scores[t - 2] if t > 1 else 0.0)) for t in range(1, last + 1))
    assert Progress(gamma=gamma).batch_rewards([episode])[0] == [pytest.approx(summed, abs=1e-9)] * last


def test_only_reflections_on_wrong_answers_are_paid_and_by_the_next_answer() -> None:
    assert paid(Reflections(), "bad", "wrong", "poor", "wrong", "good") == [None, 0.0, None, 1.0, None]
    assert paid(Reflections(), "good", "wrong", "fine") == [None] * 3
    assert paid(Reflections(), "bad", "wrong", "?") == [None] * 3


# From the graph's episodes to what objectives see.


class ReadsTheWord:
    async def check(self, response: str, reference: Any) -> Verdict:
        status = {1.0: Status.CORRECT, 0.0: Status.WRONG, None: Status.UNJUDGED}[SCORES[response]]
        return Verdict(status, response)

    def check_sync(self, response: str, reference: Any) -> Verdict:
        raise NotImplementedError

    def validate_reference(self, reference: Any) -> str | None:
        return None


def judged(objective: Objective, *words: str) -> tuple[CheckerRewards, Episode]:
    roles = ["critique" if word not in SCORES else "revise" if place else "attempt" for place, word in enumerate(words)]
    made = [
        Turn(
            role=role,  # type: ignore[typeddict-item]
            generation=Generation(
                text=word, messages=[], prompt_ids=[0], completion_ids=[1], logprobs=[-0.5], finish_reason="stop"
            ),
            verdict=None,
        )
        for role, word in zip(roles, words, strict=True)
    ]
    calls = [PolicyCall("node", "", turn["generation"], Sampling()) for turn in made]
    state = EpisodeState(problem=problem("?").model_dump(), seed=0, turns=made)
    rewards = CheckerRewards(objective, ReadsTheWord())
    signals, scores = asyncio.run(rewards(problem("?"), state, calls))
    return rewards, Episode(problem("?"), state, calls, signals, scores)


def test_verdicts_are_balanced_over_the_whole_batch_and_not_within_an_episode() -> None:
    objective = JudgeThenAct()
    rewards, one = judged(objective, "good", "right")
    assert [signal.reward for signal in one.signals] == [1.0, 0.5]  # as if it were the whole batch
    others = [judged(objective, "bad", "wrong")[1] for _ in range(3)]
    failed = Episode(problem("?"), None, [], [], [])
    settled = rewards.settled([one, failed, *others])
    assert [[signal.reward for signal in episode.signals] for episode in settled] == [
        [1.0, 2.0],
        [],
        *[[0.0, pytest.approx(2 / 3)]] * 3,
    ]
    assert [signal.kind for signal in settled[0].signals] == ["answer 1", "critique 1"]


def test_a_process_is_paid_its_part_of_what_all_have_played(monkeypatch: pytest.MonkeyPatch) -> None:
    rewards, one = judged(JudgeThenAct(), "good", "right")
    others = [judged(JudgeThenAct(), "bad", "wrong")[1] for _ in range(3)]
    alone = rewards.settled([one, *others])
    parts: list[Any] = []
    for mine in ([one], others):
        rewards.settled(mine, lambda played: parts.append(played) or [played])
    for process, mine in enumerate(([one], others)):
        monkeypatch.setenv("RANK", str(process))
        together = rewards.settled(mine, lambda _: parts)
        expected = alone[:1] if process == 0 else alone[1:]
        assert [episode.signals for episode in together] == [episode.signals for episode in expected]
    assert [signal.reward for signal in rewards.settled([one])[0].signals] == [1.0, 0.5], "by itself it is all of it"


def test_what_nobody_judged_stays_unknown_when_the_batch_is_settled() -> None:
    rewards, one = judged(JudgeThenAct(), "?", "wrong", "good")
    (settled,) = rewards.settled([one])
    assert [signal.reward for signal in settled.signals] == [None, None, 1.0]
    assert [signal.unjudged for signal in settled.signals] == [True, True, False]
    assert [signal.learns for signal in settled.signals] == [False, True, True]


def test_other_objectives_are_paid_as_before() -> None:
    rewards, one = judged(MultiTurn(), "bad", "good")
    assert rewards.settled([one]) == [one]


# The gradient: every episode of a toy policy, each weighted with its probability. Its second turn is the verdict.


def says_wrong(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return second_score(first, second) == 0.0


def gradient_of(policy: TabularPolicy, objective: BatchObjective, baseline: str = "none") -> Tensor:
    episodes = [toy_episode(policy, first, second, MultiTurn(0.0)) for first, second in EPISODES]
    told = [
        [
            PlayedTurn(False, "", first_score(first)),
            PlayedTurn(True, "", first_score(first), says_wrong(first, second)),
        ]
        for first, second in EPISODES
    ]
    for made, rewards in zip(episodes, objective.batch_rewards(told), strict=True):
        kinds = "answer 1", "critique 1"
        made.signals = [
            TurnSignal(reward, 0.0, kind=kind, imitates=objective.imitates)
            for reward, kind in zip(rewards, kinds, strict=True)
        ]
    table = call_table(episodes)
    rows = row_tensors(placed_rows(episodes, table), pad_id=9)
    logprobs = [policy.token_logprobs([*first, *second]) for first, second in EPISODES]
    logprobs_RT = torch.zeros(rows.calls_RT.shape, dtype=torch.float64).masked_scatter(
        rows.calls_RT >= 0, torch.cat(logprobs)
    )
    weights_R1 = torch.stack([one.sum().exp() for one in logprobs]).detach()[:, None]
    advantages_C = call_advantages(table, baseline, "role" if baseline != "none" else "nothing")  # type: ignore[arg-type]
    batch = TokenBatch(
        old_logprobs_BT=logprobs_RT.detach(),
        reference_logprobs_BT=None,
        advantages_BT=rows.spread(advantages_C).double(),
        kl_coefficients_BT=torch.zeros(rows.calls_RT.shape, dtype=torch.float64),
        mask_BT=rows.spread(table.learns_C).double() * weights_R1,
        normaliser=1.0,
    )
    return -policy.gradient_of(ppo_loss(logprobs_RT, batch).total)


@pytest.mark.parametrize(("word_weight", "turn_cost"), [(1.0, 0.0), (0.5, 0.2)])
def test_the_gradient_of_judge_then_act_is_exact(word_weight: float, turn_cost: float) -> None:
    policy = TabularPolicy(seed=1)
    gradient = gradient_of(policy, JudgeThenAct(0.0, word_weight, turn_cost, balanced=False))
    exact = exact_objective(
        policy,
        policy,
        lambda r1, _: r1,
        lambda r1, word: word_weight * float((word == 0.0) == (r1 < 1.0)) - turn_cost * float(word == 0.0),
        beta_one=0.0,
        beta_two=0.0,
    )
    torch.testing.assert_close(gradient, policy.gradient_of(exact), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("baseline", ["none", "leave_one_out"])
def test_imitation_is_the_supervised_loss_on_true_words_whatever_the_baseline(baseline: str) -> None:
    policy = TabularPolicy(seed=1)
    gradient = gradient_of(policy, TrueWords(), baseline)
    right = sum(first_score(first) for first, _ in EPISODES)
    weights = {1.0: len(EPISODES) / (2 * right), 0.0: len(EPISODES) / (2 * (len(EPISODES) - right))}
    likelihood = torch.zeros((), dtype=torch.float64)
    for first, second in EPISODES:
        if says_wrong(first, second) == (first_score(first) < 1.0):
            logprobs = policy.token_logprobs([*first, *second])
            likelihood = (
                likelihood + weights[first_score(first)] * logprobs.sum().exp().detach() * logprobs[TURN:].sum()
            )
    torch.testing.assert_close(gradient, policy.gradient_of(likelihood), rtol=1e-6, atol=1e-7)
