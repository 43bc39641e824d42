"""`selfcorrect eval`: how well a policy answers, and what its revisions do to its answers; `selfcorrect view`: those
answers, and the ones that a run kept, for reading."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfcorrect.cli.console import counting, notes, reporting, results, tell_files, write_json
from selfcorrect.cli.naming import Part, chosen_problems, steered, task_options, typed_command, worded_task
from selfcorrect.cli.options import (
    NOTHING_REVISED,
    THINK_END,
    WAIT_WORD,
    AnswerLimit,
    AsJson,
    BlindSpot,
    Columns,
    Critique,
    Device,
    Dtype,
    ModelName,
    PromptsName,
    RevisionsOrNone,
    Seed,
    TaskName,
    Temperature,
    ThinkEnd,
    ThinkTokens,
    Waits,
    WaitWord,
    problem_count,
    refuse_typed,
)
from selfcorrect.errors import ConfigurationError, SelfCorrectError, TrainingError

if TYPE_CHECKING:
    from selfcorrect.agents.critiques import CritiqueMode, Loop
    from selfcorrect.agents.evaluation import EvaluationReport
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.agents.state import EpisodeState
    from selfcorrect.agents.unfinished import UnfinishedEvaluation
    from selfcorrect.cli.naming import NamedPolicy
    from selfcorrect.rewards.checker import Checker
    from selfcorrect.tasks.problem import Problem, Task
    from selfcorrect.tasks.registry import TaskSettings


def evaluate_command(
    ctx: typer.Context,
    model: ModelName = "embedded",
    device: Device = None,
    dtype: Dtype = None,
    task: TaskName = "countdown",
    columns: Columns = None,
    split: Annotated[
        Part, typer.Option(help="Which problems: test are those held out from training; all is a whole file.")
    ] = "test",
    n: Annotated[
        int | None, problem_count("How many problems; by default 2,000, or all of a file if those are fewer.")
    ] = None,
    revisions: RevisionsOrNone = None,
    critique: Critique = None,
    prompts: PromptsName = None,
    temperature: Temperature = 0.0,
    limit: AnswerLimit = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the episodes and the figures there; by default nowhere. Episodes are kept as they end: where an "
            "evaluation was stopped or failed, the same command goes on.",
        ),
    ] = None,
    think_tokens: ThinkTokens = None,
    waits: Waits = 0,
    wait_word: WaitWord = WAIT_WORD,
    think_end: ThinkEnd = THINK_END,
    blind_spot: BlindSpot = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Evaluate MODEL on problems of a task; prints accuracies, delta and flips with 95% intervals."""
    with reporting(as_json=as_json):
        from selfcorrect.agents.critiques import CRITIQUES, Loop
        from selfcorrect.agents.prompts import prompt_settings
        from selfcorrect.cli.naming import open_policy, task_settings

        if revisions == 0:
            refuse_typed(ctx, ("critique",), NOTHING_REVISED)
        asked = task_settings(task, columns)
        CRITIQUES.find(critique or "instruction")  # what is misspelt is told before a model is loaded, too
        prompt_settings(prompts)
        opened = asked.open()  # a broken file is told before a model is loaded
        if out is not None:
            _prove_free(out)
        named = open_policy(model) if blind_spot else steered(open_policy(model), ctx)
        loop = named.loop(critique, revisions) if not blind_spot else Loop()
        read = worded_task(asked, opened, reads_english=named.reads_english)
        examination = _Examination(named, *read, loop, prompts, temperature, limit)
        problems = chosen_problems(examination.task, split, n, seed)
        if blind_spot:
            _measure_blind_spot(named, problems, examination.task.checker, examination.words, ctx)
            return
        unfinished = None if out is None else _unfinished(out, examination, problems, ctx)
        with _telling_what_is_kept(unfinished, len(problems)):
            report, states = examination.hold(problems, seed, unfinished, silent=as_json)
        figures = {**examination.said(), "split": split, **report.as_dict()}
        if unfinished is not None:
            _keep(unfinished.path.parent, figures, states, model, getattr(named.policy, "tokenizer", None))
            unfinished.end()
        _show(figures, out, len(problems), as_json=as_json)
        if not as_json:
            words = [] if prompts is None else ["--prompts", prompts]
            _tell(out, model, [*task_options(asked), *words])


