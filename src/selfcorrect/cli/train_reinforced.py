"""`selfcorrect train single-turn`, `multi-turn`, `pag`: what SCoRe is compared with."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from selfcorrect.cli.arm_command import arm_command

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm


def _command(name: str, summary: str) -> Callable[..., None]:
    """The command of the arm that is a function of that name in a module of that name."""

    def load() -> "Arm":
        found: Arm = getattr(import_module(f"selfcorrect.training.arms.{name}"), name)
        return found

    return arm_command(name.replace("_", "-"), summary, load)


single_turn = _command("single_turn", "Reward the first answer only; there is no second turn while training.")
multi_turn = _command("multi_turn", "Reward every answer by itself: no Stage I, no progress bonus.")
pag = _command("pag", "PAG: the policy judges its own answer and revises only what it calls wrong; both are rewarded.")
