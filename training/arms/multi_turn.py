"""Direct multi-turn reinforcement learning: both answers are paid, nothing else is done."""

from pathlib import Path

from selfcorrect.training.objectives import MultiTurn, Schedule
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.run_directory import RunResult
from selfcorrect.training.session import Plan, train_plan
from selfcorrect.training.settings import RunSettings


def multi_turn(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Every answer is paid its own score, from the first step to the last: no Stage I, no progress bonus.

    The naive way that the SCoRe paper sets out from (arXiv 2409.12917, section 4) and that PAG calls "direct multi-turn". The number
    of steps is `score.stage_one_steps + score.stage_two_steps`, the KL weight `score.beta1`. Raises what `train_score` raises.
    """
    schedule = Schedule(((MultiTurn(beta1=settings.score.beta1), settings.score.total_steps),))
    return train_plan(Plan("multi-turn", schedule), settings, out=out, progress=progress, resume=resume)
