"""Searching for programs: votes by what they do, choices by the examples of the problem."""

import asyncio

import pytest
from step_policy import ListPolicy, generation

from selfcorrect.agents import BestOfN, Majority, WeightedBestOfN, search_sync
from selfcorrect.agents.search.state import Candidate, SearchModels, counted_as, strictly_counted_as
from selfcorrect.agents.search.strategies import Strategy
from selfcorrect.agents.state import Generation
from selfcorrect.errors import SandboxError
from selfcorrect.rewards import UnitTestChecker
from selfcorrect.rewards.verifiers.examples import ExampleVerifier
from selfcorrect.tasks.problem import Problem

PROBLEM = Problem(id="square", prompt="def f(x):\n    '''f(2) => 4, f(3) => 9'''", reference=None, checker="code")


WRONG = ["def f(x): return x + x", "def f(x): return 2 * x", "f = lambda x: x + x"]
RIGHT = ["def f(x): return x * x", "def f(x): return x ** 2"]
SLIPS = ["def f(x): return x +", "def f(x): return y", "def g(x): return x"]


def found(strategy: Strategy, answers: list[str], verifier: ExampleVerifier | None = None) -> str:
    return search_sync(PROBLEM, strategy, ListPolicy(answers), verifier).answer


def test_programs_vote_together_that_do_the_same() -> None:
    """By their texts, the first of five different programs would win."""
    assert found(Majority(5), [*SLIPS, *RIGHT]) == RIGHT[0]
    assert found(Majority(5), [*RIGHT, *WRONG]) == WRONG[0]  # most do the wrong thing: a vote knows no better


def test_the_examples_choose_and_weigh() -> None:
    verifier = ExampleVerifier()
    assert found(BestOfN(4), [*WRONG, RIGHT[0]], verifier) == RIGHT[0]
    assert found(WeightedBestOfN(5), [*RIGHT, *WRONG], verifier) == RIGHT[0]  # 2 x 1 against 3 x 0.5
    unknown = PROBLEM.model_copy(update={"prompt": "def f(x):\n    'the square'"})
    result = search_sync(unknown, BestOfN(3), ListPolicy([RIGHT[0], WRONG[0], WRONG[0]]), verifier)
    assert result.answer == WRONG[0] and "the majority decided" in result.notes[0]


def test_a_search_tells_what_the_programs_do() -> None:
    result = search_sync(PROBLEM, Majority(3, early=False), ListPolicy([WRONG[0], *RIGHT]))
    assert dict(result.votes) == {"f(2) = 4 ; f(3) = 9": 2, "f(2) = 4 ; f(3) = 6": 1}


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("```python\n{}\n```\nIt squares the num", True),
        ("```python\n{}\n```", True),
        ("```python\n{}", False),  # more of the program might have come
        ("{}", False),
        ("```python\n{}\n```\nOr, better:\n```python\ndef f(x):", True),  # by which the checker would judge it, too
        ("", False),
    ],
)
def test_a_program_that_stands_there_whole_counts_though_its_explanation_was_cut_off(written: str, whole: bool) -> None:
    async def made(finish: str) -> Candidate:
        answer: Generation = {**generation(written.replace("{}", RIGHT[0]), 9), "finish_reason": finish}  # type: ignore[typeddict-item]
        return await SearchModels(ListPolicy([])).candidate(PROBLEM, answer, chain=0)

    assert (asyncio.run(made("length"))["key"] is not None) == whole


def test_other_answers_that_were_cut_off_take_no_part() -> None:
    sums = Problem(id="s", prompt="?", reference=None, checker="math")
    cut = generation("It is $\\boxed{4}$, as", 9, cut_off=True)
    assert asyncio.run(SearchModels(ListPolicy([])).candidate(sums, cut, chain=0))["key"] is None


def test_where_nothing_can_be_run_texts_are_counted_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def unjailed(self: UnitTestChecker, response: str, problem: str) -> str | None:
        raise SandboxError("this machine has no Landlock")

    monkeypatch.setattr(UnitTestChecker, "executed_key", unjailed)
    result = search_sync(PROBLEM, Majority(3, early=False), ListPolicy([RIGHT[0], WRONG[0], WRONG[0]]))
    assert result.answer == WRONG[0] and dict(result.votes) == {WRONG[0]: 2, RIGHT[0]: 1}
    assert [record.message for record in caplog.records if "no Landlock" in record.message] == [
        "votes count programs by their texts, as none can be run here: this machine has no Landlock"
    ]


@pytest.mark.parametrize("count", [counted_as, strictly_counted_as])
def test_what_is_no_program_counts_as_before(count: object) -> None:
    def key(checker: str, prompt: str, text: str) -> str | None:
        problem = Problem(id="p", prompt=prompt, reference=None, checker=checker)
        return asyncio.run(count(problem, text))  # type: ignore[operator]

    assert key("math", "?", "The final answer is $\\boxed{ 4 }$.") == "4"
    assert key("none", "?", " yes ") == "yes" and key("code", "?", "x = 1") == "x = 1"
    steps = key("countdown", "3 5 7 get 56 :", "5 + 3 = 8 ; 8 * 7 = 56")
    assert steps == ("7 * 8 = 56" if count is counted_as else "3 + 5 = 8 ; 7 * 8 = 56")
