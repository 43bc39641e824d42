"""SCoRe, and SCoRe with a part taken away."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from selfcorrect.training.opening import score_schedule
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.run_directory import RunResult
from selfcorrect.training.score import train_score
from selfcorrect.training.session import Plan, train_plan
from selfcorrect.training.settings import RunSettings

Part = Literal["stage1", "shaping"]


def score(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """SCoRe's two stages (Kumar et al. 2024, arXiv 2409.12917, Eq. 3 and 4). The same as `train_score`, where the errors are listed."""
    return train_score(settings, out=out, progress=progress, resume=resume)


def score_without(
    parts: Collection[Part],
    settings: RunSettings,
    *,
    out: Path,
    progress: ProgressSink | None = None,
    resume: bool = False,
) -> RunResult:
    """SCoRe without some of its parts, as in Table 4 of the paper.

    Args:
        parts: "stage1": Stage II takes all steps, from the base policy; "shaping": Stage II pays every answer its own score,
            without the progress bonus.
    """
    kept = ablated(settings, parts)
    plan = Plan(ablation_name(parts), score_schedule(kept))
    return train_plan(plan, kept, out=out, progress=progress, resume=resume)


def score_no_stage1(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """SCoRe whose steps are all Stage II's."""
    return score_without(["stage1"], settings, out=out, progress=progress, resume=resume)


def score_no_shaping(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """SCoRe whose Stage II pays no progress bonus."""
    return score_without(["shaping"], settings, out=out, progress=progress, resume=resume)


def ablated(settings: RunSettings, parts: Collection[Part]) -> RunSettings:
    """The settings of SCoRe without `parts`, with as many steps. Ablating twice changes no more."""
    changes: dict[str, float] = {}
    if "stage1" in parts:
        changes |= {"stage_one_steps": 0, "stage_two_steps": settings.score.total_steps}
    if "shaping" in parts:
        changes["alpha"] = 0.0
    return settings.model_copy(update={"score": settings.score.model_copy(update=changes)})


def ablation_name(parts: Collection[Part]) -> str:
    """The arm as it is named on the command line: "score --no-stage1"."""
    return " ".join(["score", *(f"--no-{part}" for part in ("stage1", "shaping") if part in parts)])
