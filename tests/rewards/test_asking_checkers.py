"""Checkers are told the problem if they take one; a checker of two arguments goes on working."""

import asyncio
from typing import Any

import pytest
from small_models import problem

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.rewards.checker import Checker, Status, Verdict, judged, judged_sync
from selfcorrect.tasks.validate import validate_problems


class TwoArguments:
    """As users wrote them before there were problems to know."""

    def check_sync(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.CORRECT if response == reference else Status.WRONG)

    async def check(self, response: str, reference: Any) -> Verdict:
        return self.check_sync(response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        return None


class Told(TwoArguments):
    """Wants the problem, and says what it was told."""

    def check_sync(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        return Verdict(Status.CORRECT if problem == "3 5 get 8 :" else Status.WRONG, reason=str(problem))

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        return self.check_sync(response, reference, problem=problem)


class Anything(Told):
    """Takes the problem by its ** parameter."""

    def check_sync(self, response: str, reference: Any, **more: Any) -> Verdict:
        return Verdict(Status.CORRECT, reason=str(more))


@pytest.mark.parametrize("checker", [TwoArguments(), Told(), Anything()])
def test_both_kinds_are_checkers(checker: Any) -> None:
    assert isinstance(checker, Checker)


def test_a_checker_of_two_arguments_is_asked_with_two() -> None:
    checker: Any = TwoArguments()
    assert judged_sync(checker, "8", "8", "3 5 get 8 :").correct
    assert asyncio.run(judged(checker, "8", "8", "3 5 get 8 :")).correct


def test_a_checker_that_takes_the_problem_is_told_it() -> None:
    assert judged_sync(Told(), "8", "8", "what?").reason == "what?"
    assert asyncio.run(judged(Told(), "8", "8", "what?")).reason == "what?"
    assert judged_sync(Anything(), "8", "8", "what?").reason == "{'problem': 'what?'}"
    assert judged_sync(Told(), "8", "8", None).reason == "None"


@pytest.mark.parametrize("in_graph", [False, True], ids=["after the episode", "in the graph"])
@pytest.mark.parametrize("checker", [TwoArguments(), Told()], ids=["two arguments", "told"])
def test_evaluation_and_graph_pass_the_problem_on(checker: Any, in_graph: bool) -> None:
    asked = problem("3 5 get 8 :", reference="3 + 5 = 8")
    policy = ScriptedPolicy({"get": ["3 + 5 = 8"] * 2})
    graph = build_graph(policy, prompts=COUNTDOWN, checker=checker if in_graph else None)
    report, _ = evaluate(graph, [asked], checker)
    assert report.accuracy == [1.0, 1.0]


@pytest.mark.parametrize("checker", [TwoArguments(), Told()], ids=["two arguments", "told"])
def test_validation_passes_the_problem_on(checker: Any) -> None:
    assert validate_problems([problem("3 5 get 8 :", reference="8").model_copy(update={"gold": "8"})], checker).passed
