"""`selfcorrect eval`: how well a policy answers, and what its revisions do to its answers."""

import json
import random
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from selfcorrect.cli.console import counting, notes, reporting, results, tell_files, write_json
from selfcorrect.cli.naming import steered
from selfcorrect.cli.options import (
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
    Revisions,
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
from selfcorrect.errors import ConfigurationError, TrainingError

if TYPE_CHECKING:
    from selfcorrect.agents.critiques import CritiqueMode
    from selfcorrect.agents.evaluation import EvaluationReport
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.agents.state import EpisodeState
    from selfcorrect.cli.naming import NamedPolicy
    from selfcorrect.rewards.checker import Checker
    from selfcorrect.tasks.problem import Problem, Task
    from selfcorrect.tasks.registry import TaskSettings

_MANY = 2000
Part = Literal["test", "train", "all"]


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
    revisions: Revisions = 1,
    critique: Critique = "instruction",
    prompts: PromptsName = None,
    temperature: Temperature = 0.0,
    limit: AnswerLimit = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the episodes and the figures there; by default nowhere.")
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
        from selfcorrect.agents.critiques import CRITIQUES
        from selfcorrect.agents.prompts import prompt_settings
        from selfcorrect.cli.naming import open_policy, task_settings

        asked, mode = task_settings(task, columns), CRITIQUES.find(critique)
        prompt_settings(prompts)
        asked.open()  # a broken file is told before a model is loaded
        if out is not None:
            _prove_free(out)
        named = open_policy(model) if blind_spot else steered(open_policy(model), ctx)
        examination = _Examination(
            named, asked.worded(named.reads_english), mode, revisions, prompts, temperature, limit
        )
        problems = chosen_problems(examination.task, split, n, seed)
        if blind_spot:
            _measure_blind_spot(named, problems, examination.task.checker, examination.words, ctx)
            return
        report, states = examination.hold(problems, seed, silent=as_json)
        figures = {
            "model": model,
            "task": examination.task.name,
            "split": split,
            "temperature": temperature,
            "critique": critique,
            **report.as_dict(),
        }
        if out is not None:
            _keep(out, figures, states, model)
        _show(figures, out, len(problems), task, as_json=as_json)


@dataclass
class _Examination:
    """A policy, the task it is examined in, and how."""

    named: "NamedPolicy"
    asked: "TaskSettings"
    mode: "CritiqueMode"
    revisions: int
    prompts: str | None
    temperature: float
    limit: int | None

    def __post_init__(self) -> None:
        self.named.refuse_feedback(self.mode)
        self.named.warn_beyond(self.revisions)
        self.task: Task = self.asked.open()

    @property
    def words(self) -> "Prompts":
        return self.named.prompts(self.mode, usual=self.asked.prompts_name, chosen=self.prompts)

    def hold(
        self, problems: "Sequence[Problem]", seed: int, *, silent: bool
    ) -> "tuple[EvaluationReport, list[EpisodeState]]":
        """Play and judge all of them."""
        from selfcorrect.agents.evaluation import evaluate
        from selfcorrect.agents.graph import build_graph
        from selfcorrect.agents.policy import Sampling
        from selfcorrect.cli.naming import CountedPolicy

        self.named.refuse_unreadable(problems[0].prompt)
        turns = len(problems) * (1 + self.mode.turns * self.revisions)
        with counting(f"evaluating on {len(problems):,} problems, turns", silent=silent) as tell:
            graph = build_graph(
                CountedPolicy(self.named.policy, tell, turns),
                checker=self.task.checker if self.mode.needs_checker else None,
                prompts=self.words,
                revisions=self.revisions,
                critique=self.mode,
            )
            sampling = Sampling(temperature=self.temperature, max_new_tokens=self.limit)
            return evaluate(graph, problems, self.task.checker, sampling=sampling, seed=seed)


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


# Which problems.


def chosen_problems(task: "Task", split: Part, count: int | None, seed: int) -> "Sequence[Problem]":
    """`count` problems of a split; None is 2,000, or all there are if those are fewer. "all" is both splits of a file.

    Raises:
        TaskError: the split holds fewer.
        ConfigurationError: "all" of a task that makes its problems up.
    """
    from selfcorrect.tasks.validate import FiniteTask

    if not isinstance(task, FiniteTask):
        if split == "all":
            raise ConfigurationError(
                f"--split all: {task.name} makes its problems up, as many as are asked for; use test or train"
            )
        return task.problems(split, count or _MANY, seed=seed)
    test, train = task.available("test"), task.available("train")
    if split != "all":
        held = task.available(split)
        if split == "test" and count is None and test < train:
            notes.print(
                f"{task.name}: {test:,} of {test + train:,} problems are held out; --split all takes all of them"
            )
        return task.problems(split, max(1, min(_MANY, held)) if count is None else count, seed=seed)
    whole = [*task.problems("test", test, seed=seed), *task.problems("train", train, seed=seed)]
    if count is not None and count > len(whole):
        raise ConfigurationError(f"--problems {count}: {task.name} holds {len(whole):,}")
    return random.Random(f"all-{seed}").sample(whole, min(len(whole), _MANY) if count is None else count)


# What is left behind: the episodes, as runs write them, and the figures.


def _prove_free(out: Path) -> None:
    from selfcorrect.files import prove_writable

    there = [name for name in ("episodes.jsonl", "eval.json", "config.yaml") if (out / name).exists()]
    if there:
        raise TrainingError(f"{out} already holds {' and '.join(there)}; choose another folder with --out")
    prove_writable(out)


def _keep(out: Path, figures: Mapping[str, Any], states: "Sequence[EpisodeState]", model: str) -> None:
    from selfcorrect.files import finite, json_line, write_whole
    from selfcorrect.training.runs.run_directory import episode_record

    write_whole(out / "episodes.jsonl", "".join(json_line(episode_record(state, policy=model)) for state in states))
    write_whole(out / "eval.json", json.dumps(finite(figures), indent=2) + "\n")


def _show(figures: dict[str, Any], out: Path | None, asked: int, given: str, *, as_json: bool) -> None:
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
    if out is not None:
        tell_files({"episodes": out / "episodes.jsonl", "figures": out / "eval.json"})
    policy, task = shlex.quote(figures["model"]), shlex.quote(given)
    tell_files({"next": f"selfcorrect train score --model {policy} --task {task}  (teach it to correct itself)"})
