"""An evaluation plays, judges and reports."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from small_models import problem
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.evaluation import evaluate, evaluate_async, report_on
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN, SCORE_MATH
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.countdown import CountdownChecker

GOLD = "3 + 5 = 8 ; 8 * 2 = 16"
BAD = "3 + 5 = 8 ; 8 + 2 = 10"
SCRIPTS = {"1 :": [BAD, GOLD], "2 :": [GOLD, GOLD], "3 :": [GOLD, BAD], "4 :": [BAD, GOLD]}
PROBLEMS = [
    problem(f"3 5 2 get 16 {name}", id=name, reference={"numbers": [2, 3, 5], "target": 16}) for name in SCRIPTS
]


def graph(tokenizer: Any = None, **options: Any) -> Any:
    return build_graph(ScriptedPolicy(SCRIPTS, tokenizer=tokenizer), prompts=COUNTDOWN, **options)


def test_the_figures_of_four_episodes() -> None:
    report, states = evaluate(graph(), PROBLEMS, CountdownChecker())
    figures = report.as_dict()
    assert (figures["accuracy_t1"], figures["accuracy_t2"], figures["accuracy"]) == (0.5, 0.75, [0.5, 0.75])
    assert (figures["delta"], figures["i_to_c"], figures["c_to_i"], figures["unchanged"]) == (0.25, 0.5, 0.25, 0.25)
    assert figures["edit_distance"] == pytest.approx(3 * 2 / 11 / 4)  # an operator and the result differ
    assert (figures["n"], figures["truncated"], figures["unjudged"], figures["mcnemar_p"]) == (4, 0, 0, 1.0)
    assert [turn["verdict"] is not None for state in states for turn in state["turns"]] == [True] * 8


def test_episodes_that_the_policy_ended_itself_are_counted_with_their_last_answers() -> None:
    scripts = {
        "1 :": [BAD, "wrong", GOLD, "right"],  # stops, right
        "2 :": [BAD, "right"],  # stops, wrong
        "3 :": [GOLD, "wrong", BAD, "wrong", GOLD],  # never stops
        "4 :": [GOLD, "right"],
    }
    policy = ScriptedPolicy(scripts)
    report, _ = evaluate(
        build_graph(policy, prompts=COUNTDOWN, critique="self", revisions=2), PROBLEMS, CountdownChecker()
    )
    assert (report.stopped, report.stopped_right) == (3 / 4, 2 / 3)
    assert report.stopped_right_ci95 == pytest.approx((0.2077, 0.9385), abs=1e-4)  # Wilson's of 2 of 3
    assert report.answers == (2 + 1 + 3 + 1) / 4
    assert report.accuracy == [0.5, 0.5, 0.75]  # an episode that ended keeps its answer
    assert report.c_to_i == 0.0


def test_tokens_are_counted_where_the_policy_reports_them(tokenizer: PreTrainedTokenizerFast) -> None:
    report, _ = evaluate(graph(tokenizer), PROBLEMS, CountdownChecker())
    assert (report.tokens_per_turn, report.tokens, report.answers) == ([12, 12], 24, 2)


def test_a_report_is_json() -> None:
    figures = report_on([]).as_dict()
    assert figures["accuracy_t1"] is None
    assert json.loads(json.dumps(figures)) == figures


class Silent:
    """A judge that fails on the second answers."""

    def check_sync(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.UNJUDGED if response == GOLD else Status.WRONG)

    async def check(self, response: str, reference: Any) -> Verdict:
        return self.check_sync(response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        return None


def test_unjudged_answers_are_counted_and_score_nothing() -> None:
    report, _ = evaluate(graph(), PROBLEMS, Silent())
    assert report.unjudged == 5 / 8
    assert report.accuracy == [0.0, 0.0]
    assert report.as_dict()["delta"] is None  # no episode has both answers judged


def test_verdicts_of_the_graph_are_kept() -> None:
    _, states = evaluate(graph(checker=CountdownChecker()), PROBLEMS, Silent())
    assert states[0]["turns"][0]["verdict"]["status"] == Status.WRONG
    assert states[0]["turns"][1]["verdict"]["status"] == Status.CORRECT


def test_feedback_is_labelled() -> None:
    with_feedback = build_graph(
        ScriptedPolicy(SCRIPTS), prompts=SCORE_MATH, critique="feedback", checker=CountdownChecker()
    )
    assert "feedback" in evaluate(with_feedback, PROBLEMS, CountdownChecker())[0].setting
    assert evaluate(graph(), PROBLEMS, CountdownChecker())[0].setting == "intrinsic correction"


def test_it_may_be_awaited_and_called_inside_a_running_loop() -> None:
    async def both() -> Sequence[float]:
        awaited, _ = await evaluate_async(graph(), PROBLEMS, CountdownChecker(), sampling=Sampling(temperature=1.0))
        called, _ = evaluate(graph(), PROBLEMS, CountdownChecker())
        return awaited.accuracy_t1, called.accuracy_t1

    assert asyncio.run(both()) == (0.5, 0.5)
