"""`selfcorrect compare`: every way to teach correction, at equal cost; `selfcorrect reproduce`: the same from a recipe,
several arms side by side."""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfcorrect.cli.console import INTERRUPTED, loading, notes, reporting, results, tell_files, write_json
from selfcorrect.cli.naming import task_options, typed_command
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
from selfcorrect.cli.tables import budget_table, compare_table, difference_lines
from selfcorrect.cli.training_run import RunRequest
from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.registry import arm_specs, comparable
from selfcorrect.training.arms.specs import GROUPS_OF_SOME, ArmSpec, refuse_unread

if TYPE_CHECKING:
    from selfcorrect.training.compare.comparison import Comparison


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
        specs = arm_specs(_names(arms))
        reads = _read_by_some(specs)
        request = RunRequest("compare", preset, config, usual="demo", overrides=changes, arm=reads, **named)  # type: ignore[arg-type]
        comparison = Comparison(
            arm_specs=specs,
            settings=request.settings(),
            seeds=range(seeds),
            problems=_QUICK_PROBLEMS if quick else problems,
            temperature=temperature,
            overrides=_per_arm(arm_overrides or [], specs),
            allow_unequal=allow_unequal,
        )
        if comparison.without_best and not as_json:
            without = ", ".join(comparison.without_best)
            notes.print(f"best     {without}: no checkpoints to choose from: the last weights count", markup=False)
        result = carry_out(comparison, out, reference=_reference(reference, arms), silent=as_json)
        if as_json:
            write_json(result)
        else:
            _show(result, comparison, out)


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


def _read_by_some(specs: Sequence[ArmSpec]) -> tuple[str, tuple[str, ...]]:
    """What is compared, and the groups of settings that one of the arms reads; the budget of all is SCoRe's."""
    read = {"score", "optimiser"}.union(*(spec.reads for spec in specs))
    names = ", ".join(spec.name for spec in specs)
    return f"a comparison of {names}", tuple(group for group in GROUPS_OF_SOME if group in read)


def _per_arm(changes: list[str], specs: Sequence[ArmSpec]) -> dict[str, list[str]]:
    """From "pag:score.alpha=1" to {"pag": ["score.alpha=1"]}."""
    found: dict[str, list[str]] = {}
    known = {spec.name: spec for spec in specs}
    for change in changes:
        name, equals, value = change.partition("=")
        arm, colon, setting = name.rpartition(":")
        if not colon or not equals or arm not in known:
            raise ConfigurationError(
                f"--set-arm {change}: expected ARM:NAME=VALUE, where ARM is one of {', '.join(known)}"
            )
        refuse_unread([setting], arm, known[arm].reads, f"--set-arm {arm}:")
        found.setdefault(arm, []).append(f"{setting}={value}")
    return found


def _show(result: dict[str, Any], comparison: "Comparison", out: Path) -> None:
    from selfcorrect.training.compare.report import alarm_lines

    results.print(budget_table(result))
    for exam in (None, *result["exams"].values()):
        for way in ("greedy", "sampled"):
            if (result if exam is None else exam)[way]:
                results.print(compare_table(result, way, exam))
                for line in difference_lines(result if exam is None else {**result, **exam}, way):
                    results.print(line, markup=False, soft_wrap=True)
    for line in alarm_lines(result):
        results.print(f"alarm    {line}", markup=False, soft_wrap=True)
    files: dict[str, object] = {"report": out / "compare.html", "figures": out / "compare.json"}
    tell_files(files | _trained(result["reference"], comparison, out))


