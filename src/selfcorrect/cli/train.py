"""`selfcorrect train ARM`: one command for each way to train a policy.

An arm's command lives in a file of its own, `train_ARM.py`, and is added here in one line.
"""

import difflib
from typing import Any

import typer
from typer.core import TyperGroup

from selfcorrect.cli.train_pair_sft import pair_sft
from selfcorrect.cli.train_quiet_star import quiet_star
from selfcorrect.cli.train_reinforced import multi_turn, pag, single_turn
from selfcorrect.cli.train_score import score
from selfcorrect.cli.train_star import star
from selfcorrect.cli.train_vstar import vstar


class _Arms(TyperGroup):
    """Says which arms there are when none, or an unknown one, is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            ctx.fail(f"name the arm first, as in: selfcorrect train score {' '.join(args)}. {self._known()}")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            nearest = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = f" did you mean {nearest[0]}?" if nearest else ""
            ctx.fail(f"unknown arm {args[0]!r};{hint} {self._known()}")
        return super().resolve_command(ctx, args)

    def _known(self) -> str:
        return f"The arms are {', '.join(self.commands)}."


train = typer.Typer(cls=_Arms, no_args_is_help=True, rich_markup_mode="rich", subcommand_metavar="ARM [OPTIONS]")
train.command()(score)
train.command("single-turn")(single_turn)
train.command("multi-turn")(multi_turn)
train.command("pag")(pag)
train.command("quiet-star")(quiet_star)
train.command("vstar")(vstar)
train.command()(star)
train.command("pair-sft")(pair_sft)
