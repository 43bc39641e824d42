"""Search for the answer to a problem by a strategy, within a budget of generated tokens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, cast

from selfcorrect.agents.episodes import rare_garbage_collection, run_blocking
from selfcorrect.agents.policy import Policy, Sampling, derive_seed
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.search.chains import SearchGraph
from selfcorrect.agents.search.selection import groups
from selfcorrect.agents.search.state import (
    AnswerKey,
    Candidate,
    SearchContext,
    SearchModels,
    SearchResult,
    SearchState,
    without_generation,
)
from selfcorrect.agents.search.stored_search import StoredSearch, events
from selfcorrect.agents.search.strategies import Strategy
from selfcorrect.agents.solving.checkpoints import Checkpointer
from selfcorrect.errors import ConfigurationError, GraphError, SelfCorrectError
from selfcorrect.rewards.checker import StepVerifier, Verifier
from selfcorrect.tasks.problem import Problem, as_problem

# What a finished search's state amounts to.


def result_of(state: SearchState, strategy: Strategy) -> SearchResult:
    """The result that a finished search's state amounts to."""
    candidates = tuple(without_generation(candidate) for candidate in state.get("candidates", []))
    chosen, reason = state.get("chosen"), state.get("stop_reason") or "complete"
    scored = any(candidate["score"] is not None for candidate in candidates)
    votes = groups(candidates, "score" if scored else "count")
    notes = list(state.get("notes", []))
    if chosen is None and reason == "budget":
        notes.append(f"the budget of {state['budget']} tokens ended before one answer was complete")
    return SearchResult(
        problem_id=state["problem"]["id"],
        answer="" if chosen is None else candidates[chosen]["text"],
        candidates=candidates,
        chosen=chosen,
        votes=tuple((group.key, group.weight) for group in votes),
        tokens=state.get("tokens", 0),
        saved_tokens=_saved(state, candidates) if reason in ("settled", "sure", "exhausted") else 0,
        stop_reason=reason,
        notes=tuple(notes),
        strategy=state.get("strategy", strategy.name),
        difficulty=state.get("difficulty"),
    )


def _saved(state: SearchState, candidates: Sequence[Candidate]) -> int:
    """What the answers that were not drawn would have taken, at the mean length of those that were, within the
    budget."""
    missing = max(0, state.get("planned", 0) - len(candidates))
    mean = sum(candidate["tokens"] for candidate in candidates) / max(1, len(candidates))
    budget = state.get("budget")
    left = None if budget is None else budget - state["tokens"]
    return round(missing * mean) if left is None else min(left, round(missing * mean))


OnResult = Callable[[SearchResult], None]


async def search(
    problem: Problem | str,
    strategy: Strategy,
    policy: Policy,
    verifier: Verifier | None = None,
    budget: int | None = None,
    *,
    prompts: Prompts = PLAIN,
    sampling: Sampling | None = None,
    seed: int = 0,
    key: AnswerKey | None = None,
    step_verifier: StepVerifier | None = None,
    on_candidate: Callable[[Candidate], None] | None = None,
    checkpointer: Checkpointer = None,
    thread_id: str | None = None,
) -> SearchResult:
    """Search for the answer to `problem`.

    Args:
        problem: what to solve; a text is shown as it is.
        strategy: how; see `strategies`.
        policy: writes the answers.
        verifier: scores them. Strategies that vote or revise do without.
        budget: generated tokens, in all; never exceeded. None is no limit. If not one answer fits, the result's answer
            is "", its stop reason "budget" and its notes say so.
        prompts: the words around the problem.
        sampling: how to draw; None is temperature 1. Its `max_new_tokens` is what the budget reserves for an answer
            (512 if None), so give the longest answer's length for a budget to be used up in few rounds.
        seed: of the whole search. Answer i is the same one whatever the strategy.
        key: what a vote counts as equal; None is what `counted_as` says of the problem.
        step_verifier: scores unfinished answers for `Beam`; None leaves that to `verifier`.
        on_candidate: called with each answer as soon as it is written and scored.
        checkpointer: where every round is stored, as for `solve`; None stores nothing. A call with a known thread goes
            on with that search, with a larger budget, too; one that is finished is given back without a generation.
        thread_id: the search's name in the store; None is the problem's id.

    Raises:
        ConfigurationError: the budget is below 1, the strategy lacks what it needs (a verifier, mostly), or the
            checkpointer cannot be used.
        GraphError: the thread holds another search or is being played, or it cannot go on with another budget.
        SelfCorrectError: of the kind that the policy or the verifier raised, with the problem's id.
    """
    asked = as_problem(problem, "search")
    graph = strategy.graph(SearchModels(policy, verifier, prompts, key, step_verifier))
    store = None if checkpointer is None else StoredSearch(strategy, checkpointer, thread_id or asked.id)
    context = SearchContext(sampling or Sampling())
    state = await _play(graph, asked, _opening(asked, seed, budget), context, on_candidate, store)
    return result_of(state, strategy)


