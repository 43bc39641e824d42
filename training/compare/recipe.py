"""A recipe: a comparison on a real model as a folder that one command carries out.

FOLDER/settings.yaml    settings of every arm, over the preset, as `selfcorrect train --config` takes them
FOLDER/recipe.yaml      which arms are compared, how often, and on what they are evaluated
FOLDER/README.md        whether it was run, and what came of it
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, field_validator

from selfcorrect.errors import ConfigurationError
from selfcorrect.setting_groups import ByKind, Count, Positive, Settings
from selfcorrect.settings import load_settings, settled
from selfcorrect.tasks.registry import TASKS, TaskSettings
from selfcorrect.training.arms.registry import arm_specs
from selfcorrect.training.arms.supervised.settings import Form
from selfcorrect.training.compare.comparison import Comparison, Exam
from selfcorrect.training.compare.warm_ups import after_warm_ups
from selfcorrect.training.runs.opening import preset_over
from selfcorrect.training.settings import PRESETS, RunSettings

SETTINGS, RECIPE = "settings.yaml", "recipe.yaml"


class ExamSettings(Settings):
    """A further task that every arm is evaluated on."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9+.-]*$")
    """Of its files and tables."""
    task: Annotated[TaskSettings, ByKind(TASKS)]
    problems: PositiveInt = 2000
    """How many held-out problems; all there are, if it holds out fewer."""
    needs_file: bool = False
    """It is left out unless its file is given, for data that nobody publishes."""


class Recipe(Settings):
    """What recipe.yaml holds."""

    preset: str = "lm"
    """What settings.yaml changes."""
    arms: list[str] = Field(min_length=1)
    """In the order of the tables, and of training."""
    reference: str | None = None
    """The arm that others are tested against; None is score where it is among them, else the last."""
    arm_settings: dict[str, list[str]] = Field(default_factory=dict)
    """What single arms change, such as {pag: [score.alpha=1]}, and warm-ups ("warm-up", "warm-up-verdicts")."""
    seeds: PositiveInt = 1
    """Of training: 0, 1, ..."""
    problems: PositiveInt = 2000
    """Held-out problems of the task of training; all there are, if it holds out fewer."""
    exams: list[ExamSettings] = Field(default_factory=list)
    """Further tasks of the evaluation."""
    temperature: Positive = 0.7
    """Of the second evaluation; the first is greedy."""
    at_once: PositiveInt = 1
    """Arms that are trained side by side, each in a process of its own."""
    equal_budgets: bool = True
    """Whether arms that would not cost the same are refused."""
    warm_up: list[Form] = Field(default_factory=list)
    """Forms of `train sft` that come first, one after the other, as the settings' group sft says: [attempt] for a model
    that solves nothing yet, [attempt, verdicts] where arms judge themselves."""

    @field_validator("warm_up")
    @classmethod
    def _each_once(cls, forms: list[Form]) -> list[Form]:
        if len(set(forms)) < len(forms):
            raise ValueError(f"each form once, got {', '.join(forms)}")
        return forms


class Chosen(Settings):
    """What a user changes of a recipe; None leaves it.

    `minutes` bounds the training of each reinforced arm.
    """

    model: str | None = None
    data: Mapping[str, Path] = Field(default_factory=dict)
    arms: list[str] | None = None
    seeds: PositiveInt | None = None
    problems: PositiveInt | None = None
    minutes: Positive | None = None
    steps: Count | None = None
    overrides: list[str] = Field(default_factory=list)


def read_recipe(folder: Path) -> Recipe:
    """The recipe in `folder`.

    Raises:
        ConfigurationError: there is none, or something in it is unknown or ill-typed.
    """
    missing = [name for name in (SETTINGS, RECIPE) if not (folder / name).is_file()]
    if missing:
        raise ConfigurationError(
            f"{folder} is no recipe: there is no {' and no '.join(missing)} in it; a recipe is a folder such as those "
            "of recipes/ in the repository"
        )
    return load_settings(folder / RECIPE, Recipe(arms=["base"]))


