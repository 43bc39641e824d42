"""Where the commands write: results on standard output, everything else on standard error."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import typer
from rich.console import Console, ConsoleDimensions
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from selfcorrect.errors import ConfigurationError, SelfCorrectError, TrainingError
from selfcorrect.training.processes import count, is_first, is_first_to_tell, lost_process, name


class Results(Console):
    """Standard output. Lines are as long as they are where no terminal would break them: in files and pipes."""

    @property
    def size(self) -> ConsoleDimensions:
        """As rich finds it, unless nobody set a width and nothing has one."""
        unset = self._width is None and not self.is_terminal
        return ConsoleDimensions(_UNBROKEN, super().size.height) if unset else super().size

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size


_UNBROKEN = 10_000
results = Results(highlight=False, soft_wrap=False)
notes = Console(highlight=False, stderr=True, soft_wrap=True)  # a command that is told can be copied: no line breaks

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it: 128 + SIGINT."""


@contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Errors that were raised on purpose end a command in words: exit status 2 for a wrong setting, else 1."""
    _as_one_of_several()
    try:
        yield
    except SelfCorrectError as error:
        _tell(error, as_json=as_json)
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from error
    except RuntimeError as error:
        if not lost_process(error):
            raise
        _tell(TrainingError(LOST), as_json=as_json)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        notes.print("Stopped.", style="yellow")
        raise typer.Exit(INTERRUPTED) from interrupt


LOST = (
    "the run was ended: the launcher was told to stop, or another process ended without a word, killed or out of "
    "memory (the launcher tells its exit code). What was saved is there: go on with --resume instead of the options"
)


def _as_one_of_several() -> None:
    """Of several processes the first one writes; why a run ended is written by the one that knows, and where it was
    killed and could not, by the first that is ended after it."""
    if not is_first():
        notes.quiet = results.quiet = True
    if count() > 1 and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _ended_by_the_launcher)


def _ended_by_the_launcher(number: int, frame: FrameType | None) -> None:
    if is_first_to_tell():
        os.write(2, f"Error ({name()}): {LOST}\n".encode())
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def loading(what: str) -> Iterator[None]:
    """A spinner while the heavy libraries and `what` are loaded; they are told to keep quiet."""
    with notes.status(f"loading {what} ..."):
        _quiet_libraries()
        yield


def tell_files(lines: Mapping[str, object]) -> None:
    """How a command ends: what lies where, and which command comes next; each after its label."""
    for label, text in lines.items():
        results.print(f"{label:<8} {text}", markup=False, soft_wrap=True)


def write_json(value: Any) -> None:
    """The result of a command, for programs."""
    if is_first():
        _echo_json(value)


def _echo_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _tell(error: SelfCorrectError, *, as_json: bool) -> None:
    if not is_first_to_tell():
        return
    notes.quiet = False
    if as_json:
        _echo_json({"error": {"kind": type(error).__name__, "message": str(error)}})
    notes.print("Error:" if count() == 1 else f"Error ({name()}):", style="bold red", end=" ")
    notes.print(str(error), style="red", markup=False, emoji=False)  # arms.star:star is no star


def _quiet_libraries() -> None:
    """Their progress bars and advice to programmers would be drawn over ours."""
    import warnings

    from transformers.utils import logging

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|torch)\b")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


# Progress of work that can be counted.

_LINES = 10


@contextmanager
def counting(what: str, *, silent: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar that disappears when the block ends, or a line for every tenth where nobody looks at a terminal; call what
    it yields with how much is done, and of how much."""
    if silent or not notes.is_terminal:
        yield _nothing if silent else _TenthsOf(what)
        return
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=notes, transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _nothing(done: int, total: int) -> None: ...


class _TenthsOf:
    """Tells of `what` in lines, for log files and pipes."""

    def __init__(self, what: str) -> None:
        self._what, self._told, self._began = what, 0, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        tenth = _LINES * done // max(total, 1)
        if tenth <= self._told:
            return
        self._told = tenth
        took = timedelta(seconds=round(time.monotonic() - self._began))
        notes.print(f"{self._what}: {done:,} of {total:,}, after {took}", style="dim", markup=False)
