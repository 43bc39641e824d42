"""Settings of every kind: strict groups, read from YAML or TOML and from dotted overrides, refused in words that
teach."""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError, core_schema

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import Registry, is_address

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "path_type": "a path",
    "list_type": "a list",
    "model_type": "a group of settings",
    "model_attributes_type": "a group of settings",
    "dict_type": "a group of settings",
    "finite_number": "a finite number",
}


def explain(error: ValidationError, model: type[BaseModel], *, source: str) -> str:
    """All faults of `error`, one a line, each with its field's dotted path."""
    told = [details for details in error.errors() if not _of_another_member(details)]
    faults = list(dict.fromkeys(_fault(details, model) for details in told))
    count = "a setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
    return "\n".join([f"{source}: {count}", *(f"  {fault}" for fault in faults)])


def _of_another_member(details: ErrorDetails) -> bool:
    """Whether this only says that a group of settings is none of the words that could stand in its place."""
    return details["type"] == "literal_error" and isinstance(details["input"], Mapping)


def _fault(details: ErrorDetails, model: type[BaseModel]) -> str:
    owner, path = _walk(model, [str(part) for part in details["loc"]])
    name = ".".join(path)
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        return f"{name}: unknown{_nearest(path, owner, model)}"
    if kind == "missing":
        return f"{name}: missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given_kind = given.get("kind") if isinstance(given, Mapping) else given
        return (
            f"{name}.kind: expected one of {details['ctx'].get('expected_tags', _tags(owner, path))}, got "
            f"{given_kind!r}"
        )
    if kind == "value_error":
        return f"{name}: {details['ctx']['error']}" if name else str(details["ctx"]["error"])
    if kind in _EXPECTED:
        return f"{name}: expected {_EXPECTED[kind]}, got {_shown(given)}"
    expected = details["msg"].replace("Input should be", "expected").replace("valid ", "")
    return f"{name}: {expected[0].lower()}{expected[1:]}, got {_shown(given)}"


def _walk(model: type[BaseModel], loc: list[str]) -> tuple[type[BaseModel], list[str]]:
    """The group the last part of `loc` belongs to, and `loc` without the names of union members that pydantic puts
    in it."""
    owner, path = model, []
    groups: list[type[BaseModel]] = [model]
    by_kind: ByKind | None = None
    for part in loc:
        if part.isdigit() and groups:  # a place in a list of groups
            path.append(part)
            continue
        member = next((group for group in groups if len(groups) > 1 and _kind(group) == part), None)
        if member is None and by_kind is not None and is_address(part):
            member = by_kind.registry.find(part)
        member = member or next((group for group in groups if group.__name__ == part), None)
        if member is not None:
            owner, groups, by_kind = member, [member], None
            continue
        field = next((group.model_fields[part] for group in groups if part in group.model_fields), None)
        owner = groups[0] if groups else owner
        if field is None and not groups:
            continue  # the name of a union member such as "list[str]"
        path.append(part)
        groups = _groups(field) if field is not None else []
        by_kind = None if field is None else _by_kind(field)
    return owner, path


def _groups(field: FieldInfo) -> list[type[BaseModel]]:
    """The settings groups a field may hold."""
    by_kind = _by_kind(field)
    if by_kind is not None:
        return list(by_kind.registry.values())
    candidates = [field.annotation, *get_args(field.annotation)]
    return [group for group in candidates if isinstance(group, type) and issubclass(group, BaseModel)]


def _by_kind(field: FieldInfo) -> "ByKind | None":
    return next((found for found in field.metadata if isinstance(found, ByKind)), None)


def _kind(group: type[BaseModel]) -> Any:
    field = group.model_fields.get("kind")
    return None if field is None else field.default


def _tags(model: type[BaseModel], path: list[str]) -> str:
    field = model.model_fields[path[-1]]
    return ", ".join(repr(_kind(group)) for group in _groups(field))


