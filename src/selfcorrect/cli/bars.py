"""A progress bar for work that can be counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from selfcorrect.cli.console import notes


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
