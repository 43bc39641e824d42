"""What a run writes down at every step: a JSON Lines file that survives being killed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.training.durable_files import json_line, row_or_none, told, write_whole


@dataclass(frozen=True, slots=True)
class StepLog:
    """The file `path`, a line a step."""

    path: Path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one step. The line is with the operating system when this returns; `step` must be in it.

        Raises:
            TrainingError: the file cannot be written.
        """
        if "step" not in row:
            raise ValueError("metrics of a step need its number under 'step'")
        with told(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json_line(row))

    def read(self) -> list[dict[str, Any]]:
        """The steps written so far, oldest first; a last line torn by a crash is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [row for row in map(row_or_none, lines) if row is not None]

    def truncate(self, step: int) -> None:
        """Forget the steps after `step`: a resumed run will do them again."""
        kept = [row for row in self.read() if row["step"] <= step]
        write_whole(self.path, "".join(map(json_line, kept)))
