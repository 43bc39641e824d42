"""`train` on a graph that knows nothing of training."""

import asyncio
from pathlib import Path
from typing import Any, TypedDict

import pytest
import torch
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy
from word_game import SAMPLED, Draft, config, even_or_plus, graph_of, likes_plus, policy_from, problems, question

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.agents.state import Message
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.own_graph import train


def weights(policy: TransformersPolicy) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], policy: TransformersPolicy) -> bool:
    return any(not torch.equal(before[name], tensor) for name, tensor in policy.model.state_dict().items())


@pytest.mark.slow
def test_a_graph_that_knows_nothing_of_training_gets_better(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = policy_from(tiny_model_folder)
    graph = graph_of(policy)
    settings = config(tmp_path, steps=20, problems_per_step=4, episodes_per_problem=8)
    trained = train(graph, problems(8), policy=policy, reward_fn=likes_plus, inputs=question, config=settings, kl=0.0)
    for name in ("write", "check", "rewrite"):
        rewards = [step[f"reward/{name}_1"] for step in trained.steps]
        assert sum(rewards[-4:]) > sum(rewards[:4]) + 0.8, name
    # the log-probabilities of what was drawn are the trainer's own: same context, same temperature
    assert all(step["ratio_deviation"] < 1e-4 for step in trained.steps)
    # the very same graph, greedy as its nodes ask for, is what got better
    answers = [asyncio.run(graph.ainvoke(question(problem)))["draft"] for problem in problems(8)]
    assert sum(map(even_or_plus, answers)) >= 6
    assert [step["step"] for step in trained.steps] == list(range(1, 21))
    saved = TransformersPolicy.from_pretrained(trained.model_path)
    assert not moved(weights(saved), policy)


def test_a_node_that_is_not_trainable_teaches_nothing(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Only the critic is paid, and only the writers learn: no weight moves."""
    policy = policy_from(tiny_model_folder)

    def pays_the_critic(state: Any, turns: list[PolicyCall]) -> list[float | None]:
        return [float(index) if turn.node == "check" else 0.0 for index, turn in enumerate(turns)]

    before = weights(policy)
    train(
        graph_of(policy), problems(4), policy=policy, reward_fn=pays_the_critic, inputs=question,
        config=config(tmp_path), trainable={"write", "rewrite"}, kl=0.0,
    )  # fmt: skip
    assert not moved(before, policy)


def test_a_frozen_critic_stays_greedy_while_the_writers_explore(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = policy_from(tiny_model_folder)
    seen: list[PolicyCall] = []

    def pays(state: Any, turns: list[PolicyCall]) -> list[float | None]:
        seen.extend(turns)
        return likes_plus(state, turns)

    train(
        graph_of(policy), problems(2), policy=policy, reward_fn=pays, inputs=question,
        config=config(tmp_path, steps=1), trainable={"write"},
    )  # fmt: skip
    by_node = {name: [turn for turn in seen if turn.node == name] for name in ("write", "check", "rewrite")}
    assert {turn.sampling.temperature for turn in by_node["write"]} == {1.0}
    assert {turn.sampling.temperature for turn in by_node["check"] + by_node["rewrite"]} == {0.0}
    first = [tuple(turn.generation["completion_ids"]) for turn in by_node["write"][:4]]
    assert len(set(first)) > 1, "the episodes of one problem are draws of their own"


def test_another_model_in_the_graph_is_not_trained(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy, critic = policy_from(tiny_model_folder), policy_from(tiny_model_folder)
    before = weights(critic)
    nodes: list[str] = []

    def pays(state: Any, turns: list[PolicyCall]) -> list[float | None]:
        nodes.extend(turn.node for turn in turns)
        return likes_plus(state, turns)

    train(
        graph_of(policy, critic), problems(4), policy=policy, reward_fn=pays, inputs=question, config=config(tmp_path)
    )
    assert set(nodes) == {"write", "rewrite"}
    assert not moved(before, critic) and moved(before, policy)


def test_rewards_may_be_paid_by_an_async_function_that_sees_the_problem(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    policy = policy_from(tiny_model_folder)
    seen: set[str] = set()

    async def pays(state: Any, turns: list[PolicyCall], problem: Problem) -> list[float | None]:
        await asyncio.sleep(0)
        seen.add(problem.id)
        return [None, *likes_plus(state, turns[1:])]

    trained = train(
        graph_of(policy), CountdownTask(3), policy=policy, reward_fn=pays, inputs=question, config=config(tmp_path),
        held_out=[],
    )  # fmt: skip
    assert len(seen) == 4
    assert "reward/write_1" not in trained.steps[0] and "reward/check_1" in trained.steps[0]


def test_a_call_of_the_policy_in_the_reward_function_is_not_trained(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = policy_from(tiny_model_folder)

    async def judged_by_itself(state: Any, turns: list[PolicyCall]) -> list[float | None]:
        await policy.generate([Message(role="user", content="1 2")], turns[0].sampling)
        return [1.0] * len(turns)

    trained = train(
        graph_of(policy),
        problems(2),
        policy=policy,
        reward_fn=judged_by_itself,
        inputs=question,
        config=config(tmp_path),
    )
    assert {name for name in trained.steps[0] if name.startswith("reward/")} == {
        "reward/write_1", "reward/check_1", "reward/rewrite_1",
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_as_if_it_had_not(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Also where one step's nodes run side by side."""

    class Both(TypedDict, total=False):
        question: str
        left: str
        right: str

    def graph_with(policy: TransformersPolicy) -> Any:
        def node(key: str) -> Any:
            async def write(state: Both) -> dict[str, str]:
                shown = [Message(role="user", content=f"{state['question']} {'+' if key == 'left' else '-'}")]
                return {key: (await policy.generate(shown, SAMPLED))["text"]}

            return write

        graph = StateGraph(Both).add_node("left_side", node("left")).add_node("right_side", node("right"))
        for name in ("left_side", "right_side"):
            graph.add_edge(START, name).add_edge(name, END)
        return graph.compile()

    def run(out: Path, *, batches: int, resume: bool = False) -> Any:
        policy = policy_from(tiny_model_folder)
        settings = config(out, steps=batches, save_every=1)
        trained = train(
            graph_with(policy),
            problems(4),
            policy=policy,
            reward_fn=likes_plus,
            inputs=question,
            config=settings,
            resume=resume,
        )
        return policy, trained

    whole, _ = run(tmp_path / "whole", batches=4)
    run(tmp_path / "parts", batches=2)
    resumed, trained = run(tmp_path / "parts", batches=4, resume=True)
    assert [step["step"] for step in trained.steps] == [1, 2, 3, 4]
    assert not moved(weights(whole), resumed)


def test_an_adapter_is_trained_and_merged_into_the_policy(tiny_model_folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    policy = policy_from(tiny_model_folder)
    before = weights(policy)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj"])
    trained = train(
        graph_of(policy), problems(2), policy=policy, reward_fn=likes_plus, inputs=question,
        config=config(tmp_path, learning_rate=3e-2), peft_config=lora,
    )  # fmt: skip
    assert set(policy.model.state_dict()) == set(before)
    changed = {name for name, tensor in policy.model.state_dict().items() if not torch.equal(before[name], tensor)}
    assert changed and all("q_proj" in name for name in changed)
    assert not moved(weights(TransformersPolicy.from_pretrained(trained.model_path)), policy)


def test_episodes_leave_nothing_in_the_graphs_checkpointer_and_take_nothing_from_its_cache(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    policy = policy_from(tiny_model_folder)
    saver, drawn = InMemorySaver(), []

    async def write(state: dict[str, str]) -> dict[str, str]:
        generation = await policy.generate([Message(role="user", content=state["question"])], SAMPLED)
        drawn.append(generation["text"])
        return {"draft": generation["text"]}

    graph = StateGraph(Draft).add_node("write", write, cache_policy=CachePolicy()).add_edge(START, "write")
    compiled = graph.compile(checkpointer=saver, cache=InMemoryCache())
    train(compiled, problems(2), policy=policy, reward_fn=likes_plus, inputs=question, config=config(tmp_path, steps=1))
    assert len(drawn) == 8
    assert list(saver.list(None)) == []
    assert compiled.checkpointer is saver


def test_resuming_without_a_checkpoint_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = policy_from(tiny_model_folder)
    with pytest.raises(ConfigurationError, match="no checkpoint in .*save_every"):
        train(
            graph_of(policy), problems(2), policy=policy, reward_fn=likes_plus, inputs=question,
            config=config(tmp_path), resume=True,
        )  # fmt: skip
