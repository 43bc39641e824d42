"""Where the commands write: results on standard output, everything else on standard error."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console, ConsoleDimensions
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from selfcorrect.errors import ConfigurationError, SelfCorrectError



class Results(Console):
    """Standard output. Lines are as long as they are where no terminal would break them: in files and pipes."""

    @property
    def size(self) -> ConsoleDimensions:
        """As rich finds it, unless nobody set a width and nothing has one."""
        unset = self._width is None and not self.is_terminal
        return ConsoleDimensions(_UNBROKEN, super().size.height) if unset else super().size


_UNBROKEN = 10_000
results = Results(highlight=False, soft_wrap=False)
notes = Console(highlight=False, stderr=True, soft_wrap=True)  # a command that is told can be copied: no line breaks

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it: 128 + SIGINT."""


@contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Errors that were raised on purpose end a command in words: exit status 2 for a wrong setting, else 1."""
    try:
        yield
    except SelfCorrectError as error:
        _tell(error, as_json=as_json)
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from error
    except KeyboardInterrupt as interrupt:
        notes.print("Stopped.", style="yellow")
        raise typer.Exit(INTERRUPTED) from interrupt


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
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _tell(error: SelfCorrectError, *, as_json: bool) -> None:
    if as_json:
        write_json({"error": {"kind": type(error).__name__, "message": str(error)}})
    notes.print("Error:", style="bold red", end=" ")
    notes.print(str(error), style="red", markup=False)


def _quiet_libraries() -> None:
    """Their progress bars and advice to programmers would be drawn over ours."""
    import warnings

    from transformers.utils import logging

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|torch)\b")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


# A progress bar for work that can be counted.


@contextmanager
def counting(what: str, *, silent: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar that disappears when the block ends; call what it yields with how much is done, and of how much."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=notes, transient=True, disable=silent or not notes.is_terminal) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
