"""The graph of every search that writes whole answers: votes, best of N, revisions, and both.

    attempt -> (score) -> attempt ... -> revise -> (score) -> revise ... -> choose -> END

`score` is there if the choice or the end depends on a verifier, `revise` if the rules have revisions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from selfcorrect.agents.policies.scripted import WindowedPolicy
from selfcorrect.agents.policy import Sampling, derive_seed
from selfcorrect.agents.search.selection import ChainRules, Pick, affordable, choose
from selfcorrect.agents.search.state import (
    Candidate,
    SearchContext,
    SearchModels,
    SearchState,
    context_of,
    scores_of,
    shown_to_verifier,
    without_generation,
)
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import UnreadablePromptError
from selfcorrect.rewards.checker import Verifier
from selfcorrect.tasks.problem import Problem

# The nodes of a search that writes whole answers: they draw, score and choose.


class DrawRules(Protocol):
    """What `Draw` and `Choose` ask of the rules of a search; see `ChainRules`."""

    @property
    def planned(self) -> int:
        """How many answers it draws at most."""
        ...

    @property
    def distinct(self) -> bool:
        """Whether first answers are drawn without replacement."""
        ...

    def wanted(self, candidates: Sequence[Candidate]) -> int:
        """How many answers to draw next, all first ones or all revisions; 0 ends the search."""
        ...

    def slots(self, candidates: Sequence[Candidate], count: int) -> list[tuple[int, int]]:
        """(chain, revision) of the next `count` answers."""
        ...

    def end(self, candidates: Sequence[Candidate]) -> str:
        """Why the search could end now; "complete" if for no other reason than having drawn everything."""
        ...


@dataclass(frozen=True)
class Draw:
    """Node: the next answers of a round, as many as the rules and the budget allow: attempts in the first, then
    revisions.

    The first answer of chain c is drawn with child c of the search's seed, its r-th revision with child r of that,
    whatever the
    strategy: strategies that are compared under one seed see the same first answers. A chain
    whose last answer the policy cannot be shown again (a word that its tokenizer does not know, a full context) ends:
        its further
    answers are "", unreadable, and cost nothing. Where first answers are to be distinct and the policy has no other one
    left, the search ends ("exhausted").

    Args:
        search_models: see there.
        rules: how many.
        window: how many earlier exchanges a revision sees.
        tells: whether it streams its answers; where they are scored, that is left to `Score`.
    """

    search_models: SearchModels
    rules: DrawRules
    window: int | None = 1
    tells: bool = True

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        sampling, before = context_of(runtime).sampling, state.get("candidates", [])
        count, limit = affordable(state, self.rules.wanted(before), sampling.max_new_tokens)
        slots = self.rules.slots(before, count)
        sampling = replace(sampling, max_new_tokens=limit)
        problem = Problem.model_validate(state["problem"])
        asked = await asyncio.gather(
            *(self._one(problem, state, chain, revision, sampling) for chain, revision in slots)
        )
        drawn = [candidate for candidate in asked if candidate is not None]
        if self.tells:
            for candidate in drawn:
                runtime.stream_writer(without_generation(candidate))
        update = {
            "candidates": [*before, *drawn],
            "tokens": state.get("tokens", 0) + sum(candidate["tokens"] for candidate in drawn),
            "rounds": state.get("rounds", 0) + 1,
            "planned": self.rules.planned,
        }
        return update if len(drawn) == len(asked) else {**update, "stop_reason": "exhausted"}

    async def _one(
        self, problem: Problem, state: SearchState, chain: int, revision: int, sampling: Sampling
    ) -> Candidate | None:
        seed = derive_seed(state["seed"], chain)
        seeded = sampling.with_seed(derive_seed(seed, revision) if revision else seed)
        if revision == 0:
            generation = await self._first(problem, state, seeded)
            if generation is None:
                return None
        else:
            policy = WindowedPolicy(self.search_models.policy, self.window)
            ask = Message(role="user", content=self.search_models.prompts.revise)
            place = (chain, revision - 1)
            before = next(one for one in state["candidates"] if (one["chain"], one["revision"]) == place)
            try:
                generation = await policy.generate([ask], seeded, after=before["generation"])
            except UnreadablePromptError:
                return _ended(before, chain, revision)
        return await self.search_models.candidate(problem, generation, chain=chain, revision=revision)

    async def _first(self, problem: Problem, state: SearchState, sampling: Sampling) -> Generation | None:
        """A first answer; None if it is to be a new one and there is none."""
        opening, before = self.search_models.opening(problem), state.get("candidates", [])
        if not self.rules.distinct or not before:
            return await self.search_models.policy.generate(opening, sampling)
        policy = self.search_models.need_renewing_policy("this search")
        drawn = [candidate["generation"] for candidate in before if candidate["revision"] == 0]
        return await policy.generate_new(opening, sampling, drawn=drawn)


@dataclass(frozen=True)
class Score:
    """Node: the verifier's scores of the answers that have none yet. Unreadable answers are not shown to it."""

    search_models: SearchModels
    verifier: Verifier

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        problem, candidates = Problem.model_validate(state["problem"]), state.get("candidates", [])
        new = range(state.get("scored", 0), len(candidates))
        readable = [number for number in new if candidates[number]["key"] is not None]
        texts = [shown_to_verifier(problem, candidates[number]["text"]) for number in readable]
        scores = dict(zip(readable, await scores_of(self.verifier, problem, texts), strict=True))
        scored = list(candidates)
        for number in new:
            scored[number] = {**candidates[number], "score": scores.get(number)}
            runtime.stream_writer(without_generation(scored[number]))
        return {"candidates": scored, "scored": len(scored)}


