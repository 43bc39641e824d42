"""Arms that train nothing: the base policy in another loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.training.held_out import held_out_problems
from selfcorrect.training.opened_run import opened_run
from selfcorrect.training.opening import open_graph, open_policy
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.run_directory import Budget, RunResult
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
    """Evaluate the base policy in the usual loop ("before") and in `loop` ("after"), and leave a run folder without a model behind.

    Raises:
        TrainingError, TaskError, PolicyError, ConfigurationError: something is unusable.
    """
    with opened_run(arm, settings, out=out, progress=progress, resume=resume) as (run, sink):
        task, policy = settings.task.open(), open_policy(settings.policy)
        problems = held_out_problems(settings.evaluation, task, sink)
        results = []
        loops = (("the usual loop", open_graph(settings, policy, task.checker)), (arm, loop(settings, policy)))
        for name, graph in loops:
            sink.message(f"evaluating the base policy on {len(problems)} held-out problems: {name}")
            results.append(evaluate(graph, problems, task.checker, seed=settings.evaluation.seed))
        (usual, usual_episodes), (report, episodes) = results
        run.write_final(usual.as_dict(), report.as_dict(), budget=Budget(generated_tokens=0, optimiser_steps=0))
        run.write_episodes(episodes[:200], before=usual_episodes[:200])
        run.write_report()
    return RunResult(run.path, usual.as_dict(), report.as_dict())
