"""`selfcorrect train`: SCoRe on a policy and a task of the user's choice."""

from pathlib import Path
from typing import Annotated

import typer

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out


def train(
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings in a YAML or TOML file.")] = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train a policy to correct itself with SCoRe. Settings come from the preset, then --config, then --set."""
    with reporting(as_json=as_json):
        request = RunRequest(
            "train", preset=preset, config=config, out=out, resume=resume, overrides=tuple(overrides or ())
        )
        carry_out(request, as_json=as_json)
