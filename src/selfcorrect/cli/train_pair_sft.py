"""`selfcorrect train pair-sft`: learn to correct from independent answers put together."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm

Data = Annotated[
    Literal["pairs", "pairs+correct"] | None,
    typer.Option(
        help="What is learnt: right answers after wrong ones, or after right ones too. The same as --set pair_sft.data=..."
    ),
]


def pair_sft(
    data: Data = None,
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Pair-SFT: sample answers, put a wrong and a right one together as two turns, fine-tune on the second."""
    with reporting(as_json=as_json):
        chosen = () if data is None else (f"pair_sft.data={data}",)
        request = RunRequest("train pair-sft", preset, config, out, resume, (*(overrides or ()), *chosen))
        carry_out(request, _pair_sft, as_json=as_json, steps=lambda settings: 1)


def _pair_sft() -> "Arm":
    from selfcorrect.training.arms.pair_sft import pair_sft

    return pair_sft
