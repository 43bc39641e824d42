"""`selfcorrect adapt`: learn from problems without answers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfcorrect.cli.console import loading, notes, reporting, results, write_json
from selfcorrect.cli.naming import NamedPolicy, open_policy
from selfcorrect.cli.options import AsJson, Config, Device, Dtype, ModelName, Overrides
from selfcorrect.errors import ConfigurationError, TaskError

if TYPE_CHECKING:
    from selfcorrect.tasks.problem import Problem, Task
    from selfcorrect.training.adapt import Adapted, AdaptSettings


def adapt_command(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help='Problems, one JSON row a line: {"prompt": "..."}.')
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="In place of FILE: held-out problems of a task; its answers are only used to measure."),
    ] = None,
    model: ModelName = "embedded",
    device: Device = None,
    dtype: Dtype = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The adapter goes to DIR/adapter.")] = Path("runs/adapt"),
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Problems of --task.")] = 200,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates.")] = None,
    samples: Annotated[int | None, typer.Option(min=2, help="Answers to each problem, which vote.")] = None,
    min_agreement: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="A vote with a smaller share teaches nothing.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the adapter.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    limit: Annotated[int | None, typer.Option("--max-answer-tokens", min=1, help="The longest answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    as_json: AsJson = False,
) -> None:
    """Adapt MODEL to problems without answers, by the votes of its own answers (TTRL). Writes an adapter, never the
    base weights.

    Settings come from --config, then the options, then --set. Use it with --model DIR/adapter; to go back, do not.
    """
    with reporting(as_json=as_json):
        if (file is None) == (task is None):
            raise ConfigurationError("give either a FILE of problems or --task NAME")
        with loading("the trainer"):
            from selfcorrect.training.adapt import adapt, write_record
            from selfcorrect.training.agreement import measured_accuracy
        chosen = {
            "steps": steps,
            "optimiser.episodes_per_problem": samples,
            "min_agreement": min_agreement,
            "optimiser.learning_rate": learning_rate,
            "seed": seed,
        }
        settings = _settings(config, chosen, overrides or [])
        opened = None if task is None else _open_task(task)
        options = {} if limit is None else {"max_new_tokens": limit}
        named = open_policy(model, **options)
        if opened is not None and task is not None:
            opened = _open_task(task, words=named.reads_english)
        problems = list(opened.problems("test", n, seed=settings.seed)) if opened is not None else _read(file, named)
        for problem in problems:
            named.refuse_unreadable(problem.prompt)
        prompts = named.prompts("instruction")
        before = (
            None
            if opened is None
            else measured_accuracy(named.policy, problems, opened.checker, prompts, settings.samples, settings.seed)
        )
        adapted = adapt(named.policy, problems, prompts=prompts, out=out, settings=settings, progress=_sink(as_json))
        after = (
            None
            if opened is None
            else measured_accuracy(named.policy, problems, opened.checker, prompts, settings.samples, settings.seed)
        )
        figures: dict[str, Any] = {"model": model, "problems": len(problems), "before": before, "after": after}
        write_record(out, adapted, settings, figures)
        if as_json:
            write_json(json.loads((out / "adapt.json").read_text(encoding="utf-8")))
        else:
            _show(adapted, before, after)


def _settings(config: Path | None, chosen: dict[str, Any], overrides: list[str]) -> "AdaptSettings":
    from selfcorrect.settings import settled
    from selfcorrect.training.adapt import AdaptSettings

    return settled(AdaptSettings(), config=config, chosen=chosen, overrides=overrides)


def _open_task(name: str, *, words: bool = False) -> "Task":
    from selfcorrect.cli.naming import open_task

    return open_task(name, words=words)


def _read(path: Path | None, named: NamedPolicy) -> "list[Problem]":
    """The problems of a file; answers in it are not read."""
    from selfcorrect.cli.naming import problem_of_question

    assert path is not None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror or error}") from error
    found: dict[str, Problem] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            problem = problem_of_question(
                _prompt(line, f"{path}, line {number}"), answer=None, reads_english=named.reads_english
            )
            voted = "math" if problem.checker == "none" else problem.checker
            found.setdefault(problem.prompt, problem.model_copy(update={"id": f"line-{number}", "checker": voted}))
    if not found:
        raise TaskError(f"{path} holds no problems")
    return list(found.values())


def _prompt(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise TaskError(f'{where}: this is no JSON row such as {{"prompt": "3 5 7 9 get 56"}} ({error.msg})') from error
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise TaskError(f'{where}: the row has no "prompt" with text in it')
    prompt: str = row["prompt"]
    return prompt


class _Lines:
    """Progress as lines."""

    def start(self, total_steps: int, stage: str) -> None:
        self._total = total_steps

    def step(self, metrics: Any) -> None:
        notes.print(
            f"step {metrics['step']:.0f}/{self._total}: agreement {metrics['agreement']:.3f}, held back "
            f"{metrics['held_back']:.2f}",
            style="dim",
        )

    def message(self, text: str) -> None:
        notes.print(text, style="yellow")

    def close(self) -> None: ...


def _sink(silent: bool) -> Any:
    from selfcorrect.training.runs.progress import SilentProgress

    return SilentProgress() if silent else _Lines()


def _show(adapted: "Adapted", before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    if before is not None and after is not None:
        for name in before:
            results.print(f"{name:24} {before[name]:.3f} -> {after[name]:.3f}", highlight=False)
    if adapted.held_back == 1:
        notes.print("no vote was clear enough to learn from; the adapter changes nothing", style="yellow")
    results.print(f"held back {adapted.held_back:.2f} of the votes; ended: {adapted.stop_reason}", highlight=False)
    results.print(
        f"adapter: {adapted.adapter_path} (use it with --model {adapted.adapter_path}; to go back, do not)",
        highlight=False,
    )
