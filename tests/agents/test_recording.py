"""What is recorded of a graph's policy calls: where, in which order, by whom, and how they were drawn."""

import asyncio
import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest
from dice_policy import DicePolicy
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, Send

from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.recording import Draws, PolicyCall, calls_so_far, recording
from selfcorrect.agents.state import Message
from selfcorrect.errors import GraphError


class State(TypedDict, total=False):
    shown: str
    texts: Annotated[list[str], operator.add]


def says(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def writer(policy: Any, default: str = "1") -> Any:
    async def node(state: State) -> State:
        generation = await policy.generate(says(state.get("shown", default)), Sampling())
        return {"texts": [generation["text"]]}

    return node


def one_node(node: Any, name: str = "write", **options: Any) -> Any:
    return StateGraph(State).add_node(name, node, **options).add_edge(START, name).add_edge(name, END).compile()


def recorded(graph: Any, policy: Any = None, draws: Draws | None = None) -> list[PolicyCall]:
    with recording(policy, draws) as recorder:
        asyncio.run(graph.ainvoke({}))
    return recorder.calls


def test_a_call_knows_its_node_and_the_nodes_around_it() -> None:
    outer = one_node(one_node(writer(DicePolicy()), "write"), "solver")
    (call,) = recorded(outer)
    assert (call.node, call.nodes, call.turn) == ("write", ("solver", "write"), 1)
    assert call.inside({"solver"}) and call.inside({"write"}) and call.inside(None)
    assert not call.inside({"check"})


def test_turns_count_the_calls_of_a_node_in_a_loop() -> None:
    graph = StateGraph(State)
    graph.add_node("write", writer(DicePolicy())).add_node("check", writer(DicePolicy()))
    graph.add_edge(START, "write").add_edge("write", "check")
    graph.add_conditional_edges("check", lambda state: END if len(state["texts"]) >= 6 else "write", ["write", END])
    assert [(call.node, call.turn) for call in recorded(graph.compile())] == [
        ("write", 1), ("check", 1), ("write", 2), ("check", 2), ("write", 3), ("check", 3),
    ]  # fmt: skip


def test_sent_branches_come_in_the_order_of_sending_even_if_threads_begin_in_another() -> None:
    """The last of three synchronous nodes calls first; each waits for the one after it."""
    policy, done = DicePolicy(), [threading.Event() for _ in range(4)]
    done[3].set()

    def node(state: State) -> State:
        number = int(state["shown"])
        assert done[number + 1].wait(20)
        generation = asyncio.run(policy.generate(says(state["shown"]), Sampling()))
        done[number].set()
        return {"texts": [generation["text"]]}

    graph = StateGraph(State).add_node("write", node)
    graph.add_conditional_edges(START, lambda state: [Send("write", {"shown": str(n)}) for n in range(3)], ["write"])
    calls = recorded(graph.compile())
    assert [call.generation["prompt_ids"] for call in calls] == [[0], [1], [2]]
    assert [call.turn for call in calls] == [1, 2, 3]
    assert len({call.path for call in calls}) == 3


def test_a_try_that_failed_is_not_recorded() -> None:
    policy, tries = DicePolicy(), []

    async def fails_once(state: State) -> State:
        generation = await policy.generate(says("1"), Sampling())
        tries.append(generation)
        if len(tries) < 2:
            raise ConnectionError("the tool did not answer")
        return {"texts": [generation["text"]]}

    calls = recorded(one_node(fails_once, retry_policy=RetryPolicy(initial_interval=0.001)))
    assert [call.generation for call in calls] == tries[1:]


def test_calls_of_another_policy_are_left_alone() -> None:
    mine, other = DicePolicy(), DicePolicy()

    async def node(state: State) -> State:
        await other.generate(says("2"), GREEDY)
        return {"texts": [(await mine.generate(says("1"), GREEDY))["text"]]}

    with recording(mine, Draws(seed=3, temperature=1.0)) as recorder:
        asyncio.run(one_node(node).ainvoke({}))
    assert [call.generation for call in recorder.calls] == mine.drawn
    assert recorder.others == len(other.drawn) == 1


def test_what_learns_is_drawn_at_the_training_temperature_and_what_does_not_as_the_graph_asks() -> None:
    policy = DicePolicy()

    async def node(state: State) -> State:
        generation = await policy.generate(says("1"), Sampling(temperature=0.0, top_p=0.5, max_new_tokens=7, seed=0))
        return {"texts": [generation["text"]]}

    (learns,) = recorded(one_node(node), policy, Draws(seed=3, temperature=0.8))
    (stays,) = recorded(one_node(node), policy, Draws(seed=3, temperature=0.8, nodes=frozenset({"other"})))
    assert (learns.sampling.temperature, learns.sampling.top_p, learns.sampling.max_new_tokens) == (0.8, 1.0, 7)
    assert (stays.sampling.temperature, stays.sampling.top_p, stays.sampling.max_new_tokens) == (0.0, 0.5, 7)
    assert learns.sampling.seed == stays.sampling.seed != 0


def test_nobody_records_outside_an_episode_and_calls_are_drawn_as_asked() -> None:
    policy = DicePolicy()
    with recording(policy) as recorder:
        pass
    asyncio.run(policy.generate(says("1"), GREEDY))
    assert recorder.calls == []
    with pytest.raises(GraphError, match=r"no episode is being recorded here.*asyncio\.to_thread"):
        calls_so_far()


def test_a_node_can_look_at_its_episodes_calls() -> None:
    policy, seen = DicePolicy(), []

    async def node(state: State) -> State:
        await policy.generate(says("1"), Sampling())
        seen.extend(calls_so_far())
        return {}

    calls = recorded(one_node(node))
    assert seen == calls


def test_episodes_that_run_at_once_are_recorded_apart() -> None:
    policy = DicePolicy()
    graph = one_node(writer(policy))

    async def episode(shown: str) -> list[PolicyCall]:
        with recording() as recorder:
            await graph.ainvoke({"shown": shown})
        return recorder.calls

    async def both() -> list[list[PolicyCall]]:
        return list(await asyncio.gather(*(episode(str(number)) for number in range(4))))

    for number, (call,) in enumerate(asyncio.run(both())):
        assert call.generation["prompt_ids"] == [number]
