"""`selfcorrect train quiet-star`: a model that thinks before each of its tokens."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfcorrect.cli.console import INTERRUPTED, loading, notes, reporting, results, tell_files, write_json
from selfcorrect.cli.naming import typed_command
from selfcorrect.cli.options import AsJson, Config, Device, Dtype, OptionalSeed, Out, Overrides, Resume
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.training.quiet_star.settings import QuietSettings
    from selfcorrect.training.runs.progress import ProgressSink
    from selfcorrect.training.runs.run_directory import RunResult


def quiet_star(
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Text to learn from; by default chains of arithmetic without their steps."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="'embedded', a folder, a Hugging Face id; by default one that suits the text."
        ),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a thought.")] = None,
    seed: OptionalSeed = None,
    device: Device = None,
    dtype: Dtype = None,
    config: Config = None,
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    task: Annotated[str | None, typer.Option(hidden=True)] = None,
    prompts: Annotated[str | None, typer.Option(hidden=True)] = None,
    limit: Annotated[int | None, typer.Option("--max-answer-tokens", hidden=True)] = None,
    preset: Annotated[str | None, typer.Option(hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model to think before every token (Quiet-STaR). Settings come from --config, then the options, then
    --set."""
    with reporting(as_json=as_json):
        idle = {"--task": task, "--prompts": prompts, "--max-answer-tokens": limit, "--preset": preset}
        for option, value in idle.items():
            if value is not None:
                raise ConfigurationError(f"{option}: {_NOT_HERE[option]}")
        with loading("torch and transformers"):
            from selfcorrect.training.quiet_star.settings import quiet_settings
        if resume is not None and (
            config is not None or out is not None or (text, model, tokens, seed, device, dtype) != (None,) * 6
        ):
            raise ConfigurationError(
                "--resume goes on with a run's own settings in its own folder: leave --config, --out, --text, --model, "
                "--tokens, --seed, --device and --dtype away"
            )
        chosen = {"text": None if text is None else str(text), "model": model, "thought.tokens": tokens, "seed": seed}
        chosen |= {"device": device, "dtype": dtype}
        settings = quiet_settings(config, resume, chosen, overrides or [])
        _carry_out(settings, resume or out or _free_folder(), resume=resume is not None, as_json=as_json)


_NOT_HERE = {
    "--task": "Quiet-STaR learns from plain text, not from problems; name it with --text FILE",
    "--prompts": "Quiet-STaR learns from plain text, around which there are no words",
    "--max-answer-tokens": "Quiet-STaR writes no answers while it learns; the length of a thought is --tokens",
    "--preset": "the presets are of correction loops; Quiet-STaR has its own settings: selfcorrect settings quiet-star",
}
"""Options that all other arms have, and why this one has not."""


def _free_folder() -> Path:
    number, folder = 1, Path("runs") / "quiet-star"
    while folder.exists():
        number += 1
        folder = Path("runs") / f"quiet-star-{number}"
    return folder


def _carry_out(settings: "QuietSettings", out: Path, *, resume: bool, as_json: bool) -> None:
    progress = _progress(settings, as_json=as_json)
    try:
        from selfcorrect.training.quiet_star.run import train_quiet_star

        result = train_quiet_star(settings, out=out, progress=progress, resume=resume)
    except KeyboardInterrupt as interrupt:
        how = f"go on with: selfcorrect train quiet-star --resume {shlex.quote(str(out))}"
        notes.print(f"\nStopped. What was done is saved; {how}", style="yellow")
        raise typer.Exit(INTERRUPTED) from interrupt
    finally:
        progress.close()
    _show(result, settings.steps, as_json=as_json)


def _progress(settings: "QuietSettings", *, as_json: bool) -> "ProgressSink":
    if as_json:
        from selfcorrect.training.runs.progress import SilentProgress

        return SilentProgress()
    from selfcorrect.cli.progress import progress_for

    return progress_for(notes, settings.steps)


def _show(result: "RunResult", steps: int, *, as_json: bool) -> None:
    if as_json:
        write_json({"directory": str(result.directory), "before": dict(result.before), "after": dict(result.after)})
        return
    for label, name, form in _LINES:
        if name in result.after:
            before, after = format(result.before[name], form), format(result.after[name], form)
            results.print(f"{label:<40} {before:>9} -> {after:>9}", markup=False)
    model = result.directory / "model"
    again = typed_command("train", "quiet-star", "--resume", result.directory, "--set", f"steps={2 * steps}")
    tell_files({"report": result.directory / "report.html", "model": model, "next": f"{again}  (train it for longer)"})


_LINES: tuple[tuple[str, str, str], ...] = (
    ("NLL without thoughts, nats per token", "all_nll", ".4f"),
    ("NLL with thoughts", "all_nll_talk", ".4f"),
    ("answers right without thoughts", "answer_accuracy", ".3f"),
    ("answers right with thoughts", "answer_accuracy_talk", ".3f"),
)
