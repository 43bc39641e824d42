"""One run of `train`: its folder, evaluation before and after, the steps between, what is saved."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainerCallback

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.policy import Sampling
from selfcorrect.errors import ConfigurationError, GraphError, TrainingError
from selfcorrect.files import json_line, prove_writable, write_whole
from selfcorrect.settings import settings_as_yaml
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.own_graph_rewards import FunctionRewards, kind_of
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.keeping import refuse_missing
from selfcorrect.training.ppo.metrics import rollout_metrics
from selfcorrect.training.ppo.rollouts import Episode, collect
from selfcorrect.training.ppo.sharding import save_whole
from selfcorrect.training.ppo.trainer import TurnPPOTrainer
from selfcorrect.training.processes import by_first, count, first_only, is_first, join, joined, shared, together
from selfcorrect.training.reporting.page import own_graph_page
from selfcorrect.training.runs.alarms import Watch
from selfcorrect.training.runs.best import BestCheckpoint
from selfcorrect.training.runs.callbacks import StopOnTime
from selfcorrect.training.runs.fitting import (
    fit,
    keep_beginning,
    last_checkpoint,
    open_trainer,
    resumable,
)
from selfcorrect.training.runs.holding import alone_in
from selfcorrect.training.runs.opening import refuse_adapter
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.runs.stored_episodes import call_records

_MAY_CHANGE_ON_RESUME = {"save_every", "keep_checkpoints", "steps", "output_dir", "store_episodes", "report_to"}
_KEPT_EPISODES = 200
"""How many episodes of each policy the folder keeps."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class OwnRunDirectory(RunDirectory):
    """The folder of a run of a graph of one's own; its files are those of every run."""

    @classmethod
    def begin(cls, config: TurnPPOConfig, *, resume: bool) -> "OwnRunDirectory":
        """Make the folder of a new run, or take that of one that is to go on.

        Raises:
            TrainingError: it cannot be written, or a run is there that a new one would overwrite.
            ConfigurationError: there is nothing to resume, or it was begun with other settings.
        """
        run = cls(config.output_dir)
        if resume:
            run._refuse_other_config(config)
        elif run.metrics_log_path.exists() or last_checkpoint(run.checkpoints_path) is not None:
            raise TrainingError(f"{run.path} already holds a run; give resume=True, or choose another output_dir")
        prove_writable(run.path)
        run.checkpoints_path.mkdir(exist_ok=True)
        write_whole(run.config_path, settings_as_yaml(config))
        return run

    def _refuse_other_config(self, config: TurnPPOConfig) -> None:
        if not self.config_path.is_file():
            return  # no checkpoint either: that is told
        old, new = (yaml.safe_load(text) for text in (self.config_path.read_text("utf-8"), settings_as_yaml(config)))
        changed = sorted(
            name for name in {**old, **new} if old.get(name) != new.get(name) and name not in _MAY_CHANGE_ON_RESUME
        )
        if changed:
            raise ConfigurationError(
                f"{self.path} was begun with other settings of {', '.join(changed)}; resume it with its own "
                f"{self.config_path.name}, or choose another output_dir"
            )

    @first_only
    def write_results(self, rows: Sequence[Row], before: Row, after: Row, budget: Budget) -> None:
        """Write metrics.json, episodes.jsonl and the report."""
        self.write_final(before, after, budget=budget)
        write_whole(self.episodes_path, "".join(map(json_line, rows)))
        page = own_graph_page(
            config=self.config_path.read_text("utf-8"),
            steps=self.read_metrics(),
            final=self.read_final() or {},
            episodes=self.read_episodes(),
        )
        write_whole(self.report_path, page)


