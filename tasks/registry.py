"""Tasks by name: the settings of each kind, what others need to know of it, and tasks of a user's own.

A new task is a file with a `TaskSettings` and one line in `TASKS`. A user's own needs no line: a class, a function that
returns a task, or a task, as `package.module:Name`; the parameters of the class are its settings.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_type_hints

from pydantic import (
    Field,
    PrivateAttr,
    PydanticSchemaGenerationError,
    TypeAdapter,
    create_model,
    model_validator,
)

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import Registry, called, shown_kind
from selfcorrect.rewards.checkers import as_checker
from selfcorrect.setting_groups import Settings
from selfcorrect.tasks.problem import Problem, Task


class TaskSettings(Settings):
    """Base of the settings of one kind of task; the class says what others need to know of the kind.

    Attributes:
        prompts: name of the words around its problems, for policies that read English; see `selfcorrect.agents`.
        separator: what stands between the steps of an answer.
        example: a question of this kind, in its usual size, for people; "" if there is no typical one.
        number: the field that `NAME-4` sets, if any.
        file: the field that `NAME:FILE` sets, if any.
        columns_field: the field that `--map COLUMN=FIELD` sets, if any.
        named_fields: fields that can follow the name on the command line, as in `NAME,field=value`.
    """

    prompts: ClassVar[str] = "plain"
    separator: ClassVar[str] = "\n"
    example: ClassVar[str] = ""
    number: ClassVar[str | None] = None
    file: ClassVar[str | None] = None
    columns_field: ClassVar[str | None] = None
    named_fields: ClassVar[tuple[str, ...]] = ()

    kind: str
    """Its name in `TASKS`, or a user's own `package.module:Name`."""

    @property
    def example_of_size(self) -> str:
        """`example`, if problems of these settings are as large as it is; else ""."""
        usual = self.number is None or getattr(self, self.number) == type(self).model_fields[self.number].default
        return self.example if usual else ""

    def open(self) -> Task:
        """The task itself; reads its files.

        Raises:
            TaskError: a file or some of its rows are unusable.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how its task is opened")

    def worded(self, words: bool) -> Self:
        """These settings for a policy that does or does not read English sentences, where the kind knows both."""
        return self

    @property
    def prompts_name(self) -> str:
        """`prompts`, unless these settings ask in a form of their own."""
        return self.prompts

    @property
    def title(self) -> str:
        """For reports, in the middle of a sentence: "countdown with 4 numbers"."""
        return self.kind

    @classmethod
    def spellings(cls, name: str) -> str:
        """How the kind is named on the command line, for help and errors."""
        return f"{name}:FILE" if cls.file else name

    @classmethod
    def recognise(cls, question: str, *, words: bool) -> Problem | None:
        """`question`, typed by a person, as a problem of this kind; None if it is none."""
        return None


class ProceduralSettings(TaskSettings):
    """Base of tasks whose problems are made up, and asked in English sentences or in a few symbols."""

    prompts: ClassVar[str] = "math"
    separator: ClassVar[str] = " ; "

    words: bool = False
    """Ask in English sentences, for general language models."""

    def worded(self, words: bool) -> Self:
        return self.model_copy(update={"words": words})

    @property
    def prompts_name(self) -> str:
        return self.prompts if self.words else "short"

    @classmethod
    def spellings(cls, name: str) -> str:
        if cls.number is None:
            return name
        bounds = {type(bound).__name__: bound for bound in cls.model_fields[cls.number].metadata}
        return f"{name}, {name}-{bounds['Ge'].ge} to {name}-{bounds['Le'].le}"


# A task of a user's own.


def as_task(found: Any, what: str = "the task") -> Task:
    """A task as it is. One whose `checker` is a function, or that has no name, is copied and completed.

    Raises:
        ConfigurationError: it is no task; `what` names it.
    """
    if isinstance(found, type) or not callable(getattr(found, "problems", None)):
        raise ConfigurationError(f"{what} is no task: expected {_TASK}, got {shown_kind(found)}")
    if not hasattr(found, "checker"):
        raise ConfigurationError(f"{what} has no checker: expected {_TASK}")
    _refuse_other_parameters(found.problems, what)
    lacking: dict[str, Any] = {}
    if not isinstance(getattr(found, "name", None), str):
        lacking["name"] = type(found).__name__
    given = _plain_function(found) or found.checker
    checker = as_checker(given, f"{what}, checker")
    if checker is not given:
        lacking["checker"] = checker
    if not lacking:
        return found  # type: ignore[no-any-return]
    completed = copy.copy(found)
    for name, value in lacking.items():
        object.__setattr__(completed, name, value)
    return completed  # type: ignore[no-any-return]


def _refuse_other_parameters(problems: Callable[..., Any], what: str) -> None:
    try:
        inspect.signature(problems).bind("test", 1, seed=0)
    except TypeError as error:
        raise ConfigurationError(
            f"{what}: problems cannot be called as problems(split, count, seed=0): {error}"
        ) from error


def _plain_function(found: Any) -> Any:
    """The function that a class holds as `checker = judge`, which Python would take for a method; else None."""
    held = inspect.getattr_static(found, "checker")
    plain = inspect.isfunction(held) and next(iter(inspect.signature(held).parameters), "self") != "self"
    return held if plain else None


_TASK = "an object with problems(split, count, *, seed=0) and a checker"


def _own(address: str, found: Any) -> type[TaskSettings]:
    """The settings of what stands at `address`: of a class or function its parameters, of a task none."""
    kind: Any = (Literal[address], address)
    if isinstance(found, type) and issubclass(found, TaskSettings):
        return create_model(found.__name__, __base__=found, __module__=__name__, kind=kind)
    if isinstance(found, type) and not callable(getattr(found, "problems", None)):
        raise ConfigurationError(f"{address} is no task: {shown_kind(found)} has no problems(split, count, *, seed=0)")
    makes = isinstance(found, type) or inspect.isfunction(found)
    fields = _parameters(address, found) if makes else {}
    own = create_model(address.rpartition(":")[2], __base__=OwnSettings, __module__=__name__, kind=kind, **fields)
    own.made_by = found if makes else lambda: found
    own.prompts = getattr(found, "prompts", TaskSettings.prompts)
    return own


class OwnSettings(TaskSettings):
    """The settings of a task of a user's own; subclasses add the parameters of its class."""

    made_by: ClassVar[Callable[..., Any]]

    @model_validator(mode="before")
    @classmethod
    def _told_what_needs_them(cls, values: Any) -> Any:
        needed = [name for name, field in cls.model_fields.items() if field.is_required()]
        missing = [name for name in needed if isinstance(values, Mapping) and name not in values]
        if missing:
            address, first = cls.model_fields["kind"].default, missing[0]
            raise ConfigurationError(
                f"task.{first}: missing; {address} is {shown_kind(cls.made_by)}, which is called to make the task, and "
                f"its {' and '.join(map(repr, missing))} must be given: --task {address},{first}=VALUE, or "
                f"task.{first} in a file of settings. What it makes must be {_TASK}"
            )
        return values

    def open(self) -> Task:
        made = called(self.kind, type(self).made_by, **self.parameters)
        task = copy.copy(as_task(made, self.kind))
        if hasattr(task, "__dict__"):
            object.__setattr__(task, "problems", _Drawn(self.kind, task.problems))
        return task

    @property
    def parameters(self) -> dict[str, Any]:
        """What its class or function is given."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}


@dataclass(frozen=True)
class _Drawn:
    """`problems` of a user's task at `address`, with words for what it raises and for what are no problems."""

    address: str
    problems: Callable[..., Sequence[Any]]

    def __call__(self, split: str, count: int, *, seed: int = 0) -> Sequence[Problem]:
        drawn = called(
            f"{self.address}: problems({split!r}, {count}, seed={seed})", self.problems, split, count, seed=seed
        )
        wrong = (
            drawn
            if not isinstance(drawn, Sequence)
            else next((one for one in drawn if not isinstance(one, Problem)), None)
        )
        if wrong is not None:
            raise ConfigurationError(
                f"{self.address}: problems must return a list of selfcorrect.Problem(id=..., prompt=..., "
                f"reference=..., checker=...), got {shown_kind(wrong)}" + (" in it" if wrong is not drawn else "")
            )
        return drawn


