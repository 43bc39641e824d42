"""SCoRe for more than two turns: Stage I answer by answer, each part anchored to what the one before it left; and how
runs that are made of parts are put together."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.specs import Budget, stage_one_lengths
from selfcorrect.training.ppo.objectives import Objective, Schedule, StageOne, objective_named
from selfcorrect.training.processes import by_first
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.holding import opened_run
from selfcorrect.training.runs.opening import meet, own_objective
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.reinforced_run import Plan, train_plan
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import GIVEN, RunSettings

ARM = "score-turns"


@takes_objects
def score_turns(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """SCoRe of `graph.revisions` + 1 answers (Kumar et al. 2024, arXiv 2409.12917, appendix A.1).

    Stage I(a) teaches the second answer while the first is held to the base policy, Stage I(b) the third while the
    first two are held to what Stage I(a) left, and so on for every further answer. Stage II then pays every answer,
    each bonus against the answer before, and is anchored to the base policy. `score.stage_one_steps` is divided evenly
    among the parts of Stage I, each of which plays no more answers than it teaches. Every part leaves a run folder in
    `out`, `stage1a`, `stage1b`, ..., `stage2`: it begins its learning rate anew, and has a seed of its own, so that it
    meets other problems.

    Raises what `train_score` raises, and ConfigurationError where there are only two answers, a loop or a policy made
    by the user, or fewer steps than parts.
    """
    _refuse_others(settings)
    meet(settings)
    with opened_run(ARM, settings, out=out, progress=progress, resume=resume, several=True) as (run, sink):
        parts: list[RunDirectory] = []
        for number, (plan, name) in enumerate(_plans(settings)):
            part = RunDirectory(run.path / name)
            finished, begun = by_first(partial(state_of, part))
            if not finished:
                own = part_settings(settings, number, parts)
                train_plan(plan, own, out=part.path, progress=sink, resume=begun)
            parts.append(part)
        return by_first(lambda: put_together(run, parts))


def state_of(part: RunDirectory) -> tuple[bool, bool]:
    """Whether it is finished, and whether it was begun."""
    return part.read_final() is not None, part.config_path.exists()


def _refuse_others(settings: RunSettings) -> None:
    """Raise a ConfigurationError where the settings are none of this arm's."""
    parts, score = settings.graph.revisions, settings.score
    if settings.graph.is_own:
        raise ConfigurationError(f"{ARM} teaches the answers of graph.revisions; a loop of your own has none")
    if settings.policy.model == GIVEN:
        raise ConfigurationError(f"{ARM} trains policy.model part by part: save the policy, and name its folder there")
    if parts < 2:
        raise ConfigurationError(f"{ARM} needs graph.revisions of at least 2, got {parts}: with 1 it is `train score`")
    if score.stage_one_steps < parts or score.stage_two_steps < 1:
        raise ConfigurationError(
            f"{ARM} with {parts} revisions needs at least {parts} score.stage_one_steps and 1 score.stage_two_steps, "
            f"got {score.stage_one_steps} and {score.stage_two_steps}"
        )


def _plans(settings: RunSettings) -> list[tuple[Plan, str]]:
    """What each part does, and its folder."""
    score, plans = settings.score, []
    for number, steps in enumerate(stage_one_lengths(settings)):
        letter = chr(ord("a") + number)
        paid = StageOne(score.beta1, score.beta2, learning_answer=number + 1, name=f"stage 1({letter})")
        plans.append((_plan(paid, steps, training_revisions=number + 1, stage_two_from=steps), f"stage1{letter}"))
    two = own_objective(settings) or objective_named("stage-2", score)
    return [*plans, (_plan(two, score.stage_two_steps, reference=settings.policy, stage_two_from=0), "stage2")]


def _plan(objective: Objective, steps: int, **options: object) -> Plan:
    return Plan(ARM, Schedule(((objective, steps),)), **options)  # type: ignore[arg-type]


def part_settings(settings: RunSettings, number: int, before: Sequence[RunDirectory]) -> RunSettings:
    """Of part `number`, which goes on with what the last of the parts before it left. `best` is of the last part, Stage
    II, as in `score`: the parts before it end with their last weights."""
    changes: dict[str, object] = {"seed": settings.seed * _MOST_PARTS + number}
    if number < settings.graph.revisions:
        changes["best"] = None
    if before:
        changes["policy"] = settings.policy.model_copy(update={"model": str(before[-1].model_path)})
    return settings.model_copy(update=changes)


_MOST_PARTS = 64
"""Seeds of the parts of runs with different seeds differ."""


# A run of parts, each of which left a run folder of its own.


def put_together(run: RunDirectory, parts: Sequence[RunDirectory]) -> RunResult:
    """The outer run of finished parts: their steps one after the other, each part a stage; the base before the first,
    what the last one made of it after."""
    run.truncate_metrics(0)
    done = 0
    for stage, part in enumerate(parts, 1):
        steps = part.read_metrics()
        for row in steps:
            run.append_metrics({**row, "step": done + row["step"], "stage": stage})
        done += len(steps)
    shutil.rmtree(run.model_path, ignore_errors=True)
    shutil.copytree(parts[-1].model_path, run.model_path)
    costs = [cost_of(part) for part in parts]
    budget = Budget(sum(cost.generated_tokens for cost in costs), sum(cost.optimiser_steps for cost in costs))
    before, after = _final(parts[0])["before"], _final(parts[-1])["after"]
    run.write_final(before, after, budget=budget)
    run.write_report()
    return RunResult(run.path, before, after)


def cost_of(run: RunDirectory) -> Budget:
    """What a finished part cost."""
    return Budget(**_final(run)["budget"])


def _final(run: RunDirectory) -> dict[str, dict[str, Any]]:
    final = run.read_final()
    assert final is not None, f"{run.path} is finished"
    return final
