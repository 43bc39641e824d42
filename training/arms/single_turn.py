"""Ordinary reinforcement learning from checked answers: the policy never sees a second turn while it learns."""

from pathlib import Path

from selfcorrect.training.objectives import Schedule, SingleTurn
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.run_directory import RunResult
from selfcorrect.training.session import Plan, train_plan
from selfcorrect.training.settings import RunSettings


def single_turn(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Only the first answer is played and paid while training; evaluation plays all turns.

    The arm "w/o multi-turn training" of the SCoRe paper (arXiv 2409.12917, Table 4). An episode costs fewer tokens than that of the other arms, so at
    equal generated tokens it plays more problems a step: `compare` sees to that, here `optimiser` says how many. The number of
    steps is `score.stage_one_steps + score.stage_two_steps`, the KL weight `score.beta1`. Raises what `train_score` raises.
    """
    schedule = Schedule(((SingleTurn(beta1=settings.score.beta1), settings.score.total_steps),))
    plan = Plan("single-turn", schedule, training_revisions=0)
    return train_plan(plan, settings, out=out, progress=progress, resume=resume)
