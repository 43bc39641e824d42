"""What is wrong with a settings tree, in words: the field's path, what was expected, and the nearest right name."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

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
    faults = list(dict.fromkeys(_fault(details, model) for details in error.errors()))
    count = "a setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
    return "\n".join([f"{source}: {count}", *(f"  {fault}" for fault in faults)])


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
        return f"{name}.kind: expected one of {details['ctx'].get('expected_tags', _tags(model, path))}, got {given_kind!r}"
    if kind == "value_error":
        return f"{name}: {details['ctx']['error']}"
    if kind in _EXPECTED:
        return f"{name}: expected {_EXPECTED[kind]}, got {_shown(given)}"
    expected = details["msg"].replace("Input should be", "expected").replace("valid ", "")
    return f"{name}: {expected[0].lower()}{expected[1:]}, got {_shown(given)}"


def _walk(model: type[BaseModel], loc: list[str]) -> tuple[type[BaseModel], list[str]]:
    """The group the last part of `loc` belongs to, and `loc` without the names of union members that pydantic puts in it."""
    owner, path = model, []
    groups: list[type[BaseModel]] = [model]
    for part in loc:
        member = next((group for group in groups if len(groups) > 1 and _kind(group) == part), None)
        if member is not None:
            owner, groups = member, [member]
            continue
        field = next((group.model_fields[part] for group in groups if part in group.model_fields), None)
        owner = groups[0] if groups else owner
        if field is None and not groups:
            continue  # the name of a union member such as "list[str]"
        path.append(part)
        groups = _groups(field) if field is not None else []
    return owner, path


def _groups(field: FieldInfo) -> list[type[BaseModel]]:
    """The settings groups a field may hold."""
    candidates = [field.annotation, *get_args(field.annotation)]
    return [group for group in candidates if isinstance(group, type) and issubclass(group, BaseModel)]


def _kind(group: type[BaseModel]) -> Any:
    field = group.model_fields.get("kind")
    return None if field is None else field.default


def _tags(model: type[BaseModel], path: list[str]) -> str:
    field = model.model_fields[path[-1]]
    return ", ".join(repr(_kind(group)) for group in _groups(field))


def _nearest(path: list[str], owner: type[BaseModel], model: type[BaseModel]) -> str:
    """A hint: the same name elsewhere, else the nearest in the same group, else the nearest anywhere."""
    prefix = "".join(f"{part}." for part in path[:-1])
    everywhere = {dotted.rpartition(".")[2]: (dotted, group) for dotted, group in sorted(_names(model), key=_depth)}
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