@dataclass
class _Examination:
    """A policy, the task it is examined in, and how."""

    named: "NamedPolicy"
    asked: "TaskSettings"
    task: "Task"
    loop: "Loop"
    prompts: str | None
    temperature: float
    limit: int | None

    def __post_init__(self) -> None:
        self.named.warn_beyond(self.loop.revisions)
        self.named.refuse_critique(self.mode, self.task.checker)

    @property
    def mode(self) -> "CritiqueMode":
        from selfcorrect.agents.critiques import CRITIQUES

        return CRITIQUES.find(self.loop.critique)

    @property
    def words(self) -> "Prompts":
        return self.named.prompts(self.mode, usual=self.asked.prompts_name, chosen=self.prompts)

    def said(self) -> dict[str, Any]:
        """What was examined, for its figures."""
        return {
            "model": self.named.name,
            "task": self.task.name,
            "temperature": self.temperature,
            "critique": self.loop.critique if self.loop.revisions else None,
        }

    def hold(
        self, problems: "Sequence[Problem]", seed: int, unfinished: "UnfinishedEvaluation | None", *, silent: bool
    ) -> "tuple[EvaluationReport, list[EpisodeState]]":
        """Play and judge all of them but those that are played already."""
        from selfcorrect.agents.evaluation import evaluate
        from selfcorrect.agents.graph import build_graph
        from selfcorrect.agents.policy import Sampling
        from selfcorrect.cli.naming import CountedPolicy

        self.named.refuse_unreadable(problems[0].prompt)
        left = len(problems) - (0 if unfinished is None else unfinished.count())
        turns = left * (1 + self.mode.turns * self.loop.revisions)
        with counting(f"evaluating on {len(problems):,} problems, turns", silent=silent) as tell:
            graph = build_graph(
                CountedPolicy(self.named.policy, tell, turns),
                checker=self.task.checker if self.mode.needs_checker else None,
                prompts=self.words,
                revisions=self.loop.revisions,
                critique=self.mode,
            )
            sampling = Sampling(temperature=self.temperature, max_new_tokens=self.limit)
            # A server that takes so many requests finishes as many episodes first: they are kept, whatever comes.
            concurrency = getattr(self.named.policy, "concurrency", None)
            given: dict[str, Any] = {"seed": seed, "concurrency": concurrency, "unfinished": unfinished}
            return evaluate(graph, problems, self.task.checker, sampling=sampling, **given)


# The blind spot, in the place of an evaluation.


def _measure_blind_spot(
    named: "NamedPolicy",
    problems: "Sequence[Problem]",
    checker: "Checker",
    prompts: "Prompts",
    ctx: typer.Context,
) -> None:
    """Measure and show it.

    Raises:
        ConfigurationError: an option has no part in it, or the policy cannot be steered so.
    """
    idle = "--blind-spot compares three ways to meet one error, and this has no part in it"
    refuse_typed(ctx, ("think_tokens", "revisions", "critique", "out"), idle)
    from selfcorrect.agents.policies.thinking import ThinkingPolicy
    from selfcorrect.agents.policy import Sampling
    from selfcorrect.agents.solving.blind_spot import blind_spot

    policy = steered(named, ctx, waits_at_least=1).policy
    assert isinstance(policy, ThinkingPolicy)
    asked = ctx.params
    sampling = Sampling(temperature=asked["temperature"], max_new_tokens=asked["limit"])
    with notes.status("drawing answers, and meeting the wrong ones in three ways ..."):
        found = blind_spot(policy, problems, checker, prompts, sampling=sampling, seed=asked["seed"])
    if asked["as_json"]:
        write_json({"model": named.name, **found.as_dict()})
        return
    word = policy.thinking.wait
    results.print(f"{found.n:,} wrong answers of {named.name}, drawn at temperature 1; mended:", markup=False)
    for way, share, (low, high) in (
        ("in its own unfinished turn", found.own, found.own_ci95),
        (f"the same, with {word!r} behind it", found.forced, found.forced_ci95),
        ("in a user's message", found.user, found.user_ci95),
    ):
        results.print(f"  {way:36} {share:.3f}  [{low:.3f}, {high:.3f}]", markup=False)
    results.print(f"blind spot {found.blind_spot:.3f}, with {word!r} {found.blind_spot_forced:.3f}", markup=False)


# What is left behind: the episodes, while they are played and as runs write them, and the figures.


def _unfinished(
    out: Path, examination: _Examination, problems: "Sequence[Problem]", ctx: typer.Context
) -> "UnfinishedEvaluation":
    """Where the episodes go as they end. Those of another evaluation are refused before anything is played."""
    from selfcorrect.agents.loading import runs_elsewhere
    from selfcorrect.agents.unfinished import FILE, UnfinishedEvaluation, digest_of_problems, digest_of_weights

    steering = ("think_tokens", "waits", "wait_word", "think_end")
    model = examination.named.name
    asked = {
        # how many requests at a time a server is sent, and the like, may change
        "model": model.partition("?")[0] if runs_elsewhere(model) else model,
        "weights": digest_of_weights(model),
        "problems": digest_of_problems(problems),
        "loop": asdict(examination.loop),
        "prompts": asdict(examination.words),
        "temperature": examination.temperature,
        "max-answer-tokens": examination.limit,
        **{name.replace("_", "-"): ctx.params[name] for name in (*steering, "seed", "dtype")},
    }
    unfinished = UnfinishedEvaluation(out / FILE, asked)
    there = len(unfinished.begin())
    if there:
        notes.print(f"{there:,} of {len(problems):,} episodes are there already, from {unfinished.path}", markup=False)
    return unfinished


