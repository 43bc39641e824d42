"""Candidates of a search, written down short."""

from selfcorrect.agents.search.state import Candidate


def candidate(key: str | None, score: float | None = None, text: str | None = None, tokens: int = 1) -> Candidate:
    return Candidate(text=text or key or "?", key=key, score=score, tokens=tokens, chain=0, revision=0)


def candidates(keys: str, scores: list[float | None] | None = None) -> list[Candidate]:
    """One for each letter; "-" is unreadable."""
    given_scores = scores or [None] * len(keys)
    return [candidate(None if key == "-" else key, score) for key, score in zip(keys, given_scores, strict=True)]
