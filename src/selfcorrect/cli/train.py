"""`selfcorrect train ARM`: one command for each way to train a policy.

An arm's command lives in a file of its own, `train_ARM.py`, and is added here in one line.
"""

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from selfcorrect.cli.console import reporting
from selfcorrect.cli.options import AsJson, Config, Out, Overrides, Preset, Resume
from selfcorrect.cli.train_quiet_star import quiet_star
from selfcorrect.cli.training_run import RunRequest, carry_out, steps_of_both_stages
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm
    from selfcorrect.training.settings import RunSettings


# `selfcorrect train score`: SCoRe on a policy and a task of the user's choice, whole or without a part.


def score(
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    no_stage1: Annotated[bool, typer.Option("--no-stage1", help="Ablation: Stage II takes all steps.")] = False,
    no_shaping: Annotated[bool, typer.Option("--no-shaping", help="Ablation: no progress bonus in Stage II.")] = False,
    stage2: Annotated[
        Literal["rl", "star"],
        typer.Option(help="Ablation: supervised fine-tuning on right second answers as Stage II."),
    ] = "rl",
    as_json: AsJson = False,
) -> None:
    """Train a policy to correct itself with SCoRe. Settings come from the preset, then --config, then --set."""
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
        command = " ".join(["train score", *options])
        request = RunRequest(
            command, preset=preset, config=config, out=out, resume=resume, overrides=tuple(overrides or ())
        )
        carry_out(request, _stage2_star if stage2 == "star" else lambda: _arm(without), as_json=as_json)


def _stage2_star() -> "Arm":
    from selfcorrect.training.arms.score_stage2_star import score_stage2_star

    return score_stage2_star


def _arm(without: list[Literal["stage1", "shaping"]]) -> "Arm":
    from functools import partial

    from selfcorrect.training.arms import reinforced as score

    return partial(score.score_without, without) if without else score.score


# `selfcorrect train star`: learn from one's own right answers.

StarData = Annotated[
    Literal["single", "single+rationalised", "multi", "multi+correct"] | None,
    typer.Option(
        help="What is learnt: right first answers, with or without those found with a hint; or second answers that "
        "mend a wrong first one, with or without those that keep a right one. The same as --set star.data=..."
    ),
]


def star(
    data: StarData = None,
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """STaR: sample, keep what is right, fine-tune the original policy on it; and again with the new policy."""
    with reporting(as_json=as_json):
        chosen = () if data is None else (f"star.data={data}",)
        request = RunRequest("train star", preset, config, out, resume, (*(overrides or ()), *chosen))
        carry_out(request, _star, as_json=as_json, steps=lambda settings: settings.star.loops)


def _star() -> "Arm":
    from selfcorrect.training.arms.star import star

    return star


# `selfcorrect train pair-sft`: learn to correct from independent answers put together.

PairData = Annotated[
    Literal["pairs", "pairs+correct"] | None,
    typer.Option(
        help="What is learnt: right answers after wrong ones, or after right ones too. The same as --set "
        "pair_sft.data=..."
    ),
]


def pair_sft(
    data: PairData = None,
    config: Config = None,
    preset: Preset = "full",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Pair-SFT: sample answers, put a wrong and a right one together as two turns, fine-tune on the second."""
    with reporting(as_json=as_json):
        chosen = () if data is None else (f"pair_sft.data={data}",)
        request = RunRequest("train pair-sft", preset, config, out, resume, (*(overrides or ()), *chosen))
        carry_out(request, _pair_sft, as_json=as_json, steps=lambda settings: 1)


def _pair_sft() -> "Arm":
    from selfcorrect.training.arms.pair_sft import pair_sft

    return pair_sft


# The command of an arm that has no options of its own.


def arm_command(
    arm: str, summary: str, load: "Callable[[], Arm]", steps: "Callable[[RunSettings], int]" = steps_of_both_stages
) -> Callable[..., None]:
    """The command `selfcorrect train ARM`.

    Args:
        arm: as typed.
        summary: its help.
        load: imports the function that trains it.
        steps: how many steps its progress has.
    """

    def command(
        config: Config = None,
        preset: Preset = "full",
        out: Out = None,
        resume: Resume = None,
        overrides: Overrides = None,
        as_json: AsJson = False,
    ) -> None:
        with reporting(as_json=as_json):
            request = RunRequest(f"train {arm}", preset, config, out, resume, tuple(overrides or ()))
            carry_out(request, load, as_json=as_json, steps=steps)

    command.__doc__ = summary
    return command


# `selfcorrect train single-turn`, `multi-turn`, `pag`: what SCoRe is compared with.


def _command(name: str, summary: str) -> Callable[..., None]:
    """The command of the reinforced arm that is a function of that name."""

    def load() -> "Arm":
        found: Arm = getattr(import_module("selfcorrect.training.arms.reinforced"), name)
        return found

    return arm_command(name.replace("_", "-"), summary, load)


single_turn = _command("single_turn", "Reward the first answer only; there is no second turn while training.")
multi_turn = _command("multi_turn", "Reward every answer by itself: no Stage I, no progress bonus.")
pag = _command("pag", "PAG: the policy judges its own answer and revises only what it calls wrong; both are rewarded.")


# `selfcorrect train vstar`: a generator and verifiers of it.


def _vstar() -> "Arm":
    from selfcorrect.training.vstar.rounds import vstar

    return vstar


def _steps(settings: "RunSettings") -> int:
    """A step is a round, or the training of a verifier."""
    return settings.vstar.rounds + len(settings.vstar.kinds)


vstar = arm_command(
    "vstar",
    "V-STaR: learn from right answers to generate, and from right and wrong ones to verify.",
    _vstar,
    _steps,
)


class _Arms(TyperGroup):
    """Says which arms there are when none, or an unknown one, is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            ctx.fail(f"name the arm first, as in: selfcorrect train score {' '.join(args)}. {self._known()}")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            nearest = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = f" did you mean {nearest[0]}?" if nearest else ""
            ctx.fail(f"unknown arm {args[0]!r};{hint} {self._known()}")
        return super().resolve_command(ctx, args)

    def _known(self) -> str:
        return f"The arms are {', '.join(self.commands)}."


train = typer.Typer(cls=_Arms, no_args_is_help=True, rich_markup_mode="rich", subcommand_metavar="ARM [OPTIONS]")
train.command()(score)
train.command("single-turn")(single_turn)
train.command("multi-turn")(multi_turn)
train.command("pag")(pag)
train.command("quiet-star")(quiet_star)
train.command("vstar")(vstar)
train.command()(star)
train.command("pair-sft")(pair_sft)


# `selfcorrect demo`: the whole loop on the policy that ships with the library.


def demo(
    preset: Preset = "demo",
    out: Out = None,
    resume: Resume = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Teach the embedded policy to correct itself, and show what changed. Needs minutes, two CPU cores and no
    download."""
    with reporting(as_json=as_json):
        request = RunRequest(
            "demo", preset=preset, config=None, out=out, resume=resume, overrides=tuple(overrides or ())
        )
        carry_out(request, _score, as_json=as_json)


def _score() -> "Arm":
    from selfcorrect.training.arms.reinforced import score

    return score
