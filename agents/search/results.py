"""What a finished search's state amounts to."""

from collections.abc import Sequence

from selfcorrect.agents.search.candidates import Candidate, SearchResult, SearchState, without_generation
from selfcorrect.agents.search.selection import groups
from selfcorrect.agents.search.strategies import Strategy


def result_of(state: SearchState, strategy: Strategy) -> SearchResult:
    """The result that a finished search's state amounts to."""
    candidates = tuple(without_generation(candidate) for candidate in state.get("candidates", []))
    chosen, reason = state.get("chosen"), state.get("stop_reason", "complete")
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
    """What the answers that were not drawn would have taken, at the mean length of those that were, within the budget."""
    missing = max(0, state.get("planned", 0) - len(candidates))
    mean = sum(candidate["tokens"] for candidate in candidates) / max(1, len(candidates))
    budget = state.get("budget")
    left = None if budget is None else budget - state["tokens"]
    return round(missing * mean) if left is None else min(left, round(missing * mean))
