"""A run of a supervised arm: sample with the current policy, fine-tune the ORIGINAL one on what came out, again and
again.

Beside the files of every run (see `run_directory`), its folder holds for each loop

    loops/loop-1/examples.jsonl   what was learnt, as text and as token ids
    loops/loop-1/sampled.json     the figures of the sampling; it is there once the sampling is over
    loops/loop-1/model/           what the loop made of the original policy; it is there once the loop is over

Of several processes each samples its share and learns from its share of every batch; the first one writes.
"""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import derive_seed
from selfcorrect.agents.prompts import refuse_unreadable
from selfcorrect.errors import TrainingError
from selfcorrect.files import finite, json_line, write_whole
from selfcorrect.tasks.problem import Task
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.arms.supervised.fine_tuning import Tuning, fine_tune
from selfcorrect.training.arms.supervised.sampling import Harvest, gather
from selfcorrect.training.processes import agreed, by_first, refuse_uneven, replacing_by_first
from selfcorrect.training.reporting.services import Reporters, example_rows
from selfcorrect.training.runs.held_out import Evaluated, HeldOut
from selfcorrect.training.runs.holding import opened_run
from selfcorrect.training.runs.memory import refuse_too_large, supervised_load
from selfcorrect.training.runs.opening import chosen_lora, lora_config, meet, open_graph, open_run_policy, refuse_best
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import RunSettings, SupervisedSettings

Figures = dict[str, float]
HarvestWith = Callable[[TransformersPolicy, Task], Harvest]
"""From the current policy and the task to how they are sampled."""


@dataclass(frozen=True, slots=True)
class SupervisedPlan:
    """What one supervised arm does and another does not.

    Args:
        arm: its name, as on the command line.
        group: its group of settings, by the field's name in `RunSettings`.
        loops: how often the policy is sampled and made anew.
        seeks: what an example is, for the error when there is none.
        harvest: samples the current policy and makes examples.
        advice: what to do when there is no example; None is to sample more.
    """

    arm: str
    group: str
    loops: int
    seeks: str
    harvest: HarvestWith
    advice: str | None = None


def train_supervised(
    plan: SupervisedPlan,
    settings: RunSettings,
    *,
    out: Path,
    progress: ProgressSink | None = None,
    resume: bool = False,
) -> RunResult:
    """Carry out `plan` in the run folder `out`. A resumed run goes on after the last loop that was finished.

    Raises:
        TrainingError: the policy gave nothing to learn from in a loop; the run cannot be written.
        DivergenceError: a gradient was not finite.
        TaskError, PolicyError, ConfigurationError: before any training, if something is unusable.
    """
    refuse_best(settings, plan.arm)
    refuse_uneven(getattr(settings, plan.group).batch_size, f"{plan.group}.batch_size")
    meet(settings)
    with opened_run(plan.arm, settings, out=out, progress=progress, resume=resume, several=True) as (run, sink):
        return agreed(lambda: _Session(run, settings, plan, sink)).play_through()