@dataclass
class OwnGraphRun:
    """Trains `policy` in `graph`, in the folder `config.output_dir`."""

    graph: Any
    policy: Any
    problems: list[Problem]
    held_out: list[Problem]
    signals: FunctionRewards
    config: TurnPPOConfig
    progress: ProgressSink
    rules: EpisodeRules
    inputs: Callable[[Problem], Mapping[str, Any]]
    trainable: frozenset[str] | None
    context: Any
    playing: Callable[[], AbstractContextManager[Any]] = nullcontext
    """The trainer's, once there is one."""

    def play(self, reference: Any, peft_config: Any, *, resume: bool) -> tuple[list[dict[str, float]], Path, Row, Row]:
        """Train to the end: the figures of every step, where the model is, and the evaluations before and after."""
        refuse_missing(self.config.report_to)
        refuse_adapter(self.policy, "of the graph")
        join(cpu=self.policy.on_cpu, options=self.config.trl)
        if not is_first():
            self.progress = SilentProgress()
        with alone_in(self.config.output_dir):
            run, checkpoint, done = by_first(lambda: self._begun(resume=resume))
            if self.config.save_every:
                keep_beginning(self.policy, run.checkpoints_path, resume=resume)
            self.policy.hand_over()
            before, rows = self._before(run)
            trained = self._fit(run, checkpoint, done, reference, peft_config)
            with self.playing():
                after, trained_rows = self._evaluate("after")
            self.policy.model = trained  # without the trainer's wrapper, which playing gave it
            steps = by_first(run.read_metrics)
            tokens = round(sum(step["tokens"] for step in steps))
            budget = Budget(tokens, len(steps) * self.config.updates_per_step)
            run.write_results([*trained_rows, *rows], before, after, budget)
            return steps, run.model_path, before, after

    def _begun(self, *, resume: bool) -> tuple[OwnRunDirectory, Path | None, list[dict[str, Any]]]:
        """The run's folder, the checkpoint that it goes on from, and the steps that were done by then."""
        begun = RunDirectory(self.config.output_dir).config_path.is_file()
        run = OwnRunDirectory.begin(self.config, resume=resume)
        checkpoint = self._checkpoint(run, resume=resume, begun=begun)
        done = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]) // self.config.updates_per_step
        run.truncate_metrics(done)
        return run, checkpoint, run.read_metrics()

    def _fit(
        self,
        run: OwnRunDirectory,
        checkpoint: Path | None,
        done: list[dict[str, Any]],
        reference: Any,
        peft_config: Any,
    ) -> Any:
        config = self.config.model_copy(update={"output_dir": run.checkpoints_path})
        best = BestCheckpoint(config, done, self.progress.message)
        something_learns = _SomethingLearns(self.trainable)
        trainer = open_trainer(
            self.policy,
            self.graph,
            self.problems,
            lambda batch: self.signals,
            config,
            reference=reference,
            peft_config=peft_config,
            trainable=self.trainable,
            inputs=_checked_inputs(self.inputs),
            context=self.context,
            rules=self.rules,
            stored=run.training_episodes_path,
            callbacks=[
                something_learns,
                _Figures(run, config, self.progress, self._validate, done),
                best,
                StopOnTime(config.stop_after_minutes, config.updates_per_step, self.progress.message),
            ],
        )
        something_learns.watch(trainer)
        self.playing = trainer.playing
        self.progress.start(self.config.steps, "train")
        try:
            fit(trainer, resume_from=checkpoint, best=best)
        finally:
            self.progress.close()
        self.policy.settle()  # what is saved has its adapter merged, in place
        return save_whole(trainer, self.policy.tokenizer, run.model_path)

    def _checkpoint(self, run: OwnRunDirectory, *, resume: bool, begun: bool) -> Path | None:
        """Where to go on: None is at the beginning, also of a run that was killed before its first checkpoint."""
        if not resume:
            return None
        checkpoint = resumable(run.checkpoints_path, self.progress.message)
        if checkpoint is None and not begun:
            raise ConfigurationError(
                f"there is no checkpoint in {run.path} to resume from; set save_every, or start with resume=False"
            )
        return checkpoint

    def _before(self, run: OwnRunDirectory) -> tuple[Row, list[Row]]:
        """The evaluation of the base policy, kept for a resumed run, whose policy is the base no more."""
        kept = run.checkpoints_path / "before.json"
        saved = by_first(lambda: json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None)
        if saved is not None:
            return saved["report"], saved["episodes"]
        report, rows = self._evaluate("before")
        first_only(write_whole)(kept, json.dumps({"report": report, "episodes": rows}))
        return report, rows

    def _validate(self) -> Row:
        with self.playing():
            return self._evaluate("while training")[0]

    def _evaluate(self, who: str) -> tuple[Row, list[Row]]:
        """Greedy episodes of the held-out problems, of which each process plays its share: the mean reward of each
        call, as in training."""
        if not self.held_out:
            return {}, []
        if who != "while training":
            self.progress.message(f"evaluating on {len(self.held_out)} held-out problems")
        mine = shared(self.held_out)
        played = [] if not mine else run_blocking(
            collect(
                self.graph, mine, self.signals, sampling=Sampling(temperature=0.0),
                seeds=shared(range(len(self.held_out))), policy=self.policy, trainable=self.trainable,
                inputs=_checked_inputs(self.inputs), context=self.context,
                rules=self.rules,
            )
        )  # fmt: skip
        # States are the user's own, and may not be picklable; the figures are of the calls.
        episodes = joined(together([replace(episode, state={}) for episode in played])) if count() > 1 else played
        report = {name: value for name, value in rollout_metrics(episodes, 1.0).items() if "second" not in name}
        report["n"] = float(len(episodes))
        return report, [_episode_row(episode, who, self.policy.tokenizer) for episode in episodes[:_KEPT_EPISODES]]


