"""Where a person looks, and whose bars are drawn there.

transformers and datasets draw bars of their own ("Loading weights", "Writing model shards", "Map") on standard error,
into log files and pipes as well. Nobody needs them there, and in a run they would be drawn over the run's own. What is
switched off here is switched back when the block ends; what a user has switched off, or on by an environment variable,
stays as it is.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


def looked_at() -> bool:
    """Whether a person sees standard error as it is written: on a terminal or in a notebook."""
    from rich.console import Console

    shown = Console(stderr=True)
    return shown.is_terminal or shown.is_jupyter


@contextmanager
def no_unseen_bars() -> Iterator[None]:
    """No bars of libraries within, unless somebody looks: for what loads or saves a model or data by itself."""
    with nullcontext() if looked_at() else no_foreign_bars():
        yield


@contextmanager
def no_foreign_bars() -> Iterator[None]:
    """No bars of libraries within, whoever looks: for runs, which tell of their progress themselves."""
    _OFF.begin()
    try:
        yield
    finally:
        _OFF.end()


class _Off:
    """Bars are off while at least one block wants it, in whatever thread; the last one to end restores them."""

    def __init__(self) -> None:
        self._lock, self._blocks = threading.Lock(), 0
        self._restore: list[Callable[[], Any]] = []

    def begin(self) -> None:
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                self._restore = [_without_those_of_transformers(), _without_those_of_datasets()]

    def end(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                for restore in self._restore:
                    restore()


_OFF = _Off()


def _without_those_of_transformers() -> Callable[[], Any]:
    """Hide them; returns what shows them again. A hook of the user's is asked again afterwards."""
    from transformers.utils import logging

    def unseen(factory: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return logging.EmptyTqdm(*given, **options)

    before = logging.set_tqdm_hook(unseen)
    return lambda: logging.set_tqdm_hook(before)


def _without_those_of_datasets() -> Callable[[], Any]:
    """The same, where the library is in use: importing it takes a second, which loading a model should not."""
    datasets = sys.modules.get("datasets")
    if datasets is None or datasets.are_progress_bars_disabled() or _asked_for(datasets):
        return lambda: None
    datasets.disable_progress_bars()
    return lambda: datasets.enable_progress_bars()


def _asked_for(datasets: Any) -> bool:
    """Whether HF_DATASETS_DISABLE_PROGRESS_BARS=0 stands above what programs say."""
    return datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is False
