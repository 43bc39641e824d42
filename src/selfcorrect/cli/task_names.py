"""How tasks are named on the command line: "countdown", "countdown-5", "equations", "equations-4", or the path of a JSON Lines file."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.tasks.problem import Task
    from selfcorrect.training.task_settings import TaskSettings

_COUNTDOWN = re.compile(r"countdown(?:-([3-6]))?")
_EQUATIONS = re.compile(r"equations(?:-([2-4]))?")


def task_settings(name: str, *, words: bool = False) -> "TaskSettings":
    """The settings that `name` stands for; `words` asks procedural problems in English sentences.

    Raises:
        ConfigurationError: it stands for nothing.
    """
    from selfcorrect.training.task_settings import CountdownSettings, EquationsSettings, JsonlSettings

    countdown = _COUNTDOWN.fullmatch(name)
    if countdown:
        return CountdownSettings(numbers=int(countdown[1] or 4), words=words)
    equations = _EQUATIONS.fullmatch(name)
    if equations:
        return EquationsSettings(unknowns=int(equations[1] or 3), words=words)
    if name.endswith((".jsonl", ".json")) or Path(name).is_file():
        return JsonlSettings(path=Path(name))
    raise ConfigurationError(
        f"unknown task {name!r}: expected countdown, countdown-3 to countdown-6, equations, equations-2 to "
        "equations-4, or the path of a .jsonl file"
    )


def open_task(name: str, *, words: bool = False) -> "Task":
    """The task that `name` stands for; see `task_settings`.

    Raises:
        ConfigurationError: it stands for nothing.
        TaskError: its file is unusable.
    """
    return task_settings(name, words=words).open()
