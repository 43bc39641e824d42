"""`selfcorrect compare`: every way to teach correction, at equal cost."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from selfcorrect.cli.console import INTERRUPTED, loading, notes, reporting, results, tell_files, write_json
from selfcorrect.cli.options import (
    AsJson,
    Columns,
    Config,
    Device,
    Dtype,
    OptionalModel,
    OptionalTask,
    Overrides,
    Preset,
    PromptsName,
    problem_count,
    refuse_typed,
)
from selfcorrect.cli.training_run import RunRequest
from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.registry import arm_specs, comparable
from selfcorrect.training.compare.report import (
    budget_text,
    columns_of,
    difference_text,
    figure_text,
    interval_note,
    interval_text,
)

if TYPE_CHECKING:
    from selfcorrect.training.compare.comparison import Comparison


# A comparison on the terminal.


def compare_table(result: Mapping[str, Any], way: str) -> RenderableType:
    """The paper's table: one row an arm."""
    table = Table(header_style="dim", box=SIMPLE_HEAD)
    table.add_column("arm")
    columns = columns_of(result[way])
    for head in ("seeds", *columns.values()):
        table.add_column(head, justify="right")
    for arm, row in result[way].items():
        cells = [
            Text.assemble(figure_text(name, row[name]), (f"\n{interval_text(name, row[name])}", "dim"))
            for name in columns
        ]
        table.add_row(arm, str(len(row["seeds"])), *cells)
    how = "greedy" if way == "greedy" else f"sampled at temperature {result['temperature']:g}"
    title = f"{result['policy']} on {result['task']}, {how}"
    return Group(Text(title, style="italic"), table, Text(interval_note(result), style="dim"))


def budget_table(result: Mapping[str, Any]) -> RenderableType:
    """What was planned, and what it came to."""
    table = Table(header_style="dim", box=SIMPLE_HEAD)
    for head in ("arm", "planned cost of training", "measured, mean of the seeds"):
        table.add_column(head)
    for arm, budget in result["budgets"].items():
        table.add_row(arm, budget_text(budget["planned"]), budget_text(budget["measured"]))
    return table


def difference_lines(result: Mapping[str, Any], way: str) -> Iterator[str]:
    """The paired tests against the reference, one sentence each."""
    for figure, tests in result[f"{way}_tests"].items():
        for arm, test in tests.items():
            yield difference_text(result["reference"], arm, figure, test)


_MAIN_ARMS = "base,sample-again,self-refine,single-turn,multi-turn,score"
_QUICK = (
    "score.stage_one_steps=3",
    "score.stage_two_steps=3",
    "optimiser.problems_per_step=24",
    "optimiser.episodes_per_problem=2",
    "evaluation.problems=50",
    "evaluation.every=0",
)
_QUICK_PROBLEMS = 100


