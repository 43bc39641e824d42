"""The folder of a run of any arm: what was asked for, what happened, what came out.

config.yaml      the settings, complete
arm.txt          which arm of training it is, as on the command line: "score", "multi-turn"
metrics.jsonl    one line a step (see `progress.py` for the names)
metrics.json     {"before": ..., "after": ..., "budget": ...}: evaluations of base and trained policy, and the cost;
                 "stopped": {"step": ..., "of": ...} where the clock ended it
episodes.jsonl   held-out episodes before and after, with their tokens and log-probabilities
training_episodes.jsonl  some episodes of every step, with what each token earned
model/           the trained policy; loads with AutoModelForCausalLM
adapter/         its adapter by itself, where only an adapter was trained
checkpoints/     what `resume` continues from
report.html      all of it in one file
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from selfcorrect.agents.state import EpisodeState, Turn
from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.files import StepLog, finite, json_line, prove_writable, write_whole
from selfcorrect.setting_groups import Settings
from selfcorrect.settings import Model, differing_fields, load_settings, settings_as_yaml, value_of
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.processes import by_first, first_only
from selfcorrect.training.runs.stored_episodes import token_records, verdict_fields
from selfcorrect.training.settings import GIVEN, RunSettings, read_settings

# Held-out episodes as they are kept; see `stored_episodes` for what a row holds.


def episode_record(state: EpisodeState, *, policy: str, tokenizer: Any = None) -> dict[str, Any]:
    """One row of episodes.jsonl; `policy` says who played: "before" or "after". With the policy's `tokenizer` the row
    has its tokens."""
    problem: Mapping[str, Any] = state["problem"]
    turns = state.get("turns", [])
    generations = [turn["generation"] for turn in turns]
    tokens = [{} for _ in turns] if tokenizer is None else token_records(generations, tokenizer)
    return {
        "id": problem["id"],
        "policy": policy,
        "prompt": problem["prompt"],
        "reference": problem["reference"],
        "turns": [_turn_record(turn) | more for turn, more in zip(turns, tokens, strict=True)],
        "stop_reason": state.get("stop_reason", ""),
    }


def _turn_record(turn: Turn) -> dict[str, Any]:
    return {"role": turn["role"], "text": turn["generation"]["text"], **verdict_fields(turn["verdict"])}


_MAY_CHANGE_ON_RESUME = {
    "save_every",
    "keep_checkpoints",
    "evaluation.every",
    "optimiser.store_episodes",
    "report_to",
    "stop_after_minutes",
}
_MAY_GROW_ON_RESUME = {"score.stage_two_steps", "star.loops", "steps"}
"""What makes a run longer: the steps of its last stage, STaR's loops, Quiet-STaR's steps."""

_MAY_MOVE_ON_RESUME = {"policy.model", "task.path", "task.test_path"}
"""Files of another machine may lie elsewhere on this one. Whoever names them says that they are the same."""


def _is_gone(value: Any) -> bool:
    """Whether a setting is a path from the root where nothing is."""
    return value is not None and Path(value).is_absolute() and not Path(value).exists()


_NAMES_A_FILE = {"model", "text", "dataset"}
"""Settings that are texts, and may be the path of a file or folder."""


Kind = TypeVar("Kind", bound=Settings)


def placed(settings: Kind) -> Kind:
    """`settings` whose files and folders are named from the root: the run can be taken up from any folder."""
    changed = {name: _placed(name, getattr(settings, name)) for name in type(settings).model_fields}
    return settings.model_copy(update={name: value for name, value in changed.items() if value is not None})


def _placed(name: str, value: Any) -> Any:
    if isinstance(value, Settings):
        return placed(value)
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, dict):
        return {key: _placed(key, item) if _placed(key, item) is not None else item for key, item in value.items()}
    named = isinstance(value, str) and name in _NAMES_A_FILE and value not in _OWN_NAMES and Path(value).exists()
    return str(Path(value).absolute()) if named else None


LOCK = ".lock"
"""The file in a run's folder by which a process holds it."""

_OWN_NAMES = {"embedded", "embedded-looks", "smollm2", "chains", GIVEN}


