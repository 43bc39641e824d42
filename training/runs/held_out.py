"""Evaluation of a run on held-out problems: of the base before, of what came out after."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfcorrect.agents.evaluation import EvaluationReport, evaluate, report_on
from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.agents.state import EpisodeState
from selfcorrect.errors import UnreadablePromptError
from selfcorrect.files import write_whole
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.tasks.validate import FiniteTask
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.processes import by_first, count, first_only, joined, rank, shared, together
from selfcorrect.training.runs.alarms import standing_still
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import EvaluationSettings

_KEPT_EPISODES = 200
"""How many episodes of each policy a run's folder keeps."""
_VALIDATION_PROBLEMS = 500
_VALIDATION_SEED = 7_919
_VALIDATION_FIGURES = ("accuracy_t1", "accuracy_t2", "delta", "i_to_c", "c_to_i", "unchanged")

Evaluated = tuple[dict[str, Any], list[EpisodeState]]
"""A report's figures and the episodes they are of."""


@dataclass(frozen=True)
class HeldOut:
    """The problems of a run's evaluation, and what is done with them.

    Args:
        problems: from the test split.
        task: judges the answers.
        seed: of the episodes.
        run: where the figures go.
        progress: told of what is done.
        tokenizer: the policy's; with it the episodes that are kept have their tokens.
    """

    problems: list[Problem]
    task: Task
    seed: int
    run: RunDirectory
    progress: ProgressSink
    tokenizer: Any = None

    @classmethod
    def of(
        cls,
        settings: EvaluationSettings,
        task: Task,
        run: RunDirectory,
        progress: ProgressSink,
        tokenizer: Any = None,
    ) -> "HeldOut":
        """The problems that `settings` ask for, or all that the task holds out if those are fewer."""
        return cls(held_out_problems(settings, task, progress), task, settings.seed, run, progress, tokenizer)

    def before(self, graph: CorrectionGraph) -> Evaluated:
        """The evaluation of the base policy; kept beside the checkpoints, so that a resumed run need not repeat it."""
        kept = self.run.checkpoints_path / "before.json"
        saved = by_first(lambda: json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None)
        if saved is not None:
            return saved["report"], saved["episodes"]
        self.progress.message(f"evaluating the base policy on {len(self.problems)} held-out problems")
        report, episodes = self._evaluate(graph)
        first_only(write_whole)(kept, json.dumps({"report": report, "episodes": episodes[:_KEPT_EPISODES]}))
        return report, episodes

    def finish(
        self, graph: CorrectionGraph, before: Evaluated, budget: Budget, *, steps: tuple[int, int] | None = None
    ) -> RunResult:
        """Evaluate the trained policy, which plays in `graph`, and write the final files of the run; `steps` as
        `RunDirectory.write_final` takes them."""
        self.progress.message("evaluating the trained policy")
        after, episodes = self._evaluate(graph)
        if alarm := standing_still(*_texts_of_both(before[1][:_KEPT_EPISODES], episodes[:_KEPT_EPISODES])):
            self.progress.message(f"warning: {alarm.words}")
        return self._written(before, (after, episodes), budget, steps)

    def finish_as_before(self, before: Evaluated, budget: Budget) -> RunResult:
        """Write the final files of a run that has left the policy as it was."""
        return self._written(before, before, budget, None)

    def _written(self, before: Evaluated, after: Evaluated, budget: Budget, steps: tuple[int, int] | None) -> RunResult:
        self.run.write_final(before[0], after[0], budget=budget, steps=steps)
        kept, base = after[1][:_KEPT_EPISODES], before[1][:_KEPT_EPISODES]
        self.run.write_episodes(kept, before=base, tokenizer=self.tokenizer)
        self.run.write_report()
        self.run.write_card()
        return RunResult(self.run.path, before[0], after[0])

    def validate(self, graph: CorrectionGraph) -> dict[str, float]:
        """Figures while training, greedy, on a draw of its own from the test split: they are shown, and nothing is
        chosen by them."""
        count = min(_VALIDATION_PROBLEMS, len(self.problems))
        problems = self.task.problems("test", count, seed=_VALIDATION_SEED + self.seed)
        report, _ = evaluate_shared(graph, problems, self.task.checker)
        figures = report.as_dict()
        later = {f"accuracy_t{turn}": value for turn, value in enumerate(figures["accuracy"], 1) if turn > 2}
        return {name: figures[name] for name in _VALIDATION_FIGURES} | later

    def _evaluate(self, graph: CorrectionGraph) -> Evaluated:
        report, episodes = evaluate_shared(graph, self.problems, self.task.checker, seed=self.seed)
        if report.left_out:
            self.progress.message(left_out_text(report.left_out))
        return report.as_dict(), episodes


def _texts_of_both(before: Sequence[EpisodeState], after: Sequence[EpisodeState]) -> tuple[list[str], list[str]]:
    """What was written in the turns that both have, of the problems that both were shown."""
    was = {state["problem"]["id"]: state["turns"] for state in before}
    turns = [
        (one["generation"]["text"], other["generation"]["text"])
        for state in after
        for one, other in zip(was.get(state["problem"]["id"], []), state["turns"], strict=False)
    ]
    return [text for text, _ in turns], [text for _, text in turns]


def evaluate_shared(
    graph: CorrectionGraph, problems: Sequence[Problem], checker: Checker, *, seed: int = 0
) -> tuple[EvaluationReport, list[EpisodeState]]:
    """`evaluate` by all processes, each of which plays its share of `problems`; the report of all of them, in every
    process. Greedy answers do not depend on how many processes there are; a graph that draws has other seeds in each.

    Raises:
        UnreadablePromptError: no process has a problem that the policy can be shown.
    """
    if count() == 1:
        return evaluate(graph, problems, checker, seed=seed)
    mine, unreadable = shared(problems), None
    played: list[EpisodeState] = []
    left_out: list[str] = []
    try:
        report, played = evaluate(graph, mine, checker, seed=seed + rank())
        left_out = report.left_out
    except UnreadablePromptError as error:
        left_out, unreadable = [problem.id for problem in mine], error
    parts = together((played, left_out))
    episodes = joined([states for states, _ in parts])
    if unreadable is not None and not episodes:
        raise unreadable
    whole = report_on(episodes, setting=graph.get_name())
    return replace(whole, left_out=[name for _, names in parts for name in names]), episodes


_NAMED = 5


def left_out_text(ids: Sequence[str]) -> str:
    """What is said of problems that are too long for the policy."""
    named = ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
    count = "1 problem is" if len(ids) == 1 else f"{len(ids):,} problems are"
    return f"{count} too long for the model's context, and left out: {named}"


def held_out_problems(settings: EvaluationSettings, task: Task, progress: ProgressSink) -> list[Problem]:
    """`evaluation.problems` problems of the test split; all there are, and a note, if a file holds out fewer.

    Raises:
        TaskError: nothing is held out.
    """
    count = settings.problems
    if isinstance(task, FiniteTask) and task.available("test") < count:
        count = max(1, task.available("test"))
        if task.available("test"):
            progress.message(
                f"{task.name} holds out {count} problems, fewer than evaluation.problems={settings.problems}: all are "
                "used"
            )
    return list(task.problems("test", count, seed=settings.seed))
