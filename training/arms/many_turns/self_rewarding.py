"""Self-rewarding correction: sequential rejection sampling, then reinforcement by the outcome (Xiong et al. 2025,
arXiv 2502.19613)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfcorrect.rewards.shaping import Score
from selfcorrect.training.arms.many_turns.playing import (
    KeptEpisodes,
    ManyTurns,
    PaidByTurns,
    PlayedEpisode,
    all_words_true,
    final_score,
    train_many_turns,
)
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


@dataclass(frozen=True)
class Outcome(PaidByTurns):
    """Every turn of an episode, verdicts too, is paid the score of the answer that stands at its end:

        R(any turn) = r_T

    The word is paid only for what came of it: "right" for a right answer, "wrong" for being mended.
    """

    name: str = "outcome"

    def batch_rewards(self, episodes: Sequence[PlayedEpisode]) -> list[list[Score]]:
        return [[final_score(played)] * len(played) for played in episodes]


def is_a_pattern(played: PlayedEpisode) -> bool:
    """Whether sequential rejection sampling keeps an episode: a right answer that is called right, or wrong ones that
    are called wrong until a right one stands. Without any verdict there is nothing to learn from it."""
    return any(turn.is_critique for turn in played) and all_words_true(played)


@takes_objects
def self_rewarding(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Self-rewarding correction in the loop "self".

    `looks.warm_up_steps` steps imitate the policy's own episodes that follow one of the two patterns of `is_a_pattern`
    (the paper fine-tunes once on such episodes, sampled turn by turn); then every turn is paid the final score, as its
    PPO stage does. Not the paper's: it balances the patterns by hand, and has DPO as another second stage. The KL
    weight is `score.beta1`. Raises what `train_many_turns` raises.
    """
    beta = settings.score.beta1
    how = ManyTurns("self-rewarding", "self", warm_up=KeptEpisodes(beta, is_a_pattern))
    return train_many_turns(how, Outcome(beta), settings, out=out, progress=progress, resume=resume)
