"""Arms that train nothing: the base policy in another loop."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import CorrectionGraph, build_graph, build_sample_again
from selfcorrect.agents.stopping import FixedRevisions
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.held_out import held_out_problems
from selfcorrect.training.runs.holding import opened_run
from selfcorrect.training.runs.opening import open_graph, open_policy, prompts_for
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings

Loop = Callable[[RunSettings, Any], CorrectionGraph]
"""Makes the arm's graph for a policy."""


def evaluate_untrained(
    arm: str,
    loop: Loop,
    settings: RunSettings,
    *,
    out: Path,
    progress: ProgressSink | None = None,
    resume: bool = False,
) -> RunResult:
    """Evaluate the base policy in the usual loop ("before") and in `loop` ("after"), and leave a run folder without a
    model behind.

    Raises:
        TrainingError, TaskError, PolicyError, ConfigurationError: something is unusable.
    """
    with opened_run(arm, settings, out=out, progress=progress, resume=resume) as (run, sink):
        task, policy = settings.task.open(), open_policy(settings.policy)
        problems = held_out_problems(settings.evaluation, task, sink)
        results = []
        loops = (
            ("the usual loop", open_graph(settings.for_evaluation, policy, task.checker)),
            (arm, loop(settings, policy)),
        )
        for name, graph in loops:
            sink.message(f"evaluating the base policy on {len(problems)} held-out problems: {name}")
            results.append(evaluate(graph, problems, task.checker, seed=settings.evaluation.seed))
        (usual, usual_episodes), (report, episodes) = results
        run.write_final(usual.as_dict(), report.as_dict(), budget=Budget(generated_tokens=0, optimiser_steps=0))
        run.write_episodes(episodes[:200], before=usual_episodes[:200])
        run.write_report()
    return RunResult(run.path, usual.as_dict(), report.as_dict())


# Sample again: the second attempt is a fresh first one. Evaluation only.


@partial(takes_objects, unused=["objective", "graph"])
def sample_again(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """The base policy answers twice, the second time without seeing its first answer; see `evaluate_untrained`.

    Greedily both answers are the same; it is at a temperature that this tells a correction from a mere second draw.
    """
    return evaluate_untrained("sample-again", sample_again_loop, settings, out=out, progress=progress, resume=resume)


def sample_again_loop(settings: RunSettings, policy: Any) -> CorrectionGraph:
    """Attempt, and attempt anew."""
    return build_sample_again(policy, prompts=prompts_for(settings, policy))


# Self-Refine: the policy writes a critique of its answer and then another answer, without any training.


@partial(takes_objects, unused=["objective", "graph"])
def self_refine(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Self-Refine prompting (Madaan et al. 2023, arXiv 2303.17651) as a baseline: evaluation only; see
    `evaluate_untrained`."""
    return evaluate_untrained("self-refine", self_refine_loop, settings, out=out, progress=progress, resume=resume)


def self_refine_loop(settings: RunSettings, policy: Any) -> CorrectionGraph:
    """Answer, critique, revise; a revision follows whatever the critique says, and sees it."""
    return build_graph(
        policy,
        prompts=prompts_for(settings, policy),
        revisions=settings.for_evaluation.graph.revisions,
        critique="self",
        stop=FixedRevisions(),
    )
