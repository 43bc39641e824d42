"""Search over steps: the graph of beam search and of lookahead search (Snell et al., arXiv 2408.03314, section 5.2).

    expand -> (look_ahead) -> score -> prune -> expand ... -> choose -> END

Finished answers leave the beam and take no place in it; equal beginnings are kept once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from selfcorrect.agents.policy import ContinuingPolicy, Sampling, derive_seed
from selfcorrect.agents.search.chains import Choose, Score, SearchGraph
from selfcorrect.agents.search.selection import Pick, affordable
from selfcorrect.agents.search.state import (
    Candidate,
    Partial,
    SearchContext,
    SearchModels,
    SearchState,
    context_of,
    scores_of,
    without_generation,
)
from selfcorrect.agents.state import Generation, tokens_of
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import StepVerifier, Verifier
from selfcorrect.tasks.problem import Problem

# The nodes of a search over steps, and its rules.

_SEEDS_OF_STEPS = 1_000_003
"""Steps draw from children of the seed that no chain of whole answers uses."""


@dataclass(frozen=True)
class BeamRules:
    """`width` beginnings are kept after every step, each goes on in `expand` ways; a search begins with `width` x
    `expand` first steps.

    Args:
        width, expand: 1 or more.
        max_steps: answers with more steps are given up.
        lookahead: how many further steps are written greedily before a beginning is scored; 0 scores it as it is.
        separator: what ends a step.
        pick: how one of the finished answers is chosen.
    """

    width: int
    expand: int
    max_steps: int
    lookahead: int
    separator: str
    pick: Pick

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("expand", 1), ("max_steps", 1), ("lookahead", 0)):
            if getattr(self, name) < least:
                raise ConfigurationError(
                    f"beam: {name} must be {least} or more, got {getattr(self, name)}; an empty beam writes nothing"
                )
        if not self.separator:
            raise ConfigurationError("beam: separator is empty; name the text that ends a step, such as ' ; '")

    def sampling(self, sampling: Sampling, limit: int | None, seed: int) -> Sampling:
        """To write one step: it ends at the separator. Tokenizers may hold back its last blank, so that is not
        waited for."""
        stop = (*sampling.stop, self.separator.rstrip() or self.separator)
        return replace(sampling, max_new_tokens=limit, stop=stop, seed=seed)


@dataclass(frozen=True)
class Expand:
    """Node: the next step of every beginning, in several ways."""

    search_models: SearchModels
    policy: ContinuingPolicy
    rules: BeamRules

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        sampling, step = context_of(runtime).sampling, state.get("rounds", 0)
        beams = state.get("beams")
        roots: Sequence[Partial | None] = beams if beams else [None] * self.rules.width
        wanted = [root for _ in range(self.rules.expand) for root in roots]  # every root once, then every root again
        seed = derive_seed(state["seed"], _SEEDS_OF_STEPS + step)
        problem, pieces, spent = Problem.model_validate(state["problem"]), list[Partial](), 0
        while len(pieces) < len(wanted):
            after: SearchState = {**state, "tokens": state.get("tokens", 0) + spent}
            count, limit = affordable(after, len(wanted) - len(pieces), sampling.max_new_tokens)
            if count == 0:
                break
            numbers = range(len(pieces), len(pieces) + count)
            drawn = await asyncio.gather(
                *(
                    self._step(problem, wanted[n], self.rules.sampling(sampling, limit, derive_seed(seed, n)))
                    for n in numbers
                )
            )
            pieces.extend(drawn)
            spent += sum(piece["tokens"] for piece in drawn)
        out = {} if len(pieces) == len(wanted) else {"stop_reason": "budget"}
        return {
            "pieces": _different(pieces),
            "tokens": state.get("tokens", 0) + spent,
            "rounds": step + 1,
            "planned": self.rules.width * self.rules.expand,
            **out,
        }

    async def _step(self, problem: Problem, root: Partial | None, sampling: Sampling) -> Partial:
        if root is None:
            generation = await self.policy.generate(self.search_models.opening(problem), sampling)
            return _partial(generation, tokens_of(generation))
        generation = await self.policy.extend(root["generation"], sampling)
        return _partial(generation, tokens_of(generation) - tokens_of(root["generation"]))


@dataclass(frozen=True)
class LookAhead:
    """Node: write a few steps more, greedily, to be scored and then thrown away."""

    policy: ContinuingPolicy
    rules: BeamRules

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        sampling, pieces = replace(context_of(runtime).sampling, temperature=0.0), state["pieces"]
        budget = state.get("budget")
        share = None if budget is None else max(0, budget - state["tokens"]) // max(1, len(pieces))
        looked = await asyncio.gather(*(self._ahead(piece, sampling, share) for piece in pieces))
        shown = [Partial({**piece, "shown": text}) for piece, (text, _) in zip(pieces, looked, strict=True)]
        return {"pieces": shown, "tokens": state["tokens"] + sum(tokens for _, tokens in looked)}

    async def _ahead(self, piece: Partial, sampling: Sampling, left: int | None) -> tuple[str, int]:
        generation, begun = piece["generation"], tokens_of(piece["generation"])
        for _ in range(self.rules.lookahead):
            spent = tokens_of(generation) - begun
            if "stop_text" not in generation or (left is not None and left - spent < 1):
                break
            limits = [limit for limit in (sampling.max_new_tokens, None if left is None else left - spent) if limit]
            generation = await self.policy.extend(
                generation, self.rules.sampling(sampling, min(limits, default=None), 0)
            )
        return generation["text"], tokens_of(generation) - begun


@dataclass(frozen=True)
class ScoreSteps:
    """Node: the verifier's score of every piece (its last step's)."""

    verifier: Verifier

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        pieces = state["pieces"]
        scores = await scores_of(
            self.verifier, Problem.model_validate(state["problem"]), [piece["shown"] for piece in pieces]
        )
        return {"pieces": [{**piece, "score": score} for piece, score in zip(pieces, scores, strict=True)]}


@dataclass(frozen=True)
class Prune:
    """Node: finished answers become candidates, the best beginnings are kept."""

    search_models: SearchModels
    rules: BeamRules
    scores_answers: bool

    async def __call__(self, state: SearchState, runtime: Runtime[SearchContext]) -> dict[str, Any]:
        problem, candidates = Problem.model_validate(state["problem"]), list(state.get("candidates", []))
        going_on = [piece for piece in state["pieces"] if "stop_text" in piece["generation"]]
        for piece in state["pieces"]:
            if "stop_text" not in piece["generation"]:
                candidates.append(await self._candidate(problem, piece, len(candidates)))
                if self.scores_answers:
                    runtime.stream_writer(without_generation(candidates[-1]))
        kept = sorted(going_on, key=lambda piece: -1.0 if piece["score"] is None else piece["score"], reverse=True)
        update: dict[str, Any] = {"candidates": candidates, "pieces": []}
        if self.scores_answers:
            update["scored"] = len(candidates)
        if kept and state["rounds"] >= self.rules.max_steps:
            note = f"{len(kept)} beginnings were given up after {self.rules.max_steps} steps"
            return {**update, "beams": [], "notes": [*state.get("notes", []), note]}
        return {**update, "beams": kept[: self.rules.width]}

    async def _candidate(self, problem: Problem, piece: Partial, number: int) -> Candidate:
        made = await self.search_models.candidate(problem, piece["generation"], chain=number)
        return {**made, "score": piece["score"] if self.scores_answers and made["key"] is not None else None}


def _partial(generation: Generation, tokens: int) -> Partial:
    return Partial(generation=generation, tokens=tokens, shown=generation["text"], score=None)


def _different(pieces: Sequence[Partial]) -> list[Partial]:
    """Pieces with the same text are one."""
    first: dict[tuple[str, bool], Partial] = {}
    for piece in pieces:
        first.setdefault((piece["generation"]["text"], "stop_text" in piece["generation"]), piece)
    return list(first.values())


def beam_graph(search_models: SearchModels, rules: BeamRules, *, name: str) -> SearchGraph:
    """A compiled graph over `SearchState` that searches by `rules`.

    Raises:
        ConfigurationError: the verifier does not score steps, or the policy cannot go on with an unfinished answer.
    """
    verifier = search_models.step_verifier or search_models.need_verifier(name)
    if not isinstance(verifier, StepVerifier):
        raise ConfigurationError(
            f"{name} scores unfinished answers: a {type(verifier).__name__} cannot (it is no StepVerifier); give "
            "step_verifier=... (--step-verifier DIR)"
        )
    policy = search_models.policy
    if not isinstance(policy, ContinuingPolicy):
        raise ConfigurationError(
            f"{name} goes on with unfinished answers, which a {type(policy).__name__} cannot (it has no `extend`); use "
            "a TransformersPolicy"
        )
    graph = StateGraph(SearchState, context_schema=SearchContext)
    graph.add_node("expand", Expand(search_models, policy, rules))
    graph.add_node("score", ScoreSteps(verifier))
    last = None if search_models.verifier in (None, verifier) else search_models.verifier
    """Who scores the finished answers, if that is somebody else."""
    graph.add_node("prune", Prune(search_models, rules, scores_answers=last is None))
    graph.add_node("choose", Choose(rules.pick))
    graph.add_edge(START, "expand")
    if rules.lookahead:
        graph.add_node("look_ahead", LookAhead(policy, rules))
        graph.add_edge("expand", "look_ahead")
        graph.add_edge("look_ahead", "score")
    else:
        graph.add_edge("expand", "score")
    graph.add_edge("score", "prune")
    graph.add_conditional_edges(
        "prune", _go_on, {"expand": "expand", "end": "choose" if last is None else "score_answers"}
    )
    if last is not None:
        graph.add_node("score_answers", Score(search_models, last))
        graph.add_edge("score_answers", "choose")
    graph.add_edge("choose", END)
    return graph.compile(name=name).with_config(recursion_limit=5 * rules.max_steps + 10)


async def _go_on(state: SearchState) -> str:
    return "end" if not state["beams"] or state.get("stop_reason") else "expand"