def comparison_of(folder: Path, recipe: Recipe, chosen: Chosen, out: Path) -> Comparison:
    """The comparison in `out` that `recipe`, which is that of `folder`, makes of what is `chosen`.

    Raises:
        ConfigurationError: a setting, an arm or a kind of data is unknown.
    """
    settings, warm_ups = after_warm_ups(_settings(folder, recipe, chosen), recipe.warm_up, recipe.arm_settings, out)
    specs = arm_specs(recipe.arms if chosen.arms is None else chosen.arms)
    overrides = {arm: list(changes) for arm, changes in recipe.arm_settings.items() if arm not in warm_ups}
    if unknown := [arm for arm in overrides if arm not in recipe.arms]:
        raise ConfigurationError(
            f"{folder / RECIPE}: arm_settings of {', '.join(unknown)}, which are none of its arms and warm-ups"
        )
    for spec in specs:
        if chosen.minutes is not None and spec.has_checkpoints:
            overrides.setdefault(spec.name, []).append(f"stop_after_minutes={chosen.minutes}")
    exams = [exam for exam in recipe.exams if not exam.needs_file or exam.task.kind in chosen.data]
    _refuse_unused(chosen.data, [settings.task.kind, *(exam.task.kind for exam in recipe.exams)])
    least = chosen.problems or recipe.problems
    return Comparison(
        arm_specs=specs,
        settings=settings,
        seeds=range(chosen.seeds or recipe.seeds),
        problems=least,
        temperature=recipe.temperature,
        overrides=overrides,
        allow_unequal=not recipe.equal_budgets or chosen.minutes is not None,
        more_exams=[
            Exam(exam.name, _with_file(exam.task, chosen.data), min(exam.problems, chosen.problems or exam.problems))
            for exam in exams
        ],
        warm_ups=warm_ups,
    )


def refuse_absent_files(folder: Path, comparison: Comparison) -> None:
    """Raise a ConfigurationError if a file that a task of the recipe in `folder` reads is not there: known before the
    first process is started."""
    for task in (comparison.settings.task, *(exam.task for exam in comparison.more_exams)):
        path = None if task.file is None else getattr(task, task.file)
        if path is not None and not Path(path).exists():
            raise ConfigurationError(
                f"{folder} reads {path}, which is not there: README.md beside the recipe says where it comes from, and "
                f"--data {task.kind}=FILE reads another"
            )


def left_out(recipe: Recipe, data: Mapping[str, Path]) -> list[str]:
    """The exams that are left out because their file was not given."""
    return [exam.name for exam in recipe.exams if exam.needs_file and exam.task.kind not in data]


def reference_of(recipe: Recipe, arms: Sequence[str]) -> str:
    """The arm of `arms` that the others are tested against."""
    asked = recipe.reference if recipe.reference in arms else None
    return asked or ("score" if "score" in arms else arms[-1])


def _settings(folder: Path, recipe: Recipe, chosen: Chosen) -> RunSettings:
    if recipe.preset not in PRESETS:
        raise ConfigurationError(f"{folder / RECIPE}: there is no preset {recipe.preset!r}; there are {[*PRESETS]}")
    options: dict[str, Any] = {"policy.model": chosen.model}
    if chosen.steps is not None:
        options["score.stage_two_steps"] = chosen.steps

    def changed(base: RunSettings) -> RunSettings:
        return settled(base, config=folder / SETTINGS, chosen=options, overrides=chosen.overrides)

    settings = changed(preset_over(recipe.preset, changed))
    return settings.model_copy(update={"task": _with_file(settings.task, chosen.data)})


def _with_file(task: TaskSettings, data: Mapping[str, Path]) -> TaskSettings:
    """`task`, reading the file that was given for its kind."""
    path = data.get(task.kind)
    if path is None or task.file is None:
        return task
    return type(task).model_validate({**task.model_dump(mode="json", exclude_unset=True), task.file: str(path)})


def _refuse_unused(data: Mapping[str, Path], kinds: Sequence[str]) -> None:
    if unused := [kind for kind in data if kind not in kinds]:
        raise ConfigurationError(f"--data {', '.join(unused)}: the recipe has no such task; it has {', '.join(kinds)}")


def data_files(given: Sequence[str], kinds: Sequence[str]) -> dict[str, Path]:
    """What `--data` names: KIND=FILE, or a folder whose files are named after kinds, as HumanEval.jsonl is.

    Raises:
        ConfigurationError: a file or folder is not there, or the folder holds none of `kinds`.
    """
    found: dict[str, Path] = {}
    for text in given:
        kind, equals, name = text.partition("=")
        path = Path(name if equals else text)
        if not path.exists():
            raise ConfigurationError(f"--data {text}: there is no {path}")
        if equals:
            found[kind] = path
            continue
        named = {file.name.lower().partition(".")[0]: file for file in sorted(path.glob("*.*")) if file.is_file()}
        inside = {kind: named[kind] for kind in kinds if kind in named}
        if not inside:
            raise ConfigurationError(f"--data {text}: no file in it is named after {', '.join(kinds)}")
        found |= inside
    return found


def kinds_of(folder: Path, recipe: Recipe) -> list[str]:
    """The kinds of tasks that a recipe needs data of."""
    trained = _settings(folder, recipe, Chosen()).task.kind
    return list(dict.fromkeys([trained, *(exam.task.kind for exam in recipe.exams)]))