def _trained(reference: str, comparison: "Comparison", out: Path) -> dict[str, object]:
    """Where the trained policies lie, and what to do with one of them: the reference arm's if it is there."""
    from selfcorrect.training.compare.comparison import folder_of

    models = {spec.name: folder_of(out, spec.name, comparison.seeds[0]) / "model" for spec in comparison.arm_specs}
    there = {arm: model for arm, model in models.items() if model.is_dir()}
    if not there:
        return {"next": "open the report in a browser; none of the arms leaves a policy of its own"}
    best = there.get(reference, next(iter(there.values())))
    evaluated = typed_command("eval", "--model", best, *task_options(comparison.settings.task))
    arms = ", ".join(model.parents[1].name for model in there.values())
    runs = f"{out}/ARM/seed-N with its report.html and model, ARM one of {arms}"
    return {"runs": runs, "next": f"{evaluated}  (on more problems, or on another --task)"}


# A recipe from its data to its table.


class _PieceLines:
    """Tells how the pieces go on, in lines."""

    def started(self, piece: Any, log: Path) -> None:
        notes.print(f"started  {piece.name} ({log})", markup=False)

    def ended(self, piece: Any, status: int, log: Path) -> None:
        how = "done" if status == 0 else f"FAILED with status {status}, see {log}"
        notes.print(f"ended    {piece.name}: {how}", markup=False)

    def under_way(self, steps: Mapping[str, int]) -> None:
        if steps:
            told = ", ".join(f"{name} step {step}" for name, step in steps.items())
            notes.print(f"so far   {told}", markup=False)


_Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="A folder with recipe.yaml and settings.yaml.")]
_Folder = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Of the comparison, by default runs/RECIPE; what is in it is kept."),
]
_Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="FOLDER|KIND=FILE", help="Files in the place of the Hub's data. May be repeated."),
]
_Minutes = Annotated[
    float | None, typer.Option(min=0.01, help="Each arm of reinforcement learning is trained at most so long.")
]
_AtOnce = Annotated[int | None, typer.Option(min=1, help="Processes side by side; by default what the recipe says.")]
_GoOn = Annotated[bool, typer.Option("--go-on", help="Train on what --minutes ended, and evaluate it anew.")]
_Show = Annotated[bool, typer.Option("--show", help="Only show what is finished so far.")]


