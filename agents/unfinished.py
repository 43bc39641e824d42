"""An evaluation under way: its episodes are kept as they end, so that one that was stopped goes on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from selfcorrect.agents.state import EpisodeState
from selfcorrect.errors import ConfigurationError
from selfcorrect.files import json_line, row_or_none, told, write_whole
from selfcorrect.tasks.problem import Problem

FILE = "unfinished.jsonl"
"""What it is called in the folder of an evaluation; it is gone when all episodes have ended."""

_KEPT = ("seed", "turns", "history", "started", "stop_reason")
"""Of an episode's state: what is plain data in every graph."""


@dataclass(frozen=True)
class UnfinishedEvaluation:
    """The file `path`: in its first line what was asked, then an episode a line, in the order in which they ended.

    Args:
        path: need not exist.
        asked: what must be the same for episodes to belong together, as plain data: the model, the words, the seed.
    """

    path: Path
    asked: Mapping[str, Any]

    def begin(self) -> dict[int, EpisodeState]:
        """The episodes that ended before, by their seeds and without their problems, which whoever asks has at hand; a
        last line torn by a crash is left out.

        Raises:
            ConfigurationError: the file holds episodes of an evaluation that was asked otherwise.
            TrainingError: it cannot be written.
        """
        head, *rows = self._rows() or [{}]
        if rows:
            self._refuse_other(head["asked"])
        write_whole(self.path, "".join(map(json_line, [{"asked": self.asked}, *rows])))
        return {row["seed"]: cast(EpisodeState, row) for row in rows}

    def keep(self, state: EpisodeState) -> None:
        """Add an episode that has ended. It is with the operating system when this returns.

        Raises:
            TrainingError: the file cannot be written.
        """
        with told(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json_line({name: state[name] for name in _KEPT if name in state}))  # type: ignore[literal-required]

    def count(self) -> int:
        """How many episodes are kept."""
        return max(0, len(self._rows()) - 1)

    def end(self) -> None:
        """All of them are kept elsewhere."""
        self.path.unlink(missing_ok=True)

    def _rows(self) -> list[dict[str, Any]]:
        """The first line and the episodes; [] without a file, or with one whose first line was torn."""
        if not self.path.exists():
            return []
        head, *lines = self.path.read_text(encoding="utf-8").split("\n")
        first = row_or_none(head, "asked")
        episodes = (row_or_none(line, "seed") for line in lines)
        return [] if first is None else [first, *(row for row in episodes if row is not None)]

    def _refuse_other(self, before: Mapping[str, Any]) -> None:
        now = json.loads(json_line(self.asked))
        other = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        if other:
            kept = self.count()
            raise ConfigurationError(
                f"{self.path} holds {kept:,} episode{'' if kept == 1 else 's'} of an evaluation that was stopped, and "
                f"it was asked otherwise ({', '.join(other)}); repeat what was asked to go on with it, or choose "
                "another folder with --out"
            )


def digest_of_problems(problems: Sequence[Problem]) -> str:
    """The same for the same problems in the same order."""
    return hashlib.sha256(repr([problem.model_dump() for problem in problems]).encode()).hexdigest()[:16]


def digest_of_weights(model: str) -> str | None:
    """Changes when the file or the folder `model` is written anew; None where the name is no path."""
    path = Path(model)
    if not path.exists():
        return None
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
