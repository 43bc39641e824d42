"""`selfcorrect validate`: does every checker accept its own gold answers?"""

from typing import Annotated, Any

import typer

from selfcorrect.cli.console import reporting, results, write_json
from selfcorrect.cli.options import AsJson, Seed

_SHOWN_FAILURES = 20


def validate(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="countdown, countdown-3 to -6, equations, equations-2 to -4, or a .jsonl file."
        ),
    ],
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Problems of each split; files are checked whole.")] = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Let the checker of TASK judge its own gold answers. Exit status 1 if it refuses any."""
    with reporting(as_json=as_json):
        from selfcorrect.cli.bars import counting
        from selfcorrect.cli.task_names import open_task
        from selfcorrect.tasks.validate import validate_task

        opened = open_task(task)
        with counting("checking gold answers", silent=as_json) as tell:
            report = validate_task(opened, procedural=n, seed=seed, on_progress=tell)
    if as_json:
        write_json(_as_json(report))
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(1)


def _as_json(report: Any) -> dict[str, Any]:
    failures = [
        {"problem": failure.problem_id, "status": failure.status, "reason": failure.reason}
        for failure in report.failures
    ]
    return {
        "task": report.task,
        "passed": report.passed,
        "checked": report.checked,
        "without_gold": report.without_gold,
        "failures": failures,
    }


def _show(report: Any) -> None:
    for failure in report.failures[:_SHOWN_FAILURES]:
        results.print(f"[red]{failure.status}[/red]", end=" ")
        results.print(f"{failure.problem_id}: {failure.reason}", markup=False)
    if len(report.failures) > _SHOWN_FAILURES:
        results.print(f"... and {len(report.failures) - _SHOWN_FAILURES} more")
    accepted = report.checked - len(report.failures)
    colour = "green" if report.passed else "red"
    gold = f", {report.without_gold} of them without a gold answer" if report.without_gold else ""
    results.print(f"[{colour}]{report.task}: {accepted} of {report.checked} problems accepted{gold}[/{colour}]")