def compare(
    ctx: typer.Context,
    task: OptionalTask = None,
    columns: Columns = None,
    model: OptionalModel = None,
    device: Device = None,
    dtype: Dtype = None,
    prompts: PromptsName = None,
    arms: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", help=f"The arms: {', '.join(comparable())}, or package.module:Name of your own."
        ),
    ] = _MAIN_ARMS,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = 5,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the comparison; what is in it is not done again.")
    ] = Path("runs/compare"),
    preset: Preset = None,
    config: Config = None,
    overrides: Overrides = None,
    arm_overrides: Annotated[
        list[str] | None,
        typer.Option("--set-arm", metavar="ARM:NAME=VALUE", help="Change a setting of one arm. May be repeated."),
    ] = None,
    problems: Annotated[int, problem_count("How many held-out problems.")] = 2000,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the second evaluation; the first is greedy.")] = 0.7,
    reference: Annotated[
        str | None, typer.Option(help="The arm that others are tested against; by default score.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps on a few problems: to see that it works.")
    ] = False,
    allow_unequal: Annotated[
        bool, typer.Option("--allow-unequal-budgets", help="Compare arms that do not cost the same.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train arms from the same base at equal cost, evaluate them on the same problems, test their differences.
    Resumable."""
    with reporting(as_json=as_json):
        if quick:
            refuse_typed(ctx, ("problems",), f"--quick evaluates on {_QUICK_PROBLEMS}")
        with loading("the arms"):
            from selfcorrect.training.compare.comparison import Comparison
        changes = (*(_QUICK if quick else ()), *(overrides or ()))
        named = {"model": model, "device": device, "dtype": dtype, "task": task, "columns": columns, "prompts": prompts}
        request = RunRequest("compare", preset, config, usual="demo", overrides=changes, **named)  # type: ignore[arg-type]
        comparison = Comparison(
            arm_specs=arm_specs(_names(arms)),
            settings=request.settings(),
            seeds=range(seeds),
            problems=_QUICK_PROBLEMS if quick else problems,
            temperature=temperature,
            overrides=_per_arm(arm_overrides or [], arms),
            allow_unequal=allow_unequal,
        )
        result = carry_out(comparison, out, reference=_reference(reference, arms), silent=as_json)
        if as_json:
            write_json(result)
        else:
            _show(result, out)


def carry_out(comparison: "Comparison", out: Path, *, reference: str, silent: bool) -> dict[str, Any]:
    """Run the comparison, and write its files whether or not it was stopped.

    Raises:
        typer.Exit: with status 130 after Ctrl-C.
    """
    from selfcorrect.cli.progress import ComparisonLines
    from selfcorrect.training.compare.comparison import SilentComparison, plan_budgets, run_comparison
    from selfcorrect.training.compare.result import write_comparison

    progress = SilentComparison() if silent else ComparisonLines(notes)
    try:
        planned = run_comparison(comparison, out, progress)
    except KeyboardInterrupt as interrupt:
        notes.print("\nStopped. What was done is saved; the same command goes on.", style="yellow")
        write_comparison(comparison, out, plan_budgets(comparison, out)[1], reference=reference)
        raise typer.Exit(INTERRUPTED) from interrupt
    return write_comparison(comparison, out, planned, reference=reference)


def _names(arms: str) -> list[str]:
    return [name.strip() for name in arms.split(",") if name.strip()]


def _reference(asked: str | None, arms: str) -> str:
    names = _names(arms)
    if asked is not None and asked not in names:
        raise ConfigurationError(f"--reference {asked}: it is none of the arms that are compared ({', '.join(names)})")
    return asked or ("score" if "score" in names else names[-1])


def _per_arm(changes: list[str], arms: str) -> dict[str, list[str]]:
    """From "pag:score.alpha=1" to {"pag": ["score.alpha=1"]}."""
    found: dict[str, list[str]] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        arm, colon, setting = name.rpartition(":")
        if not colon or not equals or arm not in _names(arms):
            raise ConfigurationError(f"--set-arm {change}: expected ARM:NAME=VALUE, where ARM is one of {arms}")
        found.setdefault(arm, []).append(f"{setting}={value}")
    return found


def _show(result: dict[str, Any], out: Path) -> None:
    from selfcorrect.cli.compare import budget_table, compare_table, difference_lines
    from selfcorrect.training.compare.report import alarm_lines

    results.print(budget_table(result))
    for way in ("greedy", "sampled"):
        if result[way]:
            results.print(compare_table(result, way))
            for line in difference_lines(result, way):
                results.print(line, markup=False, soft_wrap=True)
    for line in alarm_lines(result):
        results.print(f"alarm    {line}", markup=False, soft_wrap=True)
    tell_files(
        {
            "report": out / "compare.html",
            "figures": out / "compare.json",
            "runs": f"{out}/ARM/seed-N, each with its own report.html",
            "next": f"selfcorrect eval --model {shlex.quote(str(out))}/ARM/seed-0/model --task TASK",
        }
    )
