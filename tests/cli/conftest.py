import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from selfcorrect.cli.app import app


@dataclass(frozen=True)
class Done:
    """What a command wrote, and its exit status."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads that wait for each other on a busy machine make the small model forty times slower."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process: `run("solve", "3 5 7 9 get 56")`. A bug in it is raised here."""
    from selfcorrect.cli import console

    monkeypatch.setenv("COLUMNS", "200")  # for typer's own messages
    for ours in (console.results, console.notes):  # each took its width when it was made
        monkeypatch.setattr(ours, "width", 200)

    def invoke(*arguments: object) -> Done:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    """Run a command with --json and give back what it wrote to standard output."""
    return lambda *arguments: json.loads(run(*arguments, "--json").stdout)
