"""A run of reinforcement learning from beginning to end: evaluate, train, evaluate again, write everything down."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from selfcorrect.agents.prompts import refuse_unreadable
from selfcorrect.errors import DivergenceError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.ppo.advantages import NormaliseBy
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import Schedule
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.runs.alarms import Watch
from selfcorrect.training.runs.callbacks import FiniteGradients, RunLog, StopOnInterrupt
from selfcorrect.training.runs.held_out import HeldOut
from selfcorrect.training.runs.opening import lora_config, open_graph, open_policy, ppo_config, prompts_for
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import Budget, RunDirectory, RunResult, opened_run
from selfcorrect.training.settings import RunSettings

# The order in which problems are played when a run is longer than its problems.

Item = TypeVar("Item")


def epochs(problems: Sequence[Item], *, batches: int, per_batch: int, seed: int) -> list[Item]:
    """The problems of a whole run, batch after batch: all of them shuffled, then all shuffled anew, and so on.

    The list is known from the beginning, so that a run that is resumed in a later epoch goes on in the same order;
    TRL's sampler would begin with the first epoch's order again. No batch holds a problem twice; what is left of an
    epoch that does not fill a batch is left out, as TRL does.

    Args:
        problems: at least `per_batch`; fewer are returned as they are, for the trainer to refuse.
        batches: of the whole run.
        per_batch: problems of a batch.
        seed: of the order.
    """
    if len(problems) < per_batch:
        return list(problems)
    dice = random.Random(seed)
    whole = len(problems) - len(problems) % per_batch
    order: list[Item] = []
    while len(order) < batches * per_batch:
        order.extend(dice.sample(list(problems), whole))
    return order[: batches * per_batch]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one arm of reinforcement learning does and another does not.

    Args:
        arm: its name, as on the command line.
        schedule: what is paid, and when.
        training_revisions: how often an answer is revised while training; None is as often as in evaluation.
        normalise_by: advantages of calls with the same role are brought to mean 0 and variance 1, or left as they are.
    """

    arm: str
    schedule: Schedule
    training_revisions: int | None = None
    normalise_by: NormaliseBy = "nothing"


def train_plan(
    plan: Plan, settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Carry out `plan` in the run folder `out`.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the run was saved and can be resumed.
        DivergenceError: loss or gradient was not finite; the last checkpoint can be resumed with other settings.
        TrainingError, TaskError, PolicyError, ConfigurationError: before any training, if something is unusable.
    """
    with opened_run(plan.arm, settings, out=out, progress=progress, resume=resume) as (run, sink):
        return _Session(run, settings, plan, sink).play_through(resume=resume)


@dataclass
class _Session:
    """One call of `train_plan`: the objects it opened, and the steps it goes through."""

    run: RunDirectory
    settings: RunSettings
    plan: Plan
    progress: ProgressSink

    def __post_init__(self) -> None:
        self.task: Task = self.settings.task.open()
        self.policy = open_policy(self.settings.policy)
        self.graph = open_graph(self.settings, self.policy, self.task.checker)
        self.training_graph = self._training_graph()
        self.held_out = HeldOut.of(self.settings.evaluation, self.task, self.run, self.progress)
        asked = (problem.prompt for problem in self.held_out.problems)
        refuse_unreadable(self.policy, asked, name=self.settings.policy.model)

    def play_through(self, *, resume: bool) -> RunResult:
        before = self.held_out.before(self.graph)
        self._train(resume=resume)
        return self.held_out.finish(self.graph, before, self._budget())

    def _train(self, *, resume: bool) -> None:
        from transformers.trainer_utils import get_last_checkpoint

        from selfcorrect.training.ppo.trainer import TurnPPOTrainer

        config = self._config()
        interrupt = StopOnInterrupt(config.updates_per_batch)
        checkpoint = get_last_checkpoint(str(config.output_dir)) if resume else None
        done = 0 if checkpoint is None else int(Path(checkpoint).name.rpartition("-")[2]) // config.updates_per_batch
        self.run.truncate_metrics(done)
        log = RunLog(
            self.run,
            self.progress,
            self.plan.schedule,
            config.updates_per_batch,
            lambda: self.held_out.validate(self.graph),
            self.settings.evaluation.every,
            Watch(config.episodes_per_batch, self.run.read_metrics()),
        )
        trainer = TurnPPOTrainer(
            self.policy,
            self.training_graph,
            self._training_problems(config.batches, config.problems_per_batch),
            self._signals_at,
            config,
            peft_config=lora_config(self.settings.policy.lora),
            callbacks=[log, FiniteGradients(), interrupt],
        )
        try:
            with interrupt.listening():
                trainer.train(resume_from_checkpoint=checkpoint)
        except DivergenceError as error:
            last = get_last_checkpoint(str(config.output_dir)) or "none was written yet"
            raise DivergenceError(f"{error} (last good checkpoint: {last})") from error
        if interrupt.interrupted:
            raise KeyboardInterrupt
        self._save(trainer)

    def _training_graph(self) -> Any:
        """The graph of evaluation, unless the plan trains in a shorter one."""
        revisions = self.plan.training_revisions
        if revisions is None:
            return self.graph
        graph = self.settings.graph.model_copy(update={"revisions": revisions})
        return open_graph(self.settings.model_copy(update={"graph": graph}), self.policy, self.task.checker)

    def _config(self) -> TurnPPOConfig:
        batches = self.plan.schedule.total_batches
        return ppo_config(self.settings, self.run.checkpoints_path, batches, normalise_by=self.plan.normalise_by)

    def _budget(self) -> Budget:
        """What the run cost, from its log: so an interrupted run counts whole."""
        steps = self.run.read_metrics()
        return Budget(
            generated_tokens=round(sum(step["tokens"] for step in steps)),
            optimiser_steps=len(steps) * self._config().updates_per_batch,
        )

    def _signals_at(self, batch: int) -> CheckerRewards:
        return CheckerRewards(
            self.plan.schedule.at(batch), self.task.checker, prompts_for(self.settings, self.policy).calls_wrong
        )

    def _training_problems(self, batches: int, per_batch: int) -> list[Problem]:
        """The problems of the whole run, in order; a finite task gives what it has, epoch after epoch."""
        available = getattr(self.task, "available", None)
        wanted = batches * per_batch
        count = wanted if available is None else min(wanted, available("train"))
        problems = self.task.problems("train", count, seed=self.settings.seed)
        return epochs(problems, batches=batches, per_batch=per_batch, seed=self.settings.seed)

    def _save(self, trainer: Any) -> None:
        """The trained weights as a plain model: adapters are merged into their base."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        model.save_pretrained(self.run.model_path)
        self.policy.tokenizer.save_pretrained(self.run.model_path)
