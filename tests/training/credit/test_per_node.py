"""Credit per node in a graph of a user's own, against exact enumeration: every episode of a small policy is played
through LangGraph, and which node comes next, and whether one does, depends on what was drawn."""

import asyncio
import dataclasses
import itertools
import operator
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
import torch
from enumerated import LONGEST, STOP, Tokens, Toy, rewards_of, to_go
from langgraph.graph import END, START, StateGraph
from torch import Tensor

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import begin_call
from selfcorrect.agents.state import Generation
from selfcorrect.errors import GraphError
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.credit.estimators import credited
from selfcorrect.training.credit.returns import return_to_go
from selfcorrect.training.credit.settings import Baseline, CreditSettings, Outcome, OwnCredit, ReturnToGo
from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.own_graph import train
from selfcorrect.training.own_graph_rewards import FunctionRewards
from selfcorrect.training.ppo.batching import call_table
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.rollouts import Episode, collect

AFTER = {0: "act", 1: "check"}
"""The node after a drawn token; token 2 ends the episode."""
PLAN = "plan"
TOY = Toy()


class State(TypedDict, total=False):
    drawn: Annotated[list[int], operator.add]


class Told:
    """A policy that draws what it is told to."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    async def generate(self, drawn: list[int]) -> int:
        call = begin_call(self, [{"role": "user", "content": "go on"}], Sampling())
        token = self.tokens[len(drawn)]
        call.finish(
            Generation(
                text=str(token),
                messages=[],
                prompt_ids=[7, *drawn],
                completion_ids=[token],
                logprobs=[-1.0],
                finish_reason="stop",
            )
        )
        return token


def graph_of(policy: Told) -> Any:
    async def node(state: State) -> State:
        return {"drawn": [await policy.generate(state["drawn"])]}

    def onwards(state: State) -> str:
        over = state["drawn"][-1] == STOP or len(state["drawn"]) == LONGEST
        return END if over else AFTER[state["drawn"][-1]]

    graph = StateGraph(State)
    for name in (PLAN, *AFTER.values()):
        graph.add_node(name, node)
        graph.add_conditional_edges(name, onwards, [*AFTER.values(), END])
    graph.add_edge(START, PLAN)
    return graph.compile()


def pay(state: State, calls: Any) -> list[float | None]:
    return rewards_of(tuple(state["drawn"]))


@cache
def played(tokens: Tokens) -> Episode:
    policy = Told(tokens)
    problem = Problem(id="toy", prompt="?", reference=None, checker="none")
    (episode,) = asyncio.run(
        collect(
            graph_of(policy),
            [problem],
            FunctionRewards(pay),
            sampling=Sampling(),
            seeds=[0],
            policy=policy,
            inputs=lambda problem: {"drawn": []},
        )
    )
    return episode


def nodes_of(tokens: Tokens) -> list[str]:
    return [PLAN, *(AFTER[token] for token in tokens[:-1])]


@cache
def table_of_groups(size: int) -> CallTable:
    """All groups of `size` episodes, each the episodes of a problem of its own."""
    episodes = []
    for number, group in enumerate(itertools.product(TOY.episodes, repeat=size)):
        problem = Problem(id=str(number), prompt="?", reference=None, checker="none")
        episodes += [dataclasses.replace(played(tokens), problem=problem) for tokens in group]
    return call_table(episodes)


def expected(estimate: Callable[[CallTable], Tensor]) -> Tensor:
    return TOY.expected(lambda _: estimate(table_of_groups(2)), 2)


Worth = Callable[[list[float]], list[float]]


def exact(usual: Worth, by_node: Mapping[str, Worth]) -> Tensor:
    """The gradient of the sum over calls of E[worth of the call], the worth by the call's node."""
    total = torch.zeros_like(TOY.exact(usual))
    for number, tokens in enumerate(TOY.episodes):
        rewards = [reward or 0.0 for reward in rewards_of(tokens)]
        for k, node in enumerate(nodes_of(tokens)):
            total += TOY.probabilities[number] * by_node.get(node, usual)(rewards)[k] * TOY.scores[number][k]
    return total


def own(rewards: list[float]) -> list[float]:
    return rewards


def last(rewards: list[float]) -> list[float]:
    return [rewards[-1]] * len(rewards)


WAYS: list[tuple[CreditSettings, Worth, Mapping[str, tuple[CreditSettings, Worth]]]] = [
    (OwnCredit(), own, {PLAN: (ReturnToGo(gamma=1.0), lambda rewards: to_go(rewards, 1.0))}),
    (OwnCredit(), own, {"act": (Outcome(), last), "check": (ReturnToGo(gamma=0.5), lambda r: to_go(r, 0.5))}),
    (ReturnToGo(gamma=0.8), lambda rewards: to_go(rewards, 0.8), {"check": (OwnCredit(), own)}),
]
BASELINES: list[Baseline] = ["none", "leave_one_out_exact", "leave_one_out_same_state"]


