"""SCoRe from beginning to end."""

from pathlib import Path

from selfcorrect.training.objectives import Schedule
from selfcorrect.training.opening import score_schedule
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.run_directory import RunResult
from selfcorrect.training.session import Plan, train_plan
from selfcorrect.training.settings import RunSettings


def train_score(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Teach a policy to correct itself with SCoRe (Kumar et al. 2024, arXiv 2409.12917).

    Args:
        settings: everything that decides the run.
        out: the run's folder; see `run_directory`.
        progress: where to show what happens.
        resume: go on with an interrupted run in `out`; it continues as if it had not been interrupted.

    Returns:
        The evaluation before and after, greedy, on held-out problems.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the run was saved and can be resumed.
        DivergenceError: loss or gradient was not finite; the last checkpoint can be resumed with other settings.
        TrainingError, TaskError, PolicyError, ConfigurationError: before any training, if something is unusable.
    """
    return train_with(score_schedule(settings), settings, out=out, progress=progress, resume=resume)


def train_with(
    schedule: Schedule, settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """As `train_score`, for any schedule of objectives."""
    return train_plan(Plan("score", schedule), settings, out=out, progress=progress, resume=resume)
