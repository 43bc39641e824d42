"""What an arm is: how it is trained, in which loop it is evaluated, how its budget is fitted, and its command."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import load

if TYPE_CHECKING:
    from selfcorrect.agents.graph import CorrectionGraph
    from selfcorrect.rewards.checker import Checker
    from selfcorrect.training.arms import Arm
    from selfcorrect.training.arms.budgets import Costs
    from selfcorrect.training.settings import RunSettings

StarData = Literal["single", "single+rationalised", "multi", "multi+correct"]
PairData = Literal["pairs", "pairs+correct"]
BuildLoop = Callable[["RunSettings", Any, "Checker"], "CorrectionGraph"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What training cost: the currency in which arms are compared.

    Attributes:
        generated_tokens: sampled while training, evaluations left out.
        optimiser_steps: updates of the weights.
    """

    generated_tokens: int
    optimiser_steps: int


@dataclass(frozen=True)
class Choice:
    """An option of an arm's command that sets one setting.

    Attributes:
        name: as typed, without the dashes.
        setting: the dotted name of what it sets.
        values: what it can be.
        says: its help.
    """

    name: str
    setting: str
    values: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class Command:
    """`selfcorrect train ARM`.

    Attributes:
        says: its help.
        steps: how many steps its progress has.
        choices: its options, beside those that all arms have.
        reads: the groups of settings that only some arms read, and this one does.
    """

    says: str
    steps: "Callable[[RunSettings], int]" = lambda settings: settings.score.total_steps
    choices: tuple[Choice, ...] = ()
    reads: tuple[str, ...] = ("score", "optimiser", "credit")


CHECKPOINTS = ("save_every", "keep_checkpoints")
"""Settings of arms that have checkpoints, which are those that read `optimiser`."""
GROUPS_OF_SOME = ("score", "optimiser", "credit", "looks", "star", "pair_sft", "sft", "vstar")
"""Groups of settings that only some arms read."""


def idle_settings(reads: Sequence[str]) -> list[str]:
    """The groups and settings that an arm, or several, that reads these groups does not."""
    without = () if "optimiser" in reads else CHECKPOINTS
    uncredited = () if "credit" in reads else ("credit_by_role",)
    return [*(group for group in GROUPS_OF_SOME if group not in reads), *uncredited, *without]


def refuse_unread(settings: Iterable[str], name: str, reads: Sequence[str], source: str) -> None:
    """Raise a ConfigurationError if `name`, which reads these groups, does not read one of `settings` (dotted), which
    were given by `source`."""
    idle = idle_settings(reads)
    for setting in settings:
        group = setting.partition(".")[0]
        if group in CHECKPOINTS and group in idle:
            raise ConfigurationError(
                f"{source} {setting}: {name} writes no checkpoints, but keeps what it has finished"
            )
        if group in idle:
            raise ConfigurationError(
                f"{source} {setting}: {name} does not read settings of {group}; it reads those of "
                f"{', '.join(reads) or 'no arm'} and those that all arms have"
            )


READS_LOOKS = ("score", "optimiser", "credit", "looks")
"""What most arms of many turns read."""


def _as_given(settings: "RunSettings", costs: "Costs") -> "RunSettings":
    return settings


def _nothing(settings: "RunSettings", costs: "Costs") -> Budget:
    return Budget(generated_tokens=0, optimiser_steps=0)


@dataclass(frozen=True)
class ArmSpec:
    """One arm.

    Attributes:
        name: on the command line, in tables, and of its folder.
        says: what it is, in a few words.
        loop: makes the graph in which it is evaluated.
        load: imports the function that trains it; None for the base policy, which is only evaluated.
        fitted: the settings with which it costs what SCoRe costs with the given ones.
        planned: what it costs with its fitted settings; None if it cannot be compared at equal cost.
        command: its own command of `selfcorrect train`, if it has one.
        has_checkpoints: whether it has some: to choose the `best` of, and to end at by `stop_after_minutes`.
        reads: as of `Command`.
    """

    name: str
    says: str
    loop: BuildLoop
    load: "Callable[[], Arm] | None" = None
    fitted: "Callable[[RunSettings, Costs], RunSettings]" = _as_given
    planned: "Callable[[RunSettings, Costs], Budget] | None" = _nothing
    command: Command | None = None
    has_checkpoints: bool = False
    reads: tuple[str, ...] = GROUPS_OF_SOME


