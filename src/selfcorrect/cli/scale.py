"""`selfcorrect scale`: what strategies of search make of a budget."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfcorrect.cli.console import counting, reporting, results, tell_files, write_json
from selfcorrect.cli.naming import question_like, task_options, typed_command, worded_task
from selfcorrect.cli.options import (
    AnswerLimit,
    AsJson,
    Columns,
    Device,
    Dtype,
    ModelName,
    PromptsName,
    Seed,
    TaskName,
    Temperature,
    problem_count,
)
from selfcorrect.cli.search_options import (
    Budgets,
    PlanFile,
    Searchers,
    StepVerifierFolder,
    Strategies,
    VerifierFolder,
    numbers_of,
    open_plan,
    open_searchers,
    refuse_idle,
)

if TYPE_CHECKING:
    from selfcorrect.agents.search.compute_optimal import SearchPlan
    from selfcorrect.tasks.problem import Task
    from selfcorrect.tasks.registry import TaskSettings
    from selfcorrect.training.scaling.run import Comparison


def scale(
    task: TaskName = "countdown",
    columns: Columns = None,
    budgets: Budgets = "1,2,4,...,64",
    strategies: Strategies = None,
    model: ModelName = "embedded",
    device: Device = None,
    dtype: Dtype = None,
    verifier: VerifierFolder = None,
    step_verifier: StepVerifierFolder = None,
    plan: PlanFile = None,
    prompts: PromptsName = None,
    n: Annotated[int, problem_count("Held-out problems for each seed.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = 1,
    temperature: Temperature = 1.0,
    limit: AnswerLimit = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the comparison; what is in it is not played again.")
    ] = Path("runs/scale"),
    as_json: AsJson = False,
) -> None:
    """Accuracy against generated tokens for strategies of search, at equal tokens, overall and by difficulty.
    Resumable."""
    with reporting(as_json=as_json):
        answers = numbers_of(budgets)
        if strategies is not None:
            refuse_idle(_names(strategies), verifier=verifier, step_verifier=step_verifier, plan=plan)
        chosen_plan = open_plan(plan)
        asked, opened, searchers = _opened(task, columns, prompts, (model, verifier, step_verifier))
        searchers.named.refuse_unreadable(opened.problems("test", 1)[0].prompt)

        from selfcorrect.training.scaling.run import compare, families_for, write_comparison

        families = families_for(searchers.named.policy, searchers.verifier, searchers.step_verifier, chosen_plan)
        with counting(f"searching {n * seeds:,} problems", silent=as_json) as tell:
            comparison = compare(
                searchers.named.policy,
                opened,
                prompts=searchers.named.prompts(usual=asked.prompts_name, chosen=prompts),
                families=families if strategies is None else _names(strategies),
                answers=answers,
                problems=n,
                seeds=range(seeds),
                verifier=searchers.verifier,
                step_verifier=searchers.step_verifier,
                plan=chosen_plan,
                sampling=searchers.sampling(limit, temperature),
                folder=out,
                on_progress=tell,
                policy_name=model,
                verifier_name=str(verifier or ""),
            )
        about = {"task": opened.name, "model": model, "problems": n, "seeds": seeds, "temperature": temperature}
        write_comparison(out, comparison, about=about)
        if as_json:
            from selfcorrect.files import finite
            from selfcorrect.training.scaling.summary import as_rows

            points = finite(as_rows(comparison.points))
            write_json({**about, "answer_tokens": comparison.answer_tokens, "points": points})
        else:
            _show(comparison, title=f"{model} on {opened.name}, {n * seeds:,} held-out problems")
            named = _named(model, verifier, prompts)
            tune = typed_command("tune-budget", *named, *task_options(asked)) if _has_training(opened) else None
            _tell_curves(out, named, tune, _question(asked, opened), comparison)


def _has_training(task: "Task") -> bool:
    from selfcorrect.tasks.validate import FiniteTask

    return not isinstance(task, FiniteTask) or task.available("train") > 0


def _tell_curves(out: Path, named: list[object], tune: str | None, question: str, comparison: "Comparison") -> None:
    """Where the figures are, and what comes next; `tune` is the command that plans, where there is what to plan on."""
    from selfcorrect.training.scaling.summary import best_played

    best = best_played(comparison.points, comparison.measured)
    plan = {"next": f"{tune}  (a plan of what a budget is best spent on)"} if tune else {}
    search = typed_command("solve", question, *named, *(["--strategy", best] if best else []))
    tell_files({"figures": out / "scale.json", "chart": out / "scale.svg", **plan, "try it": search})


def _named(model: str, verifier: Path | None, prompts: str | None) -> list[object]:
    """The options of the policy, its verifier and its words."""
    given = {"--model": model, "--verifier": verifier, "--prompts": prompts}
    return [word for option, value in given.items() if value is not None for word in (option, value)]


def _question(asked: "TaskSettings", opened: "Task") -> str:
    return question_like(asked, [problem.prompt for problem in opened.problems("test", 1)])


def _opened(
    task: str, columns: Sequence[str] | None, prompts: str | None, models: tuple[str, Path | None, Path | None]
) -> "tuple[TaskSettings, Task, Searchers]":
    """The task as the policy can read it, and the policy with its verifiers; what is wrong with the task or the words
    is told before anything is loaded."""
    from selfcorrect.agents.prompts import prompt_settings
    from selfcorrect.cli.naming import task_settings

    asked = task_settings(task, columns)
    prompt_settings(prompts)
    opened = asked.open()
    searchers = open_searchers(*models)
    searchers.refuse_unfit(opened.checker)
    return *worded_task(asked, opened, reads_english=searchers.named.reads_english), searchers


def _names(strategies: str) -> list[str]:
    return [name.strip() for name in strategies.split(",") if name.strip()]


def _show(comparison: "Comparison", *, title: str) -> None:
    """One row for each strategy, one column for each budget."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from selfcorrect.training.scaling.summary import label_of

    whole = [point for point in comparison.points if point.bin is None]
    sizes = sorted({point.answers for point in whole if point.family != "perfect verifier"})
    table = Table(header_style="dim", box=SIMPLE_HEAD)
    table.add_column("accuracy [95%], mean tokens")
    for size in sizes:
        table.add_column(f"{size} answers", justify="right")
    for family in dict.fromkeys(point.family for point in whole):
        points = {point.answers: point for point in whole if point.family == family}
        table.add_row(label_of(family), *(_cell(points.get(size)) for size in sizes))
    results.print(Text(title, style="italic"), table)


