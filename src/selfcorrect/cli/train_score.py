"""`selfcorrect train score`: SCoRe on a policy and a task of the user's choice, whole or without a part."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out
from selfcorrect.errors import ConfigurationError

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
    stage2: Annotated[
        Literal["rl", "star"],
        typer.Option(help="Ablation: supervised fine-tuning on right second answers as Stage II."),
    ] = "rl",
    as_json: AsJson = False,
) -> None:
    """Train a policy to correct itself with SCoRe. Settings come from the preset, then --config, then --set."""
    without: list[Literal["stage1", "shaping"]] = []
    if no_stage1:
        without.append("stage1")
    if no_shaping:
        without.append("shaping")
    with reporting(as_json=as_json):
        if stage2 == "star" and without:
            raise ConfigurationError(
                "--stage2 star pays no rewards and needs Stage I: leave --no-shaping and --no-stage1 away"
            )
        options = [f"--no-{part}" for part in without] + (["--stage2 star"] if stage2 == "star" else [])
        command = " ".join(["train score", *options])
        request = RunRequest(
            command, preset=preset, config=config, out=out, resume=resume, overrides=tuple(overrides or ())
        )
        carry_out(request, _stage2_star if stage2 == "star" else lambda: _arm(without), as_json=as_json)


def _stage2_star() -> "Arm":
    from selfcorrect.training.arms.score_stage2_star import score_stage2_star

    return score_stage2_star


def _arm(without: list[Literal["stage1", "shaping"]]) -> "Arm":
    from functools import partial

    from selfcorrect.training.arms import score

    return partial(score.score_without, without) if without else score.score
