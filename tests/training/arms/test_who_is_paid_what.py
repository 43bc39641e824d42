"""What each arm of reinforcement learning pays, on episodes written out by hand, and how PAG evens out its two
roles."""

import asyncio
import math
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import problem

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.agents.state import EpisodeState, Generation, Turn
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.training.credit.estimators import call_advantages
from selfcorrect.training.ppo.advantages import normalised_by_role
from selfcorrect.training.ppo.batching import call_table
from selfcorrect.training.ppo.metrics import rollout_metrics
from selfcorrect.training.ppo.objectives import PAG, MultiTurn, Objective, SingleTurn, StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards, Episode

PROBLEM = problem("?")


class ReadsTheAnswer:
    """Judges "good" correct, "bad" wrong, and anything else not at all."""

    async def check(self, response: str, reference: Any) -> Verdict:
        return Verdict({"good": Status.CORRECT, "bad": Status.WRONG}.get(response, Status.UNJUDGED), response)

    def check_sync(self, response: str, reference: Any) -> Verdict:
        raise NotImplementedError

    def validate_reference(self, reference: Any) -> str | None:
        return None


def generation(text: str) -> Generation:
    return Generation(text=text, messages=[], prompt_ids=[0], completion_ids=[1], logprobs=[-0.5], finish_reason="stop")


def played(objective: Objective, *turns: tuple[str, str], judges_itself: bool = False) -> Episode:
    """An episode of (role, text) turns, judged and paid."""
    made = [Turn(role=role, generation=generation(text), verdict=None) for role, text in turns]  # type: ignore[typeddict-item]
    calls = [PolicyCall("node", "", turn["generation"], Sampling()) for turn in made]
    state = EpisodeState(problem=PROBLEM.model_dump(), seed=0, turns=made)
    paid = CheckerRewards(objective, ReadsTheAnswer(), judges_itself=judges_itself)
    signals, scores = asyncio.run(paid(PROBLEM, state, calls))
    return Episode(PROBLEM, state, calls, signals, scores)


@pytest.mark.parametrize(("judges_itself", "told"), [(True, [None, True, None, False]), (False, [None] * 4)])
def test_critiques_that_a_loop_goes_by_are_looked_at_for_its_words(
    judges_itself: bool, told: list[bool | None]
) -> None:
    turns = [("attempt", "bad"), ("critique", "it is wrong"), ("revise", "bad"), ("critique", "let me see")]
    episode = played(MultiTurn(), *turns, judges_itself=judges_itself)
    assert [signal.has_verdict for signal in episode.signals] == told
    assert rollout_metrics([episode], 1.0).get("no_verdict") == (0.5 if judges_itself else None)


def rewards(objective: Objective, *turns: tuple[str, str]) -> list[float | None]:
    return [signal.reward for signal in played(objective, *turns).signals]


SCORE = {"good": 1.0, "bad": 0.0}


@pytest.mark.parametrize(("first", "second"), list(product(SCORE, SCORE)))
def test_two_turns_are_paid_as_the_arm_says(first: str, second: str) -> None:
    turns = ("attempt", first), ("revise", second)
    r1, r2 = SCORE[first], SCORE[second]
    assert rewards(MultiTurn(), *turns) == [r1, r2]
    assert rewards(SingleTurn(), *turns) == [r1, None]
    assert rewards(StageTwo(alpha=3.0), *turns) == [r1, r2 + 3.0 * (r2 - r1)]
    assert rewards(SingleTurn(), turns[0]) == [r1]


def test_what_is_not_judged_pays_nothing_and_is_paid_nothing() -> None:
    turns = ("attempt", "?"), ("revise", "good")
    assert rewards(MultiTurn(), *turns) == [None, 1.0]
    assert rewards(StageTwo(alpha=1.0), *turns) == [None, None]
    assert rewards(PAG(), ("attempt", "?"), ("critique", "wrong"), ("revise", "good")) == [None, None, None]


@pytest.mark.parametrize(
    ("answer", "critique", "paid"),
    [("good", "right", 1.0), ("good", "wrong", 0.0), ("bad", "wrong", 1.0), ("bad", "right", 0.0), ("bad", "hm", 0.0)],
)
def test_pag_pays_a_judgement_for_agreeing_with_the_checker(answer: str, critique: str, paid: float) -> None:
    assert rewards(PAG(), ("attempt", answer), ("critique", critique)) == [SCORE[answer], paid]


def test_pag_pays_a_revision_its_score_and_its_progress() -> None:
    assert rewards(PAG(alpha=1.0), ("attempt", "bad"), ("critique", "wrong"), ("revise", "good")) == [0.0, 1.0, 2.0]
    assert rewards(PAG(alpha=1.0), ("attempt", "good"), ("critique", "wrong"), ("revise", "bad")) == [1.0, 0.0, -1.0]


def test_pag_compares_answers_with_answers_and_judgements_with_judgements() -> None:
    """Three episodes of one problem; expected numbers by hand."""
    episodes = [
        played(PAG(), ("attempt", "good"), ("critique", "right")),
        played(PAG(), ("attempt", "bad"), ("critique", "right")),
        played(PAG(), ("attempt", "bad"), ("critique", "right")),
    ]
    # answers 1, 0, 0: against the mean of the others 1, -1/2, -1/2, of variance 1/2; judgements 1, 0, 0 likewise
    advantages_C = call_advantages(call_table(episodes), "leave_one_out", "role")
    expected = [math.sqrt(2), math.sqrt(2), *[-1 / math.sqrt(2)] * 4]
    assert advantages_C.tolist() == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.floats(-20, 20), st.integers(0, 2), st.booleans()), min_size=1, max_size=30),
)
def test_normalising_agrees_with_doing_it_role_by_role(calls: list[tuple[float, int, bool]]) -> None:
    advantages, roles, counted = (list(column) for column in zip(*calls, strict=True))
    found = normalised_by_role(
        torch.tensor(advantages, dtype=torch.float64), torch.tensor(roles), torch.tensor(counted)
    ).tolist()
    for role in range(3):
        here = [at for at in range(len(calls)) if roles[at] == role and counted[at]]
        values = [advantages[at] for at in here]
        mean = sum(values) / max(1, len(values))
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values)))
        expected = [(value - mean) / spread if spread > 1e-6 else 0.0 for value in values]
        assert [found[at] for at in here] == pytest.approx(expected, abs=1e-6)
    assert all(found[at] == 0 for at in range(len(calls)) if not counted[at])


def test_without_normalising_nothing_changes() -> None:
    episodes = [played(PAG(), ("attempt", text), ("critique", "wrong"), ("revise", "good")) for text in SCORE]
    table = call_table(episodes)
    torch.testing.assert_close(
        call_advantages(table, "leave_one_out"), call_advantages(table, "leave_one_out", "nothing")
    )