def _episode_row(episode: Episode, who: str, tokenizer: Any) -> Row:
    """One row of episodes.jsonl: what each call wrote and was paid."""
    turns = [
        {**turn, "role": signal.kind, "reason": f"reward {signal.reward}"}
        for turn, signal in zip(call_records(episode, tokenizer), episode.signals, strict=True)
    ]
    problem, error = episode.problem, episode.error
    return {
        "id": problem.id,
        "policy": who,
        "prompt": problem.prompt,
        "reference": problem.reference,
        "turns": turns,
        "stop_reason": "" if error is None else str(error),
    }


class _Figures(TrainerCallback):  # type: ignore[misc]
    """Writes the figures of every step down and shows them, with the alarms that stand."""

    def __init__(
        self,
        run: OwnRunDirectory,
        config: TurnPPOConfig,
        progress: ProgressSink,
        validate: Callable[[], Row],
        done: list[dict[str, Any]],
    ) -> None:
        self._run, self._progress, self._updates = run, progress, config.updates_per_step
        self._validate, self._every = validate, config.evaluate_every
        self._watch = Watch(config.episodes_per_step, done, stop_after_idle=config.stop_after_idle)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "tokens" not in logs:
            return
        figures = {"step": state.global_step // self._updates, **logs}
        if self._every and figures["step"] % self._every == 0:
            figures.update({f"eval_{name}": value for name, value in self._validate().items()})
        standing = self._watch.standing(figures)
        figures.update({f"alarm/{alarm.name}": 1.0 for alarm in standing})
        logs.update(figures)  # for the callbacks behind this one
        self._run.append_metrics(figures)
        self._progress.step(figures)
        for alarm in self._watch.untold(standing):
            self._progress.message(f"alarm: {alarm.words}")
        self._watch.check()


class _SomethingLearns(TrainerCallback):  # type: ignore[misc]
    """Ends a run whose first batch could not teach anything, rather than let it run to its end for nothing."""

    def __init__(self, trainable: frozenset[str] | None) -> None:
        self._trainable = trainable
        self._trainer: TurnPPOTrainer | None = None

    def watch(self, trainer: TurnPPOTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._trainer is not None:
            self._refuse(self._trainer.last_episodes)
            self._trainer = None

    def _refuse(self, episodes: list[Episode]) -> None:
        pairs = [
            (call, signal) for episode in episodes for call, signal in zip(episode.calls, episode.signals, strict=True)
        ]
        learning = [signal for call, signal in pairs if call.inside(self._trainable)]
        if not learning:
            callers = sorted({kind_of(call).rpartition(" ")[0] for call, _ in pairs})
            raise GraphError(
                f"no call of the first {len(episodes)} episodes was made in {sorted(self._trainable or ())}: nothing "
                f"would learn. The nodes that called the policy: {', '.join(callers)}"
            )
        if all(signal.reward is None for signal in learning):
            raise GraphError(
                f"reward_fn paid None for every call of the first {len(episodes)} episodes: nothing would be learnt"
            )


def _checked_inputs(inputs: Callable[[Problem], Mapping[str, Any]]) -> Callable[[Problem], dict[str, Any]]:
    def checked(problem: Problem) -> dict[str, Any]:
        given = inputs(problem)
        if not isinstance(given, Mapping):
            raise GraphError(f"inputs returned a {type(given).__name__}; it must return the graph's input as a dict")
        return dict(given)

    return checked
