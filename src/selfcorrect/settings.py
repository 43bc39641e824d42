"""Settings from a YAML or TOML file and from dotted overrides, with errors that name the field and the right one."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from selfcorrect.errors import ConfigurationError
from selfcorrect.setting_groups import explain, groups_in, kinds_in

Model = TypeVar("Model", bound=BaseModel)

# A YAML loader that reads 2e-4 as a number, as YAML 1.2 does; PyYAML's own reads it as text.


class Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` with YAML 1.2's floats."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


Tree = dict[str, Any]


def load_settings(path: Path, base: Model, *, overrides: Sequence[str] = ()) -> Model:
    """The settings in `path`, over those of `base`, under `overrides` such as "score.alpha=5".

    Raises:
        ConfigurationError: the file cannot be read, or a field in it or in an override is unknown or ill-typed; the
            message names every such field, and the nearest right name.
    """
    return combine(base, _read_tree(Path(path)), overrides, source=str(path))


def settled(
    base: Model, *, config: Path | None, chosen: Mapping[str, Any], overrides: Sequence[str], source: str = "settings"
) -> Model:
    """`base`, changed by the file `config`, changed by the options `chosen` (dotted names; None is not chosen), changed
    by `overrides`: what every command that takes settings does. `source` names them in errors where there is no file.

    Raises:
        ConfigurationError: as `load_settings` does.
    """
    tree = {} if config is None else _read_tree(Path(config))
    for name, value in chosen.items():
        if value is not None:
            tree = _merged(tree, _nested(name, value), type(base))
    return combine(base, tree, overrides, source=source if config is None else str(config))


def combine(base: Model, tree: Mapping[str, Any], overrides: Sequence[str], *, source: str = "settings") -> Model:
    """`base`, changed by the nested fields of `tree`, changed by `overrides`; `source` names the tree in errors."""
    changes: Tree = {}
    for override in overrides:
        changes = _merged(changes, _override_tree(override), type(base))
    merged = _merged(_merged(_as_tree(base), tree, type(base)), changes, type(base))
    try:
        return type(base).model_validate(merged, context={"source": source})
    except ValidationError as error:
        raise ConfigurationError(explain(error, type(base), source=source)) from error


def settings_as_yaml(settings: BaseModel) -> str:
    """The complete settings as `load_settings` reads them."""
    return yaml.safe_dump(_as_tree(settings), sort_keys=False, allow_unicode=True)


def differing_fields(left: BaseModel, right: BaseModel) -> list[str]:
    """Dotted names of the fields in which two settings differ."""
    a, b = dict(_leaves(_as_tree(left))), dict(_leaves(_as_tree(right)))
    return [name for name in {**a, **b} if name not in a or name not in b or a[name] != b[name]]


def value_of(settings: BaseModel, name: str) -> Any:
    """The value of the setting with this dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _as_tree(settings: BaseModel) -> Tree:
    return settings.model_dump(mode="json")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any], model: type[BaseModel] | None) -> Tree:
    """`base` with `changes` in it, both trees of `model` (None: of anything). Where it may hold groups of several
    kinds, one of another kind replaces the one in `base`: their fields have nothing in common."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        if not isinstance(old, Mapping) or not isinstance(value, Mapping):
            merged[name] = value
            continue
        field = None if model is None else model.model_fields.get(name)
        several, group = (False, None) if field is None else _kinds(field)
        if several and "kind" in old and value.get("kind", old["kind"]) != old["kind"]:
            merged[name] = dict(value)
        else:
            merged[name] = _merged(old, value, group)
    return merged


def _kinds(field: FieldInfo) -> tuple[bool, type[BaseModel] | None]:
    """Whether a field may hold groups of several kinds, and the group if it is always the same. Those of a registry are
    counted, not loaded: most of them have nothing to do with the run."""
    by_kind = kinds_in(field)
    if by_kind is not None and len(by_kind.registry) > 1:
        return True, None
    groups = groups_in(field)
    return len(groups) > 1, groups[0] if len(groups) == 1 else None


def _override_tree(override: str) -> Tree:
    name, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in name.split(".")):
        raise ConfigurationError(f"--set {override}: expected NAME=VALUE, such as score.alpha=5")
    try:
        value = yaml.load(text, Loader) if text else ""
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--set {override}: the value cannot be read ({_where(error)})") from error
    return _nested(name, value)


def _nested(name: str, value: Any) -> Tree:
    """The tree that holds `value` under the dotted `name`."""
    tree: Any = value
    for part in reversed(name.split(".")):
        tree = {part.strip(): tree}
    return dict(tree)


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
