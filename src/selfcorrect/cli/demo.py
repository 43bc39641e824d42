"""`selfcorrect demo`: the whole loop on the policy that ships with the library."""

from typing import TYPE_CHECKING

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm


def demo(
    preset: Preset = "demo",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Teach the embedded policy to correct itself, and show what changed. Needs minutes, two CPU cores and no download."""
    with reporting(as_json=as_json):
        request = RunRequest(
            "demo", preset=preset, config=None, out=out, resume=resume, overrides=tuple(overrides or ())
        )
        carry_out(request, _score, as_json=as_json)


def _score() -> "Arm":
    from selfcorrect.training.arms.score import score

    return score