@contextmanager
def _telling_what_is_kept(unfinished: "UnfinishedEvaluation | None", asked: int) -> Iterator[None]:
    """Where it ends before its time, say what is not lost."""
    try:
        yield
    except (SelfCorrectError, KeyboardInterrupt):
        if unfinished is not None and (kept := unfinished.count()):
            notes.print(
                f"{kept:,} of {asked:,} episodes are kept in {unfinished.path}: the same command goes on with the rest",
                markup=False,
            )
        raise


def _prove_free(out: Path) -> None:
    from selfcorrect.files import prove_writable

    there = [name for name in ("episodes.jsonl", "eval.json", "config.yaml") if (out / name).exists()]
    if there:
        raise TrainingError(f"{out} already holds {' and '.join(there)}; choose another folder with --out")
    prove_writable(out)


def _keep(out: Path, figures: Mapping[str, Any], states: "Sequence[EpisodeState]", model: str, tokenizer: Any) -> None:
    from selfcorrect.files import finite, json_line, write_whole
    from selfcorrect.training.runs.run_directory import episode_record

    rows = (episode_record(state, policy=model, tokenizer=tokenizer) for state in states)
    write_whole(out / "episodes.jsonl", "".join(map(json_line, rows)))
    write_whole(out / "eval.json", json.dumps(finite(figures), indent=2) + "\n")


def _show(figures: dict[str, Any], out: Path | None, asked: int, *, as_json: bool) -> None:
    if figures["left_out"]:
        from selfcorrect.training.runs.held_out import left_out_text

        notes.print(left_out_text(figures["left_out"]), style="yellow", markup=False)
    if as_json:
        write_json(figures)
        return
    from selfcorrect.cli.tables import one_table

    how = "greedy" if figures["temperature"] == 0 else f"temperature {figures['temperature']:g}"
    which = {"test": "held-out ", "train": "training ", "all": ""}[figures["split"]]
    left_out = f" ({asked - figures['n']:,} left out)" if figures["left_out"] else ""
    title = f"{figures['model']} on {figures['task']}, {how}, {figures['n']:,} {which}problems{left_out}"
    results.print(one_table(figures, title=title))


def _tell(out: Path | None, model: str, asked: Sequence[str]) -> None:
    """What was kept, and what comes next; `asked` are the options of the problems."""
    from selfcorrect.agents.loading import runs_elsewhere

    kept = {}
    if out is not None:
        read = f"{typed_command('view', out)}  (one page, in a browser)"
        kept = {"episodes": out / "episodes.jsonl", "figures": out / "eval.json", "read it": read}
    taught = f"{typed_command('train', 'score', '--model', model, *asked)}  (teach it to correct itself)"
    if runs_elsewhere(model):
        taught = f"{typed_command('scale', '--model', model, *asked)}  (what more answers are worth)"
    tell_files({**kept, "next": taught})


# Reading what was kept.


def view(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or of eval --out.")],
    other: Annotated[Path | None, typer.Argument(metavar="[RUN2]", help="Another one, to read beside it.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the page goes; by default episodes.html in RUN.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--export",
            metavar="KIND:FILE",
            help="Not a page: verifiers:FILE (its traces.jsonl), otel:FILE (OpenTelemetry GenAI spans), or "
            "datasets:DIR (a Dataset of Hugging Face's, save_to_disk).",
        ),
    ] = None,
    serving: Annotated[
        bool, typer.Option("--serve", help="Serve the page on this machine, read anew whenever it is loaded.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0 is a free one.")] = 8800,
) -> None:
    """Read stored episodes: filters, search, tokens by log-probability and advantage, two runs side by side."""
    with reporting(as_json=False):
        from selfcorrect.cli.serve import serve_page
        from selfcorrect.files import write_whole
        from selfcorrect.training.reporting.viewer import export, save_dataset, viewer_page

        runs = [run] if other is None else [run, other]
        if sum((out is not None, to is not None, serving)) > 1:
            raise ConfigurationError("--out, --export and --serve go one at a time")
        if to is not None:
            kind, _, file = to.partition(":")
            if not file:
                raise ConfigurationError(f"--export {to} names no file; write --export verifiers:traces.jsonl")
            if kind == "datasets":
                save_dataset(runs, Path(file))
            else:
                write_whole(Path(file), "".join(export(kind, runs)))
            tell_files({kind: file, "next": _READ_BY[kind].format(file=file)})
            return
        page = viewer_page(runs)
        if serving:
            serve_page(lambda: viewer_page(runs), port)
            return
        written = out or run / "episodes.html"
        write_whole(written, page)
        tell_files({"episodes": written, "next": "open it in a browser; its key ? tells the keys"})


_READ_BY = {
    "verifiers": "prime-rl reads it: a trace a line, in the form of verifiers 0.4",
    "otel": "for what reads OpenTelemetry's attributes of generative AI: a span a line",
    "datasets": "in Python, datasets.load_from_disk({file!r}); its push_to_hub shares it",
}
"""What comes after an export."""
