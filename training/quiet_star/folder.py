"""The folder of a Quiet-STaR run.

config.yaml      the settings, complete
arm.txt          "quiet-star"
metrics.jsonl    one line a step: nll and nll_base (nats per token with and without thoughts, sampled), gain, weight,
advantage, ... metrics.json     {"before": ..., "after": ...}: held-out texts, greedy thoughts; see
`evaluation.summarise` tokens.jsonl     some held-out texts, token by token, with gains, weights and thoughts
base/            the model that training began with, if the run made it
model/           the trained model; `QuietPolicy.from_pretrained` opens it, AutoModelForCausalLM without its thoughts
checkpoints/     what `--resume` continues from
report.html      all of it in one file
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.files import StepLog, finite, json_line, prove_writable, write_whole
from selfcorrect.settings import Loader, explain
from selfcorrect.training.quiet_star.settings import QuietSettings

ARM = "quiet-star"
_MAY_CHANGE_ON_RESUME = {"save_every"}


@dataclass(frozen=True, slots=True)
class QuietResult:
    """What a run hands back: its folder and the figures of `metrics.json`."""

    directory: Path
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QuietRun:
    """The files of one run."""

    path: Path

    @classmethod
    def create(cls, out: Path, settings: QuietSettings, *, resume: bool) -> "QuietRun":
        """Make the folder of a new run, or take that of an interrupted one, and prove that it can be written.

        Raises:
            TrainingError: it cannot be written; it holds a run already, or none to resume.
            ConfigurationError: the run to resume was started with other settings.
        """
        run = cls(Path(out))
        if resume:
            changed = _differences(cls.saved_settings(run.path), settings)
            if changed:
                raise ConfigurationError(
                    f"{out} was started with other settings of {', '.join(changed)}; resume it with its own "
                    "config.yaml, or start a new run in another folder"
                )
        elif run.config_path.exists() or run.log_path.exists():
            raise TrainingError(f"{out} already holds a run; resume it, or choose another folder")
        prove_writable(run.path)
        run.checkpoints_path.mkdir(exist_ok=True)
        write_whole(run.config_path, as_yaml(settings))
        write_whole(run.path / "arm.txt", ARM + "\n")
        return run

    @classmethod
    def saved_settings(cls, out: Path) -> QuietSettings:
        """The settings of the run in `out`.

        Raises:
            TrainingError: there is no run, or one of another arm.
            ConfigurationError: its config.yaml was changed into something unusable.
        """
        run = cls(Path(out))
        if not run.config_path.is_file():
            raise TrainingError(f"{out} holds no run to resume: there is no config.yaml in it")
        arm = run.path / "arm.txt"
        if arm.is_file() and arm.read_text(encoding="utf-8").strip() != ARM:
            raise TrainingError(f"{out} holds a run of another arm: {arm.read_text(encoding='utf-8').strip()}")
        tree = yaml.safe_load(run.config_path.read_text(encoding="utf-8"))
        try:
            return QuietSettings.model_validate(tree)
        except ValidationError as error:
            raise ConfigurationError(explain(error, QuietSettings, source=str(run.config_path))) from error

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def log_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def final_path(self) -> Path:
        return self.path / "metrics.json"

    @property
    def tokens_path(self) -> Path:
        return self.path / "tokens.jsonl"

    @property
    def base_path(self) -> Path:
        return self.path / "base"

    @property
    def model_path(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    def append_metrics(self, figures: Mapping[str, Any]) -> None:
        """Add one step to metrics.jsonl; see `StepLog.append`."""
        StepLog(self.log_path).append(figures)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The steps written so far."""
        return StepLog(self.log_path).read()

    def truncate_metrics(self, step: int) -> None:
        """Forget the steps after `step`."""
        StepLog(self.log_path).truncate(step)

    def write_final(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Write metrics.json, all or nothing."""
        write_whole(self.final_path, json.dumps({"before": finite(before), "after": finite(after)}, indent=2) + "\n")

    def read_final(self) -> dict[str, Any] | None:
        """The content of metrics.json, or None before it was written."""
        if not self.final_path.exists():
            return None
        final: dict[str, Any] = json.loads(self.final_path.read_text(encoding="utf-8"))
        return final

    def write_tokens(self, rows: Sequence[Mapping[str, Any]]) -> None:
        write_whole(self.tokens_path, "".join(map(json_line, rows)))

    def read_tokens(self) -> list[dict[str, Any]]:
        """The rows of tokens.jsonl; [] before it was written."""
        if not self.tokens_path.exists():
            return []
        return [json.loads(line) for line in self.tokens_path.read_text(encoding="utf-8").splitlines()]


def as_yaml(settings: QuietSettings) -> str:
    """The complete settings."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _differences(left: QuietSettings, right: QuietSettings) -> list[str]:
    a, b = left.model_dump(mode="json"), right.model_dump(mode="json")
    return [name for name in a if a[name] != b[name] and name not in _MAY_CHANGE_ON_RESUME]


# Settings of Quiet-STaR from a file, from the command line's options and from dotted overrides.

Tree = dict[str, Any]


def quiet_settings(
    config: Path | None, resume: Path | None, chosen: Mapping[str, Any], overrides: Sequence[str]
) -> QuietSettings:
    """The settings of a run.

    Args:
        config: a YAML file, over the defaults.
        resume: the folder of a run whose own settings are taken instead.
        chosen: dotted names and values, over those; None is not chosen.
        overrides: texts such as "thought.tokens=4", over those.

    Raises:
        ConfigurationError: a file or setting is unusable.
        TrainingError: there is no run to resume.
    """
    tree: Tree = {}
    if resume is not None:
        tree = QuietRun.saved_settings(resume).model_dump(mode="json")
    elif config is not None:
        tree = _read(config)
    for name, value in chosen.items():
        if value is not None:
            _put(tree, name, value)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not all(part.strip() for part in name.split(".")):
            raise ConfigurationError(f"--set {override}: expected NAME=VALUE, such as thought.tokens=4")
        try:
            _put(tree, name, yaml.load(text, Loader) if text else "")
        except yaml.YAMLError as error:
            raise ConfigurationError(f"--set {override}: the value cannot be read") from error
    try:
        return QuietSettings.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError(explain(error, QuietSettings, source=str(config or "settings"))) from error


def _put(tree: Tree, name: str, value: Any) -> None:
    *groups, field = (part.strip() for part in name.split("."))
    for group in groups:
        tree = tree.setdefault(group, {})
        if not isinstance(tree, dict):
            raise ConfigurationError(f"{name}: {group} is not a group of settings")
    tree[field] = value


def _read(path: Path) -> Tree:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"cannot read the settings file {path}: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{path} should hold named settings such as 'thought: {{tokens: 4}}'")
    return tree
