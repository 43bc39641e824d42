"""Answering or not, by a calibrated verifier."""

import asyncio

import pytest
from small_models import problem

from selfcorrect.agents.choosing.abstaining import DONT_KNOW, Abstaining, candidates_of
from selfcorrect.agents.choosing.calibration import RiskThreshold
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import ScriptedVerifier

RULE = RiskThreshold(0.8, 0.1, 0.95, 0.09, 0.03, 0.6, 500)


def ask(script: dict[str, float | None], outputs: list[str], candidates: int = 1) -> str:
    told = iter(outputs)
    policy = ScriptedPolicy(lambda conversation: next(told))
    solver = Abstaining(ScriptedVerifier(script), RULE, candidates)
    return str(asyncio.run(solver.decide(problem("3 5 get 8 :"), policy)))


def test_a_sure_answer_is_given_and_an_unsure_one_is_not() -> None:
    assert ask({"a": 0.8}, ["a"]) == "a" and ask({"a": 0.79}, ["a"]) == DONT_KNOW


def test_the_best_scored_candidate_decides() -> None:
    assert ask({"a": 0.1, "b": 0.9}, ["a", "b"], 2) == "b"


def test_candidates_that_cannot_be_read_are_no_reason_to_answer() -> None:
    assert ask({"a": None, "b": None}, ["a", "b"], 2) == DONT_KNOW


def test_a_decision_tells_what_it_cost_and_what_it_held_back() -> None:
    solver = Abstaining(ScriptedVerifier({"3 + 5 = 8": 0.2}), RULE, 2)
    made = asyncio.run(solver.decide(problem("3 5 get 8 :"), ScriptedPolicy(["3 + 5 = 8"])))
    assert (made.answer, made.candidate, made.score, made.candidates, made.tokens) == (None, "3 + 5 = 8", 0.2, 2, 10)


def test_calibrations_are_known_by_how_answers_were_chosen() -> None:
    assert candidates_of("attempt") == 1 and candidates_of("best_of_16") == 16
    with pytest.raises(ConfigurationError, match="'attempt' or 'best_of_K'"):
        candidates_of("vote")
