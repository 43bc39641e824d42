"""`selfcorrect train score`: SCoRe on a policy and a task of the user's choice, whole or without a part."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm


def score(
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    no_stage1: Annotated[bool, typer.Option("--no-stage1", help="Ablation: Stage II takes all steps.")] = False,
    no_shaping: Annotated[bool, typer.Option("--no-shaping", help="Ablation: no progress bonus in Stage II.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a policy to correct itself with SCoRe. Settings come from the preset, then --config, then --set."""
    without: list[Literal["stage1", "shaping"]] = []
    if no_stage1:
        without.append("stage1")
    if no_shaping:
        without.append("shaping")
    with reporting(as_json=as_json):
        command = " ".join(["train score", *(f"--no-{part}" for part in without)])
        request = RunRequest(
            command, preset=preset, config=config, out=out, resume=resume, overrides=tuple(overrides or ())
        )
        carry_out(request, lambda: _arm(without), as_json=as_json)


def _arm(without: list[Literal["stage1", "shaping"]]) -> "Arm":
    from functools import partial

    from selfcorrect.training.arms import score

    return partial(score.score_without, without) if without else score.score
