"""`selfcorrect eval`: how well a policy answers, and what its revisions do to its answers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfcorrect.cli.console import reporting, results, write_json
from selfcorrect.cli.options import (
    AsJson,
    Columns,
    Critique,
    Device,
    Dtype,
    ModelName,
    PromptsName,
    Revisions,
    Seed,
    TaskName,
    Temperature,
)

if TYPE_CHECKING:
    from selfcorrect.tasks.problem import Task

_MANY = 2000


def evaluate_command(
    model: ModelName = "embedded",
    device: Device = None,
    dtype: Dtype = None,
    task: TaskName = "countdown",
    columns: Columns = None,
    n: Annotated[
        int | None,
        typer.Option("-n", "--n", min=1, help="How many held-out problems; 2,000, or all of a smaller file."),
    ] = None,
    revisions: Revisions = 1,
    critique: Critique = "instruction",
    prompts: PromptsName = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Evaluate MODEL on held-out problems of a task; prints accuracies, delta and flips with 95% intervals."""
    with reporting(as_json=as_json):
        from selfcorrect.agents.critiques import CRITIQUES
        from selfcorrect.agents.evaluation import evaluate
        from selfcorrect.agents.graph import build_graph
        from selfcorrect.agents.policy import Sampling
        from selfcorrect.agents.prompts import prompt_settings
        from selfcorrect.cli.console import counting
        from selfcorrect.cli.naming import CountedPolicy, open_policy, task_settings

        mode, asked = CRITIQUES.find(critique), task_settings(task, columns)
        prompt_settings(prompts)
        asked.open()  # a broken file is told before a model is loaded
        named = open_policy(model)
        asked = asked.worded(named.reads_english)
        opened = asked.open()
        n = _default_count(opened) if n is None else n
        problems = opened.problems("test", n, seed=seed)
        named.refuse_unreadable(problems[0].prompt)
        named.warn_beyond(revisions)

        with counting(f"evaluating on {n:,} problems", silent=as_json) as tell:
            policy = CountedPolicy(named.policy, tell, n * (1 + mode.turns * revisions))
            graph = build_graph(
                policy,
                checker=opened.checker if mode.needs_checker else None,
                prompts=named.prompts(mode, usual=asked.prompts_name, chosen=prompts),
                revisions=revisions,
                critique=mode,
            )
            report, _ = evaluate(graph, problems, opened.checker, sampling=Sampling(temperature=temperature), seed=seed)
    figures = {
        "model": model,
        "task": opened.name,
        "temperature": temperature,
        "critique": critique,
        **report.as_dict(),
    }
    _show(figures, as_json=as_json)


def _show(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(figures)
        return
    from selfcorrect.cli.tables import one_table

    how = "greedy" if figures["temperature"] == 0 else f"temperature {figures['temperature']:g}"
    title = f"{figures['model']} on {figures['task']}, {how}, {figures['n']:,} held-out problems"
    results.print(one_table(figures, title=title))


def _default_count(task: "Task") -> int:
    """2,000 problems, or as many as a file holds out; at least 1, so that a file that holds out none is told."""
    from selfcorrect.tasks.validate import FiniteTask

    return max(1, min(_MANY, task.available("test"))) if isinstance(task, FiniteTask) else _MANY
