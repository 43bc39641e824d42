"""When a search that writes whole answers draws how many more, and when it ends. Pure functions of what was drawn so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfcorrect.agents.search.candidates import Candidate, SearchState
from selfcorrect.agents.search.selection import Pick, Weight, still_needed
from selfcorrect.errors import ConfigurationError

DEFAULT_LIMIT = 512
"""Tokens reserved for an answer where `Sampling.max_new_tokens` says nothing."""


@dataclass(frozen=True)
class ChainRules:
    """`parallel` chains of one attempt and `revisions` revisions each; answers are drawn round by round.

    Args:
        parallel: chains, 1 or more.
        revisions: of each chain, 0 or more.
        pick: how the answer is chosen; see `selection.choose`.
        early: end as soon as no further answer can change the vote (only for votes).
        sure: end as soon as the verifier scores an answer so high; None never does. A score of 1 always ends the search for the
            highest score.
        wave: with `sure` or `distinct`, how many answers are drawn at a time.
        distinct: draw first answers without replacement. Those of one wave do not know of each other.
    """

    parallel: int
    revisions: int
    pick: Pick
    early: bool = True
    sure: float | None = None
    wave: int = 4
    distinct: bool = False

    def __post_init__(self) -> None:
        for name, least in (("parallel", 1), ("revisions", 0), ("wave", 1)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if self.sure is not None and not 0 < self.sure <= 1:
            raise ConfigurationError(f"sure is a score in (0, 1], got {self.sure}")

    @property
    def planned(self) -> int:
        return self.parallel * (1 + self.revisions)

    @property
    def needs_verifier(self) -> bool:
        return self.pick in ("verifier", "weighted") or self.sure is not None

    def wanted(self, candidates: Sequence[Candidate]) -> int:
        """How many answers to draw next, all of one round; 0 ends the search."""
        drawn = len(candidates)
        if drawn >= self.planned or self.end(candidates) != "complete":
            return 0
        in_round = self.parallel - drawn % self.parallel
        if self.sure is not None or self.distinct:
            return min(in_round, self.wave)
        weight = self._vote
        return min(in_round, self.planned - drawn if weight is None else still_needed(candidates, self.planned, weight))

    def end(self, candidates: Sequence[Candidate]) -> str:
        """Why the search could end now: "sure", "settled", or "complete" if for no other reason than having drawn everything."""
        best = max((candidate["score"] or 0.0 for candidate in candidates if candidate["key"] is not None), default=0.0)
        if self.sure is not None and best >= self.sure:
            return "sure"
        if self.pick == "verifier" and best >= 1:
            return "sure"
        left = self.planned - len(candidates)
        if (
            candidates
            and left > 0
            and self._vote is not None
            and still_needed(candidates, self.planned, self._vote) == 0
        ):
            return "settled"
        return "complete"

    @property
    def _vote(self) -> Weight | None:
        """What is counted in the vote that may be settled early; None if there is none."""
        if not self.early or self.pick not in ("majority", "weighted"):
            return None
        return "count" if self.pick == "majority" else "score"


def affordable(state: SearchState, wanted: int, limit: int | None) -> tuple[int, int | None]:
    """How many of `wanted` answers the budget allows now, and the token limit of each.

    Each answer is given the room of the longest possible one (`limit`), as far as there is room; what it leaves is used by later
    ones. So no budget is ever exceeded, and only an answer that is the last anyway can be cut off by it. When less is left than
    the shortest finished answer took, nothing more is drawn.
    """
    budget = state.get("budget")
    if budget is None:
        return wanted, limit
    left = budget - state.get("tokens", 0)
    finished = [candidate["tokens"] for candidate in state.get("candidates", []) if candidate["key"] is not None]
    if left < 1 or (finished and left < min(finished)):
        return 0, limit
    room = min(left, limit or DEFAULT_LIMIT)
    count = max(1, min(wanted, left // room))
    return count, min(room, left // count)
