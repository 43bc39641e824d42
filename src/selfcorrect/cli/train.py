"""`selfcorrect train ARM`: one command for each way to train a policy, made from the registry of arms."""

import inspect
import re
import shlex
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import (
    AnswerLimit,
    AsJson,
    Columns,
    Config,
    Device,
    Dtype,
    OptionalModel,
    OptionalSeed,
    OptionalTask,
    Out,
    Overrides,
    Preset,
    PromptsName,
    ReportTo,
    Resume,
)
from selfcorrect.cli.train_quiet_star import quiet_star
from selfcorrect.cli.training_run import RunRequest, carry_out
from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import is_address, nearest
from selfcorrect.training.arms.registry import ARMS
from selfcorrect.training.arms.specs import ArmSpec, Command

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm

_SHARED: dict[str, tuple[Any, Any]] = {
    "model": (OptionalModel, None),
    "device": (Device, None),
    "dtype": (Dtype, None),
    "task": (OptionalTask, None),
    "columns": (Columns, None),
    "prompts": (PromptsName, None),
    "limit": (AnswerLimit, None),
    "preset": (Preset, None),
    "config": (Config, None),
    "out": (Out, None),
    "resume": (Resume, None),
    "seed": (OptionalSeed, None),
    "report_to": (ReportTo, None),
    "overrides": (Overrides, None),
}
"""The options of every arm: the fields of `RunRequest`."""


def arm_command(name: str, spec: ArmSpec, own: Command) -> Callable[..., None]:
    """The command `selfcorrect train NAME`: the options of every arm, and the arm's own choices."""
    settings = {choice.name: choice.setting for choice in own.choices}

    def command(as_json: bool, **given: Any) -> None:
        with reporting(as_json=as_json):
            chosen = {settings[option]: str(given.pop(option) or "") for option in settings}
            named = {setting: value for setting, value in chosen.items() if value}
            _train(RunRequest(f"train {name}", chosen=named, arm=(name, own.reads), **given), spec, as_json=as_json)

    choices = {choice.name: (_choice(choice.name, choice.values, choice.says), None) for choice in own.choices}
    return _with_options(command, own.says, choices | _SHARED | {"as_json": (AsJson, False)})


def _train(request: RunRequest, spec: ArmSpec, *, as_json: bool) -> None:
    assert spec.load is not None and spec.command is not None, f"{spec.name} has a command"
    carry_out(request, spec.load, as_json=as_json, steps=spec.command.steps)


def _choice(name: str, values: tuple[str, ...], says: str) -> Any:
    """The type of an option that takes one of `values`."""
    kind = StrEnum(name, {value: value for value in values})  # type: ignore[misc]
    return Annotated[kind | None, typer.Option(f"--{name}", help=says)]


def _with_options(command: Callable[..., None], says: str, options: dict[str, tuple[Any, Any]]) -> Callable[..., None]:
    """`command` as if it had been written with these parameters, each with its type and default."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, keyword, default=default, annotation=kind)
            for name, (kind, default) in options.items()
        ]
    )
    command.__annotations__ = {name: kind for name, (kind, _) in options.items()}
    command.__doc__ = says
    return command


# `selfcorrect train score`: SCoRe whole or without a part.

_ABLATIONS: dict[str, tuple[Any, Any]] = {
    "no_stage1": (Annotated[bool, typer.Option("--no-stage1", help="Ablation: Stage II takes all steps.")], False),
    "no_shaping": (
        Annotated[bool, typer.Option("--no-shaping", help="Ablation: no progress bonus in Stage II.")],
        False,
    ),
    "stage2": (
        Annotated[
            Literal["rl", "star"],
            typer.Option(help="Ablation: supervised fine-tuning on right second answers as Stage II."),
        ],
        "rl",
    ),
}


def score_command(spec: ArmSpec, own: Command) -> Callable[..., None]:
    """As `arm_command`, with the ablations of Table 4 of the paper."""

    def command(as_json: bool, no_stage1: bool, no_shaping: bool, stage2: str, **given: Any) -> None:
        without: list[Literal["stage1", "shaping"]] = []
        if no_stage1:
            without.append("stage1")
        if no_shaping:
            without.append("shaping")
        with reporting(as_json=as_json):
            if stage2 == "star" and without:
                raise ConfigurationError(
                    "--stage2 star pays no rewards and needs Stage I: leave --no-shaping and --no-stage1 away"
                )
            options = [f"--no-{part}" for part in without] + (["--stage2 star"] if stage2 == "star" else [])
            reads = (*own.reads, "star") if stage2 == "star" else own.reads
            request = RunRequest(" ".join(["train score", *options]), arm=("score", reads), **given)
            loaded = ARMS.find("score-stage2-star").load if stage2 == "star" else partial(_ablated, spec, without)
            assert loaded is not None
            carry_out(request, loaded, as_json=as_json, steps=own.steps)

    return _with_options(command, own.says, _SHARED | _ABLATIONS | {"as_json": (AsJson, False)})


def _ablated(spec: ArmSpec, without: list[Literal["stage1", "shaping"]]) -> "Arm":
    if without:
        from selfcorrect.training.arms.reinforced import score_without

        return partial(score_without, without)
    assert spec.load is not None
    return spec.load()


class _Arms(TyperGroup):
    """Says which arms there are when none, or an unknown one, is named; trains a user's own `package.module:Name`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            ctx.fail(f"name the arm first, as in: selfcorrect train score {' '.join(args)}. {self._known()}")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if ctx.resilient_parsing:  # a shell asks what could follow
            return super().resolve_command(ctx, args)
        if args and is_address(args[0]):
            return args[0], _own_command(args[0]), args[1:]
        if args and args[0] not in self.commands:
            hint = nearest(args[0], self.commands).removeprefix(";")
            ctx.fail(f"unknown arm {args[0]!r};{hint} {self._known()}")
        if args:
            _refuse_settings_without_set(ctx, args[0], self.commands[args[0]], args[1:])
        return super().resolve_command(ctx, args)

    def _known(self) -> str:
        return f"The arms are {', '.join(self.commands)}, or package.module:Name for one of your own."