@dataclass(frozen=True)
class RunResult:
    """What a run hands back: its folder and the figures of `metrics.json`."""

    directory: Path
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class RunDirectory:
    """A run's folder, known to be writable. Make one with `create`. Of several processes the first one writes to it."""

    path: Path

    @classmethod
    def create(cls, out: Path, settings: Settings, *, resume: bool = False, arm: str | None = None) -> Self:
        """Make the folder of a new run, or take that of an interrupted one, and prove that it can be written.

        `arm` is the arm of training; a run can only be resumed as what it was begun.

        Raises:
            TrainingError: the folder cannot be written or the disk is full; a new run would overwrite another one;
                there is no run to resume.
            ConfigurationError: the run to resume was started with other settings, or is one of another arm.
        """
        run = cls(Path(out))
        by_first(lambda: run._begin(settings, resume=resume, arm=arm))
        return run

    def _begin(self, settings: Settings, *, resume: bool, arm: str | None) -> None:
        out = self.path
        if resume:
            self._same_arm(arm)
            self._same_settings(settings)
        elif self.config_path.exists() or self.metrics_log_path.exists():
            raise TrainingError(
                f"{out} already holds a run: go on with it by resume=True (--resume {out}), or choose another folder"
            )
        prove_writable(out)
        self.checkpoints_path.mkdir(exist_ok=True)
        write_whole(self.config_path, settings_as_yaml(placed(settings)))
        if arm is not None:
            write_whole(self.arm_path, arm + "\n")

    def forget_beginning(self) -> None:
        """Take back what `create` wrote if nothing else has come into the folder, so that a run that was refused can be
        begun again there in other words."""
        written = {self.config_path, self.arm_path, self.checkpoints_path, self.path / LOCK}
        if set(self.path.iterdir()) <= written and not any(self.checkpoints_path.iterdir()):
            self.config_path.unlink(missing_ok=True)
            self.arm_path.unlink(missing_ok=True)
            self.checkpoints_path.rmdir()

    @staticmethod
    def saved_settings(out: Path) -> RunSettings:
        """The settings of the run in `out`; raises as `settings_in` does."""
        return RunDirectory.settings_in(out, RunSettings)

    @classmethod
    def settings_in(cls, out: Path, model: type[Model], *, arm: str | None = None) -> Model:
        """The settings of the run in `out`, which are of the type `model`. Those that its config.yaml does not know,
        because it was written before there were such, have their defaults.

        Raises:
            TrainingError: `out` holds no run.
            ConfigurationError: the run is none of `arm`; its config.yaml was changed into something unusable, or holds
                settings that there are no longer.
        """
        run = cls(Path(out))
        if not run.config_path.is_file():
            raise TrainingError(f"{out} holds no run to resume: there is no {run.config_path.name} in it")
        run._same_arm(arm)
        return load_settings(run.config_path, model())

    @property
    def arm_path(self) -> Path:
        """The name of the arm that made the run."""
        return self.path / "arm.txt"

    @property
    def arm(self) -> str | None:
        """The arm of training, or None if nobody wrote it down."""
        return self.arm_path.read_text(encoding="utf-8").strip() if self.arm_path.is_file() else None

    @property
    def config_path(self) -> Path:
        """All settings, as they can be given again."""
        return self.path / "config.yaml"

    @property
    def metrics_log_path(self) -> Path:
        """Figures of every training step, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def final_path(self) -> Path:
        """The evaluations before and after training."""
        return self.path / "metrics.json"

    @property
    def episodes_path(self) -> Path:
        """Held-out episodes before and after, one JSON object a line."""
        return self.path / "episodes.jsonl"

    @property
    def training_episodes_path(self) -> Path:
        """Some episodes of every step, with what each token earned."""
        return self.path / "training_episodes.jsonl"

    @property
    def model_path(self) -> Path:
        """The trained policy, as transformers loads it."""
        return self.path / "model"

    @property
    def checkpoints_path(self) -> Path:
        """What an interrupted run goes on from."""
        return self.path / "checkpoints"

    @property
    def report_path(self) -> Path:
        """All of it for people; opens offline."""
        return self.path / "report.html"

    @first_only
    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add one step to metrics.jsonl; see `StepLog.append`."""
        StepLog(self.metrics_log_path).append(metrics)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The steps written so far."""
        return StepLog(self.metrics_log_path).read()

    @first_only
    def truncate_metrics(self, step: int) -> None:
        """Forget the steps after `step`."""
        StepLog(self.metrics_log_path).truncate(step)
        if self.training_episodes_path.exists():
            StepLog(self.training_episodes_path).truncate(step)

    @first_only
    def write_final(
        self,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        *,
        budget: Budget | None = None,
        steps: tuple[int, int] | None = None,
    ) -> None:
        """Write metrics.json, all or nothing. `steps` are those that were made, and those that were planned, where the
        clock ended the run."""
        final = {"before": finite(before), "after": finite(after)}
        if budget is not None:
            final["budget"] = asdict(budget)
        if steps is not None:
            final["stopped"] = {"step": steps[0], "of": steps[1]}
        write_whole(self.final_path, json.dumps(final, indent=2) + "\n")

    def read_final(self) -> dict[str, dict[str, Any]] | None:
        """The content of metrics.json, or None before it was written."""
        if not self.final_path.exists():
            return None
        final: dict[str, dict[str, Any]] = json.loads(self.final_path.read_text(encoding="utf-8"))
        return final

    @first_only
    def write_episodes(
        self, episodes: Sequence[EpisodeState], *, before: Sequence[EpisodeState] = (), tokenizer: Any = None
    ) -> None:
        """Write episodes.jsonl: those of the trained policy and, if given, of the base on the same problems; with their
        `tokenizer`, token for token."""
        rows = [episode_record(state, policy="after", tokenizer=tokenizer) for state in episodes]
        rows += [episode_record(state, policy="before", tokenizer=tokenizer) for state in before]
        write_whole(self.episodes_path, "".join(map(json_line, rows)))

    def read_episodes(self) -> list[dict[str, Any]]:
        """The rows of episodes.jsonl; [] before it was written."""
        if not self.episodes_path.exists():
            return []
        return [json.loads(line) for line in self.episodes_path.read_text(encoding="utf-8").splitlines()]

    @first_only
    def publish(self, model: Path) -> None:
        """Copy the model that some part of the run left in the folder `model`, and its adapter beside that if there is
        one, to the run's own `model/` and `adapter/`."""
        for made, published in ((model, self.model_path), (model.parent / "adapter", self.path / "adapter")):
            shutil.rmtree(published, ignore_errors=True)
            if made.is_dir():
                shutil.copytree(made, published)

    def write_card(self) -> None:
        """Write README.md of the trained model, if there is one; see `model_card`."""
        from selfcorrect.training.runs.model_card import run_card

        if self.model_path.is_dir():
            settings, final = read_settings(self.config_path), self.read_final()
            write_whole(self.model_path / "README.md", run_card(settings, final, arm=self.arm, folder=self.model_path))

    @first_only
    def write_report(self) -> None:
        """Write report.html from the other files."""
        from selfcorrect.training.reporting.page import report_page

        page = report_page(
            settings=read_settings(self.config_path),
            steps=self.read_metrics(),
            final=self.read_final(),
            episodes=self.read_episodes(),
            arm=self.arm,
        )
        write_whole(self.report_path, page)

    def _same_arm(self, arm: str | None) -> None:
        if arm is not None and self.arm is not None and arm != self.arm:
            raise ConfigurationError(
                f"{self.path} holds a run of the arm '{self.arm}', not of '{arm}'; go on with: selfcorrect train "
                f"{self.arm} --resume {self.path}"
            )

    def _same_settings(self, settings: Settings) -> None:
        saved, given = placed(self.settings_in(self.path, type(settings))), placed(settings)
        changed = [name for name in differing_fields(saved, given) if name not in _MAY_CHANGE_ON_RESUME]
        changed = [name for name in changed if name not in _MAY_MOVE_ON_RESUME or not _is_gone(value_of(saved, name))]
        if other := [name for name in changed if name not in _MAY_GROW_ON_RESUME]:
            raise ConfigurationError(
                f"{self.path} was started with other settings of {', '.join(other)}; resume it with its own "
                f"{self.config_path.name}, or start a new run in another folder"
            )
        for name in changed:
            self._refuse_shorter(name, value_of(saved, name), value_of(given, name))

    def _refuse_shorter(self, name: str, had: int, wanted: int) -> None:
        """A run can be made longer, where there is a checkpoint to go on from."""
        if wanted < had:
            raise ConfigurationError(f"{name} was {had} in {self.path} and can only be raised, not lowered to {wanted}")
        finished = self.final_path.exists() and name != "star.loops"
        kept = {path.name for path in self.checkpoints_path.glob("*")} - {"before.json", "README.md", "work"}
        if finished and not kept:
            raise TrainingError(
                f"{self.path} is finished and keeps no checkpoint, so it cannot be made longer (save_every was 0); "
                f"train on from its model: --model {self.model_path}"
            )
