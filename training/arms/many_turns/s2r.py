"""S2R: self-verify and self-correct, first imitated, then reinforced (Ma et al. 2025, arXiv 2502.12853)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from selfcorrect.rewards.shaping import Score
from selfcorrect.training.arms.many_turns.playing import (
    KeptEpisodes,
    ManyTurns,
    PaidByTurns,
    PlayedEpisode,
    agrees,
    all_words_true,
    final_score,
    train_many_turns,
)
from selfcorrect.training.ppo.objectives import PlayedTurn
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings

Level = Literal["process", "outcome"]


@dataclass(frozen=True)
class SelfVerified(PaidByTurns):
    """S2R's rewards, each 1 or -1.

        process    answer t    1 if it is right, else -1
                   verdict t   1 if it agrees with the checker, else -1
        outcome    every turn  1 if the last answer is right, else -1

    The process-level baseline of the paper is the mean over actions with the same history of rewards;
    `leave_one_out_given_previous` is the nearest here, and knows the last of them. The outcome-level one compares whole
    trajectories (RLOO).
    """

    level: Level = "process"
    name: str = "s2r"

    def batch_rewards(self, episodes: Sequence[PlayedEpisode]) -> list[list[Score]]:
        return [[self._paid(turn, final_score(played)) for turn in played] for played in episodes]

    def _paid(self, turn: PlayedTurn, final: Score) -> Score:
        found = final if self.level == "outcome" else agrees(turn) if turn.is_critique else turn.score
        return None if found is None else 1.0 if found == 1.0 else -1.0


@takes_objects
def s2r(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """S2R in the loop "self": `looks.warm_up_steps` steps imitate the policy's own episodes in which every verdict is
    true and the last answer right, then turns are paid at `looks.level`.

    Not the paper's: its first stage learns from 3,100 episodes that were put together from samples and longer
    verifications of another model; here they are the policy's own, chosen by the checker. The KL weight is
    `score.beta1`. Raises what `train_many_turns` raises.
    """
    beta = settings.score.beta1
    how = ManyTurns("s2r", "self", warm_up=KeptEpisodes(beta, all_words_true))
    paid = SelfVerified(beta, settings.looks.level)
    return train_many_turns(how, paid, settings, out=out, progress=progress, resume=resume)
