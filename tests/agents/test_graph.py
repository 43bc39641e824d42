"""The shapes of the loop: who speaks after whom, what is judged, and what the policy gets to see."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from small_models import problem, roles, texts

from selfcorrect.agents.episodes import initial_state, play_sync
from selfcorrect.agents.graph import CritiqueMode, build_graph
from selfcorrect.agents.nodes import Attempt, EpisodeContext, Judge, Revise
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN, SCORE_MATH
from selfcorrect.agents.state import EpisodeState, Generation, Message
from selfcorrect.agents.stopping import Budget, CheckerVerdict, FixedRevisions, OwnVerdict, Stop, VerifierScore
from selfcorrect.errors import ConfigurationError, GraphError
from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.countdown import CountdownChecker

PROBLEM = problem("3 5 7 get 56 :", reference={"numbers": [3, 5, 7], "target": 56})
GOLD = "3 + 5 = 8 ; 8 * 7 = 56"
BAD = "3 + 7 = 10 ; 10 * 5 = 50"


def play_one(script: Any, **options: Any) -> EpisodeState:
    graph = build_graph(ScriptedPolicy(script), prompts=COUNTDOWN, **options)
    return play_sync(graph, [PROBLEM])[0]


def statuses(state: EpisodeState) -> list[str | None]:
    return [turn["verdict"] and turn["verdict"]["status"] for turn in state["turns"]]


@pytest.mark.parametrize("revisions", [0, 1, 2, 5])
def test_an_episode_has_an_attempt_and_every_revision(revisions: int) -> None:
    state = play_one([f"answer {turn}" for turn in range(9)], revisions=revisions)
    assert roles(state) == ["attempt"] + ["revise"] * revisions
    assert texts(state) == [f"answer {turn}" for turn in range(revisions + 1)]
    assert state["stop_reason"] == "revisions"


def test_without_a_checker_nothing_is_judged() -> None:
    assert statuses(play_one([BAD, GOLD])) == [None, None]


def test_with_a_checker_every_answer_is_judged_and_nothing_else_changes() -> None:
    silent, judged = play_one([BAD, GOLD]), play_one([BAD, GOLD], checker=CountdownChecker())
    assert statuses(judged) == [Status.WRONG, Status.CORRECT]
    assert [turn["generation"] for turn in silent["turns"]] == [turn["generation"] for turn in judged["turns"]]


@dataclass
class Listener:
    """A policy that keeps what it was shown, and answers the same whatever that is."""

    answer: str
    heard: list[list[str]]

    async def generate(
        self, messages: list[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        self.heard.append([message["content"] for message in messages])
        return await ScriptedPolicy([self.answer] * 9).generate(messages, sampling, after=after)


@pytest.mark.parametrize("critique", ["instruction", "self"])
@pytest.mark.parametrize("stop", [FixedRevisions(), Budget(tokens=10_000)])
def test_in_the_intrinsic_modes_the_policy_is_shown_the_same_whatever_the_verdicts(
    critique: CritiqueMode, stop: Stop
) -> None:
    heard = []
    for answer in (GOLD, BAD, "nothing readable"):
        listener = Listener(answer, [])
        graph = build_graph(
            listener, checker=CountdownChecker(), prompts=COUNTDOWN, revisions=2, critique=critique, stop=stop
        )
        play_sync(graph, [PROBLEM])
        heard.append(listener.heard)
    assert heard[0] == heard[1] == heard[2]


def test_a_policy_that_accepts_its_answer_is_not_asked_to_revise() -> None:
    state = play_one([BAD, "right", GOLD], critique="self")
    assert (roles(state), state["stop_reason"]) == (["attempt", "critique"], "accepted")


def test_a_policy_that_rejects_its_answer_revises_it() -> None:
    state = play_one([BAD, "wrong", GOLD], critique="self")
    assert (roles(state), state["stop_reason"]) == (["attempt", "critique", "revise"], "revisions")


def test_an_unreadable_critique_lets_the_answer_stand() -> None:
    assert roles(play_one([BAD, "3 3 3", GOLD], critique="self")) == ["attempt", "critique"]


def lengths(**options: Any) -> list[int]:
    """How many revisions each of 300 episodes had."""
    graph = build_graph(ScriptedPolicy({"?": ["answer"] * 9}), prompts=COUNTDOWN, **options)
    played = play_sync(graph, [problem("?", id=str(number)) for number in range(300)], seed=3)
    return [roles(state).count("revise") for state in played]


@pytest.mark.slow
@pytest.mark.parametrize("critique", ["instruction", "self"])
def test_episodes_draw_how_many_revisions_they_may_have(critique: str) -> None:
    drawn = lengths(revisions=4, fewest_revisions=1, critique=critique, stop=FixedRevisions())
    counts = [drawn.count(number) for number in range(6)]
    assert counts[0] == counts[5] == 0
    assert all(45 <= count <= 105 for count in counts[1:5])  # 75 of each are expected, with a deviation of 7.5
    assert drawn == lengths(revisions=4, fewest_revisions=1, critique=critique, stop=FixedRevisions())


def test_the_drawn_length_is_no_reason_to_go_on_after_the_policys_own_word() -> None:
    state = play_one([BAD, "right"], critique="self", revisions=8, fewest_revisions=7)
    assert (roles(state), state["stop_reason"]) == (["attempt", "critique"], "accepted")


@pytest.mark.parametrize("fewest", [-1, 3, 4])
def test_a_range_of_revisions_that_is_none_is_refused(fewest: int) -> None:
    with pytest.raises(GraphError, match="fewest_revisions must be from 0 to below revisions"):
        play_one([BAD], revisions=3, fewest_revisions=fewest)


def test_own_verdicts_are_not_asked_for_after_the_last_revision() -> None:
    state = play_one([BAD, "wrong", BAD, "wrong", GOLD], critique="self", revisions=2, checker=CountdownChecker())
    assert roles(state) == ["attempt", "critique", "revise", "critique", "revise"]
    assert statuses(state) == [Status.WRONG, None, Status.WRONG, None, Status.CORRECT]


def test_fixed_revisions_override_the_policys_own_verdict() -> None:
    state = play_one([BAD, "right", GOLD], critique="self", stop=FixedRevisions())
    assert roles(state) == ["attempt", "critique", "revise"]


def test_feedback_passes_on_what_the_checker_found_and_ends_when_it_is_content() -> None:
    graph = build_graph(
        ScriptedPolicy([BAD, GOLD]), checker=CountdownChecker(), prompts=SCORE_MATH, critique="feedback", revisions=3
    )
    state = play_sync(graph, [PROBLEM])[0]
    assert "the steps reach 50, not 56" in state["turns"][1]["generation"]["messages"][-1]["content"]
    assert (roles(state), state["stop_reason"]) == (["attempt", "revise"], "verified")


def test_a_verifier_may_end_an_episode() -> None:
    async def slow_score(problem: Any, answer: str) -> float:
        return 0.9 if answer == GOLD else 0.2

    for scorer in (slow_score, lambda problem, answer: 0.9 if answer == GOLD else 0.2):
        state = play_one([BAD, GOLD, BAD, BAD], revisions=3, stop=VerifierScore(0.5, scorer))
        assert (texts(state), state["stop_reason"]) == ([BAD, GOLD], "verified")


def test_a_budget_of_tokens_ends_an_episode_after_the_turn_that_uses_it_up() -> None:
    state = play_one(["1 2 3", "4 5 6", "7 8 9"], revisions=2, stop=Budget(tokens=4))
    assert (texts(state), state["stop_reason"]) == (["1 2 3", "4 5 6"], "budget")


def test_a_budget_of_no_time_allows_one_turn() -> None:
    state = play_one([BAD, GOLD], stop=Budget(seconds=0))
    assert (roles(state), state["stop_reason"]) == (["attempt"], "budget")


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="tokens"):
        Budget()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"revisions": -1}, "0 or more"),
        ({"critique": "feedback"}, "checker="),
        ({"stop": OwnVerdict()}, "critique='self'"),
        ({"stop": CheckerVerdict(), "checker": CountdownChecker()}, "intrinsic"),
    ],
)
def test_contradicting_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build_graph(ScriptedPolicy([]), **options)


@dataclass
class Recorded:
    """A policy that keeps how it was to sample."""

    samplings: list[Sampling]

    async def generate(
        self, messages: list[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        self.samplings.append(sampling)
        return await ScriptedPolicy(["x"] * 9).generate(messages, sampling, after=after)


def test_the_same_compiled_graph_samples_as_each_run_says() -> None:
    policy = Recorded([])
    graph = build_graph(policy, prompts=COUNTDOWN)
    play_sync(graph, [PROBLEM], sampling=Sampling(temperature=0.7))
    play_sync(graph, [PROBLEM], sampling=GREEDY)
    assert [sampling.temperature for sampling in policy.samplings] == [0.7, 0.7, 0.0, 0.0]


def test_every_turn_and_every_episode_has_a_seed_of_its_own_and_replays_with_it() -> None:
    policy = Recorded([])
    graph = build_graph(policy, prompts=COUNTDOWN)
    play_sync(graph, [PROBLEM, PROBLEM], seed=3)
    first = [sampling.seed for sampling in policy.samplings]
    play_sync(graph, [PROBLEM, PROBLEM], seed=3)
    assert len(set(first)) == 4
    assert [sampling.seed for sampling in policy.samplings[4:]] == first


def test_a_graph_runs_without_context_and_without_seed() -> None:
    policy = Recorded([])
    graph = build_graph(policy, prompts=COUNTDOWN)
    state = asyncio.run(graph.ainvoke({"problem": PROBLEM.model_dump(), "turns": []}))
    assert (len(state["turns"]), policy.samplings) == (2, [Sampling(), Sampling()])


def test_the_recursion_limit_is_that_of_the_longest_episode() -> None:
    state = play_one(["x", "wrong"] * 9, critique="self", revisions=6, checker=CountdownChecker())
    graph = build_graph(ScriptedPolicy([]), revisions=6)
    assert len(state["turns"]) == 13
    assert graph.config is not None and graph.config["recursion_limit"] == 22


def test_the_picture_shows_the_loop() -> None:
    picture = build_graph(ScriptedPolicy([]), revisions=2, critique="self").get_graph().draw_mermaid()
    for edge in ("attempt -.-> critique", "critique -.-> revise", "revise -.-> critique", "critique -.-> __end__"):
        assert edge in picture


def test_an_episode_survives_a_checkpointer() -> None:
    graph = build_graph(
        ScriptedPolicy([BAD, GOLD]), checker=CountdownChecker(), prompts=COUNTDOWN, checkpointer=InMemorySaver()
    )
    thread: RunnableConfig = {"configurable": {"thread_id": "1"}}

    async def play_and_look_up() -> tuple[Any, Any]:
        return await graph.ainvoke(initial_state(PROBLEM, 0), thread), (await graph.aget_state(thread)).values

    played, stored = asyncio.run(play_and_look_up())
    assert played == stored
    assert statuses(stored) == [Status.WRONG, Status.CORRECT]


def test_nodes_serve_in_a_graph_of_ones_own() -> None:
    policy = ScriptedPolicy([BAD, GOLD])
    graph = StateGraph(EpisodeState, context_schema=EpisodeContext)
    graph.add_node("draft", Attempt(policy, COUNTDOWN))
    graph.add_node("final", Revise(policy, COUNTDOWN))
    graph.add_node("judge", Judge(CountdownChecker()))
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "final")
    graph.add_edge("final", "judge")
    graph.add_edge("judge", END)
    state = asyncio.run(graph.compile().ainvoke(initial_state(PROBLEM, 0)))
    assert statuses(state) == [None, Status.CORRECT]
