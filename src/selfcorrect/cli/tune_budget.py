"""`selfcorrect tune-budget`: learn which strategy a budget is best spent on, for problems of which difficulty."""

from pathlib import Path
from typing import Annotated

import typer

from selfcorrect.cli.bars import counting
from selfcorrect.cli.console import reporting, results, write_json
from selfcorrect.cli.options import AsJson, ModelName, Seed, Temperature
from selfcorrect.cli.searches import (
    AnswerLimit,
    Budgets,
    StepVerifierFolder,
    Strategies,
    VerifierFolder,
    numbers_of,
    open_searchers,
)


def tune_budget(
    task: Annotated[str, typer.Option(help="As for eval.")] = "countdown",
    out: Annotated[Path, typer.Option(metavar="FILE", help="The plan.")] = Path("plan.json"),
    budgets: Budgets = "1,2,4,...,64",
    strategies: Strategies = None,
    model: ModelName = "embedded",
    verifier: VerifierFolder = None,
    step_verifier: StepVerifierFolder = None,
    n: Annotated[int, typer.Option("-n", "--n", min=10, help="Training problems.")] = 400,
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
        from selfcorrect.cli.task_names import open_task

        answers = numbers_of(budgets)
        open_task(task)
        searchers = open_searchers(model, verifier, step_verifier)
        opened = open_task(task, words=searchers.named.reads_english)

        from selfcorrect.training.scaling import compare, families_for, sparing_for, tune

        policy, sampling = searchers.named.policy, searchers.sampling(limit, temperature)
        families = families_for(searchers.verifier, searchers.step_verifier, None)
        usual = [*families, *sparing_for(policy, searchers.verifier, sampling)]
        with counting(f"searching {n:,} training problems", silent=as_json) as tell:
            comparison = compare(
                policy,
                opened,
                prompts=searchers.named.prompts("instruction"),
                families=list(dict.fromkeys(usual if strategies is None else strategies.split(","))),
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
            return
        for one in plan.budgets:
            results.print(f"{one.tokens:>6} tokens  " + "  |  ".join(one.strategies), highlight=False)
        results.print(f"written to {out}", style="dim")
