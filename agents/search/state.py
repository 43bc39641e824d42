"""What flows through a search graph: plain data only, so that any LangGraph checkpointer can store it."""

import math
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from langgraph.runtime import Runtime

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation


class Candidate(TypedDict):
    """One whole answer.

    Keys:
        text: as it was written.
        key: what a vote counts it as; None if no answer can be read in it, or it was cut off.
        score: the verifier's, in [0, 1]; None if there is none, or it abstained.
        tokens: generated for it (for a revision: for this turn alone).
        chain, revision: it is the `revision`-th answer (from 0) of parallel chain number `chain`.
        generation: what the policy returned, for whoever goes on from it.
    """

    text: str
    key: str | None
    score: float | None
    tokens: int
    chain: int
    revision: int
    generation: NotRequired[Generation]


class SearchState(TypedDict, total=False):
    """The state of every search graph.

    Keys:
        problem: a `Problem` as plain data.
        seed: of the whole search.
        budget: generated tokens that may be used, in all; None is no limit.
        candidates: the answers so far, in the order in which they were begun.
        pieces: what a search over steps has just written, not yet pruned.
        beams: the unfinished answers that it goes on with.
        scored: how many of `candidates`, from the first, the verifier has seen.
        tokens: generated so far, unfinished and thrown-away pieces included.
        rounds: of sampling or of steps, so far.
        chosen: number of the winning candidate; None if none can be read.
        stop_reason: why the search ended: "complete" (all that the strategy draws), "settled" (more could not change
            the vote), "sure" (the verifier is), "exhausted" (the policy has no answer left that it did not give),
            "budget".
        planned: how many candidates the strategy would have drawn at most.
        notes: what went otherwise than planned, for people.
        difficulty: what `ComputeOptimal` estimated; 0 is easy, 1 hard.
        strategy: name of the strategy that it chose.
    """

    problem: dict[str, Any]
    seed: int
    budget: int | None
    candidates: list[Candidate]
    scored: int
    pieces: list["Partial"]
    beams: list["Partial"]
    tokens: int
    rounds: int
    chosen: int | None
    stop_reason: str
    planned: int
    notes: list[str]
    difficulty: float
    strategy: str


class Partial(TypedDict):
    """An answer as far as it is written, in a search over steps.

    Keys:
        generation: all of it so far.
        tokens: generated for its last step.
        shown: the text that the verifier scores: its own, or that of the lookahead from here.
        score: of that.
    """

    generation: Generation
    tokens: int
    shown: str
    score: float | None


@dataclass(frozen=True)
class SearchContext:
    """What one run of a search graph is given beside its input."""

    sampling: Sampling = field(default_factory=Sampling)


def context_of(runtime: Runtime[SearchContext]) -> SearchContext:
    """The run's context; the default one where the graph is run without."""
    return runtime.context if runtime.context is not None else SearchContext()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What came of a search.

    Attributes:
        problem_id: of the problem.
        answer: the text that was chosen; "" if no candidate can be read.
        candidates: all answers, with keys and scores (their generations left out).
        chosen: number of the winning one; None if none can be read.
        votes: (key, votes or summed scores) of the readable answers, the most first.
        tokens: generated in all.
        saved_tokens: about how many the strategy would have generated besides, had it not stopped early: the candidates
            that were not drawn, at the mean length of those that were.
        stop_reason: see `SearchState`.
        notes: what went otherwise than planned: a verifier that abstained throughout, for example.
        strategy: name of what was played; that which it chose, for `ComputeOptimal`.
        difficulty: as `ComputeOptimal` estimated it, else None.
    """

    problem_id: str
    answer: str
    candidates: tuple[Candidate, ...]
    chosen: int | None
    votes: tuple[tuple[str, float], ...]
    tokens: int
    saved_tokens: int
    stop_reason: str
    notes: tuple[str, ...]
    strategy: str
    difficulty: float | None = None


def readable_score(score: float | None) -> float | None:
    """`score`, or None (an abstention) if it is not a number."""
    return None if score is None or math.isnan(score) else float(score)


def without_generation(candidate: Candidate) -> Candidate:
    """`candidate` as it is shown: without token ids."""
    shown = candidate.copy()
    shown.pop("generation", None)
    return shown
