"""Whole runs of the arms of many turns on a tiny policy: which loop is played, what is paid, what is refused."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.agents.critiques import CRITIQUES
from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN, refuse_feedback
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.settings import combine
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.arms import Arm
from selfcorrect.training.arms.many_turns.cocos import cocos
from selfcorrect.training.arms.many_turns.judge_then_act import judge_then_act
from selfcorrect.training.arms.many_turns.murphy import murphy
from selfcorrect.training.arms.many_turns.reflect_retry import reflect_retry
from selfcorrect.training.arms.many_turns.s2r import s2r
from selfcorrect.training.arms.many_turns.self_rewarding import self_rewarding
from selfcorrect.training.arms.many_turns.ufo import ufo
from selfcorrect.training.ppo.config import CriticConfig
from selfcorrect.training.ppo.objectives import MultiTurn
from selfcorrect.training.ppo.rollouts import CheckerRewards, collect
from selfcorrect.training.pretraining.second_looks import HOMES
from selfcorrect.training.settings import (
    EvaluationSettings,
    GraphSettings,
    LookSettings,
    OptimiserSettings,
    PolicySettings,
    RunSettings,
    ScoreSettings,
)

PROBLEM = Problem(
    id="one", prompt="3 5 7 get 56 :", reference={"numbers": [3, 5, 7], "target": 56}, checker="countdown"
)
GOLD, BAD = "3 + 5 = 8 ; 8 * 7 = 56", "3 + 7 = 10 ; 10 * 5 = 50"


def settings_for(folder: Path, **changes: Any) -> RunSettings:
    settings = RunSettings(
        policy=PolicySettings(model=str(folder), max_new_tokens=4),
        graph=GraphSettings(revisions=3, fewest_revisions=1),
        looks=LookSettings(warm_up_steps=1),
        score=ScoreSettings(stage_one_steps=1, stage_two_steps=1),
        optimiser=OptimiserSettings(problems_per_step=4, episodes_per_problem=4, learning_rate=1e-3),
        evaluation=EvaluationSettings(problems=4, revisions=5),
    )
    return combine(settings, changes, (), source="test")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "evaluated", "answers"),
    [
        (judge_then_act, "correction after own critique", None),
        (s2r, "correction after own critique", None),
        (self_rewarding, "correction after own critique", None),
        (ufo, "intrinsic correction", 6),
        (reflect_retry, "correction after own critique, always", 6),
        (murphy, "intrinsic correction", 6),
        (cocos, "intrinsic correction", 6),
    ],
)
def test_an_arm_trains_in_its_loop_and_is_evaluated_over_more_turns_without_any_verdict(
    arm: Arm, evaluated: str, answers: int | None, tiny_model_folder: Path, tmp_path: Path
) -> None:
    result = arm(settings_for(tiny_model_folder), out=tmp_path / "run")
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert result.after["setting"] == evaluated
    if answers is not None:  # a random policy stops by itself when it likes
        assert result.after["answers"] == answers
    assert (tmp_path / "run" / "report.html").exists()
    # every answer of this policy is wrong, so training never stops for that, and three revisions are the most
    assert max(int(name.removeprefix("accuracy_t")) for name in steps[-1] if name.startswith("accuracy_t")) <= 4


@pytest.mark.slow
def test_the_steps_of_the_warm_up_are_a_stage_of_the_run(tiny_model_folder: Path, tmp_path: Path) -> None:
    judge_then_act(settings_for(tiny_model_folder), out=tmp_path / "run")
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step["stage"] for step in steps] == [1, 2]
    assert "reward/answer_1" not in steps[0] and "reward/answer_1" in steps[1]


@pytest.mark.slow
@pytest.mark.parametrize("arm", [judge_then_act, s2r, self_rewarding])
def test_a_warm_up_is_not_taken_for_a_run_that_learns_nothing(arm: Arm, tmp_path: Path) -> None:
    """What is imitated is paid 1 in all episodes of a problem, and learnt all the same."""
    settings = combine(
        settings_for(tmp_path),
        {"policy": {"model": "embedded-looks", "max_new_tokens": 40}, "looks": {"warm_up_steps": 2}},
        ["optimiser.stop_after_idle=1", "score.stage_two_steps=2", "graph.revisions=2"],
        source="test",
    )
    arm(settings, out=tmp_path / "run")
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(step["no_signal"] < 1 and step["grad_norm"] > 0 for step in steps[:2])


@pytest.mark.parametrize(
    ("arm", "changes", "words"),
    [
        (judge_then_act, {"looks": {"warm_up_steps": 2}}, "leaves none of the 2 steps"),
        (s2r, {"graph": {"critique": "feedback"}}, "is trained in the loop 'self'"),
        (ufo, {"score": {"objective": "multi-turn"}}, "pays by its own objective"),
        (cocos, {"graph": {"critique": "self"}}, "is trained in the loop 'instruction'"),
        (ufo, {"credit_by_role": {"critique": {"kind": "outcome"}}}, "in which the policy writes no critique"),
        (murphy, {"looks": {"branches": 3}}, "must be a multiple of it"),
        (murphy, {"credit": {"kind": "outcome"}}, "the settings' own"),
        (self_rewarding, {"optimiser": {"critic": CriticConfig().model_dump()}}, "leave optimiser.critic out"),
    ],
)
def test_what_an_arm_does_not_do_is_refused_before_anything_is_loaded(
    arm: Arm, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        arm(settings_for(tmp_path / "no model here", **changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def roles_in(critique: str, *script: str) -> tuple[list[str], str]:
    graph = build_graph(
        ScriptedPolicy(script), checker=CountdownChecker(), prompts=COUNTDOWN, revisions=3, critique=critique
    )
    (state,) = play_sync(graph, [PROBLEM])
    return [turn["role"] for turn in state["turns"]], state["stop_reason"]


def test_the_loops_of_the_arms() -> None:
    assert roles_in("try-again", BAD, BAD, GOLD) == (["attempt", "revise", "revise"], "verified")
    assert roles_in("try-again", GOLD) == (["attempt"], "verified")
    assert roles_in("reflect", BAD, "right", GOLD) == (["attempt", "critique", "revise"], "verified")
    assert roles_in("reflect", GOLD) == (["attempt"], "verified")
    always = ["attempt", *["critique", "revise"] * 3]
    assert roles_in("refine", GOLD, *["right", GOLD] * 3) == (always, "revisions")


def test_try_again_says_nothing_but_that() -> None:
    graph = build_graph(
        ScriptedPolicy([BAD, GOLD]), checker=CountdownChecker(), prompts=COUNTDOWN, critique="try-again"
    )
    (state,) = play_sync(graph, [PROBLEM])
    assert state["turns"][1]["generation"]["messages"][-1]["content"] == COUNTDOWN.revise


def test_a_policy_that_reads_no_sentences_can_be_asked_to_try_again() -> None:
    policy = ScriptedPolicy([], tokenizer=HOMES["countdown"].tokenizer())
    for critique in ("try-again", "reflect", "refine"):
        refuse_feedback(policy, CRITIQUES[critique], name="embedded")
    with pytest.raises(ConfigurationError, match="cannot read"):
        refuse_feedback(policy, CRITIQUES["feedback"], name="embedded")


def test_a_branch_of_an_answer_that_is_right_already_adds_nothing() -> None:
    """MURPHY's branches end where the shared first answer does."""
    policy = ScriptedPolicy([GOLD, BAD], tokenizer=HOMES["countdown"].tokenizer())
    graph = build_graph(policy, checker=CountdownChecker(), prompts=COUNTDOWN, critique="try-again")
    paid = CheckerRewards(MultiTurn(), CountdownChecker())
    how: dict[str, Any] = {"sampling": Sampling(), "seeds": [1], "policy": policy}
    (whole,) = asyncio.run(collect(graph, [PROBLEM], paid, **how))
    trunk = whole.as_trunk(7)
    (branch,) = asyncio.run(collect(graph, [PROBLEM], paid, **how, trunks=[trunk]))
    assert (len(whole.calls), branch.scores, branch.trunk, branch.copied_calls) == (1, [1.0], 7, 1)
    assert [signal.learns for signal in branch.signals] == [False]
