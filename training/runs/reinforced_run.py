"""A run of reinforcement learning from beginning to end: evaluate, train, evaluate again, write everything down."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.agents.critiques import critique_mode
from selfcorrect.agents.prompts import refuse_unreadable
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.credit.estimators import refuse_missing_estimators
from selfcorrect.training.ppo.config import NormaliseBy, TurnPPOConfig
from selfcorrect.training.ppo.objectives import Schedule
from selfcorrect.training.ppo.player import BegunWith
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.sharding import save_whole
from selfcorrect.training.processes import agreed, by_first
from selfcorrect.training.runs.alarms import Watch
from selfcorrect.training.runs.best import BestCheckpoint
from selfcorrect.training.runs.callbacks import RunLog, StopOnTime
from selfcorrect.training.runs.fitting import (
    epochs,
    fit,
    keep_beginning,
    open_trainer,
    resumable,
    shown_problems,
    training_problems,
)
from selfcorrect.training.runs.held_out import HeldOut
from selfcorrect.training.runs.holding import opened_run
from selfcorrect.training.runs.memory import refuse_too_large
from selfcorrect.training.runs.offline_attempts import (
    SHARE_OF_FILE,
    OfflineAttempts,
    attempts_in,
    episodes_of,
    sampled_attempts,
)
from selfcorrect.training.runs.opening import (
    chosen_lora,
    lora_config,
    meet,
    open_graph,
    open_policy,
    open_run_policy,
    ppo_config,
    prompts_for,
)
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import GIVEN, PolicySettings, RunSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What one arm of reinforcement learning does and another does not.

    Args:
        arm: its name, as on the command line.
        schedule: what is paid, and when.
        training_revisions: how often an answer is revised while training; None is as often as in evaluation.
        training_critique: the way to critique while training; None is that of evaluation.
        normalise_by: advantages of calls with the same role are brought to mean 0 and variance 1, or left as they are.
        reference: the policy that the KL is to; None is the one that is trained, as it was at the beginning.
        stage_two_from: the batch in which Stage II begins; None is an arm without.
    """

    arm: str
    schedule: Schedule
    training_revisions: int | None = None
    training_critique: str | None = None
    normalise_by: NormaliseBy = "nothing"
    reference: PolicySettings | None = None
    stage_two_from: int | None = None


