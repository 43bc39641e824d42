"""Random LangGraph graphs, played for real: every sampled token is trained exactly once, in the context it was
sampled in."""

import asyncio
import operator
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
import torch
from dice_policy import DicePolicy
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.own_graph_rewards import FunctionRewards
from selfcorrect.training.ppo.batching import call_table, placed_rows, row_tensors
from selfcorrect.training.ppo.rollouts import Episode, collect

pytestmark = pytest.mark.slow

PAD = 99
NAMES = ["write", "check", "rewrite"]


def latest(before: Any, new: Any) -> Any:
    return new if new is not None else before


class State(TypedDict, total=False):
    last: Annotated[Generation | None, latest]
    log: Annotated[list[str], operator.add]


@dataclass(frozen=True)
class Call:
    """A node that calls the policy: going on from the last generation or not; `others` is a call of another policy."""

    name: str
    shown: str
    goes_on: bool
    times: int = 1
    others: bool = False


@dataclass(frozen=True)
class Inside:
    """A subgraph."""

    steps: tuple[Any, ...]


@dataclass(frozen=True)
class SideBySide:
    """Subgraphs in parallel, by `Send`."""

    branches: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Either:
    """A conditional edge, which looks at what was drawn."""

    even: Call
    odd: Call


CALLS = st.builds(
    Call,
    name=st.sampled_from(NAMES),
    shown=st.lists(st.integers(0, 3), min_size=1, max_size=2).map(lambda ids: " ".join(map(str, ids))),
    goes_on=st.booleans(),
    times=st.integers(1, 2),
    others=st.integers(0, 4).map(lambda number: number == 0),
)
STEPS = st.recursive(
    st.one_of(CALLS, st.builds(Either, CALLS, CALLS)),
    lambda inner: st.one_of(
        st.builds(Inside, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(
            SideBySide, st.lists(st.lists(inner, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple)
        ),
    ),
    max_leaves=5,
)
PLANS = st.lists(STEPS, min_size=1, max_size=3).map(tuple)


def graph_of(plan: tuple[Any, ...], trained: DicePolicy, other: DicePolicy) -> Any:
    """The plan as a compiled graph: one step after the other."""
    graph = StateGraph(State)
    end: Any = START
    for number, step in enumerate(plan):
        end = ADD[type(step)](graph, step, end, number, trained, other)
    graph.add_edge(end, END)
    return graph.compile()


def node_of(call: Call, trained: DicePolicy, other: DicePolicy) -> Any:
    async def node(state: State) -> State:
        last = state.get("last")
        for _ in range(call.times):
            asked = other if call.others else trained
            after = last if call.goes_on else None
            last = await asked.generate(
                [{"role": "user", "content": call.shown}],
                Sampling(temperature=0.0, seed=1),
                after=after,
                label=call.name,
            )
        return {"last": last, "log": [call.name]}

    return node


def logs(what: str) -> Any:
    async def node(state: State) -> State:
        return {"log": [what]}

    return node


def add_call(graph: Any, call: Call, end: Any, number: int, trained: DicePolicy, other: DicePolicy) -> str:
    # Node names may not repeat in a graph: the first of a name keeps it, so that `trainable` can select it.
    name = call.name if call.name not in graph.nodes else f"{call.name}{number}"
    graph.add_node(name, node_of(call, trained, other))
    graph.add_edge(end, name)
    return name


def add_inside(graph: Any, step: Inside, end: Any, number: int, trained: DicePolicy, other: DicePolicy) -> str:
    graph.add_node(f"inside{number}", graph_of(step.steps, trained, other))
    graph.add_edge(end, f"inside{number}")
    return f"inside{number}"


def add_side_by_side(
    graph: Any, step: SideBySide, end: Any, number: int, trained: DicePolicy, other: DicePolicy
) -> str:
    fork, join = f"fork{number}", f"join{number}"
    graph.add_node(fork, logs("fork"))
    graph.add_node(join, logs("join"))
    graph.add_edge(end, fork)
    names = []
    for index, branch in enumerate(step.branches):
        names.append(f"branch{number}.{index}")
        graph.add_node(names[-1], graph_of(branch, trained, other))
        graph.add_edge(names[-1], join)
    graph.add_conditional_edges(fork, lambda state: [Send(name, {"last": state.get("last")}) for name in names], names)
    return join


def add_either(graph: Any, step: Either, end: Any, number: int, trained: DicePolicy, other: DicePolicy) -> str:
    fork, join = f"look{number}", f"met{number}"
    graph.add_node(fork, logs("look"))
    graph.add_node(join, logs("met"))
    graph.add_edge(end, fork)
    for name, call in ((f"even{number}", step.even), (f"odd{number}", step.odd)):
        graph.add_node(name, node_of(call, trained, other))
        graph.add_edge(name, join)

    def look(state: State) -> str:
        last = state.get("last")
        return f"odd{number}" if last and sum(last["completion_ids"]) % 2 else f"even{number}"

    graph.add_conditional_edges(fork, look, [f"even{number}", f"odd{number}"])
    return join


ADD: dict[type, Any] = {Call: add_call, Inside: add_inside, SideBySide: add_side_by_side, Either: add_either}


def has_trained_call(step: Any) -> bool:
    if isinstance(step, Call):
        return not step.others
    if isinstance(step, Inside):
        return any(map(has_trained_call, step.steps))
    if isinstance(step, Either):
        return has_trained_call(step.even) and has_trained_call(step.odd)
    return any(has_trained_call(inner) for branch in step.branches for inner in branch)


TRAINABLE_PLANS = PLANS.filter(lambda plan: any(map(has_trained_call, plan)))


def played(
    plan: tuple[Any, ...], trained: DicePolicy, *, trainable: frozenset[str] | None = None, episodes: int = 2
) -> list[Episode]:
    problem = Problem(id="p", prompt="?", reference=None, checker="none")
    return asyncio.run(
        collect(
            graph_of(plan, trained, DicePolicy()),
            [problem] * episodes,
            FunctionRewards(lambda state, turns: [1.0] * len(turns)),
            sampling=Sampling(),
            seeds=list(range(episodes)),
            policy=trained,
            trainable=trainable,
            inputs=lambda problem: {"log": []},
        )
    )


def key(prompt: list[int], completion: list[int], logprobs: list[float]) -> tuple[Any, ...]:
    return tuple(prompt), tuple(completion), tuple(torch.tensor(logprobs).tolist())


@settings(max_examples=150)
@given(TRAINABLE_PLANS, st.integers(1, 3))
def test_every_sampled_token_is_trained_once_in_its_own_context(plan: tuple[Any, ...], multiple: int) -> None:
    trained = DicePolicy()
    episodes = played(plan, trained)
    table = call_table(episodes)
    rows = row_tensors(placed_rows(episodes, table), pad_id=PAD, multiple_of=multiple)
    assert len(rows.calls_RT) % multiple == 0
    found = Counter()
    for row, calls_T in enumerate(rows.calls_RT):
        before = rows.prompt_ids_RP[row][rows.prompt_mask_RP[row] == 1].tolist()
        for call in calls_T[calls_T >= 0].unique().tolist():
            here = (calls_T == call).nonzero().flatten().tolist()
            assert here == list(range(here[0], here[-1] + 1))
            assert rows.completion_mask_RT[row, : here[-1] + 1].all()
            ids = rows.completion_ids_RT[row]
            found[
                key(before + ids[: here[0]].tolist(), ids[here].tolist(), rows.old_logprobs_RT[row, here].tolist())
            ] += 1
    drawn = Counter(key(one["prompt_ids"], one["completion_ids"], one["logprobs"]) for one in trained.drawn)
    assert found == drawn
    assert int(rows.spread(table.learns_C).sum()) == sum(len(one["completion_ids"]) for one in trained.drawn)


@settings(max_examples=80)
@given(TRAINABLE_PLANS, st.frozensets(st.sampled_from([*NAMES, "inside0", "inside1", "branch0.0"]), min_size=1))
def test_only_the_tokens_of_trainable_nodes_learn(plan: tuple[Any, ...], trainable: frozenset[str]) -> None:
    trained = DicePolicy()
    episodes = played(plan, trained, trainable=trainable)
    table = call_table(episodes)
    rows = row_tensors(placed_rows(episodes, table), pad_id=PAD)
    calls = [call for episode in episodes for call in episode.calls]
    learning = [len(call.generation["completion_ids"]) for call in calls if set(call.nodes) & trainable]
    assert int(rows.spread(table.learns_C).sum()) == sum(learning)
    # what does not learn is drawn as the graph asked for it: greedily
    assert all((call.sampling.temperature == 1.0) == bool(set(call.nodes) & trainable) for call in calls)


@settings(max_examples=80)
@given(TRAINABLE_PLANS)
def test_order_names_and_draws_are_the_same_in_every_run(plan: tuple[Any, ...]) -> None:
    one, other = played(plan, DicePolicy()), played(plan, DicePolicy())
    for first, second in zip(one, other, strict=True):
        assert [(call.nodes, call.turn) for call in first.calls] == [(call.nodes, call.turn) for call in second.calls]
        assert [call.generation for call in first.calls] == [call.generation for call in second.calls]
        assert [signal.kind for signal in first.signals] == [signal.kind for signal in second.signals]
        assert len({signal.kind for signal in first.signals}) == len(first.calls)


@settings(max_examples=80)
@given(TRAINABLE_PLANS)
def test_each_branch_is_in_one_piece(plan: tuple[Any, ...]) -> None:
    """Calls of one task stand together, whatever ran beside it."""
    for episode in played(plan, DicePolicy()):
        tasks = [call.path for call in episode.calls]
        for depth in range(1, 1 + max(path.count("|") + 1 for path in tasks)):
            outer = ["|".join(path.split("|")[:depth]) for path in tasks]
            changes = [name for name, before in zip(outer, [None, *outer], strict=False) if name != before]
            assert len(changes) == len(set(changes))


def test_episodes_differ_though_the_graph_asks_for_one_seed() -> None:
    plan = (Call("write", "1 2", goes_on=False, times=2), Call("rewrite", "3", goes_on=True))
    first, second = played(plan, DicePolicy())
    assert [call.generation for call in first.calls] != [call.generation for call in second.calls]
    twice = [call.sampling.seed for call in first.calls]
    assert len(set(twice)) == 3


def test_an_extended_prompt_is_one_row_and_a_critic_of_its_own_is_another() -> None:
    plan = (
        Call("write", "1 2", goes_on=False),
        Call("check", "3 3", goes_on=False),
    )
    trained = DicePolicy()
    (episode,) = played((*plan, Call("rewrite", "0", goes_on=True)), trained, episodes=1)
    table = call_table([episode])
    spans = [[span.call for span in placed.row.spans] for placed in placed_rows([episode], table)]
    assert spans == [[0], [1, 2]]  # `last` is the critic's when the writer goes on
    assert table.groups_C.tolist() == [0, 1, 2]
    assert torch.equal(table.learns_C, torch.ones(3))