def _nearest(path: list[str], owner: type[BaseModel], model: type[BaseModel]) -> str:
    """A hint: the same name elsewhere, else the nearest in the same group, else the nearest anywhere."""
    prefix = "".join(f"{part}." for part in path[:-1])
    named = list(_names(model))
    named.reverse()  # of one name at one depth, the first group counts
    named.sort(key=_depth)
    everywhere = {dotted.rpartition(".")[2]: (dotted, group) for dotted, group in named}
    elsewhere, group = everywhere.get(path[-1], ("", model))
    if elsewhere == prefix + path[-1]:
        return f" for kind {_kind(owner)!r}; it needs {prefix}kind: {_kind(group)}"
    if elsewhere:
        return f"; did you mean {elsewhere}?"
    siblings = difflib.get_close_matches(path[-1], owner.model_fields, n=1)
    if siblings:
        return f"; did you mean {prefix}{siblings[0]}?"
    anywhere = difflib.get_close_matches(path[-1], everywhere, n=1)
    if anywhere:
        return f"; did you mean {everywhere[anywhere[0]][0]}?"
    return f"; known here: {', '.join(prefix + name for name in owner.model_fields)}"


def dotted_names(model: type[BaseModel]) -> list[str]:
    """Every setting of `model` by its dotted name, as --set takes it; groups themselves are left out."""
    return [name for name, owner in _names(model) if not _groups(owner.model_fields[name.rpartition(".")[2]])]


def _depth(named: tuple[str, type[BaseModel]]) -> int:
    """Sorts the deepest names first."""
    return -named[0].count(".")


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every field's dotted name and the group it is in."""
    for name, field in model.model_fields.items():
        yield prefix + name, model
        for group in _groups(field):
            yield from _names(group, f"{prefix}{name}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# What every group of settings is: strict, frozen, documented field by field; and the ranges that numbers in them have.

Share = Annotated[float, Field(gt=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """Base of all groups of settings: no unknown names, no silent conversions, no changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class WholeSettings(Settings):
    """Base of settings that callers make in Python, never a group in others: what is wrong with them is told as errors
    of files are.

    Raises:
        ConfigurationError: a setting is unknown, ill-typed or out of range, or does not go with the others.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        # Around all validators; one that is declared as such would have some of a subclass outside of it.
        return core_schema.with_info_wrap_validator_function(cls._told, handler(source))

    @classmethod
    def _told(cls, values: Any, validated: Callable[[Any], Self], info: ValidationInfo) -> Self:
        try:
            return validated(values)
        except ValidationError as error:
            source = (info.context or {}).get("source", cls.__name__)
            raise ConfigurationError(explain(error, cls, source=source)) from error


@dataclass(frozen=True)
class ByKind:
    """Annotates a field that holds one of the groups of a registry: the one that its `kind` names, which may be a
    user's own `package.module:Name`. As in `Annotated[TaskSettings, ByKind(TASKS)]`.
    """

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(
            lambda group, info: group.model_dump(mode=info.mode), info_arg=True
        )
        return core_schema.no_info_plain_validator_function(self._validated, serialization=written)

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        """Any of the library's own kinds; a user's own `package.module:Name` has a schema of its own."""
        return {"anyOf": [handler(group.__pydantic_core_schema__) for group in self.registry.values()]}

    def _validated(self, given: Any) -> Any:
        if isinstance(given, Settings):
            return given
        if not isinstance(given, Mapping):
            raise PydanticKnownError("model_type", {"class_name": self.registry.kind})
        kind = given.get("kind")
        if not isinstance(kind, str) or not (kind in self.registry or is_address(kind)):
            names = ", ".join(map(repr, self.registry.names))
            raise PydanticCustomError(
                "union_tag_invalid", "unknown kind", {"expected_tags": f"{names}, package.module:Name"}
            )
        try:
            return self.registry.find(kind).model_validate(given)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                error.title, [_under(kind, details) for details in error.errors()]
            ) from error


def _under(kind: str, details: ErrorDetails) -> InitErrorDetails:
    """A fault of the group of that kind, placed as the members of a union are."""
    told = PydanticCustomError(details["type"], details["msg"].replace("{", "{{"), details.get("ctx") or {})
    return InitErrorDetails(type=told, loc=(kind, *details["loc"]), input=details["input"])


# A YAML loader that reads 2e-4 as a number, as YAML 1.2 does; PyYAML's own reads it as text.


class Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` with YAML 1.2's floats."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


# Settings from a YAML or TOML file and from dotted overrides, with errors that name the field and the right one.

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
    by_kind = _by_kind(field)
    if by_kind is not None and len(by_kind.registry) > 1:
        return True, None
    groups = _groups(field)
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
