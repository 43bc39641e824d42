"""Groups of settings: strict, frozen, documented field by field, of one kind or of a registry's; and what is wrong with
one, in words that teach. `selfcorrect.settings` reads them."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args

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
        groups = groups_in(field) if field is not None else []
        by_kind = None if field is None else kinds_in(field)
    return owner, path


def groups_in(field: FieldInfo) -> list[type[BaseModel]]:
    """The settings groups a field may hold."""
    by_kind = kinds_in(field)
    if by_kind is not None:
        return list(by_kind.registry.values())
    candidates = [field.annotation, *get_args(field.annotation)]
    return [group for group in candidates if isinstance(group, type) and issubclass(group, BaseModel)]


def kinds_in(field: FieldInfo) -> "ByKind | None":
    return next((found for found in field.metadata if isinstance(found, ByKind)), None)


def _kind(group: type[BaseModel]) -> Any:
    field = group.model_fields.get("kind")
    return None if field is None else field.default


def _tags(model: type[BaseModel], path: list[str]) -> str:
    field = model.model_fields[path[-1]]
    return ", ".join(repr(_kind(group)) for group in groups_in(field))


_NEAR, _VERY_NEAR = 0.6, 0.8
"""How alike two names must be, by `difflib`, for one to be told for the other: in one group, and of other groups."""


def _nearest(path: list[str], owner: type[BaseModel], model: type[BaseModel]) -> str:
    """A hint: the same name for another kind of the group, else one in the group that is very near, else the same name
    elsewhere, else the nearest in the group, else one that is very near: of another kind of the group, then anywhere.
    Else what the group knows."""
    wrong, prefix = path[-1], "".join(f"{part}." for part in path[:-1])
    named = list(_names(model))
    named.reverse()  # of one name at one depth, the first group counts
    named.sort(key=_depth)
    everywhere = {dotted.rpartition(".")[2]: (dotted, group) for dotted, group in named}
    of_its_kinds = {dotted.removeprefix(prefix): group for dotted, group in named if _is_in(dotted, prefix)}
    if wrong in of_its_kinds:
        return f" for kind {_kind(owner)!r}; it needs {prefix}kind: {_kind(of_its_kinds[wrong])}"
    cutoff = _VERY_NEAR if wrong in everywhere else _NEAR
    if siblings := difflib.get_close_matches(wrong, owner.model_fields, n=1, cutoff=cutoff):
        return f"; did you mean {prefix}{siblings[0]}?"
    if wrong in everywhere:
        return f"; did you mean {everywhere[wrong][0]}?"
    if others := difflib.get_close_matches(wrong, of_its_kinds, n=1, cutoff=_VERY_NEAR):
        return f"; did you mean {prefix}{others[0]}, of {prefix}kind: {_kind(of_its_kinds[others[0]])}?"
    if anywhere := difflib.get_close_matches(wrong, everywhere, n=1, cutoff=_VERY_NEAR):
        return f"; did you mean {everywhere[anywhere[0]][0]}?"
    return f"; known here: {', '.join(prefix + name for name in owner.model_fields)}"


def _is_in(dotted: str, prefix: str) -> bool:
    """Whether a setting is of the group with this prefix, and of none below it."""
    return dotted.startswith(prefix) and "." not in dotted.removeprefix(prefix)


def dotted_names(model: type[BaseModel]) -> list[str]:
    """Every setting of `model` by its dotted name, as --set takes it; groups themselves are left out."""
    return [name for name, owner in _names(model) if not groups_in(owner.model_fields[name.rpartition(".")[2]])]


def _depth(named: tuple[str, type[BaseModel]]) -> int:
    """Sorts the deepest names first."""
    return -named[0].count(".")


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every field's dotted name and the group it is in."""
    for name, field in model.model_fields.items():
        yield prefix + name, model
        for group in groups_in(field):
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
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes, and with it transformers


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