def test_nodes_and_turns_are_those_of_the_graph() -> None:
    episode = played((0, 0, 1))
    assert [signal.kind for signal in episode.signals] == ["plan 1", "act 1", "act 2"]
    assert [signal.kind for signal in played((1, 0, 1)).signals] == ["plan 1", "check 1", "act 1"]
    assert all([signal.role for signal in played(tokens).signals] == nodes_of(tokens) for tokens in TOY.episodes)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize(("usual", "worth", "by_node"), WAYS, ids=["plan", "act and check", "check"])
def test_every_node_has_the_gradient_of_its_own_credit(
    usual: CreditSettings,
    worth: Worth,
    by_node: Mapping[str, tuple[CreditSettings, Worth]],
    baseline: Baseline,
) -> None:
    by_role = {node: credit for node, (credit, _) in by_node.items()}
    found = expected(lambda table: credited(table, usual, baseline, by_role=by_role))
    stated = exact(worth, {node: value for node, (_, value) in by_node.items()})
    assert error(found, stated) < 1e-6  # rewards of played episodes are float32


def error(gradient: Tensor, stated: Tensor) -> float:
    return float((gradient - stated).norm() / stated.norm())


# Wrong implementations, which must not pass for right ones. The right one pays the plan for what follows.


def by_place(table: CallTable) -> Tensor:
    """The node's credit for whatever stands at the node's usual place: here the second call."""
    own_C, to_go_C = table.rewards_C, return_to_go(table, 1.0)
    return torch.where(table.by_episode.places_C == 1, to_go_C, own_C)


def among_its_own(table: CallTable) -> Tensor:
    """The node sees the rewards of its own calls only."""
    alone = torch.where(table.roles_C == table.roles.index("act"), table.rewards_C, torch.zeros_like(table.rewards_C))
    to_go_C = return_to_go(dataclasses.replace(table, rewards_C=alone), 1.0)
    return torch.where(table.roles_C == table.roles.index("act"), to_go_C, table.rewards_C)


def for_all(table: CallTable) -> Tensor:
    """One node's credit for every node."""
    return return_to_go(table, 1.0)


def for_none(table: CallTable) -> Tensor:
    return table.rewards_C


def compared_with_its_episode(table: CallTable) -> Tensor:
    """The baseline contains the call's own episode: its other calls of the same node."""
    act_C = table.roles_C == table.roles.index("act")
    right_C = torch.where(act_C, return_to_go(table, 1.0), table.rewards_C)
    sums = torch.zeros(int(table.episodes_C.max()) + 1).index_add(0, table.episodes_C, right_C)
    return right_C - sums[table.episodes_C] / 3


@pytest.mark.parametrize("wrong", [by_place, among_its_own, for_all, for_none, compared_with_its_episode])
def test_wrong_ways_to_pay_a_node_are_noticed(wrong: Callable[[CallTable], Tensor]) -> None:
    stated = exact(own, {"act": lambda rewards: to_go(rewards, 1.0)})
    right = expected(lambda table: credited(table, OwnCredit(), "none", by_role={"act": ReturnToGo(gamma=1.0)}))
    assert error(right, stated) < 1e-6
    assert error(expected(wrong), stated) > 0.02


def test_a_node_that_no_episode_of_a_batch_reached_changes_nothing() -> None:
    table = call_table([played((1, 2)), played((2,))])
    assert table.roles == ("plan", "check")
    paid = credited(table, OwnCredit(), "none", by_role={"act": ReturnToGo()})
    assert torch.equal(paid, credited(table, OwnCredit(), "none"))


def test_a_name_that_no_node_has_is_refused_before_training(tmp_path: Path) -> None:
    policy: Any = Told((2,))
    policy.model = policy.tokenizer = None
    config = TurnPPOConfig(output_dir=tmp_path, steps=1, credit_by_role={"chek": ReturnToGo()})
    with pytest.raises(GraphError, match="did you mean 'check'"):
        train(graph_of(policy), [], policy=policy, reward_fn=pay, inputs=lambda problem: {"drawn": []}, config=config)


def test_a_call_that_nobody_judged_abstains_and_with_it_what_is_paid_for_it() -> None:
    """`reward_fn` pays None for a check: the plan before it, which is paid for what follows, abstains; the call after
    it does not."""
    policy = Told((1, 0, 2))
    problem = Problem(id="toy", prompt="?", reference=None, checker="none")
    (episode,) = asyncio.run(
        collect(
            graph_of(policy),
            [problem],
            FunctionRewards(lambda state, calls: [None if call.node == "check" else 1.0 for call in calls]),
            sampling=Sampling(),
            seeds=[0],
            policy=policy,
            inputs=lambda problem: {"drawn": []},
        )
    )
    table = call_table([episode])
    paid = credited(table, OwnCredit(), "none", by_role={PLAN: ReturnToGo(gamma=1.0)})
    assert paid.tolist() == [0.0, 0.0, 1.0]
    assert credited(table, OwnCredit(), "none").tolist() == [1.0, 0.0, 1.0]
