"""What `demo` and the arms of `train` share: settle the settings, train, show the result."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import typer

from selfcorrect.agents.prompts import prompt_settings, reads_english
from selfcorrect.cli.console import INTERRUPTED, loading, notes, results, tell_files, write_json
from selfcorrect.cli.naming import question_like, task_options, task_settings, typed_command
from selfcorrect.cli.options import PresetName
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.training.arms.specs import GROUPS_OF_SOME, idle_settings, refuse_unread
from selfcorrect.training.processes import by_first, count, is_first, on_this_machine

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm
    from selfcorrect.training.runs.progress import ProgressSink
    from selfcorrect.training.runs.run_directory import RunResult
    from selfcorrect.training.settings import RunSettings


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for on the command line; the options are those of `options`.

    Attributes:
        command: as typed, without its options, except those that choose the arm: "demo", "train score --no-stage1".
        preset: None is `usual` for a policy of ours, "lm" for any other model.
        chosen: what the arm's own options set, by the dotted names of the settings.
        arm: what is run, and the groups of settings that it reads; None reads all of them.
    """

    command: str
    preset: PresetName | None = None
    config: Path | None = None
    out: Path | None = None
    resume: Path | None = None
    overrides: Sequence[str] | None = None
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    task: str | None = None
    columns: Sequence[str] | None = None
    seed: int | None = None
    prompts: str | None = None
    limit: int | None = None
    report_to: str | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)
    usual: PresetName = "full"
    arm: tuple[str, Sequence[str]] | None = None

    def __post_init__(self) -> None:
        given = (
            self.config,
            self.out,
            self.model,
            self.device,
            self.dtype,
            self.task,
            self.columns,
            self.seed,
            self.prompts,
            self.limit,
            self.preset,
            self.report_to,
        )
        if self.resume is not None and any(option is not None for option in (*given, *self.chosen.values())):
            raise ConfigurationError(
                "--resume goes on with a run's own settings in its own folder: leave --config and --out away, and "
                "--preset, --model, --device, --dtype, --task, --map, --prompts, --max-answer-tokens, --report-to, "
                "--seed and the arm's own choices too"
            )
        if self.columns and self.task is None:
            raise ConfigurationError("--map names the columns of the file of --task: give --task FILE too")

    def _refuse_idle_settings(self) -> None:
        """Raise a ConfigurationError if --set names what the arm does not read."""
        name, reads = self.arm or ("", GROUPS_OF_SOME)
        named = [override.partition("=")[0].strip() for override in self.overrides or ()]
        refuse_unread(named, name, reads, "--set")

    def _refuse_idle_file(self, preset: "RunSettings") -> None:
        """Raise a ConfigurationError if --config changes what the arm does not read. What it leaves as it is in the
        preset may be there: config.yaml of a run holds everything."""
        if self.config is None:
            return
        name, reads = self.arm or ("", GROUPS_OF_SOME)
        refuse_unread(
            _changed(preset, self._over(preset), idle_settings(reads)), name, reads, f"--config {self.config}:"
        )

    def settings(self) -> "RunSettings":
        """The settings of the run: the preset, which is told, then --config, then the options, then --set.

        Raises:
            ConfigurationError: a setting is unknown or ill-typed.
            TrainingError: there is no run to resume.
        """
        from selfcorrect.training.runs.run_directory import RunDirectory
        from selfcorrect.training.settings import PRESETS
        from selfcorrect.training.vstar.settings import refuse_idle_steps

        self._refuse_idle_settings()
        if self.resume is not None:
            return self._over(RunDirectory.saved_settings(self.resume))
        model = self._over(PRESETS[self.preset or self.usual]).policy.model
        ours = _is_ours(model)
        name = self.preset or (self.usual if ours else "lm")
        notes.print(_told(name, model, ours=ours, named=self.preset is not None), markup=False)
        preset = self._preset(name)
        self._refuse_idle_file(preset)
        settings = self._over(preset)
        refuse_idle_steps(preset.vstar, settings.vstar)
        return _asked_in_words(settings) if name == "lm" else settings

    def _preset(self, name: PresetName) -> "RunSettings":
        """The preset `name`. Where "lm" trains adapters its learning rates are theirs, which is told."""
        from selfcorrect.training.runs.opening import preset_over
        from selfcorrect.training.settings import LM_ADAPTERS

        preset = preset_over(name, self._over)
        if preset is LM_ADAPTERS:
            rate = preset.optimiser.learning_rate
            notes.print(
                f"rates    of adapters, {rate:g}: ten times those of all weights", markup=False, highlight=False
            )
        return preset

    def _over(self, base: "RunSettings") -> "RunSettings":
        from selfcorrect.settings import settled

        return settled(base, config=self.config, chosen=self._chosen(), overrides=self.overrides or (), source="--set")

    def _chosen(self) -> dict[str, Any]:
        """What the options change, by the dotted names of the settings; None is not given."""
        given: dict[str, Any] = {
            "policy.model": self.model,
            "policy.device": self.device,
            "policy.dtype": self.dtype,
            "policy.max_new_tokens": self.limit,
            "seed": self.seed,
            **self.chosen,
        }
        if self.task is not None:
            task = task_settings(self.task, self.columns)
            given["task"] = {"kind": task.kind, **task.model_dump(mode="json", exclude_unset=True)}
        if self.report_to is not None:
            given["report_to"] = self.report_to.split(",")
        if self.prompts is not None:
            given["prompts"] = prompt_settings(self.prompts).model_dump(mode="json", exclude_unset=True)
        return given

    def folder(self) -> Path:
        """Where the run is written: as asked, else the first free of runs/demo, runs/demo-2, ...; an arm's is
        runs/ARM."""
        if self.resume is not None or self.out is not None:
            return self.resume or self.out or Path()
        name = self.command.removeprefix("train ").split()[0].replace(":", ".")
        number, folder = 1, Path("runs") / name
        while folder.exists():
            number += 1
            folder = Path("runs") / f"{name}-{number}"
        return folder