def _cell(point: Any) -> str:
    if point is None:
        return "–"
    low, high = point.ci95
    tokens = "" if point.tokens != point.tokens else f"\n{point.tokens:.0f}"  # nan: nothing was played
    return f"{point.accuracy:.3f} [{low:.3f}, {high:.3f}]{tokens}"


# `selfcorrect tune-budget`: learn which strategy a budget is best spent on, for problems of which difficulty.


def tune_budget(
    task: TaskName = "countdown",
    columns: Columns = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The plan.")] = Path("plan.json"),
    budgets: Budgets = "1,2,4,...,64",
    strategies: Strategies = None,
    model: ModelName = "embedded",
    device: Device = None,
    dtype: Dtype = None,
    verifier: VerifierFolder = None,
    step_verifier: StepVerifierFolder = None,
    prompts: PromptsName = None,
    n: Annotated[int, problem_count("Training problems.", least=10)] = 400,
    bins: Annotated[int, typer.Option(min=1, help="Bins of difficulty.")] = 5,
    samples: Annotated[int, typer.Option(min=1, help="Answers by which difficulty is estimated.")] = 2,
    seed: Seed = 101,
    temperature: Temperature = 1.0,
    limit: AnswerLimit = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Keep what is played there, to go on after an interruption."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play strategies on training problems, and write a plan of the best one for each difficulty and budget."""
    with reporting(as_json=as_json):
        answers = numbers_of(budgets)
        if strategies is not None:
            refuse_idle(_names(strategies), verifier=verifier, step_verifier=step_verifier, plan=None)
        asked, opened, searchers = _opened(task, columns, prompts, (model, verifier, step_verifier))

        from selfcorrect.training.scaling.run import compare, families_for, sparing_for, tune

        policy, sampling = searchers.named.policy, searchers.sampling(limit, temperature)
        usual = families_for(policy, searchers.verifier, searchers.step_verifier, None)
        usual += sparing_for(policy, searchers.verifier, sampling)
        with counting(f"searching {n:,} training problems", silent=as_json) as tell:
            comparison = compare(
                policy,
                opened,
                prompts=searchers.named.prompts(usual=asked.prompts_name, chosen=prompts),
                families=list(dict.fromkeys(usual if strategies is None else _names(strategies))),
                answers=answers,
                problems=n,
                seeds=(seed,),
                verifier=searchers.verifier,
                step_verifier=searchers.step_verifier,
                sampling=sampling,
                split="train",
                folder=folder,
                on_progress=tell,
                samples=samples,
                policy_name=model,
                verifier_name=str(verifier or ""),
            )
        plan = tune(
            comparison,
            measure_by="agreement" if searchers.verifier is None else "verifier",
            bins=bins,
            samples=samples,
            task=opened.name,
            policy=model,
        )
        plan.save(out)
        if as_json:
            write_json(plan.model_dump())
        else:
            _show_plan(plan)
            _tell_plan(plan, out, _question(asked, opened), _named(model, verifier, prompts))


def _show_plan(plan: "SearchPlan") -> None:
    for one in plan.budgets:
        results.print(f"{one.tokens:>6} tokens  " + "  |  ".join(one.strategies), highlight=False)


def _tell_plan(plan: "SearchPlan", out: Path, question: str, named: list[object]) -> None:
    largest = max(one.tokens for one in plan.budgets)
    tell_files({"plan": out, "try it": typed_command("solve", question, *named, "--plan", out, "--budget", largest)})
