"""How tasks are named on the command line: "countdown", "countdown-5", or the path of a JSON Lines file."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.tasks.problem import Task
    from selfcorrect.training.settings import CountdownSettings, JsonlSettings

_COUNTDOWN = re.compile(r"countdown(?:-([3-6]))?")


def task_settings(name: str, *, words: bool = False) -> "CountdownSettings | JsonlSettings":
    """The settings that `name` stands for; `words` asks Countdown problems in English sentences.

    Raises:
        ConfigurationError: it stands for nothing.
    """
    from selfcorrect.training.settings import CountdownSettings, JsonlSettings

    countdown = _COUNTDOWN.fullmatch(name)
    if countdown:
        return CountdownSettings(numbers=int(countdown[1] or 4), words=words)
    if name.endswith((".jsonl", ".json")) or Path(name).is_file():
        return JsonlSettings(path=Path(name))
    raise ConfigurationError(
        f"unknown task {name!r}: expected countdown, countdown-3 to countdown-6, or the path of a .jsonl file"
    )


def open_task(name: str, *, words: bool = False) -> "Task":
    """The task that `name` stands for; see `task_settings`.

    Raises:
        ConfigurationError: it stands for nothing.
        TaskError: its file is unusable.
    """
    return task_settings(name, words=words).open()
