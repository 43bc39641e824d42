"""Search without a verifier: chains of answers that the policy judges itself and revises until it calls one right.

    attempt -> critique -> revise -> critique ... -> attempt (the next chains) ... -> choose -> END

Sampling, self-verification and self-correction are put together as in SETS (Chen et al. 2025, arXiv 2501.19306).
Different here: the search may end as soon as answers that were called right agree, and where one was called right, only
such answers have a vote.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from selfcorrect.agents.policy import Sampling, derive_seed
from selfcorrect.agents.search.chains import Choose, Draw, SearchGraph
from selfcorrect.agents.search.selection import DEFAULT_LIMIT, affordable, choose, groups
from selfcorrect.agents.search.state import (
    Candidate,
    SearchContext,
    SearchModels,
    SearchState,
    context_of,
    without_generation,
)
from selfcorrect.agents.state import Message, tokens_of
from selfcorrect.errors import ConfigurationError, UnreadablePromptError


@dataclass(frozen=True)
class SelfJudgedRules:
    """`parallel` chains of one answer and up to `revisions` revisions each. A chain goes on while the policy calls its
    last answer wrong; the next chains begin when those before have ended.

    Args:
        parallel: chains, 1 or more.
        revisions: of each chain at most, 0 or more.
        agree: the search ends as soon as so many answers that were called right are the same one; 0 plays all chains.
        wave: chains side by side, 1 or more: more are faster, fewer waste less.

    Raises:
        ConfigurationError: a number is out of range, or more have to agree than there are chains.
    """

    parallel: int
    revisions: int
    agree: int = 1
    wave: int = 1
    distinct: Literal[False] = False

    def __post_init__(self) -> None:
        for name, least in (("parallel", 1), ("revisions", 0), ("agree", 0), ("wave", 1)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if self.agree > self.parallel:
            raise ConfigurationError(
                f"{self.parallel} chains end with as many answers at most: {self.agree} cannot agree"
            )

    @property
    def planned(self) -> int:
        """Answers, if every chain is played to its end."""
        return self.parallel * (1 + self.revisions)

    def wanted(self, candidates: Sequence[Candidate]) -> int:
        """How many answers to draw next, all first ones or all revisions; 0 ends the search."""
        return 0 if self.end(candidates) != "complete" else len(self._next(candidates))

    def slots(self, candidates: Sequence[Candidate], count: int) -> list[tuple[int, int]]:
        """(chain, revision) of the next `count` answers: those of the chains that go on, else the next wave's first."""
        return self._next(candidates)[:count]

    def end(self, candidates: Sequence[Candidate]) -> str:
        """ "sure" if enough answers that were called right are the same one, else "complete"."""
        agreeing = groups(_called_right(candidates))
        return "sure" if self.agree and agreeing and agreeing[0].weight >= self.agree else "complete"

    def _next(self, candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
        last = {one["chain"]: one for one in candidates}
        going_on = [
            (chain, one["revision"] + 1)
            for chain, one in last.items()
            if one.get("called_right") is False and one["revision"] < self.revisions
        ]
        return going_on or [(chain, 0) for chain in range(len(last), min(len(last) + self.wave, self.parallel))]


def _called_right(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [one for one in candidates if one.get("called_right")]


def choose_judged(candidates: Sequence[Candidate]) -> int | None:
    """Number of the winner: the most frequent of the answers that the policy calls right; where it calls none right,
    of the last answers of the chains. None if none can be read."""
    readable = {number: one for number, one in enumerate(candidates) if one["key"] is not None}
    last = {one["chain"]: number for number, one in readable.items()}
    numbers = [number for number, one in readable.items() if one.get("called_right")] or sorted(last.values())
    winner = choose([candidates[number] for number in numbers], "majority")
    return None if winner is None else numbers[winner]


@dataclass(frozen=True)
class CritiqueAnswers:
    """Node: the policy's own verdicts on the answers that have none yet, in their conversations.

    Their tokens are counted. After an answer that the policy cannot be shown again there is none, and its chain ends.
    Where the budget leaves no room for a whole verdict, there is none either, and the search ends ("budget").
    """

    search_models: SearchModels
    rules: SelfJudgedRules

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        candidates, sampling = state["candidates"], context_of(runtime).sampling
        new = [number for number, one in enumerate(candidates) if "called_right" not in one]
        limit = self._limit(state, len(new), sampling)
        judged = await asyncio.gather(*(self._one(candidates[number], state, limit, sampling) for number in new))
        update = dict(zip(new, judged, strict=True))
        for one in judged:
            runtime.stream_writer(without_generation(one))
        spent = sum(one["tokens"] - candidates[number]["tokens"] for number, one in update.items())
        known = [update.get(number, one) for number, one in enumerate(candidates)]
        made = {"candidates": known, "tokens": state.get("tokens", 0) + spent}
        short = limit is not None and limit < (sampling.max_new_tokens or DEFAULT_LIMIT)
        cut_off = any(one["generation"]["finish_reason"] == "length" for one in judged)
        ended = short and (limit == 0 or cut_off) and self.rules.end(known) == "complete"
        return {**made, "stop_reason": "budget"} if ended else made

    def _limit(self, state: SearchState, verdicts: int, sampling: Sampling) -> int | None:
        """The most tokens of each of so many verdicts; 0 where the budget has no room for them."""
        budget = state.get("budget")
        if budget is None:
            return sampling.max_new_tokens
        room = (budget - state.get("tokens", 0)) // max(1, verdicts)
        return min(room, sampling.max_new_tokens or DEFAULT_LIMIT)

    async def _one(self, candidate: Candidate, state: SearchState, limit: int | None, sampling: Sampling) -> Candidate:
        if limit == 0:
            return {**candidate, "called_right": None}
        seed = derive_seed(derive_seed(derive_seed(state["seed"], candidate["chain"]), candidate["revision"]), 1)
        asked = Message(role="user", content=self.search_models.prompts.critique)
        drawn = replace(sampling.with_seed(seed), max_new_tokens=limit)
        try:
            verdict = await self.search_models.policy.generate([asked], drawn, after=candidate["generation"])
        except UnreadablePromptError:
            return {**candidate, "called_right": None}
        wrong = self.search_models.prompts.calls_wrong(verdict["text"])
        tokens = candidate["tokens"] + tokens_of(verdict)
        return {
            **candidate,
            "generation": verdict,
            "tokens": tokens,
            "called_right": None if wrong is None else not wrong,
        }


@dataclass(frozen=True)
class ChooseJudged(Choose):
    """Node: pick the winner by `choose_judged`, and note where the policy called none right."""

    rules: SelfJudgedRules = SelfJudgedRules(1, 0)

    def chosen(self, candidates: Sequence[Candidate]) -> int | None:
        return choose_judged(candidates)

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        update, candidates = await super().__call__(state, runtime), state.get("candidates", [])
        begun = len({one["chain"] for one in candidates})
        # the chains that were not begun would have been as long as those that were
        update["planned"] = round(len(candidates) * self.rules.parallel / max(1, begun))
        if update["chosen"] is not None and not _called_right(candidates):
            update["notes"].append("the policy called none of its answers right; the last of each chain had a vote")
        return update


def self_judged_graph(search_models: SearchModels, rules: SelfJudgedRules, *, name: str) -> SearchGraph:
    """A compiled graph over `SearchState` that plays by `rules`. A search that begins with candidates judges those
    first."""

    async def go_on(state: SearchState) -> str:
        drawn = state.get("candidates", [])
        if state.get("stop_reason"):
            return "choose"
        if any("called_right" not in one for one in drawn):
            return "critique"
        count, _ = affordable(state, rules.wanted(drawn), None)
        if count == 0 or not rules.wanted(drawn):
            return "choose"
        return "revise" if rules.slots(drawn, 1)[0][1] else "attempt"

    graph = StateGraph(SearchState, context_schema=SearchContext)
    ends = ["attempt", "critique", "revise", "choose"]
    graph.add_node("attempt", Draw(search_models, rules, window=None, tells=False))
    graph.add_node("revise", Draw(search_models, rules, window=None, tells=False))
    graph.add_node("critique", CritiqueAnswers(search_models, rules))
    graph.add_node("choose", ChooseJudged("majority", rules))
    graph.add_conditional_edges(START, go_on, ends)
    for node in ("attempt", "revise", "critique"):
        graph.add_conditional_edges(node, go_on, ends)
    graph.add_edge("choose", END)
    return graph.compile(name=name).with_config(recursion_limit=3 * rules.planned + 10)
