"""The strategy that chooses a strategy: estimates how hard a problem is for this policy, and spends the budget as a
plan says.

The plan says which strategy to use at which budget, for problems of which difficulty (Snell et al., arXiv 2408.03314,
section 3.2).

    estimate -> (score) -> assess -> one of the plan's strategies -> END

What the estimate costs is part of the budget, and nothing of it is thrown away: its answers are the first ones of the
strategy.
"""

import json
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from selfcorrect.agents.search.chains import Draw, Score, SearchGraph
from selfcorrect.agents.search.selection import ChainRules, affordable, groups
from selfcorrect.agents.search.state import Candidate, SearchContext, SearchModels, SearchState
from selfcorrect.agents.search.strategies import Mixed, SelfJudged, SequentialRevisions, Strategy, strategy_named
from selfcorrect.errors import ConfigurationError

# A plan is plain JSON, so that it can be read, compared and changed by hand.

Measure = Literal["verifier", "agreement"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BudgetPlan(_Frozen):
    """What to do with one budget.

    Attributes:
        answers: the budget in answers of mean length.
        tokens: the budget.
        strategies: names, one for each bin of difficulty from easy to hard; a single one is for all problems, and then
            nothing is estimated.
        accuracy: of each on the problems it was fitted on; None where there were none.
        mean_tokens: what each used there on average, the estimate included.
    """

    answers: int = Field(ge=1)
    tokens: int = Field(ge=1)
    strategies: list[str] = Field(min_length=1)
    accuracy: list[float | None] = []
    mean_tokens: list[float | None] = []

    @property
    def estimates(self) -> bool:
        return len(self.strategies) > 1


class SearchPlan(_Frozen):
    """Which strategy to use at which budget, for problems of which difficulty.

    Attributes:
        task, policy: what it was fitted on, for people.
        measure: difficulty is 1 - the verifier's mean score ("verifier"), or 1 - the share of the most frequent answer
            ("agreement"), of the first `samples` answers. They count towards the budget, and are the strategy's first
            answers.
        edges: between the bins, ascending; a problem of difficulty d belongs to bin number bisect_right(edges, d).
        answer_tokens: mean tokens of an answer.
        budgets: by ascending tokens.
        fitted_on: how many problems.
    """

    task: str
    policy: str
    measure: Measure
    samples: int = Field(ge=1)
    edges: list[float]
    answer_tokens: float = Field(gt=0)
    budgets: list[BudgetPlan] = Field(min_length=1)
    fitted_on: int = 0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.edges != sorted(self.edges):
            raise ValueError("edges must ascend")
        if [one.tokens for one in self.budgets] != sorted(one.tokens for one in self.budgets):
            raise ValueError("budgets must ascend")
        for one in self.budgets:
            if len(one.strategies) not in (1, len(self.edges) + 1):
                raise ValueError(
                    f"the budget of {one.tokens} tokens names {len(one.strategies)} strategies for "
                    f"{len(self.edges) + 1} bins"
                )
            for name in one.strategies:
                strategy_named(name)
        return self

    def at(self, tokens: int | None) -> BudgetPlan:
        """The plan of the largest budget within `tokens`; of the smallest one below all of them, of the largest one
        for None."""
        fitting = [one for one in self.budgets if tokens is None or one.tokens <= tokens]
        return fitting[-1] if fitting else self.budgets[0]

    def bin_of(self, difficulty: float) -> int:
        """The bin of a difficulty in [0, 1], from 0, the easiest; an edge belongs to the harder bin."""
        return bisect_right(self.edges, difficulty)

    def save(self, path: Path) -> None:
        """Write it as JSON; `load` reads it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.model_dump(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "SearchPlan":
        """The plan in a file.

        Raises:
            ConfigurationError: the file cannot be read or holds no plan.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"cannot read the plan {path}: {error.strerror or error}") from error
        except (ValidationError, ConfigurationError) as error:
            raise ConfigurationError(f"{path} holds no plan of `selfcorrect tune-budget`: {error}") from error


def difficulty_of(candidates: Sequence[Candidate], measure: Measure) -> float:
    """Estimated difficulty in [0, 1] from a problem's first answers; 1 if none can be read."""
    if not candidates:
        return 1.0
    if measure == "verifier":
        return 1.0 - sum(candidate["score"] or 0.0 for candidate in candidates) / len(candidates)
    ranked = groups(candidates)
    return 1.0 - (ranked[0].weight / len(candidates) if ranked else 0.0)


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
            isinstance(strategy, (Mixed, SelfJudged)) and strategy.parallel < samples
        )
        if narrow:
            raise ConfigurationError(
                f"the plan estimates difficulty by {samples} parallel answers, which {strategy.name} cannot go on "
                "with: it has fewer parallel chains"
            )


def _node(name: str) -> str:
    return name.replace(":", " ")  # LangGraph keeps ":" for itself
