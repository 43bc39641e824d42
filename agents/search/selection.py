"""Which candidate wins, and whether more candidates could change that. Pure functions.

Two rules are used by Snell et al. (arXiv 2408.03314, section 5.1): best of N, and best of N *weighted*, where the
scores of equal answers are summed (Li et al. 2022, arXiv 2206.02336). The plain vote is self-consistency (Wang et al.
2022, arXiv 2203.11171). Ties go to the answer that was found first, so results do not depend on anything but the
candidates.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfcorrect.agents.search.state import Candidate, SearchState
from selfcorrect.errors import ConfigurationError

Weight = Literal["count", "score"]
Pick = Literal["last", "majority", "verifier", "weighted"]


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates with one key: the sum of their weights (count or score), the first one's number, all numbers."""

    key: str
    weight: float
    first: int
    members: tuple[int, ...]


def groups(candidates: Sequence[Candidate], weight: Weight = "count") -> list[Group]:
    """The readable candidates by key, heaviest first, ties by which was found first. Candidates without a score
    weigh 0 by score."""
    found: dict[str, list[int]] = {}
    for number, candidate in enumerate(candidates):
        if candidate["key"] is not None:
            found.setdefault(candidate["key"], []).append(number)
    made = [
        Group(key, sum(_weight(candidates[number], weight) for number in members), members[0], tuple(members))
        for key, members in found.items()
    ]
    return sorted(made, key=lambda group: (-group.weight, group.first))


def choose(candidates: Sequence[Candidate], pick: Pick) -> int | None:
    """Number of the winning candidate; None if none can be read.

    "last" is the last readable one; "verifier" the highest score; "majority" and "weighted" are votes, in which the
    winning answer is written as its best-scored candidate wrote it, or in a majority as most of them did. Where no
    readable candidate has a score, "verifier" and "weighted" fall back to the majority.
    """
    readable = [number for number, candidate in enumerate(candidates) if candidate["key"] is not None]
    if not readable:
        return None
    if pick == "last":
        return readable[-1]
    scored = [number for number in readable if candidates[number]["score"] is not None]
    if pick == "verifier" and scored:
        return _best(candidates, scored)
    if pick == "weighted" and scored:
        return _best(candidates, groups(candidates, "score")[0].members)
    return _most_frequent(candidates, groups(candidates)[0].members)


def still_needed(candidates: Sequence[Candidate], planned: int, weight: Weight = "count") -> int:
    """The fewest further candidates after which the vote over `planned` candidates could be decided; 0 if it is decided
    already.

    Sampling just that many and asking again draws no candidate that sampling one by one would have saved. By score, a
    candidate weighs at most 1. The bound is safe: once it says 0, no further candidates change the winning answer.
    """
    left = planned - len(candidates)
    if left <= 0:
        return 0
    ranked = groups(candidates, weight)
    if weight == "score" and not any(candidate["score"] is not None for candidate in candidates if candidate["key"]):
        return left // 2 + 1  # until a first score is seen, the vote may still fall back to counting
    lead = _lead(ranked)
    if lead >= left:
        return 0
    return min(left, max(1, math.ceil((left - lead) / 2)))


def _lead(ranked: Sequence[Group]) -> float:
    """By how much the leader is ahead of whoever could overtake it; a tie at the end must fall to the leader."""
    if not ranked:
        return 0.0
    leader = ranked[0]
    leads = [leader.weight]  # over an answer that was not seen yet, which would lose a tie
    leads += [leader.weight - rival.weight - (0 if leader.first < rival.first else _LEAST) for rival in ranked[1:]]
    return min(leads)


_LEAST = 1e-9
"""A rival that was found first wins ties, so the leader must be ahead by a little more."""


def _weight(candidate: Candidate, weight: Weight) -> float:
    return 1.0 if weight == "count" else (candidate["score"] or 0.0)


def _best(candidates: Sequence[Candidate], numbers: Sequence[int]) -> int:
    """The highest-scored of `numbers`, the first of those that tie or where nobody scored."""
    return max(numbers, key=lambda number: (_rank(candidates[number]), -number))


def _most_frequent(candidates: Sequence[Candidate], numbers: Sequence[int]) -> int:
    """The first of `numbers` whose text most of them have."""
    texts = Counter(candidates[number]["text"] for number in numbers)
    return max(numbers, key=lambda number: (texts[candidates[number]["text"]], -number))


def _rank(candidate: Candidate) -> float:
    return -1.0 if candidate["score"] is None else candidate["score"]


# When a search that writes whole answers draws how many more, and when it ends. Pure functions of what was drawn so
# far.

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
        sure: end as soon as the verifier scores an answer so high; None never does. A score of 1 always ends the search
            for the highest score.
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

    def slots(self, candidates: Sequence[Candidate], count: int) -> list[tuple[int, int]]:
        """(chain, revision) of the next `count` answers: all chains side by side."""
        numbers = range(len(candidates), len(candidates) + count)
        return [(number % self.parallel, number // self.parallel) for number in numbers]

    def end(self, candidates: Sequence[Candidate]) -> str:
        """Why the search could end now: "sure", "settled", or "complete" if for no other reason than having drawn
        everything."""
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

    Each answer is given the room of the longest possible one (`limit`), as far as there is room; what it leaves is used
    by later ones. So no budget is ever exceeded, and only an answer that is the last anyway can be cut off by it. When
    less is left than the shortest finished answer took, nothing more is drawn.
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
