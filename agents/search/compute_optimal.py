"""The strategy that chooses a strategy: estimates how hard a problem is for this policy, and spends the budget as a
plan says.

    estimate -> (score) -> assess -> one of the plan's strategies -> END

What the estimate costs is part of the budget, and nothing of it is thrown away: its answers are the first ones of the
strategy.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from selfcorrect.agents.search.chains import Draw, Score, SearchGraph
from selfcorrect.agents.search.plan import SearchPlan, difficulty_of
from selfcorrect.agents.search.search_models import SearchModels
from selfcorrect.agents.search.selection import ChainRules, affordable
from selfcorrect.agents.search.state import SearchContext, SearchState
from selfcorrect.agents.search.strategies import Mixed, SequentialRevisions, Strategy, strategy_named
from selfcorrect.errors import ConfigurationError

_MOST_STEPS = 10_000


@dataclass(frozen=True)
class ComputeOptimal:
    """Compute-optimal use of a budget, by a `plan` that `selfcorrect tune-budget` or `fit_plan` made.

    Of the plan's budgets, the largest within the search's budget counts.
    """

    plan: SearchPlan

    @property
    def name(self) -> str:
        return "compute_optimal"

    def graph(self, search_models: SearchModels) -> SearchGraph:
        plan = self.plan
        if plan.measure == "verifier" and any(one.estimates for one in plan.budgets):
            search_models.need_verifier("a plan whose difficulty is the verifier's score")
        strategies = {name: strategy_named(name) for one in plan.budgets for name in one.strategies}
        for one in plan.budgets:
            if one.estimates:
                _refuse_narrow([strategies[name] for name in one.strategies], plan.samples)
        graph = StateGraph(SearchState, context_schema=SearchContext)
        for name, strategy in strategies.items():
            graph.add_node(_node(name), strategy.graph(search_models))
            graph.add_edge(_node(name), END)
        names = [_node(name) for name in strategies]
        rules = ChainRules(plan.samples, 0, "majority", early=False)
        scores = plan.measure == "verifier" and search_models.verifier is not None
        graph.add_node("estimate", Draw(search_models, rules, tells=not scores))
        graph.add_node("assess", _Assess(plan))
        if scores:
            assert search_models.verifier is not None
            graph.add_node("score", Score(search_models, search_models.verifier))
            graph.add_edge("estimate", "score")
            graph.add_conditional_edges("score", _until_estimated(plan), ["estimate", "assess"])
        else:
            graph.add_conditional_edges("estimate", _until_estimated(plan), ["estimate", "assess"])
        graph.add_node("begin", _Begin(plan))
        graph.add_edge(START, "begin")
        graph.add_conditional_edges("begin", _to_strategy_or_estimate(plan), ["estimate", *names])
        graph.add_conditional_edges("assess", _to_strategy, names)
        return graph.compile(name=self.name).with_config(recursion_limit=_MOST_STEPS)


@dataclass(frozen=True)
class _Begin:
    """Node: take the plan's only strategy, if this budget has but one."""

    plan: SearchPlan

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        chosen = self.plan.at(state.get("budget"))
        return {"strategy": "" if chosen.estimates else chosen.strategies[0]}


@dataclass(frozen=True)
class _Assess:
    """Node: how hard is the problem, and what does the plan say?"""

    plan: SearchPlan

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        difficulty = difficulty_of(state["candidates"][: self.plan.samples], self.plan.measure)
        chosen = self.plan.at(state.get("budget")).strategies[self.plan.bin_of(difficulty)]
        return {"difficulty": difficulty, "strategy": chosen}


Route = Callable[[SearchState], Awaitable[str]]


def _to_strategy_or_estimate(plan: SearchPlan) -> Route:
    async def route(state: SearchState) -> str:
        return _node(state["strategy"]) if state["strategy"] else "estimate"

    return route


async def _to_strategy(state: SearchState) -> str:
    return _node(state["strategy"])


def _until_estimated(plan: SearchPlan) -> Route:
    async def route(state: SearchState) -> str:
        missing = plan.samples - len(state["candidates"])
        return "estimate" if missing > 0 and affordable(state, missing, None)[0] > 0 else "assess"

    return route


def _refuse_narrow(strategies: list[Strategy], samples: int) -> None:
    """The estimate's answers become the first ones of parallel chains, so there have to be as many chains."""
    for strategy in strategies:
        narrow = isinstance(strategy, SequentialRevisions) or (
            isinstance(strategy, Mixed) and strategy.parallel < samples
        )
        if narrow:
            raise ConfigurationError(
                f"the plan estimates difficulty by {samples} parallel answers, which {strategy.name} cannot go on "
                "with: it has fewer parallel chains"
            )


def _node(name: str) -> str:
    return name.replace(":", " ")  # LangGraph keeps ":" for itself
