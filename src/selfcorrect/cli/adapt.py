"""`selfcorrect adapt`: learn from problems without answers. `selfcorrect push`: share what a run made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfcorrect.cli.console import loading, notes, reporting, results, tell_files, write_json
from selfcorrect.cli.naming import (
    NamedPolicy,
    column_names,
    open_policy,
    problem_of_question,
    question_like,
    task_settings,
    typed_command,
)
from selfcorrect.cli.options import (
    AnswerLimit,
    AsJson,
    Columns,
    Config,
    Device,
    Dtype,
    ModelName,
    OptionalSeed,
    OptionalTask,
    Overrides,
    PromptsName,
    problem_count,
)
from selfcorrect.errors import ConfigurationError, TaskError

if TYPE_CHECKING:
    from selfcorrect.tasks.problem import Problem, Task
    from selfcorrect.tasks.registry import TaskSettings
    from selfcorrect.training.adapt import Adapted, AdaptSettings


def adapt_command(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help='Problems: {"prompt": "..."} a line, or a .json, .csv or .parquet file.'),
    ] = None,
    task: OptionalTask = None,
    columns: Columns = None,
    model: ModelName = "embedded",
    device: Device = None,
    dtype: Dtype = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The adapter goes to DIR/adapter.")] = Path("runs/adapt"),
    n: Annotated[int | None, problem_count("Held-out problems of --task; by default 200.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates.")] = None,
    samples: Annotated[int | None, typer.Option(min=2, help="Answers to each problem, which vote.")] = None,
    min_agreement: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="A vote with a smaller share teaches nothing.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the adapter.")] = None,
    prompts: PromptsName = None,
    config: Config = None,
    overrides: Overrides = None,
    limit: AnswerLimit = None,
    seed: OptionalSeed = None,
    as_json: AsJson = False,
) -> None:
    """Adapt MODEL to problems without answers, by the votes of its own answers (TTRL). Writes an adapter, never the
    base weights.

    The problems are those of FILE, or held-out ones of --task, whose answers are only used to measure. Settings come
    from --config, then the options, then --set.
    """
    with reporting(as_json=as_json):
        if (file is None) == (task is None):
            raise ConfigurationError("give either a FILE of problems or --task NAME")
        if file is not None and n is not None:
            raise ConfigurationError("--problems counts those of --task; a FILE is taken whole")
        asked = None if task is None else task_settings(task, columns)
        chosen = {
            "steps": steps,
            "optimiser.episodes_per_problem": samples,
            "min_agreement": min_agreement,
            "optimiser.learning_rate": learning_rate,
            "seed": seed,
        }
        settings = _settings(config, chosen, overrides or [])
        given = _Given(file, column_names(columns), asked, n or _USUAL)
        options = {} if limit is None else {"max_new_tokens": limit}
        _carry_out(given, open_policy(model, **options), settings, prompts, out, as_json=as_json)


_USUAL = 200


@dataclass(frozen=True)
class _Given:
    """Where the problems come from: a file, or some of a task."""

    file: Path | None
    columns: dict[str, str]
    asked: "TaskSettings | None"
    count: int

    def task(self, named: NamedPolicy) -> "Task | None":
        return None if self.asked is None else self.asked.worded(named.reads_english).open()

    def problems(self, named: NamedPolicy, seed: int) -> "list[Problem]":
        task = self.task(named)
        if task is not None:
            return list(task.problems("test", self.count, seed=seed))
        assert self.file is not None
        return _read(self.file, self.columns, named)


def _carry_out(
    given: _Given, named: NamedPolicy, settings: "AdaptSettings", prompts: str | None, out: Path, *, as_json: bool
) -> None:
    with loading("the trainer"):
        from selfcorrect.training.adapt import adapt, write_record
        from selfcorrect.training.agreement import measured_accuracy
    task, problems = given.task(named), given.problems(named, settings.seed)
    for problem in problems:
        named.refuse_unreadable(problem.prompt)
    words = named.prompts(usual="math" if given.asked is None else given.asked.prompts_name, chosen=prompts)

    def measured() -> dict[str, Any] | None:
        if task is None:
            return None
        return measured_accuracy(named.policy, problems, task.checker, words, settings.samples, settings.seed)

    before = measured()
    adapted = adapt(named.policy, problems, prompts=words, out=out, settings=settings, progress=_sink(as_json))
    after = measured()
    figures: dict[str, Any] = {"model": named.name, "problems": len(problems), "before": before, "after": after}
    write_record(out, adapted, settings, figures)
    if as_json:
        write_json(json.loads((out / "adapt.json").read_text(encoding="utf-8")))
    else:
        _show(adapted, before, after)
        _tell(adapted, out, question_like(given.asked, [problem.prompt for problem in problems]))


def _settings(config: Path | None, chosen: dict[str, Any], overrides: list[str]) -> "AdaptSettings":
    from selfcorrect.settings import settled
    from selfcorrect.training.adapt import AdaptSettings

    return settled(AdaptSettings(), config=config, chosen=chosen, overrides=overrides)


def _read(path: Path, columns: dict[str, str], named: NamedPolicy) -> "list[Problem]":
    """The problems of a file; answers in it are not read.

    Raises:
        TaskError: the file cannot be read, a row has no prompt, or there is none.
        ConfigurationError: `columns` names another field than the prompt.
    """
    from selfcorrect.tasks.tables import read_table, refuse, refuse_missing_columns, renamed

    if other := sorted(set(columns.values()) - {"prompt"}):
        raise ConfigurationError(
            f"--map ...={other[0]}: of a FILE only the prompt is read; with --task {path} answers are used to measure"
        )
    rows, faults = read_table(path)
    refuse_missing_columns(path, rows, ("prompt",), columns)
    found: dict[str, Problem] = {}
    for number, row in rows:
        text = renamed(row, columns).get("prompt")
        if not isinstance(text, str) or not text.strip():
            faults.append((number, "prompt", f'the row has no "prompt" with text in it, got {text!r}'))
            continue
        problem = problem_of_question(text, answer=None, reads_english=named.reads_english)
        voted = "math" if problem.checker == "none" else problem.checker
        found.setdefault(problem.prompt, problem.model_copy(update={"id": f"line-{number}", "checker": voted}))
    refuse(path, faults)
    if not found:
        raise TaskError(f"{path} holds no problems")
    return list(found.values())


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


def _tell(adapted: "Adapted", out: Path, question: str) -> None:
    tell_files(
        {
            "adapter": f"{adapted.adapter_path}  (to go back, do not use it)",
            "figures": out / "adapt.json",
            "try it": typed_command("solve", question, "--model", adapted.adapter_path),
        }
    )


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that has ended.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hugging Face Hub.")],
    base: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="The Hub's name of the model under an adapter, if RUN knew a folder."),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="The merged model, rather than the adapter.")] = False,
    public: Annotated[bool, typer.Option("--public", help="A repository made now is seen by everybody.")] = False,
) -> None:
    """Upload RUN's adapter (or model, where all weights were trained) with a card of what was measured. Weights,
    tokenizer and card go up, nothing else; the token is that of `hf auth login`."""
    with reporting(as_json=False):
        from selfcorrect.training.runs.run_directory import RunDirectory
        from selfcorrect.training.runs.sharing import push_to_hub

        shared = push_to_hub(run, repo, base=base, private=not public, whole=whole)
        asked = question_like(None, [str(row["prompt"]) for row in RunDirectory(run).read_episodes()])
        tell_files({"shared": shared, "try it": typed_command("solve", asked, "--model", repo)})