def _parameters(address: str, made_by: Callable[..., Any]) -> dict[str, Any]:
    """Fields for the parameters of a user's class or function. YAML has no paths: conversions are allowed."""
    try:
        hints = get_type_hints(vars(made_by).get("__init__", made_by) if isinstance(made_by, type) else made_by)
    except NameError:  # an annotation that only type checkers can read
        hints = {}
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(made_by).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigurationError(f"{address}: the parameter {parameter.name!r} can only be given by position")
        if hasattr(OwnSettings, parameter.name) or parameter.name in OwnSettings.model_fields:
            raise ConfigurationError(
                f"{address}: call the parameter {parameter.name!r} otherwise: settings have that name"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = _field(hints.get(parameter.name, Any), default)
    return fields


def _field(hint: Any, default: Any) -> tuple[Any, Any]:
    """A setting of the type `hint`, or of any type where a file of settings holds nothing of it: a class of the
    user's."""
    try:
        TypeAdapter(Annotated[hint, Field(strict=False)])
    except (PydanticSchemaGenerationError, RuntimeError):  # the latter of Any, which converts nothing
        return Any, Field(default)
    return hint, Field(default, strict=False)


class GivenTask(TaskSettings):
    """The settings of a task that was made in Python: they only hold it."""

    _task: Task | None = PrivateAttr(None)

    kind: str = f"{__name__}:GivenTask"
    name: str
    """Of the task."""

    @classmethod
    def of(cls, task: Any) -> Self:
        """Raises a ConfigurationError if `task` is none."""
        opened = as_task(task)
        given = cls(name=opened.name)
        given._task = opened
        return given

    def open(self) -> Task:
        if self._task is None:
            raise ConfigurationError(f"this run was made with a task object ({self.name}): give it again as task=...")
        return self._task

    @property
    def prompts_name(self) -> str:
        return str(getattr(self._task, "prompts", self.prompts))

    @property
    def title(self) -> str:
        return self.name


TASKS: Registry[type[TaskSettings]] = Registry(
    "task",
    {
        "countdown": "selfcorrect.tasks.countdown:CountdownSettings",
        "equations": "selfcorrect.tasks.equations:EquationsSettings",
        "jsonl": "selfcorrect.tasks.jsonl:JsonlSettings",
        "hub": "selfcorrect.tasks.published:HubSettings",
        "gsm8k": "selfcorrect.tasks.published:Gsm8kSettings",
        "math": "selfcorrect.tasks.published:MathSettings",
        "mbpp": "selfcorrect.tasks.code_formats:MbppSettings",
        "mbpp+": "selfcorrect.tasks.code_formats:MbppPlusSettings",
        "mbpp-repair": "selfcorrect.tasks.code_formats:MbppRepairSettings",
        "humaneval": "selfcorrect.tasks.code_formats:HumanEvalSettings",
        "humaneval+": "selfcorrect.tasks.code_formats:HumanEvalPlusSettings",
        "apps": "selfcorrect.tasks.code_formats:AppsSettings",
        "livecodebench": "selfcorrect.tasks.code_formats:LiveCodeBenchSettings",
        "reasoning-gym": "selfcorrect.tasks.reasoning_gym:ReasoningGymSettings",
        "verifiers": "selfcorrect.tasks.tasksets:VerifiersSettings",
    },
    accept=_own,
)
"""The settings of each kind of task, by name."""
