"""What arms of many turns share: the weights that balance verdicts, stages of imitation, and how a run is planned.

Notation: r_t is the score of answer t (1 right, 0 not), w_t whether the policy calls it wrong. In the loop "self" an
episode is y_1 w_1 y_2 w_2 ... and ends after the first w_t that does not say "wrong".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.shaping import Score
from selfcorrect.training.credit.settings import CreditSettings, OwnCredit
from selfcorrect.training.ppo.objectives import Objective, PlayedTurn, Schedule
from selfcorrect.training.runs.opening import refuse_objective
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.reinforced_run import Plan, train_plan
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings

PlayedEpisode = Sequence[PlayedTurn]


@dataclass(frozen=True)
class PaidByTurns:
    """Base of objectives that pay by what was played; see `BatchObjective`.

    Args:
        beta1: KL weight of every turn, in reward per nat.
    """

    beta1: float = 0.0
    imitates = False

    def answer_rewards(self, scores: Sequence[Score]) -> list[Score]:
        raise NotImplementedError(f"{type(self).__name__} pays by what was played: batch_rewards")

    def critique_rewards(self, scores: Sequence[Score], says_wrong: Sequence[bool | None]) -> list[Score]:
        raise NotImplementedError(f"{type(self).__name__} pays by what was played: batch_rewards")

    def kl_coefficient(self, answer: int, answers: int) -> float:
        return self.beta1


def agrees(turn: PlayedTurn) -> float | None:
    """Whether a verdict agrees with the checker, 1.0 or 0.0; None if the answer is unjudged. A verdict that cannot be
    read agrees with nothing."""
    if turn.score is None:
        return None
    return float(turn.says_wrong is not None and turn.says_wrong == (turn.score < 1.0))


def class_weights(episodes: Sequence[PlayedEpisode]) -> dict[bool, float]:
    """Weight n / (2 n_c) of verdicts on right (True) and on wrong answers, over the batch: both classes count alike
    however rare one is. The weights' mean over the verdicts is 1; a class that does not occur has weight 1."""
    judged = [
        turn.score == 1.0 for played in episodes for turn in played if turn.is_critique and turn.score is not None
    ]
    return {right: len(judged) / (2 * judged.count(right)) if right in judged else 1.0 for right in (True, False)}


def final_score(played: PlayedEpisode) -> Score:
    """The score of the answer that stands at the end."""
    return next(turn.score for turn in reversed(played) if not turn.is_critique)


@dataclass(frozen=True)
class TrueWords(PaidByTurns):
    """A stage that imitates the verdicts that agree with the checker, both classes alike.

    The gradient is that of sum_t weight(r_t) 1[w_t agrees] log pi(w_t | before): the supervised loss on the policy's
    own samples, chosen by the checker (rejection sampling). Answers are not learnt.
    """

    imitates = True
    name: str = "true words"

    def batch_rewards(self, episodes: Sequence[PlayedEpisode]) -> list[list[Score]]:
        weights = class_weights(episodes)
        return [
            [weights[turn.score == 1.0] * (agrees(turn) or 0.0) if turn.is_critique else None for turn in played]
            for played in episodes
        ]


@dataclass(frozen=True)
class KeptEpisodes(PaidByTurns):
    """A stage that imitates whole episodes of which `keeps` holds: their verdicts, and their right answers. Wrong
    answers are context."""

    keeps: Callable[[PlayedEpisode], bool] = lambda played: True
    imitates = True
    name: str = "kept episodes"

    def batch_rewards(self, episodes: Sequence[PlayedEpisode]) -> list[list[Score]]:
        return [[_kept(turn) if self.keeps(played) else None for turn in played] for played in episodes]


def _kept(turn: PlayedTurn) -> Score:
    return 1.0 if turn.is_critique or turn.score == 1.0 else None


def all_words_true(played: PlayedEpisode) -> bool:
    """Whether every verdict of an episode agrees with the checker, and its last answer is right."""
    return final_score(played) == 1.0 and all(agrees(turn) == 1.0 for turn in played if turn.is_critique)


@dataclass(frozen=True)
class ManyTurns:
    """How an arm of many turns is trained.

    Attributes:
        arm: its name.
        critique: the loop of training.
        evaluated: the loop of evaluation, where it is another.
        warm_up: imitated in the first `looks.warm_up_steps` steps; None and there are none.
        credit: who else is paid, where that is part of the arm.
    """

    arm: str
    critique: str
    evaluated: str | None = None
    warm_up: Objective | None = None
    credit: CreditSettings | None = None


def train_many_turns(
    how: ManyTurns, paid: Objective, settings: RunSettings, *, out: Path, progress: ProgressSink | None, resume: bool
) -> RunResult:
    """Train by `paid`, after the warm-up, in the loop that `how` names: `score.stage_one_steps +
    score.stage_two_steps` steps in all, the warm-up's included, so that arms cost the same.

    Raises:
        ConfigurationError: the settings ask for what the arm does not do. And what `train_score` raises.
    """
    refuse_objective(settings, how.arm)
    if settings.graph.is_own or settings.graph.critique not in ("instruction", how.critique):
        raise ConfigurationError(
            f"{how.arm} is trained in the loop {how.critique!r}, and graph.critique {settings.graph.critique!r} (or "
            "graph.build) asks for another: leave it out"
        )
    if how.credit is not None and settings.credit not in (OwnCredit(), how.credit):
        raise ConfigurationError(
            f"{how.arm} has credit {how.credit.model_dump()}; the settings' own, {settings.credit.model_dump()}, would "
            "have no effect"
        )
    plan = Plan(how.arm, _schedule(how, paid, settings), training_critique=how.critique if how.evaluated else None)
    graph = settings.graph.model_copy(update={"critique": how.evaluated or how.critique})
    credit = settings.credit if how.credit is None else how.credit
    chosen = settings.model_copy(update={"graph": graph, "credit": credit})
    return train_plan(plan, chosen, out=out, progress=progress, resume=resume)


def _schedule(how: ManyTurns, paid: Objective, settings: RunSettings) -> Schedule:
    steps = settings.score.total_steps
    if how.warm_up is None:
        return Schedule(((paid, steps),))
    if settings.looks.warm_up_steps and settings.optimiser.critic is not None:
        raise ConfigurationError(
            f"the first looks.warm_up_steps ({settings.looks.warm_up_steps}) of {how.arm} imitate, which a critic "
            "would take for rewards: leave optimiser.critic out, or set looks.warm_up_steps=0"
        )
    first = settings.looks.warm_up_steps
    if first >= steps:
        raise ConfigurationError(
            f"looks.warm_up_steps {first} leaves none of the {steps} steps of score.stage_one_steps and "
            f"score.stage_two_steps for what {how.arm} pays: lower it or train for longer"
        )
    return Schedule(((how.warm_up, first), (paid, steps - first)))
