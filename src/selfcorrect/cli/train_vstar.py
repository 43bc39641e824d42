"""`selfcorrect train vstar`: a generator and verifiers of it."""

from typing import TYPE_CHECKING

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm
    from selfcorrect.training.settings import RunSettings


def vstar(
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """V-STaR: learn from right answers to generate, and from right and wrong ones to verify."""
    with reporting(as_json=as_json):
        request = RunRequest("train vstar", preset, config, out, resume, tuple(overrides or ()))
        carry_out(request, _vstar, as_json=as_json, steps=_steps)


def _vstar() -> "Arm":
    from selfcorrect.training.vstar.rounds import vstar

    return vstar


def _steps(settings: "RunSettings") -> int:
    """A step is a round, or the training of a verifier."""
    return settings.vstar.rounds + len(settings.vstar.kinds)