@dataclass
class _Session:
    run: RunDirectory
    settings: RunSettings
    plan: SupervisedPlan
    progress: ProgressSink

    def __post_init__(self) -> None:
        self.task: Task = self.settings.task.open()
        self.group: SupervisedSettings = getattr(self.settings, self.plan.group)
        smaller = [f"a smaller {self.plan.group}.micro_batch", "a smaller policy.max_new_tokens"]
        if chosen_lora(self.settings.policy) is None:
            smaller.insert(0, "policy.lora")
        refuse_too_large(self.settings, self.progress, supervised_load(self.group), advice=smaller)
        self.held_out = HeldOut.of(self.settings.evaluation, self.task, self.run, self.progress)

    def play_through(self) -> RunResult:
        before = self._before()
        done = by_first(self._finished_loops)
        self.run.truncate_metrics(done)
        self.progress.start(self.plan.loops, self.plan.arm)
        for loop in range(done + 1, self.plan.loops + 1):
            self._loop(loop)
        by_first(self._publish)
        return self.held_out.finish(self._graph(self._policy(self.plan.loops)), before, self._budget())

    def _before(self) -> Evaluated:
        policy, asked = self._policy(0), (problem.prompt for problem in self.held_out.problems)
        refuse_unreadable(policy, asked, name=self.settings.policy.model)
        return self.held_out.before(self._graph(policy))

    def _loop(self, loop: int) -> None:
        """Sample the policy of the loop before, and fine-tune the original on what is worth it."""
        seed = derive_seed(self.settings.seed, loop)
        examples, figures = self._sampled(loop, seed)
        self._refuse_nothing(loop, examples, figures)
        self.progress.message(f"loop {loop}: fine-tuning the original policy on {len(examples):,} examples")
        reporters = Reporters(
            self.settings.report_to,
            run_name=f"{self.run.path.name}-loop-{loop}",
            folder=self._folder(loop),
            opening=example_rows(examples),
            stays_open=True,
        )
        # when the model is there, the loop is finished
        with closing(reporters), replacing_by_first(self._model(loop)) as unfinished:
            losses = fine_tune(
                open_run_policy(self.settings),
                examples,
                self._tuning,
                seed=seed,
                folder=unfinished,
                peft_config=lora_config(chosen_lora(self.settings.policy)),
                reporters=reporters,
            )
            row = {"step": loop, "stage": 1, **figures, **losses, "optimiser_steps": float(self.group.steps)}
            if self.settings.evaluation.every and loop % self.settings.evaluation.every == 0:
                shown = self.held_out.validate(self._graph(self._opened(unfinished)))
                row |= {f"eval_{name}": value for name, value in shown.items()}
            self.run.append_metrics(row)
            reporters.log(row)
        self.progress.step(row)

    @property
    def _tuning(self) -> Tuning:
        group = self.group
        return Tuning(group.steps, group.batch_size, group.learning_rate, micro_batch=group.micro_batch)

    def _sampled(self, loop: int, seed: int) -> tuple[list[Example], Figures]:
        """The examples of a loop and the figures of its sampling; what an interrupted run has sampled is taken up
        again."""
        if (kept := by_first(lambda: self._kept(loop))) is not None:
            return kept
        self.progress.message(f"loop {loop}: sampling")
        harvest = self.plan.harvest(self._policy(loop - 1), self.task)
        examples, figures = gather(
            self.task, self.group, seed, harvest, lambda text: self.progress.message(f"loop {loop}: {text}")
        )
        by_first(lambda: self._keep(loop, examples, figures))
        return examples, figures

    def _kept(self, loop: int) -> tuple[list[Example], Figures] | None:
        rows, figures_file = self._files_of(loop)
        if not figures_file.exists():
            return None
        lines = rows.read_text(encoding="utf-8").splitlines()
        return [Example.of_row(json.loads(line)) for line in lines], json.loads(figures_file.read_text("utf-8"))

    def _keep(self, loop: int, examples: list[Example], figures: Figures) -> None:
        rows, figures_file = self._files_of(loop)
        rows.parent.mkdir(parents=True, exist_ok=True)
        write_whole(rows, "".join(json_line(example.as_row()) for example in examples))
        write_whole(figures_file, json.dumps(finite(figures)))

    def _files_of(self, loop: int) -> tuple[Path, Path]:
        return self._folder(loop) / "examples.jsonl", self._folder(loop) / "sampled.json"

    def _refuse_nothing(self, loop: int, examples: list[Example], figures: Figures) -> None:
        if examples:
            return
        group, accuracy = self.plan.group, figures.get("accuracy_t1")
        samples = f"{figures['episodes']:,.0f} samples of " if figures["episodes"] else ""
        correct = "" if accuracy is None else f" ({accuracy:.1%} of the first answers were correct)"
        reasons = {name.partition("/")[2]: count for name, count in figures.items() if name.startswith("left_out/")}
        counted = ", ".join(f"{count:,.0f} {reason.replace('_', ' ')}" for reason, count in reasons.items())
        advice = self.plan.advice or (
            f"Sample more ({group}.problems, {group}.samples_per_problem), choose easier problems, or begin with a "
            "policy that solves some of them (`selfcorrect train sft` makes one from gold solutions)"
        )
        if "right_but_cut_off" in reasons:
            advice = f"Answers that the token limit ends are not learnt: raise policy.max_new_tokens. {advice}"
        kept = f" The policy of the loop before is in {self._model(loop - 1)}." if loop > 1 else ""
        raise TrainingError(
            f"{self.plan.arm}, loop {loop}: {samples}{figures['problems']:,.0f} problems gave no {self.plan.seeks}"
            f"{f' ({counted})' if counted else ''}, so there is nothing to learn from{correct}. Nothing was fine-tuned "
            f"in this loop.{kept} {advice}"
        )

    def _finished_loops(self) -> int:
        return sum(1 for loop in range(1, self.plan.loops + 1) if self._model(loop).is_dir())

    def _folder(self, loop: int) -> Path:
        return self.run.path / "loops" / f"loop-{loop}"

    def _model(self, loop: int) -> Path:
        return self._folder(loop) / "model"

    def _policy(self, loop: int) -> TransformersPolicy:
        """What `loop` has made; 0 is the original."""
        return open_run_policy(self.settings) if loop == 0 else self._opened(self._model(loop))

    def _opened(self, folder: Path) -> TransformersPolicy:
        return open_run_policy(self.settings, folder)

    def _graph(self, policy: TransformersPolicy) -> Any:
        return open_graph(self.settings.for_evaluation, policy, self.task.checker)

    def _publish(self) -> None:
        """The last loop's policy as that of the run."""
        self.run.publish(self._model(self.plan.loops))

    def _budget(self) -> Budget:
        rows = self.run.read_metrics()
        return Budget(
            generated_tokens=round(sum(row["tokens"] for row in rows)),
            optimiser_steps=round(sum(row["optimiser_steps"] for row in rows)),
        )