def _changed(before: "RunSettings", after: "RunSettings", groups: Sequence[str]) -> list[str]:
    """The dotted names of what differs in these groups."""
    found = []
    for group in groups:
        one, other = getattr(before, group), getattr(after, group)
        fields = getattr(type(other), "model_fields", {})
        if one != other and not fields:
            found.append(group)
        found += [f"{group}.{name}" for name in fields if getattr(one, name, None) != getattr(other, name)]
    return found


def _is_ours(model: str) -> bool:
    """Whether `model` is an embedded policy, or was made from one: its vocabulary is that of its task, not English."""
    from selfcorrect.training.settings import PolicySettings

    if model in (PolicySettings().model, "embedded-looks"):
        return True
    if not Path(model).is_dir():
        return False
    try:
        with loading("the tokenizer"):
            from selfcorrect.agents.policies.pretrained import load_tokenizer

            return not reads_english(load_tokenizer(model))
    except PolicyError:
        return False  # that it cannot be loaded is told where the run opens it


def _told(name: str, model: str, *, ours: bool, named: bool) -> str:
    """The chosen preset in one line, with a warning where it was made for another kind of model."""
    if ours or name == "lm":
        return f"preset   {name}" + ("" if named else f", by default for {model} (--preset takes another)")
    return (
        f"warning: preset {name} is made for the embedded policy of a million parameters (40 tokens an answer, "
        f"learning rate 5e-4, Countdown in symbols) and may break {model}; --preset lm is made for language models"
    )


def _asked_in_words(settings: "RunSettings") -> "RunSettings":
    """Another procedural task than the preset's is asked in sentences too, unless `task.words` was set."""
    from selfcorrect.tasks.registry import ProceduralSettings

    task = settings.task
    if not isinstance(task, ProceduralSettings) or "words" in task.model_fields_set:
        return settings
    return settings.model_copy(update={"task": task.worded(True)})


def carry_out(
    request: RunRequest,
    load: "Callable[[], Arm]",
    *,
    as_json: bool,
    steps: "Callable[[RunSettings], int]",
) -> None:
    """Train as requested and show the result.

    Args:
        load: imports the arm, and with it torch; called once the settings are known to be right.
        steps: how many steps the run will tell the progress sink of.

    Raises:
        SelfCorrectError: the run cannot start or go on.
        typer.Exit: with status 130 after Ctrl-C.
    """
    settings = request.settings()
    out = _folder(request, settings)
    progress = _progress(steps(settings), as_json=as_json)
    try:
        with loading("torch and transformers"):
            arm = load()
        result = arm(settings, out=out, progress=progress, resume=request.resume is not None)
    except KeyboardInterrupt as interrupt:
        notes.print(f"\nStopped. {_how_to_go_on(request.command, out)}", style="yellow")
        raise typer.Exit(INTERRUPTED) from interrupt
    finally:
        progress.close()
    if is_first():
        _show(result, as_json=as_json)


def _folder(request: RunRequest, settings: "RunSettings") -> Path:
    """Where the run is written: where the first process finds room, if there are several."""
    if count() == 1 or (request.out or request.resume) is not None:
        return request.folder()
    with loading("torch and transformers"):
        from selfcorrect.training.runs.opening import meet
    meet(settings)
    return by_first(request.folder)


