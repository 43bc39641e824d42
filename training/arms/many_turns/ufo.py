"""UFO: "try again" is all that is said, and new answers are worth something (Liu et al. 2025, arXiv 2507.14295)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfcorrect.rewards.shaping import Score
from selfcorrect.training.arms.many_turns.playing import (
    ManyTurns,
    PaidByTurns,
    PlayedEpisode,
    final_score,
    train_many_turns,
)
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


@dataclass(frozen=True)
class Unary(PaidByTurns):
    """One return for all turns of an episode of T answers, of which E are different:

        R = decay^(T - 1) 1[the last is right] - novelty (1 - E / T)

    An episode ends with its first right answer, so the first term wants it early and the second, until then, something
    other than what was said before.

    Args:
        decay: per answer, in (0, 1].
        novelty: weight of the repetitions.
    """

    decay: float = 1.0
    novelty: float = 0.0
    name: str = "ufo"

    def batch_rewards(self, episodes: Sequence[PlayedEpisode]) -> list[list[Score]]:
        return [[self._return(played)] * len(played) for played in episodes]

    def _return(self, played: PlayedEpisode) -> Score:
        texts = [turn.text for turn in played if not turn.is_critique]
        final = final_score(played)
        if final is None:
            return None
        repeated = 1 - len(set(texts)) / len(texts)
        return self.decay ** (len(texts) - 1) * float(final == 1.0) - self.novelty * repeated


@takes_objects
def ufo(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """UFO: after a wrong answer the policy is asked again, by words that say nothing else; a right one ends the
    episode.

    That the checker decides is the arm's own setting, in training only: evaluation asks for all revisions, as for the
    other arms, so that no verdict reaches the policy. `looks.decay` and `looks.novelty` are its weights, `score.beta1`
    that of the KL. The paper trains with PPO and a critic; the baseline here is that of `optimiser.baseline`. Raises
    what `train_many_turns` raises.
    """
    looks = settings.looks
    paid = Unary(settings.score.beta1, looks.decay, looks.novelty)
    how = ManyTurns("ufo", "try-again", evaluated="instruction")
    return train_many_turns(how, paid, settings, out=out, progress=progress, resume=resume)
