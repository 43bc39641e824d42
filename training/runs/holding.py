"""A run from the moment it has a folder to the moment it is over, however it ends: who holds the folder, who is told,
and how many processes it may be of.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from selfcorrect.bars import no_foreign_bars
from selfcorrect.errors import SelfCorrectError, TrainingError
from selfcorrect.files import cannot_write
from selfcorrect.setting_groups import Settings
from selfcorrect.training.ppo.keeping import refuse_missing
from selfcorrect.training.processes import by_first, is_first, refuse_several
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress, usual_progress
from selfcorrect.training.runs.run_directory import LOCK, RunDirectory
from selfcorrect.training.settings import RunSettings

Folder = TypeVar("Folder", bound=RunDirectory)


def opened_run(
    arm: str, settings: RunSettings, *, out: Path, progress: ProgressSink | None, resume: bool, several: bool = False
) -> AbstractContextManager[tuple[RunDirectory, ProgressSink]]:
    """`opened` for a plain folder. `several`: the arm trains in several processes, which have met; else they are
    refused.

    Raises:
        ConfigurationError: also if a service of `report_to` is not installed.
    """
    refuse_missing(settings.report_to)
    return opened(RunDirectory, arm, settings, out=out, progress=progress, resume=resume, several=several)


@contextmanager
def opened(
    kind: type[Folder],
    arm: str,
    settings: Settings,
    *,
    out: Path,
    progress: ProgressSink | None,
    resume: bool,
    several: bool = False,
) -> Iterator[tuple[Folder, ProgressSink]]:
    """The run's folder, and whom to tell of it (`usual_progress` if nobody is given), who is told when it is over.
    A new run that is refused before anything came of it leaves the folder free for another.

    Raises:
        TrainingError, ConfigurationError: the folder cannot be begun or resumed; see `RunDirectory.create`. Several
            processes were started, and the arm does not train in them.
    """
    if not several:
        refuse_several(arm)
    sink = (progress or usual_progress()) if is_first() else SilentProgress()
    with alone_in(Path(out)):
        run = kind.create(Path(out), settings, resume=resume, arm=arm)
        try:
            yield run, sink
        except SelfCorrectError:
            if not resume and is_first():
                run.forget_beginning()
            raise
        finally:
            sink.close()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the run folder: no other process may run in it meanwhile, on this machine or where its file system is
    shared. The other processes of a distributed run are with the first. Libraries draw no bars in it: it tells of its
    progress itself.

    Raises:
        TrainingError: somebody holds it.
    """
    held: list[FileLock] = []
    by_first(lambda: held.append(_taken(folder)))  # the lock itself stays with the first
    try:
        with no_foreign_bars():
            yield
    finally:
        for lock in held:
            lock.release()


def _taken(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / LOCK, timeout=0)
        held.acquire()
    except Timeout as error:
        raise TrainingError(f"{folder} is in use by another run; wait for its end, or choose another folder") from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    return held
