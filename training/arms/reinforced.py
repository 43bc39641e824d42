"""SCoRe, and SCoRe with a part taken away."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal, Unpack

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.credit.settings import OwnCredit, ReturnToGo
from selfcorrect.training.ppo.objectives import Schedule, objective_named
from selfcorrect.training.runs.given import Objects, takes_objects, with_objects
from selfcorrect.training.runs.opening import refuse_objective, score_schedule
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.reinforced_run import Plan, train_plan
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings

# SCoRe from beginning to end.


@takes_objects
def train_score(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Teach a policy to correct itself with SCoRe (Kumar et al. 2024, arXiv 2409.12917).

    Args:
        settings: everything that decides the run.
        out: the run's folder; see `run_directory`.
        progress: where to show what happens.
        resume: go on with an interrupted run in `out`; it continues as if it had not been interrupted.
        task, policy, graph, prompts, objective: objects in the place of what `settings` name; see `Objects`.

    Returns:
        The evaluation before and after, greedy, on held-out problems.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the run was saved and can be resumed.
        DivergenceError: loss or gradient was not finite; the last checkpoint can be resumed with other settings.
        TrainingError, TaskError, PolicyError, ConfigurationError: before any training, if something is unusable.
    """
    plan = Plan("score", score_schedule(settings), stage_two_from=settings.score.stage_one_steps)
    return train_plan(plan, settings, out=out, progress=progress, resume=resume)


def train_with(
    schedule: Schedule,
    settings: RunSettings,
    *,
    out: Path,
    progress: ProgressSink | None = None,
    resume: bool = False,
    **given: Unpack[Objects],
) -> RunResult:
    """As `train_score`, for any schedule of objectives."""
    chosen = with_objects(settings, given)
    return train_plan(Plan("score", schedule), chosen, out=out, progress=progress, resume=resume)


Part = Literal["stage1", "shaping"]


@takes_objects
def score(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """SCoRe's two stages (Kumar et al. 2024, arXiv 2409.12917, Eq. 3 and 4). The same as `train_score`, where the
    errors are listed."""
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
        parts: "stage1": Stage II takes all steps, from the base policy; "shaping": Stage II pays every answer its own
            score, without the progress bonus.
    """
    kept = ablated(settings, parts)
    plan = Plan(ablation_name(parts), score_schedule(kept), stage_two_from=kept.score.stage_one_steps)
    return train_plan(plan, kept, out=out, progress=progress, resume=resume)


@takes_objects
def score_no_stage1(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """SCoRe whose steps are all Stage II's."""
    return score_without(["stage1"], settings, out=out, progress=progress, resume=resume)


@takes_objects
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


# Direct multi-turn reinforcement learning: both answers are paid, nothing else is done.


@takes_objects
def multi_turn(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Every answer is paid its own score, from the first step to the last: no Stage I, no progress bonus.

    The naive way that the SCoRe paper sets out from (arXiv 2409.12917, section 4) and that PAG calls "direct
    multi-turn". The number of steps is `score.stage_one_steps + score.stage_two_steps`, the KL weight `score.beta1`.
    Raises what `train_score` raises.
    """
    refuse_objective(settings, "multi-turn")
    schedule = Schedule(((objective_named("multi-turn", settings.score), settings.score.total_steps),))
    return train_plan(Plan("multi-turn", schedule), settings, out=out, progress=progress, resume=resume)


# The SCoRe paper's own multi-turn RL: a return across turns.


@takes_objects
def multi_turn_return(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """As `multi_turn`, but every answer is also paid, at a discount of 0.8 a turn, for those that follow it.

    The SCoRe paper's own setting (arXiv 2409.12917, section 4 and appendix A.4), which collapsed there into not
    correcting. Raises what `train_score` raises, and ConfigurationError where the settings name another credit.
    """
    return _multi_turn_with("multi-turn-return", ReturnToGo(gamma=0.8), settings, out, progress, resume)


@takes_objects
def multi_turn_sum(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """As `multi_turn_return`, without a discount: the gradient of E[r_1 + r_2]."""
    return _multi_turn_with("multi-turn-sum", ReturnToGo(gamma=1.0), settings, out, progress, resume)


def _multi_turn_with(
    arm: str, credit: ReturnToGo, settings: RunSettings, out: Path, progress: ProgressSink | None, resume: bool
) -> RunResult:
    refuse_objective(settings, arm)
    if settings.credit not in (OwnCredit(), credit):
        raise ConfigurationError(
            f"the arm {arm} is multi-turn with credit {credit.model_dump()}; the settings' own, "
            f"{settings.credit.model_dump()}, would have no effect: train multi-turn with it"
        )
    schedule = Schedule(((objective_named("multi-turn", settings.score), settings.score.total_steps),))
    credited = settings.model_copy(update={"credit": credit})
    return train_plan(Plan(arm, schedule), credited, out=out, progress=progress, resume=resume)


# Ordinary reinforcement learning from checked answers: the policy never sees a second turn while it learns.


@takes_objects
def single_turn(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Only the first answer is played and paid while training; evaluation plays all turns.

    The arm "w/o multi-turn training" of the SCoRe paper (arXiv 2409.12917, Table 4). An episode costs fewer tokens than
    that of the other arms, so at equal generated tokens it plays more problems a step: `compare` sees to that, here
    `optimiser` says how many. The number of steps is `score.stage_one_steps + score.stage_two_steps`, the KL weight
    `score.beta1`. Raises what `train_score` raises.
    """
    refuse_objective(settings, "single-turn")
    schedule = Schedule(((objective_named("single-turn", settings.score), settings.score.total_steps),))
    plan = Plan("single-turn", schedule, training_revisions=0)
    return train_plan(plan, settings, out=out, progress=progress, resume=resume)


# PAG: the policy is its own verifier, and revises only what it calls wrong.


@takes_objects
def pag(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """Policy as generative verifier (PAG, arXiv 2506.10406): answer, judge the answer, revise it only if the judgement
    is "wrong".

    Answers are paid their score and, from the second on, the progress bonus `score.alpha` (r_t - r_{t-1}); judgements
    are paid 1 for agreeing with the checker. Turns share no credit, and advantages are normalised per role
    (RoleAdvNorm). The KL weight is `score.beta1` (the paper's is 0), the number of steps `score.stage_one_steps +
    score.stage_two_steps`. Not the paper's: the baseline is that of `optimiser.baseline`, not a critic. Raises what
    `train_score` raises.
    """
    judging = settings.model_copy(update={"graph": settings.graph.model_copy(update={"critique": "self"})})
    refuse_objective(settings, "pag")
    plan = Plan(
        "pag", Schedule(((objective_named("pag", settings.score), settings.score.total_steps),)), normalise_by="role"
    )
    return train_plan(plan, judging, out=out, progress=progress, resume=resume)
