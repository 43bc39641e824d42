"""Reflect, retry, reward: only reflections that led to success are paid (Bensal et al. 2025, arXiv 2505.24726)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfcorrect.rewards.shaping import Score
from selfcorrect.training.arms.many_turns.playing import ManyTurns, PaidByTurns, PlayedEpisode, train_many_turns
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


@dataclass(frozen=True)
class Reflections(PaidByTurns):
    """A reflection on a wrong answer is paid the score of the answer that follows it, everything else nothing:

        reflection t    r_{t+1}    where r_t < 1
        answers         not paid

    So what is learnt is to reflect, not to answer: the paper's reason why the skill carries over to other tasks.
    """

    name: str = "reflections"

    def batch_rewards(self, episodes: Sequence[PlayedEpisode]) -> list[list[Score]]:
        return [[_paid(played, place) for place in range(len(played))] for played in episodes]


def _paid(played: PlayedEpisode, place: int) -> Score:
    turn, later = played[place], [after for after in played[place + 1 :] if not after.is_critique]
    if not turn.is_critique or not later or turn.score is None or turn.score == 1.0:
        return None
    return later[0].score


@takes_objects
def reflect_retry(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Reflect, retry, reward: after a wrong answer the policy reflects on it and answers again, up to
    `graph.revisions` times (the paper: once).

    In training the checker says when to reflect, as in the paper, which learns from failures only; in evaluation a
    reflection and a revision follow every answer, so that no verdict reaches the policy. A small policy that knows only
    short verdicts has little to reflect with. The KL weight is `score.beta1`. Raises what `train_many_turns` raises.
    """
    how = ManyTurns("reflect-retry", "reflect", evaluated="refine")
    paid = Reflections(settings.score.beta1)
    return train_many_turns(how, paid, settings, out=out, progress=progress, resume=resume)
