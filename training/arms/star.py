"""STaR: learn from one's own right answers, again and again from the beginning; and SCoRe whose Stage II is
that."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.state import EpisodeState, answers
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.score_turns import cost_of, put_together, state_of
from selfcorrect.training.arms.supervised.examples import (
    Example,
    correct_answers,
    corrections,
    cut_off,
    hinted,
    rationalised,
    unsolved,
)
from selfcorrect.training.arms.supervised.run import HarvestWith, SupervisedPlan, train_supervised
from selfcorrect.training.arms.supervised.sampling import Sampled, sampled_episodes
from selfcorrect.training.ppo.objectives import Schedule, StageOne
from selfcorrect.training.processes import by_first
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.opening import meet, open_graph, prompts_for, refuse_best, refuse_objective
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.runs.reinforced_run import Plan, train_plan
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import RunSettings


@partial(takes_objects, reloads=True, unused=["objective"])
def star(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """Self-taught reasoner (STaR, Zelikman et al. 2022, arXiv 2203.14465), of one turn or of two.

    Each of `settings.star.loops` loops samples the current policy, keeps right answers, and fine-tunes the original
    policy on them (not the current one: errors would pile up). `settings.star.data` says what is kept:

    - "single": right first answers; no second turn is played while training.
    - "single+rationalised": also the right answers that the policy gives to unsolved problems when it is shown a hint.
    The hint is no
      part of what is learnt.
    - "multi": right second answers to wrong first ones, D_STaR of the SCoRe paper (arXiv 2409.12917, section 4).
    - "multi+correct": also right second answers to right first ones, D+_STaR.

    The loss is on the last answer alone. Raises what `train_supervised` raises.
    """
    plan = SupervisedPlan(
        arm=f"star --data {settings.star.data}",
        group="star",
        loops=settings.star.loops,
        seeks=_SEEKS[settings.star.data],
        harvest=harvest_with(settings),
    )
    return train_supervised(plan, settings, out=out, progress=progress, resume=resume)


_SEEKS = {
    "single": "correct answer",
    "single+rationalised": "correct answer, with or without a hint",
    "multi": "episode that went from an incorrect to a correct answer",
    "multi+correct": "episode that ended with a correct answer",
}


def harvest_with(settings: RunSettings) -> HarvestWith:
    """How `settings.star.data` samples a policy and makes examples of it.

    Raises:
        ConfigurationError: the graph has more than two turns, or a critique.
    """
    if settings.star.data == "single":
        return lambda policy, task: _SingleTurn(settings, policy, task)
    if settings.star.data == "single+rationalised":
        return lambda policy, task: _Rationalising(settings, policy, task)
    refuse_other_loops(settings, "star.data")
    return lambda policy, task: _MultiTurn(settings, policy, task)


def refuse_other_loops(settings: RunSettings, because_of: str) -> None:
    """Raise unless the graph has two turns and nothing in between: the supervised arms know no other examples.

    Raises:
        ConfigurationError: it has not.
    """
    graph = settings.graph
    if (graph.revisions, graph.fewest_revisions, graph.critique) != (1, None, "instruction"):
        raise ConfigurationError(
            f"{because_of} makes examples of two turns: it needs graph.revisions 1, no graph.fewest_revisions and "
            f"graph.critique 'instruction', got {graph.revisions}, {graph.fewest_revisions} and {graph.critique!r}"
        )


class _SingleTurn:
    """Samples first answers and keeps the right ones."""

    def __init__(self, settings: RunSettings, policy: TransformersPolicy, task: Task) -> None:
        self.settings, self.policy, self.task = settings, policy, task
        self.graph = single_turn_graph(settings, policy, task)

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        states = self.episodes(problems, seed)
        return Sampled(states, [], correct_answers(states), cut_off(states))

    def episodes(self, problems: Sequence[Problem], seed: int) -> list[EpisodeState]:
        temperature = self.settings.star.temperature
        return sampled_episodes(self.graph, problems, self.task.checker, temperature=temperature, seed=seed)


class _Rationalising(_SingleTurn):
    """As `_SingleTurn`; every problem that none of its samples solved is asked once more, with a hint."""

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        sampled = super().__call__(problems, seed)
        failed = unsolved(sampled.states)
        first_of = {problem.id: problem for problem in problems if problem.id in failed}
        prompts = prompts_for(self.settings, self.policy)
        with_hints = [shown for problem in first_of.values() if (shown := hinted(problem, prompts)) is not None]
        # the samples have used the children 0, 1, ... of the seed, one each; the hinted ones take those of its
        # complement
        hinted_states = self.episodes(with_hints, ~seed)
        shown_ids = {state["problem"]["id"]: answers(state)[0]["generation"]["prompt_ids"] for state in sampled.states}
        examples: list[Example] = sampled.examples + rationalised(hinted_states, shown_ids)
        return Sampled(sampled.states, hinted_states, examples, sampled.left_out + cut_off(hinted_states))


class _MultiTurn:
    """Samples episodes of the graph that is evaluated, and keeps second answers."""

    def __init__(self, settings: RunSettings, policy: TransformersPolicy, task: Task) -> None:
        self.settings, self.task = settings, task
        self.graph = open_graph(settings, policy, task.checker)

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        temperature = self.settings.star.temperature
        states = sampled_episodes(self.graph, problems, self.task.checker, temperature=temperature, seed=seed)
        keep_correct = self.settings.star.data == "multi+correct"
        return Sampled(states, [], corrections(states, keep_correct=keep_correct), cut_off(states))


def single_turn_graph(settings: RunSettings, policy: TransformersPolicy, task: Task) -> Any:
    """The graph of evaluation without its revisions."""
    graph = settings.graph.model_copy(update={"revisions": 0, "fewest_revisions": None, "critique": "instruction"})
    return open_graph(settings.model_copy(update={"graph": graph}), policy, task.checker)


# SCoRe whose Stage II is STaR: an ablation.

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
    refuse_objective(settings, ARM)
    refuse_best(settings, ARM)
    meet(settings)
    sink = progress or SilentProgress()
    run = RunDirectory.create(Path(out), settings, resume=resume, arm=ARM)
    first = _stage_one(settings, run, sink)
    second = _stage_two(settings, run, first, sink)
    return by_first(lambda: put_together(run, [first, second]))


def _stage_one(settings: RunSettings, run: RunDirectory, sink: ProgressSink) -> RunDirectory:
    part = RunDirectory(run.path / "stage1")
    finished, begun = by_first(partial(state_of, part))
    if not finished:
        score = settings.score
        schedule = Schedule(((StageOne(beta1=score.beta1, beta2=score.beta2), score.stage_one_steps),))
        train_plan(Plan("score", schedule), settings, out=part.path, progress=sink, resume=begun)
    return part


def _stage_two(settings: RunSettings, run: RunDirectory, first: RunDirectory, sink: ProgressSink) -> RunDirectory:
    part = RunDirectory(run.path / "stage2")
    finished, begun = by_first(partial(state_of, part))
    if not finished:
        star(stage_two_settings(settings, first), out=part.path, progress=sink, resume=begun)
    return part


def stage_two_settings(settings: RunSettings, first: RunDirectory) -> RunSettings:
    """STaR on Stage I's policy, at the cost of the steps that Stage II would have had at Stage I's tokens a step."""
    optimiser, score, loops = settings.optimiser, settings.score, settings.star.loops
    tokens_per_step = cost_of(first).generated_tokens / score.stage_one_steps
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