_DOTTED = re.compile(r"[a-z]\w*(\.\w+)+=.*")
_CALLED_ELSEWHERE = {
    "lr": ("learning_rate",),
    "batch_size": ("batch_size", "problems_per_step"),
    "steps": ("steps", "stage_two_steps"),
    "epochs": ("epochs", "ppo_epochs"),
}
"""What other trainers call some settings -> what they are called here."""


def _refuse_settings_without_set(ctx: Any, arm: str, command: Any, words: list[str]) -> None:
    """Settings are given with --set; say so where one is typed as an option of its own, alone, or in two words."""
    options = {flag for parameter in command.params for flag in [*parameter.opts, *parameter.secondary_opts]}
    options.update(ctx.help_option_names)
    for place, word in enumerate(words):
        before, (after, last) = words[place - 1] if place else "", [*words[place + 1 :], "", ""][:2]
        name, _, value = word.partition("=")
        if before not in ("--set", "--map") and _DOTTED.fullmatch(word):
            ctx.fail(f"a setting is given with --set: --set {shlex.quote(word)}")
        if word == "--set" and "=" not in after and last and not last.startswith("-"):
            ctx.fail(f"a setting and its value are one word: --set {shlex.quote(f'{after}={last}')}")
        if name.startswith("--") and name not in options and (path := _setting(arm, name)):
            value = value or ("VALUE" if after.startswith("-") else after or "VALUE")
            ctx.fail(f"no such option: {name}; a setting is given with --set: --set {shlex.quote(f'{path}={value}')}")


def _setting(arm: str, option: str) -> str | None:
    """The setting of this arm that is called as `option` is, here or elsewhere; None if there is none."""
    from selfcorrect.setting_groups import dotted_names
    from selfcorrect.training.quiet_star.settings import QuietSettings
    from selfcorrect.training.settings import RunSettings

    quiet, spec = arm == "quiet-star", ARMS[arm].command if arm in ARMS else None
    groups = (*(spec.reads if spec else ()), "policy", "graph", "evaluation", "")
    called = option.removeprefix("--").replace("-", "_")
    for name in _CALLED_ELSEWHERE.get(called, (called,)):
        for path in dotted_names(QuietSettings if quiet else RunSettings):
            group, _, own = path.rpartition(".")
            if own == name and (quiet or group in groups):
                return path
    return None


def _own_command(address: str) -> Any:
    with reporting(as_json=False):
        spec = ARMS.find(address)
        if spec.load is None or spec.command is None:
            raise ConfigurationError(
                f"{address} has no command: an ArmSpec that can be trained has `load` and `command`"
            )
        made = arm_command(address, spec, spec.command)
    return get_command_from_info(
        CommandInfo(name=address, callback=made), pretty_exceptions_short=True, rich_markup_mode="rich"
    )


train = typer.Typer(cls=_Arms, no_args_is_help=True, rich_markup_mode="rich", subcommand_metavar="ARM [OPTIONS]")
for _name, _spec in ARMS.items():
    if _spec.command is not None:
        _made = score_command(_spec, _spec.command) if _name == "score" else arm_command(_name, _spec, _spec.command)
        train.command(_name)(_made)
train.command("quiet-star")(quiet_star)


# `selfcorrect demo`: the whole loop on the policy that ships with the library.


def demo(
    device: Device = None,
    dtype: Dtype = None,
    limit: AnswerLimit = None,
    preset: Preset = None,
    config: Config = None,
    out: Out = None,
    resume: Resume = None,
    seed: OptionalSeed = None,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(hidden=True)] = None,
    task: Annotated[str | None, typer.Option(hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Teach the embedded policy to correct itself, and show what changed. Needs minutes, two CPU cores and no
    download."""
    with reporting(as_json=as_json):
        for option, given in (("model", model), ("task", task)):
            if given is not None:
                raise ConfigurationError(
                    f"--{option}: the demo is of the embedded policy on Countdown; for others: selfcorrect train score "
                    f"--{option} {shlex.quote(given)}"
                )
        request = RunRequest(
            "demo",
            arm=("score", Command("").reads),
            preset=preset,
            usual="demo",
            config=config,
            out=out,
            resume=resume,
            overrides=overrides,
            device=device,
            dtype=dtype,
            limit=limit,
            seed=seed,
        )
        _train(request, ARMS["score"], as_json=as_json)
