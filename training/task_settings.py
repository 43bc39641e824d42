"""Settings of the tasks that a run can be on, and how each is opened."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from selfcorrect.tasks.problem import Task
from selfcorrect.training.settings_group import Settings, Share


class CountdownSettings(Settings):
    """Procedural Countdown problems."""

    kind: Literal["countdown"] = "countdown"
    numbers: int = Field(default=4, ge=3, le=6)
    """How many numbers a problem gives."""
    words: bool = False
    """Ask in English sentences, for general language models."""

    def open(self) -> Task:
        from selfcorrect.tasks.countdown import CountdownTask

        return CountdownTask(numbers=self.numbers, words=self.words)


class EquationsSettings(Settings):
    """Procedural linear equations in positive whole numbers."""

    kind: Literal["equations"] = "equations"
    unknowns: int = Field(default=3, ge=2, le=4)
    """How many unknowns an equation has."""
    words: bool = False
    """Ask in English sentences, for general language models."""

    def open(self) -> Task:
        from selfcorrect.tasks.equations import EquationsTask

        return EquationsTask(unknowns=self.unknowns, words=self.words)


class JsonlSettings(Settings):
    """Problems from a file of {"prompt", "answer"} rows, judged by the math checker."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path = Field(strict=False)
    test_share: Share = 0.1
    """The part of the prompts that is held out."""

    def open(self) -> Task:
        """Reads the file.

        Raises:
            TaskError: the file or some of its rows are unusable.
        """
        from selfcorrect.tasks.jsonl import JsonlTask

        return JsonlTask(self.path, test_share=self.test_share)


TaskSettings = Annotated[CountdownSettings | EquationsSettings | JsonlSettings, Field(discriminator="kind")]