@dataclass(frozen=True)
class Choose:
    """Node: pick the winner, and note where the choice had to be made otherwise than planned."""

    pick: Pick
    rules: DrawRules | None = None

    def chosen(self, candidates: Sequence[Candidate]) -> int | None:
        """Number of the winner; None if none can be read."""
        return choose(candidates, self.pick)

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        candidates = state.get("candidates", [])
        notes = list(state.get("notes", []))
        readable = [candidate for candidate in candidates if candidate["key"] is not None]
        if candidates and not readable:
            notes.append(f"none of the {len(candidates)} answers is complete and can be read")
        if readable and self.pick in ("verifier", "weighted") and all(one["score"] is None for one in readable):
            notes.append("the verifier scored none of the answers; the majority decided")
        return {"chosen": self.chosen(candidates), "notes": notes, "stop_reason": self._reason(state)}

    def _reason(self, state: SearchState) -> str:
        if state.get("stop_reason") or self.rules is None:
            return state.get("stop_reason") or "complete"
        candidates = state.get("candidates", [])
        reason = self.rules.end(candidates)
        used_up = state.get("budget") is not None and state.get("tokens", 0) >= (state.get("budget") or 0)
        nothing = used_up and all(candidate["key"] is None for candidate in candidates)
        return "budget" if reason == "complete" and (nothing or self.rules.wanted(candidates) > 0) else reason


def _ended(before: Candidate, chain: int, revision: int) -> Candidate:
    """In place of an answer that could not be asked for; the policy cannot be asked about it, either."""
    made = Candidate(text="", key=None, score=None, tokens=0, chain=chain, revision=revision, called_right=None)
    return {**made, "generation": before["generation"]}


SearchGraph = CompiledStateGraph[SearchState, SearchContext, SearchState, SearchState]


def chain_graph(search_models: SearchModels, rules: ChainRules, *, name: str, window: int | None = 1) -> SearchGraph:
    """A compiled graph over `SearchState` that plays by `rules`.

    A search that begins with candidates (those by which difficulty was estimated) goes on after them.

    Raises:
        ConfigurationError: the rules need a verifier and there is none.
    """
    verifier = search_models.need_verifier(name) if rules.needs_verifier else None
    graph = StateGraph(SearchState, context_schema=SearchContext)
    drawing = ["attempt", "revise"] if rules.revisions else ["attempt"]
    go_on, ends = _route(rules), [*drawing, "choose"]
    graph.add_conditional_edges(START, go_on, ends)
    for node in drawing:
        graph.add_node(node, Draw(search_models, rules, window, tells=verifier is None))
        if verifier is None:
            graph.add_conditional_edges(node, go_on, ends)
        else:
            graph.add_edge(node, "score")
    if verifier is not None:
        graph.add_node("score", Score(search_models, verifier))
        graph.add_conditional_edges("score", go_on, ends)
    graph.add_node("choose", Choose(rules.pick, rules))
    graph.add_edge("choose", END)
    return graph.compile(name=name).with_config(recursion_limit=3 * rules.planned + 10)


def _route(rules: ChainRules) -> Callable[[SearchState], Awaitable[str]]:
    # asynchronous: LangGraph runs a plain function in a thread, and searches would miss each other's batch
    async def go_on(state: SearchState) -> str:
        drawn = state.get("candidates", [])
        if state.get("stop_reason"):
            return "choose"
        count, _ = affordable(state, rules.wanted(drawn), None)
        if rules.wanted(drawn) == 0 or count == 0:
            return "choose"
        return "attempt" if len(drawn) < rules.parallel else "revise"

    return go_on
