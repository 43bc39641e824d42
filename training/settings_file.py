"""Settings from a YAML or TOML file and from dotted overrides, with errors that name the field and the right one."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.settings import RunSettings
from selfcorrect.training.settings_errors import explain
from selfcorrect.training.yaml_numbers import Loader

Tree = dict[str, Any]


def read_settings(path: Path, *, overrides: Sequence[str] = (), base: RunSettings | None = None) -> RunSettings:
    """The settings in `path`, over those of `base` (default: the defaults), under `overrides` such as "score.alpha=5".

    Raises:
        ConfigurationError: the file cannot be read, or a field in it or in an override is unknown or ill-typed; the message
            names every such field, and the nearest right name.
    """
    return combine(base or RunSettings(), _read_tree(Path(path)), overrides, source=str(path))


def combine(
    base: RunSettings, tree: Mapping[str, Any], overrides: Sequence[str], *, source: str = "settings"
) -> RunSettings:
    """`base`, changed by the nested fields of `tree`, changed by `overrides`; `source` names the tree in errors."""
    merged = _merged(_as_tree(base), tree)
    for override in overrides:
        merged = _merged(merged, _override_tree(override))
    try:
        return RunSettings.model_validate(merged)
    except ValidationError as error:
        raise ConfigurationError(explain(error, RunSettings, source=source)) from error


def settings_as_yaml(settings: RunSettings) -> str:
    """The complete settings as `read_settings` reads them."""
    return yaml.safe_dump(_as_tree(settings), sort_keys=False, allow_unicode=True)


def differing_fields(left: RunSettings, right: RunSettings) -> list[str]:
    """Dotted names of the fields in which two settings differ."""
    a, b = dict(_leaves(_as_tree(left))), dict(_leaves(_as_tree(right)))
    return [name for name in {**a, **b} if name not in a or name not in b or a[name] != b[name]]


def _as_tree(settings: RunSettings) -> Tree:
    return settings.model_dump(mode="json")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """`base` with `changes` in it. A group of another kind replaces the one in `base`: their fields have nothing in common."""
    if "kind" in changes and changes["kind"] != base.get("kind"):
        return dict(changes)
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _override_tree(override: str) -> Tree:
    name, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in name.split(".")):
        raise ConfigurationError(f"--set {override}: expected NAME=VALUE, such as score.alpha=5")
    try:
        value = yaml.load(text, Loader) if text else ""
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--set {override}: the value cannot be read ({_where(error)})") from error
    tree: Tree = {}
    inner = tree
    *groups, field = (part.strip() for part in name.split("."))
    for group in groups:
        inner = inner.setdefault(group, {})
    inner[field] = value
    return tree


def _read_tree(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the settings file {path}: {error}") from error
    try:
        tree = tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, Loader)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no valid TOML: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is no valid YAML: {_where(error)}") from error
    if tree is None:
        raise ConfigurationError(f"{path} is empty: it should hold settings such as 'score: {{alpha: 5}}'")
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{path}: expected named settings such as 'seed: 1', got a {type(tree).__name__}")
    return tree


def _where(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return str(error)
