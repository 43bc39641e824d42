"""The comparison itself: train what is not trained yet, evaluate what is not evaluated yet, seed by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from selfcorrect.errors import TrainingError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.budgets import TOLERANCE, Costs, measured_costs, refuse_unequal
from selfcorrect.training.arms.registry import ArmSpec, self_judging_loop
from selfcorrect.training.compare.outcomes import (
    Evaluation,
    digest_of,
    evaluated,
    read_evaluation,
    write_evaluation,
)
from selfcorrect.training.compare.plan import Comparison, ComparisonProgress, SilentComparison
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import Budget, RunDirectory
from selfcorrect.training.settings import RunSettings

Way = Literal["greedy", "sampled"]
WAYS: tuple[Way, ...] = ("greedy", "sampled")
"""In this order: the second evaluations come when everything is trained, so that an unfinished comparison is of use
early."""


def folder_of(out: Path, arm: str, seed: int) -> Path:
    """Where the run of an arm and a seed is."""
    return out / arm.replace(":", ".") / f"seed-{seed}"


def evaluation_of(out: Path, arm: str, seed: int, way: Way) -> Evaluation | None:
    """What an arm and a seed did on the held-out problems, or None if they were not evaluated in this way."""
    return read_evaluation(folder_of(out, arm, seed) / f"{way}.json")


def plan_budgets(comparison: Comparison, out: Path) -> tuple[Costs, dict[str, Budget]]:
    """What every arm will cost, by the base policy's lengths.

    Raises:
        ConfigurationError: not the same, and that was not allowed.
    """
    judges_itself = any(arm_spec.loop is self_judging_loop for arm_spec in comparison.arm_specs)
    costs = measured_costs(comparison.settings, out / "costs.json", judges_itself=judges_itself)
    planned = {
        arm_spec.name: arm_spec.planned(comparison.settings_of(arm_spec, costs), costs)
        for arm_spec in comparison.arm_specs
        if arm_spec.planned is not None
    }
    if not comparison.allow_unequal:
        refuse_unequal(planned, tolerance=TOLERANCE)
    return costs, planned


def run_comparison(comparison: Comparison, out: Path, progress: ComparisonProgress | None = None) -> dict[str, Budget]:
    """Carry out what is missing in `out`; returns the planned budgets.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; calling this again goes on.
        ConfigurationError: budgets are unequal, or `out` holds runs with other settings.
        SelfCorrectError: an arm failed.
    """
    told = progress or SilentComparison()
    out.mkdir(parents=True, exist_ok=True)
    costs, planned = plan_budgets(comparison, out)
    told.planned(planned)
    exam = _Exam.of(comparison, out)
    parts = [
        (way, seed, arm_spec)
        for way in WAYS
        for seed in comparison.seeds
        for arm_spec in comparison.arm_specs
        if not exam.finished(way, arm_spec, seed)
    ]
    for part, (way, seed, arm_spec) in enumerate(parts, 1):
        sink = told.begin(arm_spec.name, seed, part, len(parts))
        settings = comparison.settings_of(arm_spec, costs).model_copy(update={"seed": seed})
        _train(arm_spec, settings, folder_of(out, arm_spec.name, seed), sink)
        sink.message(f"evaluating on {len(exam.problems)} held-out problems, {way}")
        exam.evaluate(way, arm_spec, settings)
        told.end()
    return planned


def _train(arm_spec: ArmSpec, settings: RunSettings, folder: Path, sink: ProgressSink) -> None:
    """Train what is not trained yet."""
    if arm_spec.load is None:
        return
    run = RunDirectory(folder)
    if run.read_final() is None:
        arm_spec.load()(settings, out=folder, progress=sink, resume=run.config_path.exists())


@dataclass(frozen=True)
class _Exam:
    """The evaluation that is the same for all arms."""

    comparison: Comparison
    out: Path
    task: Task
    problems: Sequence[Problem]
    digest: str

    @classmethod
    def of(cls, comparison: Comparison, out: Path) -> "_Exam":
        task = comparison.settings.task.open()
        problems = task.problems("test", comparison.problems, seed=comparison.settings.evaluation.seed)
        return cls(comparison, out, task, problems, digest_of(problems))

    def temperature(self, way: Way) -> float:
        return 0.0 if way == "greedy" else self.comparison.temperature

    def finished(self, way: Way, arm_spec: ArmSpec, seed: int) -> bool:
        found = evaluation_of(self.out, arm_spec.name, seed, way)
        if found is None:
            return False
        if (found.digest, found.temperature) != (self.digest, self.temperature(way)):
            raise TrainingError(
                f"{folder_of(self.out, arm_spec.name, seed)} was evaluated on other problems or at another "
                f"temperature; take another --out, or remove {way}.json there to evaluate it anew"
            )
        return True

    def evaluate(self, way: Way, arm_spec: ArmSpec, settings: RunSettings) -> None:
        folder = folder_of(self.out, arm_spec.name, settings.seed)
        evaluation = self._known(way, arm_spec)
        if evaluation is None:
            graph = arm_spec.loop(settings, _trained(arm_spec, settings, folder), self.task.checker)
            # The draws of the sampled evaluation are part of what differs between seeds.
            evaluation = evaluated(
                graph, self.problems, self.task.checker, temperature=self.temperature(way), seed=settings.seed
            )
        write_evaluation(folder / f"{way}.json", evaluation)

    def _known(self, way: Way, arm_spec: ArmSpec) -> Evaluation | None:
        """Without training, greedy answers are the same for every seed."""
        if way == "sampled" or arm_spec.load is not None:
            return None
        others = (evaluation_of(self.out, arm_spec.name, seed, way) for seed in self.comparison.seeds)
        return next((other for other in others if other is not None and other.digest == self.digest), None)


def _trained(arm_spec: ArmSpec, settings: RunSettings, folder: Path) -> Any:
    """The policy that `arm_spec` left in `folder`; the base where nothing is trained."""
    from selfcorrect.training.runs.opening import open_policy

    if arm_spec.load is None:
        return open_policy(settings.policy)
    trained = {"model": str(RunDirectory(folder).model_path), "lora": None}
    return open_policy(settings.policy.model_copy(update=trained))


def measured_budget(out: Path, arm: str, seed: int) -> Budget | None:
    """What a finished run cost; None if nobody trained or it did not write it down."""
    final: Mapping[str, Any] | None = RunDirectory(folder_of(out, arm, seed)).read_final()
    return Budget(**final["budget"]) if final is not None and "budget" in final else None