_OPENING = "selfcorrect.training.runs.opening:open_graph"
_UNTRAINED = "selfcorrect.training.arms.untrained:"
"""By address, as the functions that train: what plays and trains knows the arms, and they know none of it."""


def usual_loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
    graph: CorrectionGraph = load(_OPENING)(settings.for_evaluation, policy, checker)
    return graph


def loop_by(critique: str) -> BuildLoop:
    """The usual loop with another way to critique."""

    def loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
        graph = settings.graph.model_copy(update={"critique": critique})
        return usual_loop(settings.model_copy(update={"graph": graph}), policy, checker)

    return loop


self_judging_loop, refining_loop = loop_by("self"), loop_by("refine")


def usual_episode(settings: "RunSettings", costs: "Costs") -> float:
    """Tokens of an attempt and its revisions."""
    return costs.attempt + sum(_lengths(settings)) * costs.revise


def _lengths(settings: "RunSettings") -> list[float]:
    """Of revision 1, 2, ...: the share of training episodes that may have it."""
    most, fewest = settings.graph.revisions, settings.graph.fewest_revisions
    drawn = 1 if fewest is None else most - fewest + 1
    return [min(drawn, most - revision) / drawn for revision in range(most)]


def reinforced(
    name: str,
    says: str,
    trains: str,
    *,
    episode: "Callable[[RunSettings, Costs], float]" = usual_episode,
    loop: BuildLoop = usual_loop,
    command: Command | None = None,
    has_checkpoints: bool = True,
) -> ArmSpec:
    """An arm of reinforcement learning whose training episodes cost `episode` tokens: cheaper ones are played more
    often a step."""

    def fitted(settings: "RunSettings", costs: "Costs") -> "RunSettings":
        ratio = usual_episode(settings, costs) / episode(settings, costs)
        problems = max(1, round(settings.optimiser.problems_per_step * ratio))
        optimiser = settings.optimiser.model_copy(update={"problems_per_step": problems})
        return settings.model_copy(update={"optimiser": optimiser})

    def planned(settings: "RunSettings", costs: "Costs") -> Budget:
        optimiser, steps = settings.optimiser, settings.score.total_steps
        return Budget(
            generated_tokens=round(steps * optimiser.episodes_per_step * episode(settings, costs)),
            optimiser_steps=goal_of(settings, costs).optimiser_steps,
        )

    reads = Command("").reads if command is None else command.reads
    return ArmSpec(name, says, loop, partial(load, trains), fitted, planned, command, has_checkpoints, reads)


def goal_of(settings: "RunSettings", costs: "Costs") -> Budget:
    """What SCoRe costs with `settings`: the budget of all arms."""
    optimiser, steps = settings.optimiser, settings.score.total_steps
    return Budget(
        generated_tokens=round(steps * optimiser.episodes_per_step * usual_episode(settings, costs)),
        optimiser_steps=steps * optimiser.minibatches * optimiser.ppo_epochs,
    )


