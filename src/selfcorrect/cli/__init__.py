"""The command line. One file a command; nothing heavy is imported before a command needs it."""

import gc
from typing import Any

BEFORE_LOOKING_FOR_GARBAGE = 10_000
"""How many more objects there must be. With Python's own 700 it is done 1,500 times while the libraries that train are
imported, none of whose half a million objects are garbage, and takes an eighth of a command's start longer."""


def main() -> None:
    """Entry point of the `selfcorrect` script."""
    gc.set_threshold(BEFORE_LOOKING_FOR_GARBAGE)
    from selfcorrect.cli.app import app

    app(prog_name="selfcorrect")


def program() -> Any:
    """All commands with their options, as click's command, for pages that describe them."""
    from typer.main import get_command

    from selfcorrect.cli.app import app

    return get_command(app)