def reproduce(
    ctx: typer.Context,
    recipe: _Recipe,
    out: _Folder = None,
    model: OptionalModel = None,
    device: Device = None,
    dtype: Dtype = None,
    data: _Data = None,
    arms: Annotated[str | None, typer.Option(metavar="A,B,...", help="Some of its arms, or others.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = None,
    problems: Annotated[int | None, problem_count("At most so many held-out problems of each task.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="The same as --set score.stage_two_steps.")] = None,
    minutes: _Minutes = None,
    at_once: _AtOnce = None,
    go_on: _GoOn = False,
    show: _Show = False,
    overrides: Overrides = None,
    piece: Annotated[str | None, typer.Option("--piece", hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Carry out a recipe from its data to its table: every arm in a process of its own, as many side by side as a card
    holds. Resumable; the table is written whenever something is finished."""
    with reporting(as_json=as_json):
        if show:
            refuse_typed(ctx, ("minutes", "at_once", "go_on", "piece"), "--show runs nothing")
        with loading("the recipe"):
            from selfcorrect.training.compare import recipe as recipes
        read = recipes.read_recipe(recipe)
        placing = [f"policy.{name}={value}" for name, value in (("device", device), ("dtype", dtype)) if value]
        chosen = recipes.Chosen(
            model=model,
            data=recipes.data_files(data or [], recipes.kinds_of(recipe, read)),
            arms=None if arms is None else _names(arms),
            seeds=seeds,
            problems=problems,
            minutes=minutes,
            steps=steps,
            overrides=[*placing, *(overrides or [])],
        )
        folder = out or Path("runs") / recipe.resolve().name
        comparison = recipes.comparison_of(recipe, read, chosen, folder)
        if piece is not None:
            _carry_out_piece(comparison, folder, piece)
            return
        recipes.refuse_absent_files(recipe, comparison)
        for name in recipes.left_out(read, chosen.data):
            notes.print(f"left out {name}: its file is not given (--data)", markup=False)
        reference = recipes.reference_of(read, [spec.name for spec in comparison.arm_specs])
        failed: dict[str, Path] = {}
        if not show:
            failed = _side_by_side(ctx, comparison, folder, reference, at_once or read.at_once, go_on=go_on)
        result = _written(comparison, folder, reference)
        write_json({**result, "failed": sorted(failed)}) if as_json else _show(result, comparison, folder)
        if failed:
            told = "; ".join(f"{name} (see {log})" for name, log in failed.items())
            notes.print(f"failed   {told}. What is done is kept; the same command tries them again.", style="red")
            raise typer.Exit(1)


def _carry_out_piece(comparison: "Comparison", out: Path, name: str) -> None:
    from selfcorrect.cli.progress import ComparisonLines
    from selfcorrect.training.compare.comparison import plan_budgets, run_comparison
    from selfcorrect.training.compare.side_by_side import COSTS, part_of
    from selfcorrect.training.compare.warm_ups import WARM_UP, warm_up

    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what runs in the background ignore it
    threading.Thread(target=_end_with_the_parent, args=(os.getppid(),), daemon=True).start()
    out.mkdir(parents=True, exist_ok=True)
    if name == WARM_UP:
        warm_up(comparison.warm_ups, out, ComparisonLines(notes))
    elif name == COSTS:
        plan_budgets(comparison, out)
    else:
        run_comparison(part_of(comparison, name), out, ComparisonLines(notes))


def _end_with_the_parent(parent: int) -> None:
    """End this process when `parent` is gone without a word: nobody would stop it any more, and the command, given
    again, would find its folder in use. What it has written is what is gone on with."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _side_by_side(
    ctx: typer.Context, comparison: "Comparison", out: Path, reference: str, at_once: int, *, go_on: bool
) -> dict[str, Path]:
    """Run the pieces; the logs of those that failed."""
    from selfcorrect.training.compare.side_by_side import Piece, open_again, run_side_by_side

    if go_on and (again := open_again(comparison, out)):
        notes.print(f"goes on  {', '.join(again)}", markup=False)
    typed = _typed_again(ctx)

    def command(piece: Piece) -> Sequence[str]:
        return [sys.executable, "-m", "selfcorrect", "reproduce", *typed, "--out", str(out), "--piece", piece.name]

    try:
        return run_side_by_side(
            comparison,
            out,
            command,
            _PieceLines(),
            at_once=at_once,
            changed=lambda: _write(comparison, out, reference),
        )
    except KeyboardInterrupt as interrupt:
        notes.print("\nStopped. What was done is saved; the same command goes on.", style="yellow")
        _show(_written(comparison, out, reference), comparison, out)
        raise typer.Exit(INTERRUPTED) from interrupt


_OF_THE_WHOLE = ("out", "at_once", "go_on", "show", "piece", "as_json")
"""Options that are not the pieces'."""


def _typed_again(ctx: typer.Context) -> list[str]:
    """The command's argument and options as they were typed, for a process that carries out a piece."""
    words = [str(ctx.params["recipe"])]
    for parameter in ctx.command.params:
        value = ctx.params.get(str(parameter.name))
        if parameter.name in ("recipe", *_OF_THE_WHOLE) or value is None:
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [max(parameter.opts, key=len), str(one)]
    return words


def _write(comparison: "Comparison", out: Path, reference: str) -> None:
    _written(comparison, out, reference)


def _written(comparison: "Comparison", out: Path, reference: str) -> dict[str, Any]:
    """Write the comparison's files of all that is finished, and return what is in them."""
    from dataclasses import replace

    from selfcorrect.training.compare.comparison import has_costs, plan_budgets
    from selfcorrect.training.compare.result import write_comparison

    out.mkdir(parents=True, exist_ok=True)
    planned = {}
    if has_costs(comparison, out):
        planned = plan_budgets(replace(comparison, allow_unequal=True), out)[1]
    return write_comparison(comparison, out, planned, reference=reference)
