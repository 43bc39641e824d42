"""Settings of Quiet-STaR from a file, from the command line's options and from dotted overrides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.quiet_star.folder import QuietRun
from selfcorrect.training.quiet_star.settings import QuietSettings
from selfcorrect.training.settings_errors import explain
from selfcorrect.training.yaml_numbers import Loader

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