def train_plan(
    plan: Plan, settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Carry out `plan` in the run folder `out`.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the run was saved and can be resumed.
        DivergenceError: loss or gradient was not finite, or the KL jumped; the last checkpoint can be resumed with
            other settings.
        TrainingError: also where nothing could be learnt from `stop_after_idle` batches in a row.
        TrainingError, TaskError, PolicyError, ConfigurationError: before any training, if something is unusable.
    """
    if settings.score.offline_attempts is not None and plan.stage_two_from is None:
        raise ConfigurationError(f"{plan.arm} has no Stage II: score.offline_attempts would have no effect")
    refuse_credit_of_nobody(plan, settings)
    meet(settings)
    with opened_run(plan.arm, settings, out=out, progress=progress, resume=resume, several=True) as (run, sink):
        return agreed(lambda: _Session(run, settings, plan, sink)).play_through(resume=resume)


def refuse_credit_of_nobody(plan: Plan, settings: RunSettings) -> None:
    """Raise a ConfigurationError if critiques have a credit of their own and the policy writes none in training."""
    loop = plan.training_critique or settings.graph.critique
    if "critique" in settings.credit_by_role and not settings.graph.is_own and critique_mode(loop).turns == 1:
        raise ConfigurationError(
            f"credit_by_role.critique would have no effect: {plan.arm} is trained in the loop {loop!r}, in which the "
            "policy writes no critique; leave it out, or take graph.critique self or refine"
        )


@dataclass
class _Session:
    """One call of `train_plan`: the objects it opened, and the steps it goes through."""

    run: RunDirectory
    settings: RunSettings
    plan: Plan
    progress: ProgressSink

    def __post_init__(self) -> None:
        refuse_missing_estimators([self.settings.credit, *self.settings.credit_by_role.values()])
        self.task: Task = self.settings.task.open()
        refuse_too_large(self.settings, self.progress)
        self.policy = open_run_policy(self.settings, engine=self.settings.policy.engine)
        self.graph = open_graph(self.settings.for_evaluation, self.policy, self.task.checker)
        self.training_graph = self._training_graph()
        tokenizer = self.policy.tokenizer
        self.held_out = HeldOut.of(self.settings.evaluation, self.task, self.run, self.progress, tokenizer)
        asked = (problem.prompt for problem in self.held_out.problems)
        self._offline_tokens = 0
        self._playing: Callable[[], AbstractContextManager[Any]] = nullcontext  # of the trainer, once there is one
        refuse_unreadable(self.policy, asked, name=self.settings.policy.model)

    def play_through(self, *, resume: bool) -> RunResult:
        if self.settings.policy.model == GIVEN and self.settings.save_every:
            keep_beginning(self.policy, self.run.checkpoints_path, resume=resume)
        self.policy.hand_over()
        before = self.held_out.before(self.graph)
        self._train(resume=resume)
        with self._playing():
            return self.held_out.finish(self.graph, before, self._budget(), steps=self._cut_short())

    def _train(self, *, resume: bool) -> None:
        config = self._config()
        checkpoint, steps = by_first(lambda: self._taken_up(config, resume=resume))
        problems = self._problems(config)
        base = None if self.plan.reference is None else open_policy(self.plan.reference)
        best = BestCheckpoint(config, steps, self.progress.message)
        trainer = open_trainer(
            self.policy,
            self.training_graph,
            problems,
            self._signals_at,
            config,
            reference=None if base is None else base.model,
            begun_with=self._first_answers(problems, config, base or self.policy),
            peft_config=lora_config(chosen_lora(self.settings.policy)),
            stored=self.run.training_episodes_path,
            callbacks=[
                self._log(config, steps),
                best,
                StopOnTime(config.stop_after_minutes, config.updates_per_step, self.progress.message),
            ],
        )
        self._playing = trainer.playing
        fit(trainer, resume_from=checkpoint, best=best)
        self.policy.settle()  # what is saved has its adapter merged, in place
        save_whole(trainer, self.policy.tokenizer, self.run.model_path)

    def _taken_up(self, config: TurnPPOConfig, *, resume: bool) -> tuple[Path | None, list[dict[str, Any]]]:
        """The checkpoint that training goes on from, and the steps that were done by then; the others are forgotten."""
        checkpoint = resumable(config.output_dir, self.progress.message) if resume else None
        done = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]) // config.updates_per_step
        self.run.truncate_metrics(done)
        return checkpoint, self.run.read_metrics()

    def _problems(self, config: TurnPPOConfig) -> list[Problem]:
        if self.settings.graph.is_own:  # what its first call shows is its own affair
            return training_problems(self.task, config)
        words = prompts_for(self.settings, self.policy)
        return shown_problems(training_problems(self.task, config), self.policy, words, self.progress)

    def _log(self, config: TurnPPOConfig, steps: list[dict[str, Any]]) -> RunLog:
        return RunLog(
            self.run,
            self.progress,
            self.plan.schedule,
            config.updates_per_step,
            self._validate,
            config.evaluate_every,
            Watch(config.episodes_per_step, steps, stop_after_idle=config.stop_after_idle),
        )

    def _validate(self) -> dict[str, float]:
        with self._playing():
            return self.held_out.validate(self.graph)

    def _first_answers(self, problems: Sequence[Problem], config: TurnPPOConfig, base: Any) -> BegunWith | None:
        """Those of `score.offline_attempts`, for the problems of Stage II."""
        source, begins = self.settings.score.offline_attempts, self.plan.stage_two_from
        order = epochs(problems, batches=config.steps, per_batch=config.problems_per_step, seed=config.seed)
        later = [] if begins is None else order[begins * config.problems_per_step :]
        if source is None or begins is None or not later:
            return None
        if isinstance(source, str):
            known = attempts_in(Path(source), later, self.policy, prompts_for(self.settings, self.policy))
            return OfflineAttempts(known, SHARE_OF_FILE, begins).begin
        each, kept = episodes_of(source, config.episodes_per_problem), self.run.path / "offline_attempts.jsonl"
        graph = self._graph_of(base, revisions=0)
        self.progress.message(f"drawing first answers of the base policy for Stage II: {each} a problem")
        known = by_first(
            lambda: sampled_attempts(graph, later, each, temperature=config.temperature, seed=config.seed, kept=kept)
        )
        self._offline_tokens = sum(len(one["completion_ids"]) for drawn in known.values() for one in drawn)
        return OfflineAttempts(known, source, begins).begin

    def _graph_of(self, policy: Any, *, revisions: int) -> Any:
        graph = self.settings.graph.model_copy(update={"revisions": revisions, "fewest_revisions": None})
        return open_graph(self.settings.model_copy(update={"graph": graph}), policy, self.task.checker)

    def _training_graph(self) -> Any:
        """The graph of evaluation, unless settings or plan train in one of another length."""
        plan, changes = self.plan, dict[str, Any]()
        if plan.training_revisions is not None:
            changes |= {"revisions": plan.training_revisions, "fewest_revisions": None}
        if plan.training_critique is not None:
            changes["critique"] = plan.training_critique
        graph = self.settings.graph.model_copy(update=changes)
        if graph == self.settings.for_evaluation.graph:
            return self.graph
        return open_graph(self.settings.model_copy(update={"graph": graph}), self.policy, self.task.checker)

    def _config(self) -> TurnPPOConfig:
        plan = self.plan
        return ppo_config(
            self.settings,
            self.run.checkpoints_path,
            plan.schedule.total_batches,
            normalise_by=plan.normalise_by,
            stages=plan.schedule.lengths if len(plan.schedule.lengths) > 1 else (),
        )

    def _budget(self) -> Budget:
        """What the run cost, from its log: so an interrupted run counts whole."""
        steps = self.run.read_metrics()
        return Budget(
            generated_tokens=round(sum(step["tokens"] for step in steps)) + self._offline_tokens,
            optimiser_steps=len(steps) * self._config().updates_per_step,
        )

    def _cut_short(self) -> tuple[int, int] | None:
        """The steps that were made and those that were planned, where the clock made the difference."""
        made, planned = len(self.run.read_metrics()), self.plan.schedule.total_batches
        return (made, planned) if self.settings.stop_after_minutes is not None and made < planned else None

    def _signals_at(self, batch: int) -> CheckerRewards:
        graph = self.settings.graph
        return CheckerRewards(
            self.plan.schedule.at(batch),
            self.task.checker,
            prompts_for(self.settings, self.policy).calls_wrong,
            judges_itself=not graph.is_own and critique_mode(graph.critique).judges_itself,
        )