async def search_all(
    problems: Sequence[Problem],
    strategy: Strategy,
    policy: Policy,
    verifier: Verifier | None = None,
    budget: int | None = None,
    *,
    prompts: Prompts = PLAIN,
    sampling: Sampling | None = None,
    seed: int = 0,
    key: AnswerKey | None = None,
    step_verifier: StepVerifier | None = None,
    on_result: OnResult | None = None,
) -> list[SearchResult]:
    """`search` for many problems at once, whose policy calls share batches; results in their order.

    The budget is that of each problem. Problem i is searched with child i of `seed`.
    """
    graph = strategy.graph(SearchModels(policy, verifier, prompts, key, step_verifier))
    context = SearchContext(sampling or Sampling())

    async def one(number: int, problem: Problem) -> SearchResult:
        state = await _play(graph, problem, _opening(problem, derive_seed(seed, number), budget), context, None)
        result = result_of(state, strategy)
        if on_result is not None:
            on_result(result)
        return result

    tasks = [asyncio.ensure_future(one(number, problem)) for number, problem in enumerate(problems)]
    with rare_garbage_collection():
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def search_sync(*arguments: Any, **options: Any) -> SearchResult:
    """`search` for synchronous code."""
    return run_blocking(search(*arguments, **options))


async def stream_candidates(
    problem: Problem | str,
    strategy: Strategy,
    policy: Policy,
    verifier: Verifier | None = None,
    budget: int | None = None,
    *,
    prompts: Prompts = PLAIN,
    sampling: Sampling | None = None,
    seed: int = 0,
    key: AnswerKey | None = None,
    step_verifier: StepVerifier | None = None,
) -> AsyncIterator[Candidate]:
    """The answers of `search`, as they come. Stop reading to stop the search."""
    asked = as_problem(problem, "search")
    graph = strategy.graph(SearchModels(policy, verifier, prompts, key, step_verifier))
    stream: Any = events(graph, _opening(asked, seed, budget), SearchContext(sampling or Sampling()))
    async with aclosing(stream):
        async for kind, value in stream:
            if kind == "custom":
                yield value


def _opening(problem: Problem, seed: int, budget: int | None) -> SearchState:
    if budget is not None and budget < 1:
        raise ConfigurationError(f"the budget must be 1 or more generated tokens, got {budget}")
    return SearchState(
        problem=problem.model_dump(), seed=seed, budget=budget, candidates=[], scored=0, tokens=0, rounds=0, notes=[]
    )


async def _play(
    graph: SearchGraph,
    problem: Problem,
    opening: SearchState,
    context: SearchContext,
    on_candidate: Callable[[Candidate], None] | None,
    store: StoredSearch | None = None,
) -> SearchState:
    try:
        if on_candidate is None and store is None:
            return cast(SearchState, await graph.ainvoke(opening, context=context))
        last = opening
        async with aclosing((store.events if store else events)(graph, opening, context)) as stream:
            async for kind, value in stream:
                if kind == "values":
                    last = value
                elif on_candidate is not None:
                    on_candidate(value)
        return last
    except SelfCorrectError as error:
        raise type(error)(f"problem {problem.id!r}: {error}") from error
    except Exception as error:
        raise GraphError(f"problem {problem.id!r}: {type(error).__name__} while searching: {error}") from error
