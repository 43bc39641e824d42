"""The command of an arm that has no options of its own."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out, steps_of_both_stages

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm
    from selfcorrect.training.settings import RunSettings


def arm_command(
    arm: str, summary: str, load: "Callable[[], Arm]", steps: "Callable[[RunSettings], int]" = steps_of_both_stages
) -> Callable[..., None]:
    """The command `selfcorrect train ARM`.

    Args:
        arm: as typed.
        summary: its help.
        load: imports the function that trains it.
        steps: how many steps its progress has.
    """

    def command(
        config: Config = None,
        preset: Preset = "full",
        out: Out = None,
        resume: Resume = None,
        overrides: Overrides = None,
        as_json: AsJson = False,
    ) -> None:
        with reporting(as_json=as_json):
            request = RunRequest(f"train {arm}", preset, config, out, resume, tuple(overrides or ()))
            carry_out(request, load, as_json=as_json, steps=steps)

    command.__doc__ = summary
    return command
