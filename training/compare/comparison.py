"""A comparison: what is compared, what every policy did, and the training and evaluating of what is still missing, seed
by seed."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.agents.policies.pretrained import free_memory
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import answers, verdict_of
from selfcorrect.errors import TrainingError
from selfcorrect.files import finite, write_whole
from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.shaping import Score
from selfcorrect.settings import combine
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.tasks.registry import TaskSettings
from selfcorrect.tasks.validate import FiniteTask
from selfcorrect.training.arms.budgets import TOLERANCE, Costs, known_costs, measured_costs, refuse_unequal
from selfcorrect.training.arms.specs import ArmSpec, Budget, refining_loop, self_judging_loop
from selfcorrect.training.compare.warm_ups import warm_up
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import PolicySettings, RunSettings

# What is to be compared, and who is told how it goes on.


@dataclass(frozen=True)
class Exam:
    """A task that every arm is evaluated on.

    Attributes:
        name: of its files and of its tables; "" is the task of training.
        task: its settings.
        problems: how many of its held-out problems; all there are, if it holds out fewer.
    """

    name: str
    task: TaskSettings
    problems: int


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
        more_exams: further tasks that every arm is evaluated on, beside the one that it is trained on.
        warm_ups: settings of fine-tunings (`train sft`) that come before everything else, one after the other, by the
            names of their folders; `settings` then name the model that the last one leaves.
    """

    arm_specs: Sequence[ArmSpec]
    settings: RunSettings
    seeds: Sequence[int]
    problems: int = 2000
    temperature: float = 0.7
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    allow_unequal: bool = False
    more_exams: Sequence[Exam] = ()
    warm_ups: Mapping[str, RunSettings] = field(default_factory=dict)

    @property
    def exams(self) -> list[Exam]:
        """Everything that is evaluated on; the task of training comes first."""
        return [Exam("", self.settings.task, self.problems), *self.more_exams]

    @property
    def trains(self) -> bool:
        """Whether some arm is trained."""
        return any(arm_spec.load is not None for arm_spec in self.arm_specs)

    @property
    def judges_itself(self) -> bool:
        """Whether in some arm the policy judges its own answers."""
        return any(arm_spec.loop in (self_judging_loop, refining_loop) for arm_spec in self.arm_specs)

    def settings_of(self, arm_spec: ArmSpec, costs: Costs) -> RunSettings:
        """The settings of an arm, of whatever seed. `best` is of those that have checkpoints: of the others the last
        weights are compared."""
        fitted = arm_spec.fitted(self.settings, costs)
        kept = fitted if arm_spec.has_checkpoints else fitted.model_copy(update={"best": None})
        return combine(kept, {}, self.overrides.get(arm_spec.name, ()), source=arm_spec.name)

    @property
    def without_best(self) -> list[str]:
        """The trained arms that `settings.best` asks for a checkpoint in vain."""
        trained = [arm_spec for arm_spec in self.arm_specs if arm_spec.load is not None]
        return [one.name for one in trained if self.settings.best is not None and not one.has_checkpoints]


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
        seconds: that playing and judging took; None where nobody looked.
    """

    digest: str
    temperature: float
    report: dict[str, Any]
    scores: list[list[Score]]
    seconds: float | None = None

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
    began = time.perf_counter()
    report, states = evaluate(graph, problems, checker, sampling=Sampling(temperature=temperature), seed=seed)
    seconds = time.perf_counter() - began
    by_id: dict[str, list[Score]] = {}  # a problem that was left out has no scores: arms stay side by side
    for state in states:
        verdicts = [verdict_of(turn) for turn in answers(state)]
        by_id[state["problem"]["id"]] = [None if verdict is None else verdict.score for verdict in verdicts]
    scores = [by_id.get(problem.id, []) for problem in problems]
    return Evaluation(digest_of(problems), temperature, finite(report.as_dict()), scores, seconds)


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


def evaluation_of(out: Path, arm: str, seed: int, way: Way, exam: str = "") -> Evaluation | None:
    """What an arm and a seed did on the held-out problems of an exam, or None if they were not evaluated in this
    way."""
    return read_evaluation(folder_of(out, arm, seed) / _file_of(way, exam))


def _file_of(way: Way, exam: str) -> str:
    return f"{exam}-{way}.json" if exam else f"{way}.json"


def plan_budgets(comparison: Comparison, out: Path) -> tuple[Costs, dict[str, Budget]]:
    """What every arm will cost, by the base policy's lengths; where nothing is trained, nothing is measured.

    Raises:
        ConfigurationError: not the same, and that was not allowed.
    """
    costs = _NOTHING
    if comparison.trains:
        judges_itself = comparison.judges_itself
        costs = measured_costs(comparison.settings, out / "costs.json", judges_itself=judges_itself)
    planned = {
        arm_spec.name: arm_spec.planned(comparison.settings_of(arm_spec, costs), costs)
        for arm_spec in comparison.arm_specs
        if arm_spec.planned is not None
    }
    if not comparison.allow_unequal:
        refuse_unequal(planned, tolerance=TOLERANCE)
    return costs, planned


_NOTHING = Costs(0.0, 0.0)


def has_costs(comparison: Comparison, out: Path) -> bool:
    """Whether `plan_budgets` has nothing to measure."""
    return not comparison.trains or known_costs(out / "costs.json", judges_itself=comparison.judges_itself) is not None


def run_comparison(comparison: Comparison, out: Path, progress: ComparisonProgress | None = None) -> dict[str, Budget]:
    """Carry out what is missing in `out`; returns the planned budgets.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; calling this again goes on.
        ConfigurationError: budgets are unequal, or `out` holds runs with other settings.
        SelfCorrectError: an arm failed.
    """
    told = progress or SilentComparison()
    out.mkdir(parents=True, exist_ok=True)
    warm_up(comparison.warm_ups, out, told)
    costs, planned = plan_budgets(comparison, out)
    told.planned(planned)
    policies = _LastPolicy()
    sittings = [_Sitting.of(exam, comparison, out, policies) for exam in comparison.exams]
    parts = [
        (way, sitting, seed, arm_spec)
        for way in WAYS
        for sitting in sittings
        for seed in comparison.seeds
        for arm_spec in comparison.arm_specs
        if not sitting.finished(way, arm_spec, seed)
    ]
    for part, (way, sitting, seed, arm_spec) in enumerate(parts, 1):
        sink = told.begin(arm_spec.name, seed, part, len(parts))
        settings = comparison.settings_of(arm_spec, costs).model_copy(update={"seed": seed})
        _train(arm_spec, settings, folder_of(out, arm_spec.name, seed), sink, policies)
        sink.message(f"evaluating on {len(sitting.problems)} held-out problems{sitting.of_what}, {way}")
        sitting.evaluate(way, arm_spec, settings)
        told.end()
    return planned


def _train(arm_spec: ArmSpec, settings: RunSettings, folder: Path, sink: ProgressSink, policies: "_LastPolicy") -> None:
    """Train what is not trained yet."""
    if arm_spec.load is None:
        return
    run = RunDirectory(folder)
    if run.read_final() is None:
        policies.forget()  # training needs the memory
        arm_spec.load()(settings, out=folder, progress=sink, resume=run.config_path.exists())


class _LastPolicy:
    """The policy that was evaluated last, kept for the next evaluation: it is often the same."""

    def __init__(self) -> None:
        self._settings: PolicySettings | None = None
        self._policy: Any = None

    def forget(self) -> None:
        self._settings = self._policy = None
        free_memory()

    def open(self, settings: PolicySettings) -> Any:
        from selfcorrect.training.runs.opening import open_policy

        if settings != self._settings:
            self.forget()
            self._policy, self._settings = open_policy(settings), settings
        return self._policy


@dataclass(frozen=True)
class _Sitting:
    """An exam that is the same for all arms."""

    exam: Exam
    comparison: Comparison
    out: Path
    task: Task
    problems: Sequence[Problem]
    digest: str
    policies: _LastPolicy

    @classmethod
    def of(cls, exam: Exam, comparison: Comparison, out: Path, policies: _LastPolicy) -> "_Sitting":
        task = exam.task.open()
        count = min(exam.problems, task.available("test")) if isinstance(task, FiniteTask) else exam.problems
        problems = task.problems("test", count, seed=comparison.settings.evaluation.seed)
        return cls(exam, comparison, out, task, problems, digest_of(problems), policies)

    @property
    def of_what(self) -> str:
        return f" of {self.exam.name}" if self.exam.name else ""

    def temperature(self, way: Way) -> float:
        return 0.0 if way == "greedy" else self.comparison.temperature

    def finished(self, way: Way, arm_spec: ArmSpec, seed: int) -> bool:
        found = evaluation_of(self.out, arm_spec.name, seed, way, self.exam.name)
        if found is None:
            return False
        if (found.digest, found.temperature) != (self.digest, self.temperature(way)):
            raise TrainingError(
                f"{folder_of(self.out, arm_spec.name, seed)} was evaluated on other problems or at another "
                f"temperature; take another --out, or remove {_file_of(way, self.exam.name)} there to evaluate it anew"
            )
        return True

    def evaluate(self, way: Way, arm_spec: ArmSpec, settings: RunSettings) -> None:
        folder = folder_of(self.out, arm_spec.name, settings.seed)
        evaluation = self._known(way, arm_spec)
        if evaluation is None:
            policy = self.policies.open(_evaluated_policy(arm_spec, settings, folder))
            asked = settings.model_copy(update={"task": self.exam.task})  # whose words are those of the prompts
            graph = arm_spec.loop(asked, policy, self.task.checker)
            # The draws of the sampled evaluation are part of what differs between seeds.
            evaluation = evaluated(
                graph, self.problems, self.task.checker, temperature=self.temperature(way), seed=settings.seed
            )
            policy.forget()  # the caches of so many conversations would be in the next one's way
            free_memory()
        write_evaluation(folder / _file_of(way, self.exam.name), evaluation)

    def _known(self, way: Way, arm_spec: ArmSpec) -> Evaluation | None:
        """Without training, greedy answers are the same for every seed."""
        if way == "sampled" or arm_spec.load is not None:
            return None
        seeds, name = self.comparison.seeds, self.exam.name
        others = (evaluation_of(self.out, arm_spec.name, seed, way, name) for seed in seeds)
        return next((other for other in others if other is not None and other.digest == self.digest), None)


def _evaluated_policy(arm_spec: ArmSpec, settings: RunSettings, folder: Path) -> PolicySettings:
    """The policy that `arm_spec` left in `folder`, in the precision of the base; the base where nothing is trained."""
    if arm_spec.load is None:
        return settings.policy
    return settings.policy.model_copy(update={"model": str(RunDirectory(folder).model_path)})


def measured_budget(out: Path, arm: str, seed: int) -> Budget | None:
    """What a finished run cost; None if nobody trained or it did not write it down."""
    final: Mapping[str, Any] | None = RunDirectory(folder_of(out, arm, seed)).read_final()
    return Budget(**final["budget"]) if final is not None and "budget" in final else None