def _progress(steps: int, *, as_json: bool) -> "ProgressSink":
    if as_json:
        from selfcorrect.training.runs.progress import SilentProgress

        return SilentProgress()
    from selfcorrect.cli.progress import progress_for

    return progress_for(notes, steps)


def _how_to_go_on(command: str, out: Path) -> str:
    if not (out / "config.yaml").exists():
        return "Nothing was trained yet."
    start = "" if count() == 1 else f"torchrun --nproc_per_node {on_this_machine()} -m "
    return f"What was done is saved; go on with: {start}selfcorrect {command} --resume {shlex.quote(str(out))}"


def _show(result: "RunResult", *, as_json: bool) -> None:
    if as_json:
        write_json({"directory": str(result.directory), "before": dict(result.before), "after": dict(result.after)})
        return
    from selfcorrect.cli.tables import before_after_table
    from selfcorrect.training.runs.run_directory import RunDirectory

    results.print(before_after_table(result.before, result.after))
    settings = RunDirectory.saved_settings(result.directory)
    question = _show_a_correction(result) or question_like(settings.task, _prompts(result))
    tell_files(_left_behind(result) | _next_commands(result, settings, question))


def _left_behind(result: "RunResult") -> dict[str, object]:
    """What lies where after a run."""
    run, verifiers = result.directory, result.directory / "verifiers.html"
    files: dict[str, object] = {"report": run / "report.html"}
    if (run / "model").is_dir():
        files["model"] = run / "model"
    if verifiers.is_file():
        files |= {"verifier": f"{run / 'verifiers'}/KIND, what they are worth: {verifiers}"}
    return files


def _next_commands(result: "RunResult", settings: "RunSettings", question: str) -> dict[str, object]:
    """The commands that come after a run, by its arm."""
    from selfcorrect.tasks.registry import ProceduralSettings
    from selfcorrect.training.runs.run_directory import RunDirectory

    run, asked = RunDirectory(result.directory), settings.task
    played = run.model_path if run.model_path.is_dir() else settings.vstar.asked or settings.policy.model
    model, task = ("--model", played), task_options(asked)
    if run.arm == "vstar" and (kinds := sorted(path.name for path in (run.path / "verifiers").glob("*"))):
        verifier = ("--verifier", run.path / "verifiers" / ("likelihood" if "likelihood" in kinds else kinds[0]))
        scaled = typed_command("scale", *model, *verifier, *task)
        return {
            "try it": typed_command("solve", question, *model, *verifier, "--strategy", "best_of_n:16"),
            "next": f"{scaled}  (what more answers are worth)",
        }
    tried: dict[str, object] = {"try it": typed_command("solve", question, *model)}
    if run.arm in ("sft", "star", "pair-sft"):
        trained = typed_command("train", "score", *model, *task)
        return tried | {"next": f"{trained}  (reinforcement learning from here)"}
    many, which = (("-n", 2000), "more problems") if isinstance(asked, ProceduralSettings) else ((), "all held out")
    return tried | {"next": f"{typed_command('eval', *model, *task, *many)}  (on {which}, or on another --task)"}


def _show_a_correction(result: "RunResult") -> str | None:
    """The first episode in which the trained policy corrected itself, if there is one; returns its question as `solve`
    takes it, where the task recognises that."""
    from rich.text import Text

    from selfcorrect.tasks.naming import problem_of_question
    from selfcorrect.training.reporting.rows import kind_of
    from selfcorrect.training.runs.run_directory import RunDirectory

    rows = RunDirectory(result.directory).read_episodes()
    fixed = next((row for row in rows if row["policy"] == "after" and kind_of(row) == "fixed"), None)
    if fixed is None:
        return None
    results.print(Text(f"for example, {fixed['prompt']}"))
    for turn in fixed["turns"]:
        mark, style = {None: ("·", ""), "correct": ("✓", "green")}.get(turn.get("verdict"), ("✗", "red"))
        results.print(Text(f"  {mark} {shorten(turn['text'], 300)}", style=style))
    results.print()
    question = str(fixed["prompt"]).removesuffix(":").strip()
    return question if problem_of_question(question, words=False) is not None else None


def _prompts(result: "RunResult") -> list[str]:
    """The held-out problems that the run keeps."""
    from selfcorrect.training.runs.run_directory import RunDirectory

    return [str(row["prompt"]) for row in RunDirectory(result.directory).read_episodes()]
