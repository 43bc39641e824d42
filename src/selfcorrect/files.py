"""Writing the files of a run so that crashes and full disks are survived or told."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.errors import TrainingError

_PROBE_BYTES = 4 * 2**20


def prove_writable(folder: Path) -> None:
    """Make `folder` and write a few megabytes through to the disk: better to fail now than after the training.

    Raises:
        TrainingError: the folder cannot be made or written, or the disk is full.
    """
    probe = folder / ".probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        _remove_if_there(probe)


def cannot_write(folder: Path, error: OSError) -> TrainingError:
    """What to raise where the folder of a run cannot be made or written."""
    said, what = error.strerror or str(error), "Free some space or choose another folder"
    if isinstance(error, FileExistsError | NotADirectoryError):
        said, what = "there is a file where a folder is needed", "Choose a folder"
    return TrainingError(f"cannot write the run to {folder}: {said}; nothing was trained. {what} with --out")


def _remove_if_there(path: Path) -> None:
    # Under a read-only folder or a file in the way, unlink fails as the write did; that error is the one to tell.
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def write_whole(path: Path, text: str) -> None:
    """Replace the file `path` so that a crash leaves the old content or the new, never half of it."""
    with told(path), replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file or a folder that takes the place of `path` when the block has ended well.

    A crash at any time leaves what was at `path`, or all of the new; a folder's old content is gone a moment before the
    new is there. Folders above `path` are made.

    Raises:
        TrainingError: the disk is full, or the new cannot be put in place.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(unfinished)
    yield unfinished
    with told(path):
        _to_disk(unfinished)
        if path.is_dir():
            shutil.rmtree(path)
        unfinished.replace(path)


def _clear(path: Path) -> None:
    """Remove what an earlier crash left at `path`."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Write the file `path`, or all files of the folder, through to the disk."""
    for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


@contextmanager
def told(path: Path) -> Iterator[None]:
    """A disk that fills up in the middle of a run is the machine's fault, and told as such.

    Raises:
        TrainingError: in the place of what Python, safetensors or torch raise when a file cannot be written.
    """
    try:
        yield
    except _errors_of_writing() as error:
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise  # torch has no error of its own for files, but names the source that writes them
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainingError(
            f"cannot write {path}: {said}; free some space and resume the run from its last checkpoint"
        ) from error


def _errors_of_writing() -> tuple[type[Exception], ...]:
    """Asked for when something was raised, so that nothing is imported before."""
    from safetensors import SafetensorError

    return OSError, SafetensorError, RuntimeError


def json_line(row: Mapping[str, Any]) -> str:
    """`row` as a line of a JSON Lines file, and no more than one for readers that take Unicode's further ends of lines
    (which JSON lets stand, and models write) for such."""
    return json.dumps(finite(row), ensure_ascii=False).translate(_ENDS_OF_LINES) + "\n"


_ENDS_OF_LINES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "\x85\u2028\u2029"}


def finite(value: Any) -> Any:
    """Plain JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def row_or_none(line: str, name: str = "step") -> dict[str, Any] | None:
    """The step (or other row with an entry `name`) that `line` tells of, or None if a crash tore it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and name in row else None


# What a run writes down at every step: a JSON Lines file that survives being killed.


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
