"""`selfcorrect compare`: every way to teach correction, at equal cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfcorrect.cli.console import INTERRUPTED, loading, notes, reporting, results, write_json
from selfcorrect.cli.options import AsJson, Config, Overrides, Preset
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.training.compare.contest import Contest

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
    task: Annotated[str | None, typer.Option(help="As for eval; by default the task of the settings.")] = None,
    arms: Annotated[str, typer.Option(metavar="A,B,...", help="The arms, separated by commas.")] = _MAIN_ARMS,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = 5,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the comparison; what is in it is not done again.")
    ] = Path("runs/compare"),
    preset: Preset = "demo",
    config: Config = None,
    overrides: Overrides = None,
    arm_overrides: Annotated[
        list[str] | None,
        typer.Option("--set-arm", metavar="ARM:NAME=VALUE", help="Change a setting of one arm. May be repeated."),
    ] = None,
    problems: Annotated[int, typer.Option("-n", "--problems", min=1, help="How many held-out problems.")] = 2000,
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
    """Train arms from the same base at equal cost, evaluate them on the same problems, test their differences. Resumable."""
    with reporting(as_json=as_json):
        with loading("the arms"):
            from selfcorrect.training.compare.contest import Contest
        changes = (*(_QUICK if quick else ()), *(overrides or ()))
        contest = Contest(
            entrants=_entrants(arms),
            settings=_settings(preset, config, task, changes),
            seeds=range(seeds),
            problems=_QUICK_PROBLEMS if quick else problems,
            temperature=temperature,
            overrides=_per_arm(arm_overrides or [], arms),
            allow_unequal=allow_unequal,
        )
        result = carry_out(contest, out, reference=_reference(reference, arms), silent=as_json)
        if as_json:
            write_json(result)
        else:
            _show(result, out)


def carry_out(contest: "Contest", out: Path, *, reference: str, silent: bool) -> dict[str, Any]:
    """Run the comparison, and write its files whether or not it was stopped.

    Raises:
        typer.Exit: with status 130 after Ctrl-C.
    """
    from selfcorrect.cli.compare_progress import ContestLines
    from selfcorrect.training.compare.contest import SilentContest
    from selfcorrect.training.compare.files import write_comparison
    from selfcorrect.training.compare.running import plan_budgets, run_contest

    progress = SilentContest() if silent else ContestLines(notes)
    try:
        planned = run_contest(contest, out, progress)
    except KeyboardInterrupt as interrupt:
        notes.print("\nStopped. What was done is saved; the same command goes on.", style="yellow")
        write_comparison(contest, out, plan_budgets(contest, out)[1], reference=reference)
        raise typer.Exit(INTERRUPTED) from interrupt
    return write_comparison(contest, out, planned, reference=reference)


def _entrants(arms: str) -> Any:
    from selfcorrect.training.compare.entrants import entrants

    return entrants(_names(arms))


def _names(arms: str) -> list[str]:
    return [name.strip() for name in arms.split(",") if name.strip()]


def _reference(asked: str | None, arms: str) -> str:
    names = _names(arms)
    if asked is not None and asked not in names:
        raise ConfigurationError(f"--reference {asked}: it is none of the arms that are compared ({', '.join(names)})")
    return asked or ("score" if "score" in names else names[-1])


def _settings(preset: str, config: Path | None, task: str | None, overrides: tuple[str, ...]) -> Any:
    from selfcorrect.training.presets import PRESETS
    from selfcorrect.training.settings_file import combine, read_settings

    base = PRESETS[preset]
    if task is not None:
        from selfcorrect.cli.task_names import task_settings

        base = base.model_copy(update={"task": task_settings(task)})
    if config is not None:
        return read_settings(config, overrides=overrides, base=base)
    return combine(base, {}, overrides, source="--set")


def _per_arm(changes: list[str], arms: str) -> dict[str, list[str]]:
    """From "pag:score.alpha=1" to {"pag": ["score.alpha=1"]}."""
    found: dict[str, list[str]] = {}
    for change in changes:
        arm, colon, setting = change.partition(":")
        if not colon or arm not in _names(arms):
            raise ConfigurationError(f"--set-arm {change}: expected ARM:NAME=VALUE, where ARM is one of {arms}")
        found.setdefault(arm, []).append(setting)
    return found


def _show(result: dict[str, Any], out: Path) -> None:
    from selfcorrect.cli.compare_tables import budget_table, compare_table, difference_lines
    from selfcorrect.training.compare.words import alarm_lines

    results.print(budget_table(result))
    for way in ("greedy", "sampled"):
        if result[way]:
            results.print(compare_table(result, way))
            for line in difference_lines(result, way):
                results.print(line, markup=False, soft_wrap=True)
    for line in alarm_lines(result):
        results.print(f"alarm    {line}", markup=False, soft_wrap=True)
    results.print(f"report   {out / 'compare.html'}", markup=False)
    results.print(f"figures  {out / 'compare.json'}", markup=False)
