"""From verdicts to rewards, one number per turn. Pure functions; `None` means "abstain".

Notation: r_t is the score of answer t (1 correct, 0 not, a fraction between them where the checker was asked for it,
None unjudged). Every function takes the scores of the answers of one episode, oldest first, and returns as many
rewards; reward t belongs to the tokens of answer t alone (discount 0 between turns). A reward that depends on an
unjudged score is None.
"""

from collections.abc import Sequence
from itertools import pairwise

Score = float | None


def terminal(scores: Sequence[Score]) -> list[Score]:
    """Only the last answer is paid; the others' tokens get no reward at all (None)."""
    return [None] * (len(scores) - 1) + [scores[-1]]


def per_turn(scores: Sequence[Score]) -> list[Score]:
    """Every answer is paid its own score: multi-turn RL without shaping."""
    return list(scores)


def score_stage_one(scores: Sequence[Score], *, learning_turn: int | None = None) -> list[Score]:
    """SCoRe Stage I (arXiv 2409.12917, Eq. 3; appendix A.1): only one turn is paid, by default the last.

    Args:
        scores: r_1 ... r_T.
        learning_turn: the turn that is paid, counted from 0; I(a) is 1, I(b) is 2. Turns before it are held in place by
            their KL alone; turns after it get nothing.
    """
    paid = len(scores) - 1 if learning_turn is None else learning_turn
    return [score if turn == paid else None for turn, score in enumerate(scores)]


def score_stage_two(scores: Sequence[Score], *, alpha: float) -> list[Score]:
    """SCoRe Stage II (Eq. 4): r_1 for the first answer, r_t + alpha (r_t - r_{t-1}) for each later one."""
    return [scores[0]] + [_with_bonus(now, before, alpha) for before, now in pairwise(scores)]


PAG_ALPHA = 1.0
"""The paper's."""


def pag(
    scores: Sequence[Score], says_wrong: Sequence[bool | None], *, alpha: float = PAG_ALPHA
) -> tuple[list[Score], list[Score]]:
    """PAG (arXiv 2506.10406): rewards of the answers and of the policy's verdicts on them.

    Args:
        scores: r_1 ... r_T of the answers.
        says_wrong: for every answer that the policy judged, whether it said "wrong"; None if its verdict cannot be
            read.
        alpha: weight of the progress bonus.

    Returns:
        The answers' rewards (as Stage II) and the verdicts': 1 if the verdict agrees with the checker, 0 if it does not
        or cannot be read, None if the answer is unjudged.
    """
    verdicts = [
        None if score is None else float(wrong is not None and wrong == (score < 1.0))
        for score, wrong in zip(scores, says_wrong, strict=False)
    ]
    return score_stage_two(scores, alpha=alpha), verdicts


def _with_bonus(now: Score, before: Score, alpha: float) -> Score:
    return None if now is None or before is None else now + alpha * (now - before)
