"""The ways to train a policy that are compared with each other: one file an arm, one function with the arm's name.

    NAME(settings, *, out, progress=None, resume=False, task=None, policy=None, graph=None, prompts=None) -> RunResult

They share task, graph, checker, evaluation and run folder, and differ in what they learn from.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

if TYPE_CHECKING:
    from selfcorrect.training.runs.given import Objects
    from selfcorrect.training.runs.progress import ProgressSink
    from selfcorrect.training.runs.run_directory import RunResult
    from selfcorrect.training.settings import RunSettings


class SettingsArm(Protocol):
    """An arm that knows settings alone."""

    def __call__(
        self,
        settings: "RunSettings",
        *,
        out: Path,
        progress: "ProgressSink | None" = None,
        resume: bool = False,
    ) -> "RunResult": ...


class Arm(Protocol):
    """Trains one policy and leaves a run folder behind; see `run_directory`. Objects may be given in the place of
    names, see `Objects`; an arm of a user's own need not take them."""

    def __call__(
        self,
        settings: "RunSettings",
        *,
        out: Path,
        progress: "ProgressSink | None" = None,
        resume: bool = False,
        **given: "Unpack[Objects]",
    ) -> "RunResult": ...
