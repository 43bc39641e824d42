"""`selfcorrect train single-turn`, `multi-turn`, `pag`: what SCoRe is compared with."""

from typing import TYPE_CHECKING

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm


def single_turn(
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Reward the first answer only; there is no second turn while training."""
    with reporting(as_json=as_json):
        request = RunRequest("train single-turn", preset, config, out, resume, tuple(overrides or ()))
        carry_out(request, _single_turn, as_json=as_json)


def multi_turn(
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Reward every answer by itself: no Stage I, no progress bonus."""
    with reporting(as_json=as_json):
        request = RunRequest("train multi-turn", preset, config, out, resume, tuple(overrides or ()))
        carry_out(request, _multi_turn, as_json=as_json)


def pag(
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """PAG: the policy judges its own answer and revises only what it calls wrong; both are rewarded."""
    with reporting(as_json=as_json):
        request = RunRequest("train pag", preset, config, out, resume, tuple(overrides or ()))
        carry_out(request, _pag, as_json=as_json)


def _single_turn() -> "Arm":
    from selfcorrect.training.arms.single_turn import single_turn

    return single_turn


def _multi_turn() -> "Arm":
    from selfcorrect.training.arms.multi_turn import multi_turn

    return multi_turn


def _pag() -> "Arm":
    from selfcorrect.training.arms.pag import pag

    return pag
