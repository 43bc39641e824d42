"""The commands, put together."""

from typing import Annotated

import typer

from selfcorrect.cli.adapt import adapt_command, push
from selfcorrect.cli.check import check, validate
from selfcorrect.cli.compare import compare, reproduce
from selfcorrect.cli.console import reporting
from selfcorrect.cli.evaluate import evaluate_command, view
from selfcorrect.cli.scale import scale, tune_budget
from selfcorrect.cli.serve import init, mcp, serve
from selfcorrect.cli.settings import settings_command
from selfcorrect.cli.solve import solve
from selfcorrect.cli.train import demo, train
from selfcorrect.training.processes import refuse_several

app = typer.Typer(
    help="Teach language models to fix their own mistakes.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(demo)
app.add_typer(train, name="train", help="Train a policy: selfcorrect train ARM. See selfcorrect train --help.")
app.command()(compare)
app.command()(reproduce)
app.command("eval")(evaluate_command)
app.command()(view)
app.command()(solve)
app.command()(scale)
app.command("tune-budget")(tune_budget)
app.command("adapt")(adapt_command)
app.command()(push)
app.command()(serve)
app.command()(mcp)
app.command()(init)
app.command()(validate)
app.command("settings")(settings_command)
app.add_typer(check, name="check")


def _show_version(wanted: bool) -> None:
    if wanted:
        from selfcorrect.distribution import __version__

        typer.echo(__version__)
        raise typer.Exit


_IN_SEVERAL = {"train", "demo"}
"""The commands that a launcher may start in several processes; of the arms of `train` some refuse."""


@app.callback()
def selfcorrect(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    with reporting(as_json=False):
        if ctx.invoked_subcommand not in _IN_SEVERAL:
            refuse_several(f"selfcorrect {ctx.invoked_subcommand}")
