"""Choosing one of several answers, and what choosing is worth: best-of-k, pass@k, majority and weighted votes. Pure
functions.

Conventions. `correct[i]` says whether candidate i is right. `scores[i]` is a verifier's score, None where it abstained:
an abstention ranks below every score. `answers[i]` is the answer as the checker read it; equal answers are one vote,
and None (nothing readable) has no vote. Ties are broken at random, and the figures below are exact expectations over
those breaks: with constant scores best-of-k is pass@1, so that a verifier without information does not look
informative.
"""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.shaping import Score

_ALL_SUBSETS_UP_TO = 2_000


def best_of_k(scores: Sequence[Score], correct: Sequence[bool], k: int) -> float:
    """Probability that the highest-scored of k candidates, drawn without replacement from N, is right.

    V-STaR's estimator (Hosseini et al. 2024, arXiv 2402.06457, section 4.2) with a_i the correctness sorted by score,
    descending:

        sum over i = 0 ... N-k of C(N-i-1, k-1) / C(N, k) * a_i

    Candidate i is the best of a subset if the other k-1 come from the N-i-1 below it. Candidates with equal scores
    share the mean of their correctness, which is the expectation over random breaks of the tie.

    Raises:
        ConfigurationError: k is not in 1 ... N, or the lengths differ.
    """
    _refuse_size(k, len(correct), len(scores))
    total = math.comb(len(correct), k)
    return sum(
        math.comb(len(correct) - rank - 1, k - 1) / total * right for rank, right in enumerate(_ranked(scores, correct))
    )


def pass_at_k(correct: Sequence[bool], k: int) -> float:
    """Probability that at least one of k candidates, drawn without replacement, is right: the oracle's best-of-k.

    Chen et al. 2021 (arXiv 2107.03374), Eq. 1: 1 - C(N-c, k) / C(N, k).

    Raises:
        ConfigurationError: k is not in 1 ... N.
    """
    _refuse_size(k, len(correct), len(correct))
    return 1.0 - math.comb(len(correct) - sum(map(bool, correct)), k) / math.comb(len(correct), k)


def vote(answers: Sequence[str | None], scores: Sequence[Score] | None = None) -> list[str]:
    """The answers with the most votes: one, or several that are tied; [] if no answer is readable.

    Args:
        answers: of the candidates.
        scores: a candidate's vote counts its score (an abstention counts 0); None lets every vote count 1. If the
            scores of all readable answers are 0 or abstentions, every vote counts 1.
    """
    weights = _weights(answers, scores)
    highest = max(weights.values(), default=0.0)
    return [answer for answer, weight in weights.items() if math.isclose(weight, highest, rel_tol=1e-12)]


def vote_accuracy(
    answers: Sequence[str | None], correct: Sequence[bool], scores: Sequence[Score] | None = None
) -> float:
    """Probability that the vote's winner is right, ties broken at random; 0.0 if no answer is readable."""
    winners = vote(answers, scores)
    return sum(_share_right(winner, answers, correct) for winner in winners) / len(winners) if winners else 0.0


def vote_at_k(
    answers: Sequence[str | None],
    correct: Sequence[bool],
    k: int,
    scores: Sequence[Score] | None = None,
    *,
    draws: int = 200,
    seed: int = 0,
) -> float:
    """`vote_accuracy` of k candidates drawn without replacement: over all subsets if they are few, else over `draws`
    random ones.

    Raises:
        ConfigurationError: k is not in 1 ... N, or the lengths differ.
    """
    _refuse_size(k, len(correct), len(answers))
    numbers = range(len(answers))
    if math.comb(len(answers), k) <= _ALL_SUBSETS_UP_TO:
        subsets = list(combinations(numbers, k))
    else:
        rng = random.Random(seed)
        subsets = [tuple(rng.sample(numbers, k)) for _ in range(draws)]

    def accuracy(subset: Sequence[int]) -> float:
        chosen = None if scores is None else [scores[i] for i in subset]
        return vote_accuracy([answers[i] for i in subset], [correct[i] for i in subset], chosen)

    return sum(map(accuracy, subsets)) / len(subsets)


def pick_best(scores: Sequence[Score]) -> int:
    """The number of the candidate with the highest score, the first of several; 0 where the verifier abstained on all.

    Raises:
        ConfigurationError: there are no candidates.
    """
    _refuse_none(scores)
    return max(range(len(scores)), key=lambda i: (_rank(scores[i]), -i))


def pick_by_vote(answers: Sequence[str | None], scores: Sequence[Score] | None = None) -> int | None:
    """The number of the candidate that stands for the vote's winner, or None if no answer is readable.

    Of tied answers the one that was given first wins; of the candidates with that answer, the best scored (or the
    first).

    Raises:
        ConfigurationError: there are no candidates.
    """
    _refuse_none(answers)
    winners = vote(answers, scores)
    if not winners:
        return None
    same = [i for i, answer in enumerate(answers) if answer == winners[0]]
    return same[0] if scores is None else same[pick_best([scores[i] for i in same])]


def _ranked(scores: Sequence[Score], correct: Sequence[bool]) -> list[float]:
    """Correctness by descending score; tied candidates share their mean."""
    tied: defaultdict[float, list[bool]] = defaultdict(list)
    for score, right in zip(scores, correct, strict=True):
        tied[_rank(score)].append(right)
    return [
        sum(group) / len(group)
        for _, group in sorted(tied.items(), key=lambda item: -item[0])
        for _ in range(len(group))
    ]


def _rank(score: Score) -> float:
    return -math.inf if score is None or math.isnan(score) else score


def _weights(answers: Sequence[str | None], scores: Sequence[Score] | None) -> dict[str, float]:
    weights: defaultdict[str, list[float]] = defaultdict(list)
    for number, answer in enumerate(answers):
        if answer is not None:
            weights[answer].append(1.0 if scores is None else max(0.0, scores[number] or 0.0))
    sums = {answer: math.fsum(votes) for answer, votes in weights.items()}
    return sums if any(sums.values()) else {answer: float(len(votes)) for answer, votes in weights.items()}


def _share_right(answer: str, answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    outcomes = [right for given, right in zip(answers, correct, strict=True) if given == answer]
    return sum(outcomes) / len(outcomes)


def _refuse_size(k: int, candidates: int, others: int) -> None:
    if candidates != others:
        raise ConfigurationError(f"{candidates} outcomes but {others} scores or answers: give one for every candidate")
    if not 1 <= k <= candidates:
        raise ConfigurationError(f"k must be 1 to the number of candidates, {candidates}; got {k}")


def _refuse_none(candidates: Sequence[object]) -> None:
    if not candidates:
        raise ConfigurationError("there are no candidates to choose from: sample at least one answer")
