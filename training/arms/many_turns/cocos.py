"""CoCoS: every turn is paid for all progress of its episode, late progress in full (Cho et al. 2025, arXiv
2505.23060)."""

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
class Progress(PaidByTurns):
    """One return for all turns of an episode of T answers, with r_0 = 0:

        R = sum_t gamma^(T - t) (r_t - r_{t-1})

    The first answer counts least and the last change most, so a right answer that was mended is worth more than one
    that was right at once; at gamma = 1 it is the last score.

    Args:
        gamma: in (0, 1].
    """

    gamma: float = 0.5
    name: str = "cocos"

    def batch_rewards(self, episodes: Sequence[PlayedEpisode]) -> list[list[Score]]:
        return [
            [self._return([turn.score for turn in played if not turn.is_critique])] * len(played) for played in episodes
        ]

    def _return(self, scores: Sequence[Score]) -> Score:
        accumulated, before = 0.0, 0.0
        for score in scores:
            if score is None:
                return None
            accumulated, before = self.gamma * accumulated + score - before, score
        return accumulated


@takes_objects
def cocos(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """CoCoS: a fixed number of answers, all of them paid the discounted progress of the whole episode.

    r_t is the checker's score. For programs the paper pays the share of tests that pass, which is the score of
    `CodeChecker(partial=True)`; checkers that know right and wrong only pay 0 and 1. `looks.progress_gamma` is its
    discount, `score.beta1` the weight of the KL. Not the paper's: its published code trains the last answer of two,
    here all answers learn, as its equation has it. Raises what `train_many_turns` raises.
    """
    paid = Progress(settings.score.beta1, settings.looks.progress_gamma)
    return train_many_turns(
        ManyTurns("cocos", "instruction"), paid, settings, out=out, progress=progress, resume=resume
    )