def self_taught(name: str, says: str, data: StarData, command: Command | None = None) -> ArmSpec:
    """STaR on one kind of data: the goal's tokens and steps in equal parts over its loops."""

    trains = "selfcorrect.training.arms.star:star"

    def fitted(settings: "RunSettings", costs: "Costs") -> "RunSettings":
        goal, loops = goal_of(settings, costs), settings.star.loops
        parts = {
            "data": data,
            "tokens": max(1, goal.generated_tokens // loops),
            "steps": max(1, round(goal.optimiser_steps / loops)),
        }
        return settings.model_copy(
            update={
                "star": settings.star.model_copy(update=parts),
                # Its steps are loops: each is evaluated where the others are evaluated now and then.
                "evaluation": settings.evaluation.model_copy(update={"every": min(1, settings.evaluation.every)}),
            }
        )

    def planned(settings: "RunSettings", costs: "Costs") -> Budget:
        loops = settings.star.loops
        return Budget(loops * (settings.star.tokens or 0), loops * settings.star.steps)

    return ArmSpec(name, says, usual_loop, partial(load, trains), fitted, planned, command, reads=("star",))


def paired(name: str, says: str, data: PairData, command: Command | None = None) -> ArmSpec:
    """Pair-SFT on one kind of data, in one loop."""

    trains = "selfcorrect.training.arms.sft:pair_sft"

    def fitted(settings: "RunSettings", costs: "Costs") -> "RunSettings":
        goal = goal_of(settings, costs)
        parts = {"data": data, "tokens": goal.generated_tokens, "steps": goal.optimiser_steps}
        return settings.model_copy(
            update={
                "pair_sft": settings.pair_sft.model_copy(update=parts),
                "evaluation": settings.evaluation.model_copy(update={"every": 0}),
            }
        )

    def planned(settings: "RunSettings", costs: "Costs") -> Budget:
        return Budget(settings.pair_sft.tokens or 0, settings.pair_sft.steps)

    return ArmSpec(name, says, usual_loop, partial(load, trains), fitted, planned, command, reads=("pair_sft",))


def refining_base_loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
    graph: CorrectionGraph = load(_UNTRAINED + "self_refine_loop")(settings, policy)
    return graph


def drawing_again_loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
    graph: CorrectionGraph = load(_UNTRAINED + "sample_again_loop")(settings, policy)
    return graph


def stage_one_lengths(settings: "RunSettings") -> list[int]:
    """Steps of the parts of Stage I, one for each revision; the first ones have one more where they do not divide."""
    parts, steps = settings.graph.revisions, settings.score.stage_one_steps
    return [steps // parts + (number < steps % parts) for number in range(parts)]


def growing_episode(settings: "RunSettings", costs: "Costs") -> float:
    """Mean over the steps of `score_turns`: a part of Stage I plays no more answers than it teaches."""
    one = stage_one_lengths(settings)
    answers = sum(steps * (part + 1) for part, steps in enumerate(one))
    answers += settings.score.stage_two_steps * settings.graph.revisions
    return costs.attempt + answers / settings.score.total_steps * costs.revise


def first_answer_only(settings: "RunSettings", costs: "Costs") -> float:
    return costs.attempt


def judged_episode(settings: "RunSettings", costs: "Costs") -> float:
    """An answer, its judgement, and a revision of those called wrong, `revisions` times."""
    tokens, called_wrong = costs.attempt, 1.0
    again = costs.called_wrong if costs.called_wrong_again is None else costs.called_wrong_again
    for revision, allowed in enumerate(_lengths(settings)):
        tokens += allowed * called_wrong * costs.critique
        called_wrong *= again if revision else costs.called_wrong
        tokens += allowed * called_wrong * costs.revise
    return tokens


def _until_right(settings: "RunSettings", costs: "Costs", more: float) -> float:
    """An answer, and `more` tokens after each wrong one."""
    wrong = 1 - costs.correct
    again = wrong if costs.wrong_again is None else costs.wrong_again
    return costs.attempt + sum(
        allowed * wrong * again**place * more for place, allowed in enumerate(_lengths(settings))
    )


def tried_again_episode(settings: "RunSettings", costs: "Costs") -> float:
    return _until_right(settings, costs, costs.revise)


def reflected_episode(settings: "RunSettings", costs: "Costs") -> float:
    return _until_right(settings, costs, costs.critique + costs.revise)


def branched_episode(settings: "RunSettings", costs: "Costs") -> float:
    """First answers are shared."""
    return tried_again_episode(settings, costs) - costs.attempt * (1 - 1 / settings.looks.branches)
