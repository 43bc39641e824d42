"""What cannot be trained is refused, with the problem or the node by name."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from dice_policy import DicePolicy
from langgraph.graph import START, StateGraph
from word_game import Draft, config, graph_of, likes_plus, policy_from, problems, question

from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.errors import ConfigurationError, GraphError, PolicyError, TaskError, TrainingError
from selfcorrect.training.own_graph import train


@pytest.fixture
def policy(tiny_model_folder: Path) -> Any:
    return policy_from(tiny_model_folder)


def attempt(policy: Any, out: Path, *, graph: Any = None, task: Any = None, **changes: Any) -> None:
    arguments: dict[str, Any] = {"reward_fn": likes_plus, "inputs": question, "config": config(out)} | changes
    train(graph_of(policy) if graph is None else graph, task or problems(2), policy=policy, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paid", "complaint"),
    [
        ([1.0], r"problem p\d: reward_fn returned 1 rewards for 3 policy calls \(write 1, check 1, rewrite 1\)"),
        ([1.0] * 4, r"problem p\d: reward_fn returned 4 rewards for 3"),
        ([0.0, math.nan, 0.0], r"problem p\d: reward_fn paid check 1 with nan; use None"),
        ([0.0, 0.0, math.inf], r"problem p\d: reward_fn paid rewrite 1 with inf"),
        (["1", 0.0, 0.0], r"problem p\d: reward_fn paid write 1 with a str, '1'"),
        ([torch.tensor(1.0), 0.0, 0.0], r"problem p\d: reward_fn paid write 1 with a Tensor"),
        (1.0, r"problem p\d: reward_fn returned a float; it must return a list"),
        (None, r"problem p\d: reward_fn returned a NoneType"),
        ({"write": 1.0}, r"problem p\d: reward_fn returned a dict"),
        ([None, None, None], "reward_fn paid None for every call of the first 8 episodes"),
    ],
)
def test_rewards_that_are_no_rewards(policy: Any, tmp_path: Path, paid: Any, complaint: str) -> None:
    with pytest.raises(GraphError, match=complaint):
        attempt(policy, tmp_path, reward_fn=lambda state, turns: paid)


def test_a_reward_function_that_fails_is_named_with_the_problem(policy: Any, tmp_path: Path) -> None:
    def fails(state: Any, turns: Any) -> list[float]:
        return [state["no such key"]]

    with pytest.raises(GraphError, match=r"problem p\d: reward_fn raised KeyError: 'no such key'") as caught:
        attempt(policy, tmp_path, reward_fn=fails)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("reward_fn", [lambda state: [1.0], lambda a, b, c, d: [1.0]])
def test_a_reward_function_of_other_arguments(policy: Any, tmp_path: Path, reward_fn: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"it is called with \(state, turns\) or \(state, turns, problem\)"):
        attempt(policy, tmp_path, reward_fn=reward_fn)


def test_a_reward_function_that_is_none(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="reward_fn must be a function"):
        attempt(policy, tmp_path, reward_fn=3)


def test_an_unknown_node_is_told_with_the_nearest_right_name(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="trainable names 'rewrit'.*did you mean 'rewrite'.*check, rewrite, write"):
        attempt(policy, tmp_path, trainable={"write", "rewrit"})
    with pytest.raises(GraphError, match="kl names 'chek'.*did you mean 'check'"):
        attempt(policy, tmp_path, kl={"chek": 0.1})
    with pytest.raises(GraphError, match="trainable names '__start__'"):
        attempt(policy, tmp_path, trainable={"__start__"})
    with pytest.raises(GraphError, match="names no node"):
        attempt(policy, tmp_path, trainable=set())


@pytest.mark.slow
def test_nodes_of_subgraphs_can_be_named(policy: Any, tmp_path: Path) -> None:
    outer = StateGraph(Draft).add_node("solver", graph_of(policy)).add_edge(START, "solver").compile()
    attempt(policy, tmp_path / "solver", graph=outer, trainable={"solver"})
    attempt(policy, tmp_path, graph=outer, trainable={"write"})
    with pytest.raises(GraphError, match="did you mean 'write'"):
        attempt(policy, tmp_path, graph=outer, trainable={"wirte"})


def test_a_trainable_node_that_never_calls_the_policy(policy: Any, tmp_path: Path) -> None:
    async def looks(state: Draft) -> Draft:
        return {"remark": "fine"}

    builder = graph_of(policy).builder
    builder.add_node("look", looks).add_edge("rewrite", "look")
    with pytest.raises(
        GraphError, match=r"no call of the first 8 episodes was made in \['look'\].*check, rewrite, write"
    ):
        attempt(policy, tmp_path, graph=builder.compile(), trainable={"look"})


def test_a_graph_without_policy_calls(policy: Any, tmp_path: Path) -> None:
    async def writes_nothing(state: Draft) -> Draft:
        return {"draft": "7"}

    graph = StateGraph(Draft).add_node("write", writes_nothing).add_edge(START, "write").compile()
    with pytest.raises(GraphError, match=r"problem p\d: the graph made no call of a trainable policy"):
        attempt(policy, tmp_path, graph=graph)


def test_a_graph_that_calls_another_policy_object(policy: Any, tmp_path: Path, tiny_model_folder: Path) -> None:
    graph = graph_of(policy_from(tiny_model_folder))
    with pytest.raises(
        GraphError, match=r"problem p\d: the graph made 3 calls of other policies.*the very policy object"
    ):
        attempt(policy, tmp_path, graph=graph)


def test_a_node_that_fails_is_told_with_the_problem(policy: Any, tmp_path: Path) -> None:
    def inputs(problem: Any) -> dict[str, Any]:
        return {"draft": "no question"}

    with pytest.raises(GraphError, match=r"problem p\d: KeyError while playing: 'question'"):
        attempt(policy, tmp_path, inputs=inputs)


def test_inputs_that_are_no_dict(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(
        GraphError, match=r"problem p\d: inputs returned a str; it must return the graph's input as a dict"
    ):
        attempt(policy, tmp_path, inputs=lambda problem: problem.prompt)


def test_an_uncompiled_graph(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"a StateGraph cannot be played; call \.compile\(\) on it first"):
        attempt(policy, tmp_path, graph=graph_of(policy).builder)
    with pytest.raises(GraphError, match="a str cannot be played; give a compiled LangGraph graph"):
        attempt(policy, tmp_path, graph="graph")


@pytest.mark.parametrize("other", [ScriptedPolicy(["1"]), DicePolicy(), None])
def test_a_policy_without_a_model(other: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be trained.*use a TransformersPolicy"):
        attempt(other, tmp_path)


def test_a_negative_kl_weight(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="kl must be 0 or more"):
        attempt(policy, tmp_path, kl=-1.0)


def test_problems_that_share_an_id_or_are_too_few(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="two problems have the id 'p1'"):
        attempt(policy, tmp_path, task=problems(2) + problems(1))
    with pytest.raises(TrainingError, match="1 problems are fewer than one batch of 2"):
        attempt(policy, tmp_path, task=problems(1))


def test_a_prompt_that_the_policy_cannot_read(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"problem p\d: .*does not know 'héllo'"):
        attempt(policy, tmp_path, inputs=lambda problem: {"question": "héllo"})
