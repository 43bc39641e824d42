"""`selfcorrect settings`: every setting of a run, with its type, its default and what it means."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.padding import Padding
from rich.text import Text

from selfcorrect.cli.console import reporting, results, write_json
from selfcorrect.cli.options import PRESET_NAMES, AsJson, offering
from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import nearest
from selfcorrect.training.arms.registry import ARMS

if TYPE_CHECKING:
    from pydantic import BaseModel


def _known() -> list[str]:
    """What the command can be asked about: presets, and commands that take settings."""
    arms = [name for name, spec in ARMS.items() if spec.command is not None]
    return [*PRESET_NAMES, "compare", "adapt", "quiet-star", *arms]


def settings_command(
    about: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PRESET|COMMAND]",
            help="A preset, or a command that takes settings: score, train star, quiet-star, adapt, compare, ... By "
            "default the settings of train, with the preset full.",
            autocompletion=offering(_known),
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--json-schema", help="Write the JSON Schema of the settings file, for editors.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Every setting: name, type, default and meaning. Set them with --set NAME=VALUE, or in the file of --config."""
    with reporting(as_json=as_json):
        if schema and as_json:
            raise ConfigurationError("--json-schema is JSON already: leave --json away")
        values, title = _asked_for(" ".join(about or ()))
        if schema:
            write_json(type(values).model_json_schema())
            return
        rows = list(setting_rows(values))
        if as_json:
            write_json([{"name": row.name, "type": row.kind, "default": row.default, "says": row.says} for row in rows])
            return
        results.print(Text(title, style="italic"))
        _show(rows)


def _asked_for(about: str) -> "tuple[BaseModel, str]":
    """The settings that are meant, with their values, and a title.

    Raises:
        ConfigurationError: `about` is neither a preset nor a command with settings.
    """
    name = about.removeprefix("selfcorrect ").removeprefix("train ").split(" --")[0].strip()
    if name == "quiet-star":
        from selfcorrect.training.quiet_star.settings import QuietSettings

        return QuietSettings(), "settings of selfcorrect train quiet-star"
    if name == "adapt":
        from selfcorrect.training.adapt import AdaptSettings

        return AdaptSettings(), "settings of selfcorrect adapt"
    from selfcorrect.training.settings import PRESETS

    if name in PRESETS and not about.startswith("train "):
        return PRESETS[name], f"preset {name}: settings of selfcorrect demo, train ARM and compare"
    if name in ("", "train") or (name in ARMS and ARMS[name].command is not None):
        command = " ".join(filter(None, ["train", name.removeprefix("train")]))
        return PRESETS["full"], f"settings of selfcorrect {command}, with the preset full (a language model has lm)"
    if name in ("demo", "compare"):
        return PRESETS["demo"], f"settings of selfcorrect {name}, with the preset demo"
    raise ConfigurationError(
        f"{about!r} is no preset and no command with settings{nearest(name, _known())}; there are {', '.join(_known())}"
    )


# Rows from the models that read the settings.


@dataclass(frozen=True)
class SettingRow:
    """One setting.

    Attributes:
        name: dotted, as --set takes it.
        kind: its type, in words of Python.
        default: its value where nothing is set, as plain data.
        says: what it means, one paragraph.
    """

    name: str
    kind: str
    default: Any
    says: str


def setting_rows(values: "BaseModel", prefix: str = "") -> Iterator[SettingRow]:
    """Every setting of `values`, groups opened where they are set, in the order in which they are declared."""
    from pydantic import BaseModel

    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            yield from setting_rows(value, f"{prefix}{name}.")
            continue
        yield SettingRow(prefix + name, _kind(field.annotation), _plain(value), _says(type(values), name))


def _kind(annotation: Any) -> str:
    """A type as people write it: "int or None", "'auto' or 'cpu'"."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if re.match(r"typing\.Literal", str(annotation)):
        return " or ".join(repr(part) for part in get_args(annotation))
    if type(None) in get_args(annotation):
        return " or ".join([*map(_kind, parts), "None"])
    if str(annotation).startswith("typing.Annotated"):
        return _kind(parts[0])
    if " | " in str(annotation) or "Union" in str(annotation):
        return " or ".join(map(_kind, parts))
    name = getattr(annotation, "__name__", "") if not parts else ""
    return name or re.sub(r"[a-z_]+\.(?=[\w.]*[A-Za-z])", "", str(annotation))


def _says(model: "type[BaseModel]", name: str) -> str:
    """What a setting says of itself: in the model, in one that it extends, or in the group that can stand there."""
    from pydantic import BaseModel

    if name == "kind":
        return "Which of its kind this group is; another kind has other settings."
    bases = [base for base in model.__mro__ if name in getattr(base, "model_fields", {})]
    told = [base.model_fields[name].description for base in bases]  # type: ignore[attr-defined]
    annotation = model.model_fields[name].annotation
    groups = [part for part in (annotation, *get_args(annotation)) if isinstance(part, type)]
    told += [inspect.getdoc(group) for group in groups if issubclass(group, BaseModel)]
    return " ".join(next((text for text in told if text), "").split())


def _plain(value: Any) -> Any:
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _show(rows: list[SettingRow]) -> None:
    """Each setting on a line with its type and default, and what it means below."""
    for row in rows:
        default = "None" if row.default is None else json.dumps(row.default, ensure_ascii=False)
        results.print(Text.assemble((row.name, "bold"), ("  " + row.kind, "dim"), f" = {default}"))
        results.print(Padding(Text(row.says), (0, 0, 0, 4), expand=False))
