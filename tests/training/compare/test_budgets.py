"""What the arms are planned to cost: the same, by arithmetic."""

import asyncio
from dataclasses import replace

import pytest

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.evaluation import judge
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import EpisodeState
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.arms.budgets import Costs, refuse_unequal, share_revised, share_wrong_again
from selfcorrect.training.arms.registry import ARMS, arm_specs, comparable
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.compare.report import drift_lines
from selfcorrect.training.settings import DEMO, GraphSettings

COSTS = Costs(attempt=18.0, revise=24.0, critique=7.0, called_wrong=0.5, correct=0.4)


@pytest.mark.parametrize(
    ("arm", "problems"),
    [
        ("score", 32),
        ("multi-turn", 32),
        ("single-turn", 75),  # 32 * (18 + 24) / 18 = 74.7
        ("pag", 36),  # 18 + 7 + 0.5 * 24 = 37 tokens an episode: 32 * 42 / 37 = 36.3
    ],
)
def test_cheaper_episodes_are_played_more_often(arm: str, problems: int) -> None:
    (arm_spec,) = arm_specs([arm])
    assert arm_spec.fitted(DEMO, COSTS).optimiser.problems_per_step == problems


def test_episodes_of_a_drawn_length_cost_their_mean() -> None:
    drawn = DEMO.model_copy(update={"graph": GraphSettings(revisions=4, fewest_revisions=2)})
    (score, pag) = arm_specs(["score", "pag"])
    assert score.planned(drawn, COSTS) == Budget(160 * 256 * (18 + 3 * 24), 160 * 4)
    # All episodes may have two revisions, two thirds a third one, a third a fourth one; half of the answers are revised
    judged = 18 + (7 + 0.5 * 24) + 0.5 * (7 + 0.5 * 24) + 2 / 3 * 0.25 * (7 + 0.5 * 24) + 1 / 3 * 0.125 * (7 + 12)
    assert pag.planned(drawn, COSTS).generated_tokens == round(160 * 256 * judged)


def test_what_was_wrong_once_is_wrong_more_often_again() -> None:
    """Three revisions of all: the first follows half of the answers, each later one 0.8 of those before it."""
    long = DEMO.model_copy(update={"graph": GraphSettings(revisions=3)})
    again = replace(COSTS, called_wrong_again=0.8, wrong_again=0.9)
    pag, ufo = arm_specs(["pag", "ufo"])
    judged = 18 + 7 + 0.5 * (24 + 7) + 0.5 * 0.8 * (24 + 7) + 0.5 * 0.8 * 0.8 * 24
    assert pag.planned(long, again).generated_tokens == round(160 * 256 * judged)
    retried = 18 + 24 * 0.6 * (1 + 0.9 + 0.9 * 0.9)
    assert ufo.planned(long, again).generated_tokens == round(160 * 256 * retried)


def test_how_often_an_answer_is_wrong_again_is_counted_in_played_episodes() -> None:
    problem = Problem(
        id="one", prompt="3 5 7 get 56 :", reference={"numbers": [3, 5, 7], "target": 56}, checker="countdown"
    )
    gold, bad = "3 + 5 = 8 ; 8 * 7 = 56", "3 + 7 = 10 ; 10 * 5 = 50"
    checker = CountdownChecker()

    def played(*script: str, critique: str, revisions: int) -> EpisodeState:
        policy = ScriptedPolicy(script)
        graph = build_graph(policy, checker=checker, prompts=COUNTDOWN, revisions=revisions, critique=critique)
        (state,) = play_sync(graph, [problem])
        return asyncio.run(judge(state, checker))

    fixed = [
        played(bad, bad, gold, critique="instruction", revisions=2),  # wrong, then wrong; wrong, then right
        played(gold, bad, bad, critique="instruction", revisions=2),  # after the right one: wrong, then wrong
    ]
    assert share_wrong_again(fixed) == pytest.approx(2 / 3)
    judged = [
        played(bad, "wrong", bad, "wrong", gold, "right", critique="self", revisions=4),  # revised: 1 of 1, 1 of 2
        played(gold, "right", critique="self", revisions=4),  # 0 of 1
        played(bad, "wrong", bad, "wrong", bad, critique="self", revisions=2),  # 1 of 1, 1 of 1
    ]
    assert (share_revised(judged, later=False), share_revised(judged, later=True)) == (2 / 3, 2 / 3)
    assert share_revised(judged[1:2], later=True) is None


def test_the_goal_is_what_score_costs() -> None:
    (score,) = arm_specs(["score"])
    # 160 steps of 256 episodes of 42 tokens; 2 minibatches in 2 epochs
    assert score.planned(DEMO, COSTS) == Budget(160 * 256 * 42, 160 * 4)


def test_supervised_arms_sample_and_step_as_much_in_equal_parts() -> None:
    star, pair = arm_specs(["star", "pair-sft"])
    fitted = star.fitted(DEMO, COSTS).star
    assert (fitted.tokens, fitted.steps, fitted.data) == (160 * 256 * 42 // fitted.loops, 640 // fitted.loops, "multi")
    assert pair.fitted(DEMO, COSTS).pair_sft.tokens == 160 * 256 * 42


def test_all_arms_of_the_demo_cost_the_same() -> None:
    planned = {
        arm_spec.name: arm_spec.planned(arm_spec.fitted(DEMO, COSTS), COSTS)
        for arm_spec in map(ARMS.find, comparable())
        if arm_spec.planned
    }
    refuse_unequal(planned)
    assert planned["base"] == planned["self-refine"] == Budget(0, 0)


def test_unequal_steps_are_told() -> None:
    with pytest.raises(ConfigurationError, match=r"\(optimiser steps differ by more than 5%\)"):
        refuse_unequal({"a": Budget(1000, 10), "b": Budget(1000, 20)})


def test_an_arm_that_cost_other_than_planned_is_told() -> None:
    def row(planned: int, measured: int | None) -> dict[str, object]:
        cost = None if measured is None else {"generated_tokens": measured, "optimiser_steps": 4}
        return {"planned": {"generated_tokens": planned, "optimiser_steps": 4}, "measured": cost}

    budgets = {"even": row(1000, 1040), "pag": row(1000, 840), "star": row(1000, 1200), "base": row(0, None)}
    assert drift_lines({**budgets, "unfinished": row(1000, None)}) == [
        "pag generated 16% fewer tokens than planned, so it was not compared at equal cost",
        "star generated 20% more tokens than planned, so it was not compared at equal cost",
    ]
