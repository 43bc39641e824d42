"""`selfcorrect check`: let a checker judge one answer."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from selfcorrect.cli.console import reporting, results, tell_files, write_json
from selfcorrect.cli.naming import task_settings, typed_command
from selfcorrect.cli.options import AsJson, Columns, Seed, TaskArgument, problem_count, refuse_typed
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from selfcorrect.rewards.checker import Checker
    from selfcorrect.tasks.validate import DataCard


check = typer.Typer(
    help="Let a checker judge one answer. Exit status 0 if it is correct, 1 if not.", no_args_is_help=True
)

Deadline = Annotated[
    float,
    typer.Option(
        min=0.1, metavar="SECONDS", help="Give up after this time; the verdict is then 'unjudged' or 'wrong'."
    ),
]


@check.command("math")
def check_math(
    response: Annotated[str, typer.Option(help="The answer to judge; the last stated result counts.")],
    reference: Annotated[str, typer.Option(help="The right result, plain or LaTeX.")],
    problem: Annotated[
        str | None, typer.Option(help="What was asked: an answer that only repeats it is wrong.", show_default=False)
    ] = None,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="As in evaluation: any form of the value, and guess what nothing marks.")
    ] = False,
    deadline: Deadline = 5.0,
    as_json: AsJson = False,
) -> None:
    """Judge a mathematical answer against a reference."""
    with reporting(as_json=as_json):
        from selfcorrect.rewards.maths import EquivalenceRules, MathChecker

        checker = MathChecker(
            deadline=deadline,
            policy=EquivalenceRules.lenient() if lenient else None,
            unmarked="guess" if lenient else "unreadable",
        )
        _judge(checker, response, reference, problem=problem, as_json=as_json)


@check.command("code")
def check_code(
    file: Annotated[Path, typer.Option(help="The program to judge: Python, or a Markdown answer that holds it.")],
    tests: Annotated[Path, typer.Option(help="Its tests: Python (asserts, or a function check(candidate)) or JSON.")],
    deadline: Deadline = 5.0,
    as_json: AsJson = False,
) -> None:
    """Judge a program by running unit tests on it in a sandbox."""
    with reporting(as_json=as_json):
        program, reference = _text_of(file, "--file"), _tests_of(tests)
        from selfcorrect.rewards.code import UnitTestChecker

        _judge(UnitTestChecker(deadline=deadline), program, reference, as_json=as_json)


def _judge(checker: "Checker", response: str, reference: Any, *, problem: str | None = None, as_json: bool) -> None:
    fault = checker.validate_reference(reference)
    if fault is not None:
        raise ConfigurationError(f"the checker cannot use this reference: {fault}")
    verdict = checker.check_sync(response, reference, problem=problem)
    if as_json:
        status = {"status": verdict.status.value, "correct": verdict.correct}
        write_json({**status, "answer": verdict.answer, "reason": verdict.reason, "seconds": verdict.seconds})
    else:
        style = "green" if verdict.correct else "yellow" if verdict.score is None else "red"
        results.print(Text.assemble((verdict.status.value, f"bold {style}"), f" {verdict.reason}"))
    raise typer.Exit(0 if verdict.correct else 1)


def _tests_of(path: Path) -> Any:
    text = _text_of(path, "--tests")
    if path.suffix != ".json":
        return text
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"--tests {path}, line {error.lineno}: no valid JSON: {error.msg}") from error


def _text_of(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{option}: cannot read {path}: {error}") from error


# `selfcorrect validate`: does every checker accept its own gold answers?

_SHOWN_FAILURES = 20
_SHOWN_REFUSED = 5


def validate(
    ctx: typer.Context,
    task: TaskArgument,
    columns: Columns = None,
    n: Annotated[int, problem_count("Problems of each split; files are checked whole.")] = 1000,
    seed: Seed = 0,
    model: Annotated[
        str | None,
        typer.Option(help="Count lengths in this model's tokens (a folder or Hugging Face id), not in words."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let the checker of TASK judge its own gold answers, and describe the data. Exit status 1 if it refuses any."""
    with reporting(as_json=as_json):
        from selfcorrect.cli.console import counting
        from selfcorrect.tasks.validate import FiniteTask, data_card, validate_task

        opened = task_settings(task, columns).open()
        if isinstance(opened, FiniteTask):
            refuse_typed(ctx, ("n", "seed"), "files and data sets are checked whole")
        with counting("checking gold answers", silent=as_json) as tell:
            report = validate_task(opened, procedural=n, seed=seed, on_progress=tell)
        card = data_card(opened, _token_count(model))
    if as_json:
        write_json(_as_json(report) | ({} if card is None else {"card": asdict(card)}))
    else:
        _show_card(card)
        _show(report)
        if report.passed:
            asked = ["--model", "MODEL", "--task", task, *(["--map", ",".join(columns)] if columns else [])]
            tell_files({"next": typed_command("eval", *asked), "then": typed_command("train", "score", *asked)})
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


def _token_count(model: str | None) -> "Callable[[str], int] | None":
    if model is None:
        return None
    from selfcorrect.agents.policies.pretrained import load_tokenizer, model_location

    tokenizer = load_tokenizer(model_location(model))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def _show_card(card: "DataCard | None") -> None:
    """What a file holds; nothing for tasks that make their problems up."""
    if card is None:
        return
    sizes = ", ".join(f"{count:,} {split}" for split, count in card.problems.items())
    results.print(f"problems: {sizes}; {card.repeated:,} repeated, {len(card.refused):,} refused", markup=False)
    for row, field, why in card.refused[:_SHOWN_REFUSED]:
        results.print(f"  row {row}{', ' + field if field else ''}: {why}", markup=False)
    for what, lengths in (("prompts", card.prompts), ("right answers", card.golds)):
        if lengths is not None:
            results.print(f"{what}: median {lengths.median:g} {card.unit}, longest {lengths.most:,}", markup=False)
    if card.overlapping:
        shown = ", ".join(card.overlapping[:_SHOWN_REFUSED])
        results.print(
            f"test prompts that overlap with training: {len(card.overlapping):,} ({shown}, ...)", markup=False
        )


def _show(report: Any) -> None:
    folded: dict[tuple[str, str], list[str]] = {}
    for failure in report.failures:
        folded.setdefault((failure.status, failure.reason), []).append(failure.problem_id)
    for (status, reason), ids in list(folded.items())[:_SHOWN_FAILURES]:
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        results.print(f"[red]{status}[/red]", end=" ")
        results.print(f"{ids[0]}{more}: {reason}", markup=False)
    if len(folded) > _SHOWN_FAILURES:
        results.print(f"... and {len(folded) - _SHOWN_FAILURES} other reasons")
    accepted = report.checked - len(report.failures)
    colour = "green" if report.passed else "red"
    gold = f", {report.without_gold} of them without a gold answer" if report.without_gold else ""
    results.print(f"[{colour}]{report.task}: {accepted} of {report.checked} problems accepted{gold}[/{colour}]")
