"""`selfcorrect train star`: learn from one's own right answers."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm

Data = Annotated[
    Literal["single", "single+rationalised", "multi", "multi+correct"] | None,
    typer.Option(
        help="What is learnt: right first answers, with or without those found with a hint; or second answers that mend a wrong first "
        "one, with or without those that keep a right one. The same as --set star.data=..."
    ),
]


def star(
    data: Data = None,
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """STaR: sample, keep what is right, fine-tune the original policy on it; and again with the new policy."""
    with reporting(as_json=as_json):
        chosen = () if data is None else (f"star.data={data}",)
        request = RunRequest("train star", preset, config, out, resume, (*(overrides or ()), *chosen))
        carry_out(request, _star, as_json=as_json, steps=lambda settings: settings.star.loops)


def _star() -> "Arm":
    from selfcorrect.training.arms.star import star

    return star
