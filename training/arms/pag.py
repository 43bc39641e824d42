"""PAG: the policy is its own verifier, and revises only what it calls wrong."""

from pathlib import Path

from selfcorrect.training.objectives import PAG, Schedule
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.run_directory import RunResult
from selfcorrect.training.session import Plan, train_plan
from selfcorrect.training.settings import RunSettings


def pag(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """Policy as generative verifier (PAG, arXiv 2506.10406): answer, judge the answer, revise it only if the judgement is "wrong".

    Answers are paid their score and, from the second on, the progress bonus `score.alpha` (r_t - r_{t-1}); judgements are paid 1 for
    agreeing with the checker. Turns share no credit, and advantages are normalised per role (RoleAdvNorm). The KL weight is
    `score.beta1` (the paper's is 0), the number of steps `score.stage_one_steps + score.stage_two_steps`. Not the paper's: the baseline is
    that of `optimiser.baseline`, not a critic. Raises what `train_score` raises.
    """
    judging = settings.model_copy(update={"graph": settings.graph.model_copy(update={"critique": "self"})})
    objective = PAG(alpha=settings.score.alpha, beta1=settings.score.beta1)
    plan = Plan("pag", Schedule(((objective, settings.score.total_steps),)), normalise_by="role")
    return train_plan(plan, judging, out=out, progress=progress, resume=resume)
