"""A slow judge: it works while other answers are being written, what it finds reaches nobody in the episode, and how
long everything waits for it is measured."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import CheckerError, GraphError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.judging import alone
from selfcorrect.training.ppo.metrics import cost_metrics
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards, Episode, collect
from selfcorrect.training.pretraining.second_looks import HOMES

FIRST, SECOND, OTHER = "3 + 5 = 8 ; 8 * 7 = 56", "3 + 7 = 10 ; 10 * 5 = 50", "5 + 7 = 12 ; 12 * 3 = 36"


def problem(name: str) -> Problem:
    return Problem(id=name, prompt=f"3 5 7 get {name} :", reference={}, checker="countdown")


@dataclass
class Slow:
    """Calls everything correct, after some passes of the event loop."""

    passes: int = 20
    asked: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    async def check(self, response: str, reference: Any) -> Verdict:
        self.asked.append(response)
        for _ in range(self.passes):
            await asyncio.sleep(0)
        self.done.append(response)
        return Verdict(Status.CORRECT)

    def validate_reference(self, reference: Any) -> str | None:
        return None


class Waiting(ScriptedPolicy):
    """Writes an answer only when the judge has found something about `answer`; nothing, if that never comes."""

    def __init__(self, script: Any, *, judge: Slow, before: str, answer: str) -> None:
        super().__init__(script, tokenizer=HOMES["countdown"].tokenizer())
        self._judge, self._before, self._answer = judge, before, answer

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        told = after is not None and self._before in [*after["messages"][0]["content"].split(), "revision"]
        for _ in range(2000 if told else 0):
            if self._answer in self._judge.done:
                break
            await asyncio.sleep(0)
        if told and self._answer not in self._judge.done:
            raise GraphError(f"{self._answer} is not judged while this answer is awaited")
        return await super().generate(messages, sampling, after=after)


def played(policy: Any, judge: Slow, names: Sequence[str] = ("56",), **options: Any) -> list[Episode]:
    graph = build_graph(policy, prompts=COUNTDOWN, **options)
    paid = CheckerRewards(StageTwo(alpha=1.0), judge)
    problems = [problem(name) for name in names]
    return asyncio.run(collect(graph, problems, paid, sampling=Sampling(), seeds=range(len(problems)), policy=policy))


def test_a_first_answer_is_judged_while_the_second_is_being_written() -> None:
    judge = Slow()
    policy = Waiting([FIRST, SECOND], judge=judge, before="revision", answer=FIRST)
    (episode,) = played(policy, judge)
    assert episode.scores == [1.0, 1.0]
    assert judge.done == [FIRST, SECOND]


def test_episodes_that_are_over_are_judged_while_others_are_played() -> None:
    judge = Slow()
    script = {"get 56": [FIRST, OTHER], "get 50": [SECOND, SECOND]}
    policy = Waiting(script, judge=judge, before="50", answer=OTHER)
    short, long = played(policy, judge, ["56", "50"])
    assert short.scores == long.scores == [1.0, 1.0]


def test_what_the_judge_found_is_in_no_state_before_the_episode_is_over() -> None:
    judge, seen = Slow(passes=0), list[Any]()

    class Looking(ScriptedPolicy):
        async def generate(self, messages: Any, sampling: Any, *, after: Any = None) -> Generation:
            for _ in range(50):
                await asyncio.sleep(0)
            seen.append((list(judge.done), messages, after))
            return await super().generate(messages, sampling, after=after)

    (episode,) = played(Looking([FIRST, SECOND], tokenizer=HOMES["countdown"].tokenizer()), judge)
    (_, first, _), (judged_by_then, second, after) = seen
    assert judged_by_then == [FIRST]
    assert "verdict" not in str(after) and "correct" not in str((first, second, after))
    assert [turn["verdict"]["status"] for turn in episode.state["turns"]] == ["correct", "correct"]


def test_equal_answers_of_an_episode_are_judged_once() -> None:
    judge = Slow()
    (episode,) = played(ScriptedPolicy([FIRST, FIRST], tokenizer=HOMES["countdown"].tokenizer()), judge)
    assert judge.asked == [FIRST] and episode.scores == [1.0, 1.0]


def test_where_the_graph_judges_itself_nothing_is_judged_twice() -> None:
    judge = Slow()
    policy = ScriptedPolicy([FIRST, SECOND], tokenizer=HOMES["countdown"].tokenizer())
    (episode,) = played(policy, judge, checker=judge)
    assert judge.asked == [FIRST, SECOND] and episode.scores == [1.0, 1.0]


def test_what_a_judge_asks_the_policy_is_no_part_of_the_episode() -> None:
    policy = ScriptedPolicy([FIRST, SECOND], tokenizer=HOMES["countdown"].tokenizer())

    @dataclass
    class AsksThePolicy(Slow):
        async def check(self, response: str, reference: Any) -> Verdict:
            await policy.generate([Message(role="user", content="right?")], Sampling())
            return await super().check(response, reference)

    (episode,) = played(policy, AsksThePolicy())
    assert [call.text for call in episode.calls] == [FIRST, SECOND]
    assert episode.draws == 2


def test_a_critique_is_not_judged() -> None:
    judge = Slow()
    policy = ScriptedPolicy([FIRST, "wrong", SECOND], tokenizer=HOMES["countdown"].tokenizer())
    played(policy, judge, critique="self")
    assert judge.asked == [FIRST, SECOND]


def test_the_judge_s_own_failure_is_told_however_early_it_came() -> None:
    @dataclass
    class Broken(Slow):
        async def check(self, response: str, reference: Any) -> Verdict:
            raise CheckerError("no worker can be started")

    with pytest.raises(CheckerError, match="no worker"):
        played(ScriptedPolicy([FIRST, SECOND], tokenizer=HOMES["countdown"].tokenizer()), Broken())


def test_the_judge_is_not_waited_for_where_the_episode_failed() -> None:
    judge = Slow(passes=10**6)
    policy = ScriptedPolicy({"get 56": [FIRST], "get 50": [SECOND, SECOND]}, tokenizer=HOMES["countdown"].tokenizer())
    graph = build_graph(policy, prompts=COUNTDOWN)
    paid = CheckerRewards(StageTwo(alpha=1.0), judge)

    async def both() -> list[Episode]:
        asked = collect(graph, [problem("56")], paid, sampling=Sampling(), seeds=[0], policy=policy,
                        rules=EpisodeRules("drop"))  # fmt: skip
        return await asyncio.wait_for(asked, 20)

    with pytest.raises(Exception, match="56"):
        asyncio.run(both())
    assert judge.done == []


# How long it is waited for.


def test_time_counts_in_which_something_is_judged_and_nothing_drawn() -> None:
    drawing = [(0.0, 4.0), (5.0, 6.0)]
    assert alone([(3.0, 4.5), (4.25, 5.5), (5.75, 8.0)], drawing) == pytest.approx(1.0 + 2.0)
    assert alone([(1.0, 2.0)], drawing) == 0
    assert alone([(1.0, 2.0)], []) == 1
    assert alone([], drawing) == 0


def spans() -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])))


@given(spans(), spans())
def test_it_is_the_count_of_such_moments(judging: list[tuple[int, int]], drawing: list[tuple[int, int]]) -> None:
    def covers(spans: list[tuple[int, int]], moment: int) -> bool:
        return any(begin <= moment < end for begin, end in spans)

    moments = sum(covers(judging, moment) and not covers(drawing, moment) for moment in range(30))
    assert alone(judging, drawing) == moments


def test_a_step_tells_how_long_it_only_judged() -> None:
    async def judged_for_ever(seconds: float) -> list[Episode]:
        @dataclass
        class Sleeping(Slow):
            async def check(self, response: str, reference: Any) -> Verdict:
                await asyncio.sleep(seconds)
                return Verdict(Status.CORRECT)

        policy = ScriptedPolicy([FIRST, SECOND], tokenizer=HOMES["countdown"].tokenizer())
        paid = CheckerRewards(StageTwo(alpha=1.0), Sleeping())
        graph = build_graph(policy, prompts=COUNTDOWN)
        return await collect(graph, [problem("56")] * 2, paid, sampling=Sampling(), seeds=[0, 1], policy=policy)

    episodes = asyncio.run(judged_for_ever(0.2))
    figures = cost_metrics(episodes, 1.0)
    assert 0.1 < figures["judging_alone_seconds"]
    assert all(len(episode.judging) == len(episode.drawing) == 2 for episode in episodes)
