"""`selfcorrect train single-turn`, `multi-turn`, `pag`: what SCoRe is compared with."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.training_run import RunRequest, carry_out

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm


def _command(arm: str, summary: str) -> Callable[..., None]:
    """The command that trains `arm`, a function of that name in a module of that name."""

    def command(
        config: Config = None,
        preset: Preset = "full",
        out: Out = None,
        resume: Resume = None,
        overrides: Overrides = None,
        as_json: AsJson = False,
    ) -> None:
        with reporting(as_json=as_json):
            request = RunRequest(f"train {arm.replace('_', '-')}", preset, config, out, resume, tuple(overrides or ()))
            carry_out(request, lambda: _arm(arm), as_json=as_json)

    command.__doc__ = summary
    return command


def _arm(name: str) -> "Arm":
    found: Arm = getattr(import_module(f"selfcorrect.training.arms.{name}"), name)
    return found


single_turn = _command("single_turn", "Reward the first answer only; there is no second turn while training.")
multi_turn = _command("multi_turn", "Reward every answer by itself: no Stage I, no progress bonus.")
pag = _command("pag", "PAG: the policy judges its own answer and revises only what it calls wrong; both are rewarded.")
