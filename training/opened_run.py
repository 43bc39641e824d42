"""A run from the moment it has a folder to the moment it is over, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfcorrect.training.progress import ProgressSink, SilentProgress
from selfcorrect.training.run_directory import RunDirectory
from selfcorrect.training.settings import RunSettings


@contextmanager
def opened_run(
    arm: str, settings: RunSettings, *, out: Path, progress: ProgressSink | None, resume: bool
) -> Iterator[tuple[RunDirectory, ProgressSink]]:
    """The run's folder, and whom to tell of it (nobody if `progress` is None); that one is told when it is over.

    Raises:
        TrainingError, ConfigurationError: the folder cannot be begun or resumed; see `RunDirectory.create`.
    """
    sink = progress or SilentProgress()
    run = RunDirectory.create(Path(out), settings, resume=resume, arm=arm)
    try:
        yield run, sink
    finally:
        sink.close()
