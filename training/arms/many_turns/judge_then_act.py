"""Judge, then act: the policy's word is paid for being true, both ways alike, and costs something when it asks for
more.

Of this library. Before it, rewards of two-turn training left the word without a meaning: "wrong" was said to right and
to wrong answers alike, and what a second answer gained on wrong ones it lost on right ones. Here the word decides:
after "right" the episode ends. So the word is what is taught first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfcorrect.rewards.shaping import Score
from selfcorrect.training.arms.many_turns.playing import (
    ManyTurns,
    PaidByTurns,
    PlayedEpisode,
    TrueWords,
    agrees,
    class_weights,
    train_many_turns,
)
from selfcorrect.training.ppo.objectives import PlayedTurn
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


@dataclass(frozen=True)
class JudgeThenAct(PaidByTurns):
    """Pays answers their score and words their truth.

        answer t     r_t - nu 1[r_t < 1 and the episode has given answer t before]
        verdict t    lambda c(r_t) 1[w_t = (r_t < 1)] - kappa 1[w_t]

    where c(r) = n / (2 n_r) makes right and wrong answers count alike in a batch, and kappa is what a further turn
    costs. With these, "wrong" pays where P(wrong) lambda c(0) - kappa > P(right) lambda c(1). Because every turn is
    paid by itself, the cost stands at the word that decides on it: charged to the turn that it brings, it would be a
    constant there and teach nothing. nu pays for another answer where no revision is right yet: rewards alone tell the
    wrong ones apart only on problems where some episode's is right, and a policy that is asked for its likeliest answer
    then says again what it has just called wrong.

    Args:
        word_weight: lambda.
        turn_cost: kappa.
        balanced: whether c is as above, or 1 (PAG's).
        repeat_cost: nu.
    """

    word_weight: float = 1.0
    turn_cost: float = 0.0
    balanced: bool = True
    repeat_cost: float = 0.0
    name: str = "judge, then act"

    def batch_rewards(self, episodes: Sequence[PlayedEpisode]) -> list[list[Score]]:
        weights = class_weights(episodes) if self.balanced else {True: 1.0, False: 1.0}
        return [self._paid(played, weights) for played in episodes]

    def _paid(self, played: PlayedEpisode, weights: Mapping[bool, float]) -> list[Score]:
        rewards: list[Score] = []
        given: set[str] = set()
        for turn in played:
            if turn.is_critique:
                rewards.append(self._word(turn, weights[turn.score == 1.0]))
                continue
            rewards.append(self._answer(turn, given))
            given.add(turn.text)
        return rewards

    def _answer(self, turn: PlayedTurn, given: set[str]) -> Score:
        if turn.score is None or turn.score == 1.0 or turn.text not in given:
            return turn.score
        return turn.score - self.repeat_cost

    def _word(self, turn: PlayedTurn, weight: float) -> Score:
        true = agrees(turn)
        if true is None:
            return None
        return self.word_weight * weight * true - (self.turn_cost if turn.says_wrong else 0.0)


@takes_objects
def judge_then_act(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """The policy judges its answer and revises what it calls wrong, up to `graph.revisions` times; see `JudgeThenAct`.

    The first `looks.warm_up_steps` steps imitate those of its words that are true. What turns are paid beyond their own
    reward is `credit`; the KL weight is `score.beta1`. Raises what `train_many_turns` raises.
    """
    looks, beta = settings.looks, settings.score.beta1
    paid = JudgeThenAct(beta, looks.word_weight, looks.turn_cost, looks.balanced, looks.repeat_cost)
    how = ManyTurns("judge-then-act", "self", warm_up=TrueWords(beta))
    return train_many_turns(how, paid, settings, out=out, progress=progress, resume=resume)
