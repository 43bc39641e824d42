"""SCoRe whose Stage II is STaR: an ablation."""

import shutil
from pathlib import Path

from selfcorrect.training.arms.star import star
from selfcorrect.training.ppo.objectives import Schedule, StageOne
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.opening import refuse_objective
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.runs.reinforced_run import Plan, train_plan
from selfcorrect.training.runs.run_directory import Budget, RunDirectory, RunResult
from selfcorrect.training.settings import RunSettings

ARM = "score --stage2 star"


@takes_objects
def score_stage2_star(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Stage I by reinforcement learning, then STaR on its policy ("w/ STaR instead of REINFORCE Stage II", arXiv
    2409.12917, Table 4).

    STaR samples and fine-tunes as `settings.star` says, with Stage I's policy as its original, and as many tokens and
    optimiser steps as Stage II would have had, in equal parts over its loops. Both parts leave a run folder of their
    own, `stage1` and `stage2`, in `out`. Raises what `train_score` and `star` raise.
    """
    refuse_objective(settings, "score --stage2 star")
    sink = progress or SilentProgress()
    run = RunDirectory.create(Path(out), settings, resume=resume, arm=ARM)
    first = _stage_one(settings, run, sink)
    second = _stage_two(settings, run, first, sink)
    _put_together(run, first, second)
    return RunResult(run.path, _final(first)["before"], _final(second)["after"])


def _stage_one(settings: RunSettings, run: RunDirectory, sink: ProgressSink) -> RunDirectory:
    part = RunDirectory(run.path / "stage1")
    if part.read_final() is None:
        score = settings.score
        schedule = Schedule(((StageOne(beta1=score.beta1, beta2=score.beta2), score.stage_one_steps),))
        train_plan(Plan("score", schedule), settings, out=part.path, progress=sink, resume=part.config_path.exists())
    return part


def _stage_two(settings: RunSettings, run: RunDirectory, first: RunDirectory, sink: ProgressSink) -> RunDirectory:
    part = RunDirectory(run.path / "stage2")
    if part.read_final() is None:
        own = stage_two_settings(settings, first)
        star(own, out=part.path, progress=sink, resume=part.config_path.exists())
    return part


def stage_two_settings(settings: RunSettings, first: RunDirectory) -> RunSettings:
    """STaR on Stage I's policy, at the cost of the steps that Stage II would have had at Stage I's tokens a step."""
    optimiser, score, loops = settings.optimiser, settings.score, settings.star.loops
    tokens_per_step = _cost(first).generated_tokens / score.stage_one_steps
    updates = score.stage_two_steps * optimiser.minibatches * optimiser.ppo_epochs
    own = {
        "tokens": max(1, round(tokens_per_step * score.stage_two_steps / loops)),
        "steps": max(1, round(updates / loops)),
    }
    return settings.model_copy(
        update={
            "policy": settings.policy.model_copy(update={"model": str(first.model_path), "lora": None}),
            "star": settings.star.model_copy(update=own),
            "evaluation": settings.evaluation.model_copy(update={"every": min(1, settings.evaluation.every)}),
        }
    )


def _put_together(run: RunDirectory, first: RunDirectory, second: RunDirectory) -> None:
    """The outer run: both parts' steps one after the other, the base before, what STaR made of it after."""
    steps = first.read_metrics()
    run.truncate_metrics(0)
    for row in steps:
        run.append_metrics(row)
    for row in second.read_metrics():
        run.append_metrics({**row, "step": len(steps) + row["step"], "stage": 2})
    shutil.rmtree(run.model_path, ignore_errors=True)
    shutil.copytree(second.model_path, run.model_path)
    one, other = _cost(first), _cost(second)
    budget = Budget(one.generated_tokens + other.generated_tokens, one.optimiser_steps + other.optimiser_steps)
    run.write_final(_final(first)["before"], _final(second)["after"], budget=budget)
    run.write_report()


def _final(run: RunDirectory) -> dict[str, dict[str, object]]:
    final = run.read_final()
    assert final is not None, f"{run.path} is finished"
    return final


def _cost(run: RunDirectory) -> Budget:
    cost = _final(run)["budget"]
    return Budget(int(str(cost["generated_tokens"])), int(str(cost["optimiser_steps"])))
