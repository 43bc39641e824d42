"""Options that several commands share."""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from selfcorrect.agents.critiques import CRITIQUES
from selfcorrect.agents.prompts import PROMPTS
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.registry import TASKS

# Which options were typed: a default that has no effect is no fault, an option that has none is one.


def typed(ctx: typer.Context, *names: str) -> list[str]:
    """Those of the parameters `names` that the user set, as they are written: ["--critique", "--revisions"]."""
    written = {parameter.name: max(parameter.opts, key=len) for parameter in ctx.command.params}
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [written[name] for name, source in sources.items() if source is not None and source.name != "DEFAULT"]


def refuse_typed(ctx: typer.Context, names: Iterable[str], reason: str) -> None:
    """Raise a ConfigurationError with `reason` if the user set one of the parameters `names`."""
    if idle := typed(ctx, *names):
        raise ConfigurationError(f"{', '.join(idle)}: {reason}")


NOTHING_REVISED = "with --revisions 0 nothing is revised"
"""Why an option of the revisions is idle."""


# What a shell offers when Tab is pressed.


def offering(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Completes a word to those of `names()`, which are asked for only then."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def _models() -> list[str]:
    """The models that have a name, and those of the runs below the working folder."""
    return ["embedded", "embedded-looks", "smollm2", *sorted(str(path) for path in Path("runs").glob("*/model"))]


def _overridable() -> list[str]:
    from selfcorrect.setting_groups import dotted_names
    from selfcorrect.training.settings import RunSettings

    return [f"{name}=" for name in dotted_names(RunSettings)]


AsJson = Annotated[bool, typer.Option("--json", help="Write the result as JSON to standard output, and nothing else.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything random.")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="'embedded', 'embedded-looks', 'smollm2', a folder, a GGUF file, a Hugging Face id, vllm:MODEL@URL, or "
        "provider:model of LangChain.",
        autocompletion=offering(_models),
    ),
]
PLACING: ContextVar[dict[str, str | None] | None] = ContextVar("PLACING", default=None)
"""The running command's --device and --dtype, which `cli.naming.open_policy` asks for: commands need not pass them
on."""


def _device(value: str | None) -> str | None:
    PLACING.set({**(PLACING.get() or {}), "device": value})
    return value


def _dtype(value: str | None) -> str | None:
    PLACING.set({**(PLACING.get() or {}), "dtype": value})
    return value


Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|...",
        callback=_device,
        help="Where a model in this process runs; auto is the accelerator.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="auto|float32|bfloat16",
        callback=_dtype,
        help="What it computes in; auto is bfloat16 on an accelerator.",
    ),
]
_TASKS = (
    f"{', '.join(TASKS)} (or with a number: countdown-5), FORMAT:FILE, a file of problems, or package.module:Name of "
    "your own."
)
_TAB_TASKS = offering(lambda: TASKS)
TaskName = Annotated[str, typer.Option("--task", metavar="TASK", help=_TASKS, autocompletion=_TAB_TASKS)]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help=_TASKS, autocompletion=_TAB_TASKS)]
OptionalTask = Annotated[str | None, typer.Option("--task", metavar="TASK", help=_TASKS, autocompletion=_TAB_TASKS)]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="COLUMN=FIELD,...",
        help="Which column of the file is which field: question=prompt,gold=answer.",
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="'embedded', 'embedded-looks', 'smollm2', a folder, a GGUF file, or a Hugging Face id.",
        autocompletion=offering(_models),
    ),
]
OptionalSeed = Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random.")]
_CRITIQUES = ", ".join(f"{name} ({mode.says})" for name, mode in CRITIQUES.items())
Critique = Annotated[
    str | None,
    typer.Option(
        help=f"How a revision is asked for: {_CRITIQUES}, or package.module:Name of your own. By default as the policy "
        "was trained, else instruction.",
        autocompletion=offering(lambda: CRITIQUES),
    ),
]
PromptsName = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="NAME|FILE",
        help=f"The words of the loop: {', '.join(PROMPTS)}, a YAML file, or package.module:Name. By default the "
        "policy's own, else the task's.",
        autocompletion=offering(lambda: PROMPTS),
    ),
]
Revisions = Annotated[
    int | None,
    typer.Option(
        min=1, max=32, help="How often an answer is revised; by default as the policy was trained, else once."
    ),
]
RevisionsOrNone = Annotated[
    int | None,
    typer.Option(
        min=0, max=32, help="How often an answer is revised; 0: never; by default as the policy was trained, else once."
    ),
]
AnswerLimit = Annotated[
    int | None,
    typer.Option(
        "--max-answer-tokens", min=1, help="The longest answer; by default what the model or the preset asks for."
    ),
]


def problem_count(says: str, *, least: int = 1) -> typer.models.OptionInfo:
    """The option `-n`, `--problems` (or `--n`), with its help."""
    option: typer.models.OptionInfo = typer.Option("-n", "--problems", "--n", min=least, metavar="N", help=says)
    return option


WAIT_WORD, THINK_END = "Wait", "</think>"
ThinkTokens = Annotated[
    int | None,
    typer.Option(
        "--think-tokens",
        min=1,
        help="Of a model with a thinking section: close it after so many tokens, and let it answer.",
    ),
]
Waits = Annotated[
    int,
    typer.Option(
        "--waits", min=0, help="How often --wait-word takes the place of the end of its thinking (budget forcing)."
    ),
]
WaitWord = Annotated[str, typer.Option("--wait-word", help="What is put there.")]
ThinkEnd = Annotated[
    str,
    typer.Option(
        "--think-end", help="What ends its thinking; '' for a model without a section: the end of its answer then."
    ),
]
BlindSpot = Annotated[
    bool, typer.Option("--blind-spot", help="Measure instead whether it mends its own errors as it does a user's.")
]
Temperature = Annotated[float, typer.Option(min=0, help="0 is greedy.")]
ReportTo = Annotated[
    str | None,
    typer.Option(
        "--report-to",
        metavar="SERVICE,...",
        help="Services that are told the figures of every step and shown some episodes: tensorboard, trackio, wandb, "
        "mlflow. Each is an extra of the package.",
    ),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the run; by default a new one under runs/.")]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Settings in a YAML or TOML file.")]
Resume = Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with the interrupted run in this folder.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a setting, such as score.alpha=5; `selfcorrect settings` lists them. May be repeated.",
        autocompletion=offering(_overridable),
    ),
]
PresetName = Literal[
    "demo", "full", "looks", "lm", "grpo", "dr-grpo", "dapo", "rloo", "ppo", "score-paper", "pag-paper"
]
PRESET_NAMES: tuple[str, ...] = get_args(PresetName)
Preset = Annotated[
    PresetName | None,
    typer.Option(
        help="The settings to start from. By default lm for a language model of your own; for the embedded policy "
        "full, in demo and compare demo."
    ),
]
