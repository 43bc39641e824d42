"""`selfcorrect train vstar`: a generator and verifiers of it."""

from typing import TYPE_CHECKING

from selfcorrect.cli.arm_command import arm_command

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm
    from selfcorrect.training.settings import RunSettings


def _vstar() -> "Arm":
    from selfcorrect.training.vstar.rounds import vstar

    return vstar


def _steps(settings: "RunSettings") -> int:
    """A step is a round, or the training of a verifier."""
    return settings.vstar.rounds + len(settings.vstar.kinds)


vstar = arm_command(
    "vstar",
    "V-STaR: learn from right answers to generate, and from right and wrong ones to verify.",
    _vstar,
    _steps,
)
