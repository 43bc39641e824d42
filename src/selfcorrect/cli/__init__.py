"""The command line. One file a command; nothing heavy is imported before a command needs it."""


def main() -> None:
    """Entry point of the `selfcorrect` script."""
    from selfcorrect.cli.app import app

    app(prog_name="selfcorrect")
