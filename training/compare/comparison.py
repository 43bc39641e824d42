"""A comparison: what is compared, what every policy did, and the training and evaluating of what is still missing, seed
by seed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import answers, verdict_of
from selfcorrect.errors import TrainingError
from selfcorrect.files import finite, write_whole
from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.shaping import Score
from selfcorrect.settings import combine
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.budgets import TOLERANCE, Costs, measured_costs, refuse_unequal
from selfcorrect.training.arms.specs import ArmSpec, refining_loop, self_judging_loop
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.runs.run_directory import Budget, RunDirectory
from selfcorrect.training.settings import RunSettings

# What is to be compared, and who is told how it goes on.


@dataclass(frozen=True)
class Comparison:
    """Everything that decides a comparison.

    Args:
        arm_specs: the arms, in the order of the tables.
        settings: those of every arm before its budget is fitted; their seed is not used.
        seeds: of training. Every arm is trained once with each.
        problems: how many held-out problems; the same for all.
        temperature: of the second evaluation; the first is greedy.
        overrides: further settings of single arms, such as {"pag": ["score.alpha=1"]}.
        allow_unequal: compare arms that do not cost the same.
    """

    arm_specs: Sequence[ArmSpec]
    settings: RunSettings
    seeds: Sequence[int]
    problems: int = 2000
    temperature: float = 0.7
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    allow_unequal: bool = False

    def settings_of(self, arm_spec: ArmSpec, costs: Costs) -> RunSettings:
        """The settings of an arm, of whatever seed."""
        return combine(
            arm_spec.fitted(self.settings, costs), {}, self.overrides.get(arm_spec.name, ()), source=arm_spec.name
        )


class ComparisonProgress(Protocol):
    """Is told how a comparison goes on."""

    def planned(self, budgets: Mapping[str, Budget]) -> None:
        """What the arms will cost."""
        ...

    def begin(self, arm: str, seed: int, part: int, parts: int) -> ProgressSink:
        """Part `part` of `parts` that are to be done, counted from 1: an arm and a seed. The sink is told of its
        steps."""
        ...

    def end(self) -> None:
        """The part is finished."""
        ...


class SilentComparison:
    """Shows nothing."""

    def planned(self, budgets: Mapping[str, Budget]) -> None: ...

    def begin(self, arm: str, seed: int, part: int, parts: int) -> ProgressSink:
        return SilentProgress()

    def end(self) -> None: ...


# What a policy did on every held-out problem: kept, so that arms can be compared problem by problem.


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one policy.

    Attributes:
        digest: tells the problems.
        temperature: 0 is greedy.
        report: the figures, as `EvaluationReport.as_dict`.
        scores: of the answers of every episode.
    """

    digest: str
    temperature: float
    report: dict[str, Any]
    scores: list[list[Score]]

    def at(self, turn: int) -> list[Score]:
        """The score of every episode at `turn` (from 0); an episode that ended early keeps its last answer."""
        return [episode[min(turn, len(episode) - 1)] if episode else None for episode in self.scores]

    def gained(self) -> list[Score]:
        """Last score minus first, of every episode: 1 fixed, -1 broken; None if one of them is unjudged."""
        return [
            None if first is None or last is None else last - first
            for first, last in zip(self.at(0), self.at(len(max(self.scores, key=len, default=[0]))), strict=True)
        ]


def evaluated(
    graph: CorrectionGraph, problems: Sequence[Problem], checker: Checker, *, temperature: float, seed: int
) -> Evaluation:
    """Play and judge `problems` once each."""
    report, states = evaluate(graph, problems, checker, sampling=Sampling(temperature=temperature), seed=seed)
    by_id: dict[str, list[Score]] = {}  # a problem that was left out has no scores: arms stay side by side
    for state in states:
        verdicts = [verdict_of(turn) for turn in answers(state)]
        by_id[state["problem"]["id"]] = [None if verdict is None else verdict.score for verdict in verdicts]
    scores = [by_id.get(problem.id, []) for problem in problems]
    return Evaluation(digest_of(problems), temperature, finite(report.as_dict()), scores)


def digest_of(problems: Sequence[Problem]) -> str:
    """Tells whether two lists of problems are the same."""
    return hashlib.sha256("\n".join(problem.id for problem in problems).encode()).hexdigest()[:16]


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(evaluation)) + "\n")


def read_evaluation(path: Path) -> Evaluation | None:
    """The evaluation in `path`, or None if there is none."""
    return Evaluation(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


# Train what is not trained yet, evaluate what is not evaluated yet.

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
    judges_itself = any(arm_spec.loop in (self_judging_loop, refining_loop) for arm_spec in comparison.arm_specs)
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
