"""The loop that runs a problem's examples, and nothing of its tests."""

import asyncio

import pytest
from langchain_core.messages import AIMessage

from selfcorrect import ChatSelfCorrect
from selfcorrect.agents import ScriptedPolicy, build_graph, evaluate, play_sync
from selfcorrect.agents.critiques import CRITIQUES, refuse_without_programs
from selfcorrect.agents.prompts import SCORE_CODE, refuse_feedback
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards import CountdownChecker, UnitTestChecker
from selfcorrect.rewards.code.example_runner import ExampleRunner, shared_runner
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.pretraining.second_looks import HOMES

TESTS = ["assert f(2) == 4", "assert f(3) == 9", "assert f(-1) == 1"]
SHOWN = Problem(id="p", prompt="def f(x):\n    '''f(2) => 4, f(3) => 9'''", reference=TESTS, checker="code")
NONE_SHOWN = SHOWN.model_copy(update={"prompt": "def f(x):\n    'the square'"})
DOUBLE, SQUARE, BY_HEART = (
    "def f(x): return x + x",
    "def f(x): return x * x",
    "def f(x): return {2: 4, 3: 9}.get(x)",
)


def played(problem: Problem, *script: str, revisions: int = 3) -> tuple[list[str], str, list[str]]:
    """The answers, why the episode ended, and what asked for each revision."""
    graph = build_graph(ScriptedPolicy(script), prompts=SCORE_CODE, revisions=revisions, critique="examples")
    (state,) = play_sync(graph, [problem])
    turns = [turn["generation"] for turn in state["turns"]]
    return [one["text"] for one in turns], state["stop_reason"], [one["messages"][-1]["content"] for one in turns[1:]]


def test_what_came_of_the_examples_is_told_until_they_hold() -> None:
    answers, reason, asked = played(SHOWN, DOUBLE, "no program", SQUARE)
    assert (answers, reason) == ([DOUBLE, "no program", SQUARE], "verified")
    told = "passed 1 of 2 tests; test 2 failed: f(3) returned 6; by the task, f(3) is 9"
    assert asked[0] == SCORE_CODE.feedback.replace("{reason}", told)
    assert "passed 0 of 2 tests" in asked[1] or "no program" in asked[1]


def test_an_answer_that_does_what_the_examples_say_is_not_asked_about() -> None:
    assert played(SHOWN, SQUARE)[:2] == ([SQUARE], "verified")
    assert played(NONE_SHOWN, DOUBLE)[:2] == ([DOUBLE], "no examples")


def test_the_tests_decide_nothing_but_the_verdict() -> None:
    """A program that knows the examples by heart passes them, is left alone, and is wrong."""
    graph = build_graph(ScriptedPolicy([BY_HEART]), prompts=SCORE_CODE, critique="examples")
    report, (episode,) = evaluate(graph, [SHOWN], UnitTestChecker())
    assert episode["stop_reason"] == "verified" and report.accuracy_t1 == 0.0
    assert report.setting == "correction by the problem's own examples"


def test_an_application_tries_what_its_users_ask_for() -> None:
    def asked(question: str, *script: str) -> AIMessage:
        policy = ScriptedPolicy(script)
        return ChatSelfCorrect(policy=policy, critique="examples", revisions=2, prompts=SCORE_CODE).invoke(question)

    mended = asked(SHOWN.prompt, DOUBLE, SQUARE)
    assert (mended.content, mended.response_metadata["stop_reason"]) == (SQUARE, "verified")
    assert asked("Hello!", "Hello.").content == "Hello."


def test_examples_that_cannot_be_run_are_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfcorrect.rewards.code.example_runner.shared_runner", lambda: _Unable())
    answers, reason, asked = played(SHOWN, DOUBLE, SQUARE, revisions=1)
    assert (answers, reason, asked) == ([DOUBLE, SQUARE], "revisions", [SCORE_CODE.revise])


class _Unable:
    """Its machine is too busy."""

    async def run(self, problem: str, response: str) -> object:
        from selfcorrect.rewards.checker import Status, Verdict

        return Verdict(Status.UNJUDGED, None, "the machine was too busy")


def test_findings_are_remembered_and_say_what_was_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = ExampleRunner()
    first = asyncio.run(runner.run(SHOWN.prompt, DOUBLE))
    assert first is not None and first.score == 0.5
    monkeypatch.setattr(runner.checker, "check", None)
    assert asyncio.run(runner.run(SHOWN.prompt, DOUBLE)) is first
    assert asyncio.run(runner.run(NONE_SHOWN.prompt, DOUBLE)) is None
    assert shared_runner() is shared_runner()


def test_where_no_programs_are_judged_or_sentences_read_it_is_refused() -> None:
    mode = CRITIQUES["examples"]
    refuse_without_programs(mode, UnitTestChecker())
    refuse_without_programs(CRITIQUES["self"], None)
    for checker, words in ((None, "nobody judges"), (CountdownChecker(), "a CountdownChecker judges")):
        with pytest.raises(ConfigurationError, match=f"{words} the answers here: take a task of code"):
            refuse_without_programs(mode, checker)
    with pytest.raises(ConfigurationError, match="'examples' shows the policy what examples came to"):
        refuse_feedback(ScriptedPolicy([], tokenizer=HOMES["countdown"].tokenizer()), mode, name="embedded")
