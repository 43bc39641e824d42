"""The arms by name: how each is trained, in which loop it is evaluated, how its budget is fitted, and its command.

The command line, comparisons and their tables are made from this. A new arm is a file with a function and one line in
`ARMS`; a user's own is a function or an `ArmSpec`, as `package.module:Name`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import Registry, load, shown_kind

if TYPE_CHECKING:
    from selfcorrect.agents.graph import CorrectionGraph
    from selfcorrect.rewards.checker import Checker
    from selfcorrect.training.arms import Arm
    from selfcorrect.training.arms.budgets import Costs
    from selfcorrect.training.runs.run_directory import Budget
    from selfcorrect.training.settings import RunSettings

StarData = Literal["single", "single+rationalised", "multi", "multi+correct"]
PairData = Literal["pairs", "pairs+correct"]
BuildLoop = Callable[["RunSettings", Any, "Checker"], "CorrectionGraph"]


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
    """

    says: str
    steps: "Callable[[RunSettings], int]" = lambda settings: settings.score.total_steps
    choices: tuple[Choice, ...] = ()


def _as_given(settings: "RunSettings", costs: "Costs") -> "RunSettings":
    return settings


def _nothing(settings: "RunSettings", costs: "Costs") -> "Budget":
    from selfcorrect.training.runs.run_directory import Budget

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
    """

    name: str
    says: str
    loop: BuildLoop
    load: "Callable[[], Arm] | None" = None
    fitted: "Callable[[RunSettings, Costs], RunSettings]" = _as_given
    planned: "Callable[[RunSettings, Costs], Budget] | None" = _nothing
    command: Command | None = None


def usual_loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
    from selfcorrect.training.runs.opening import open_graph

    return open_graph(settings.for_evaluation, policy, checker)


def self_judging_loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
    graph = settings.graph.model_copy(update={"critique": "self"})
    return usual_loop(settings.model_copy(update={"graph": graph}), policy, checker)


def refining_loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
    graph = settings.graph.model_copy(update={"critique": "refine"})
    return usual_loop(settings.model_copy(update={"graph": graph}), policy, checker)


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
) -> ArmSpec:
    """An arm of reinforcement learning whose training episodes cost `episode` tokens: cheaper ones are played more
    often a step."""

    def fitted(settings: "RunSettings", costs: "Costs") -> "RunSettings":
        ratio = usual_episode(settings, costs) / episode(settings, costs)
        problems = max(1, round(settings.optimiser.problems_per_step * ratio))
        optimiser = settings.optimiser.model_copy(update={"problems_per_step": problems})
        return settings.model_copy(update={"optimiser": optimiser})

    def planned(settings: "RunSettings", costs: "Costs") -> "Budget":
        from selfcorrect.training.runs.run_directory import Budget

        optimiser, steps = settings.optimiser, settings.score.total_steps
        return Budget(
            generated_tokens=round(steps * optimiser.episodes_per_step * episode(settings, costs)),
            optimiser_steps=goal_of(settings, costs).optimiser_steps,
        )

    return ArmSpec(name, says, loop, partial(load, trains), fitted, planned, command)


def goal_of(settings: "RunSettings", costs: "Costs") -> "Budget":
    """What SCoRe costs with `settings`: the budget of all arms."""
    from selfcorrect.training.runs.run_directory import Budget

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

    def planned(settings: "RunSettings", costs: "Costs") -> "Budget":
        from selfcorrect.training.runs.run_directory import Budget

        loops = settings.star.loops
        return Budget(loops * (settings.star.tokens or 0), loops * settings.star.steps)

    return ArmSpec(name, says, usual_loop, partial(load, trains), fitted, planned, command)


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

    def planned(settings: "RunSettings", costs: "Costs") -> "Budget":
        from selfcorrect.training.runs.run_directory import Budget

        return Budget(settings.pair_sft.tokens or 0, settings.pair_sft.steps)

    return ArmSpec(name, says, usual_loop, partial(load, trains), fitted, planned, command)


def _self_refine_loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
    from selfcorrect.training.arms.untrained import self_refine_loop

    return self_refine_loop(settings, policy)


def _sample_again_loop(settings: "RunSettings", policy: Any, checker: "Checker") -> "CorrectionGraph":
    from selfcorrect.training.arms.untrained import sample_again_loop

    return sample_again_loop(settings, policy)


def _first_answer_only(settings: "RunSettings", costs: "Costs") -> float:
    return costs.attempt


def _judged_episode(settings: "RunSettings", costs: "Costs") -> float:
    """An answer, its judgement, and a revision of those called wrong, `revisions` times."""
    tokens, called_wrong = costs.attempt, 1.0
    for allowed in _lengths(settings):
        tokens += allowed * called_wrong * costs.critique
        called_wrong *= costs.called_wrong
        tokens += allowed * called_wrong * costs.revise
    return tokens


def _until_right(settings: "RunSettings", costs: "Costs", more: float) -> float:
    """An answer, and `more` tokens after each wrong one."""
    return costs.attempt + sum(
        allowed * (1 - costs.correct) ** (place + 1) * more for place, allowed in enumerate(_lengths(settings))
    )


def _tried_again(settings: "RunSettings", costs: "Costs") -> float:
    return _until_right(settings, costs, costs.revise)


def _reflected(settings: "RunSettings", costs: "Costs") -> float:
    return _until_right(settings, costs, costs.critique + costs.revise)


def _branched(settings: "RunSettings", costs: "Costs") -> float:
    """First answers are shared."""
    return _tried_again(settings, costs) - costs.attempt * (1 - 1 / settings.looks.branches)


_SCORE = Command("Train a policy to correct itself with SCoRe. Settings: the preset, --config, the options, --set.")
_SINGLE = Command("Reward the first answer only; there is no second turn while training.")
_MULTI = Command("Reward every answer by itself: no Stage I, no progress bonus.")
_MULTI_RETURN = Command(
    "The SCoRe paper's multi-turn RL: an answer is also paid, at 0.8 a turn, for those that follow it."
)
_MULTI_SUM = Command("Multi-turn RL whose answers are all paid for all that follow: a return across turns, gamma 1.")
_PAG = Command("PAG: the policy judges its own answer and revises only what it calls wrong; both are rewarded.")
_JUDGE_THEN_ACT = Command(
    "The policy judges its answer, revises what it calls wrong and stops at what it calls right: the word is paid for "
    "being true, right and wrong answers alike, and a further turn costs something."
)
_S2R = Command("S2R: imitate episodes whose verdicts are true, then pay verdicts and answers 1 or -1.")
_SELF_REWARDING = Command("Self-rewarding correction: imitate episodes that end right, then pay all turns the outcome.")
_UFO = Command('UFO: after a wrong answer only "try again" is said; early and new answers are paid.')
_REFLECT_RETRY = Command("Reflect, retry, reward: reflections on wrong answers are paid if the next answer is right.")
_MURPHY = Command("MURPHY: revisions of one wrong answer are compared with each other, and pay it what became of them.")
_STAR = Command(
    "STaR: sample, keep what is right, fine-tune the original policy on it; and again with the new policy.",
    lambda settings: settings.star.loops,
    (
        Choice(
            "data",
            "star.data",
            ("single", "single+rationalised", "multi", "multi+correct"),
            "What is learnt: right first answers, with or without those found with a hint; or second answers that mend "
            "a wrong first one, with or without those that keep a right one. The same as --set star.data=...",
        ),
    ),
)
_PAIR_SFT = Command(
    "Pair-SFT: sample answers, put a wrong and a right one together as two turns, fine-tune on the second.",
    lambda settings: 1,
    (
        Choice(
            "data",
            "pair_sft.data",
            ("pairs", "pairs+correct"),
            "What is learnt: right answers after wrong ones, or after right ones too. The same as --set "
            "pair_sft.data=...",
        ),
    ),
)
_SFT = Command(
    "Warm-up: fine-tune on the task's gold solutions, for a model that cannot do the task yet.",
    lambda settings: 1,
    (
        Choice(
            "form",
            "sft.form",
            ("attempt", "pairs"),
            "Where a solution is learnt: as the first answer, or as the second after a wrong one of the model's own. "
            "The same as --set sft.form=...",
        ),
    ),
)
_VSTAR = Command(
    "V-STaR: learn from right answers to generate, and from right and wrong ones to verify.",
    lambda settings: settings.vstar.rounds + len(settings.vstar.kinds),  # a step is a round, or training a verifier
)
_RL = "selfcorrect.training.arms.reinforced:"
_MANY = "selfcorrect.training.arms.many_turns."
_STAGE2 = "selfcorrect.training.arms.star:score_stage2_star"
_ALL: tuple[ArmSpec, ...] = (
    ArmSpec("base", "the base policy", usual_loop),
    ArmSpec("sample-again", "base, second attempt drawn anew", _sample_again_loop),
    ArmSpec("self-refine", "base, critique before the revision", _self_refine_loop),
    self_taught("star", "STaR, mended second answers (D_STaR)", "multi", _STAR),
    self_taught("star-plus", "STaR, mended and kept second answers (D+_STaR)", "multi+correct"),
    self_taught("star-single", "STaR on first answers, without rationalisation", "single"),
    self_taught("star-rationalised", "STaR on first answers, with rationalisation", "single+rationalised"),
    paired("pair-sft", "fine-tuned on wrong and right answers put together (D_SFT)", "pairs", _PAIR_SFT),
    paired("pair-sft-plus", "the same, and right after right (D+_SFT)", "pairs+correct"),
    reinforced(
        "single-turn", "RL, first answer only", _RL + "single_turn", episode=_first_answer_only, command=_SINGLE
    ),
    reinforced("multi-turn", "RL, both answers", _RL + "multi_turn", command=_MULTI),
    reinforced(
        "multi-turn-return", "RL, return across turns, gamma 0.8", _RL + "multi_turn_return", command=_MULTI_RETURN
    ),
    reinforced("multi-turn-sum", "RL, return across turns, gamma 1", _RL + "multi_turn_sum", command=_MULTI_SUM),
    reinforced("score", "SCoRe", _RL + "score", command=_SCORE),
    reinforced("score-no-stage1", "SCoRe without Stage I", _RL + "score_no_stage1"),
    reinforced("score-no-shaping", "SCoRe without the progress bonus", _RL + "score_no_shaping"),
    reinforced("score-stage2-star", "SCoRe with STaR as Stage II", _STAGE2),
    reinforced(
        "pag",
        "RL, the policy judges itself",
        _RL + "pag",
        episode=_judged_episode,
        loop=self_judging_loop,
        command=_PAG,
    ),
    reinforced(
        "judge-then-act",
        "RL, the word paid for its truth",
        _MANY + "judge_then_act:judge_then_act",
        episode=_judged_episode,
        loop=self_judging_loop,
        command=_JUDGE_THEN_ACT,
    ),
    reinforced(
        "s2r",
        "S2R: true words imitated, then turns paid +-1",
        _MANY + "s2r:s2r",
        episode=_judged_episode,
        loop=self_judging_loop,
        command=_S2R,
    ),
    reinforced(
        "self-rewarding",
        "episodes that end right imitated, then RL by the outcome",
        _MANY + "self_rewarding:self_rewarding",
        episode=_judged_episode,
        loop=self_judging_loop,
        command=_SELF_REWARDING,
    ),
    reinforced(
        "ufo",
        'UFO: RL, "try again" until right, new answers paid',
        _MANY + "ufo:ufo",
        episode=_tried_again,
        command=_UFO,
    ),
    reinforced(
        "reflect-retry",
        "RL, reflections paid by the next answer",
        _MANY + "reflect_retry:reflect_retry",
        episode=_reflected,
        loop=refining_loop,
        command=_REFLECT_RETRY,
    ),
    reinforced("murphy", "MURPHY: RL over a tree", _MANY + "murphy:murphy", episode=_branched, command=_MURPHY),
    ArmSpec(
        "sft",
        "fine-tuned on the task's gold solutions",
        usual_loop,
        partial(load, "selfcorrect.training.arms.sft:sft"),
        planned=None,  # it learns from data that the others do not have
        command=_SFT,
    ),
    ArmSpec(
        "vstar",
        "V-STaR, a generator and verifiers of it",
        usual_loop,
        partial(load, "selfcorrect.training.vstar.rounds:vstar"),
        planned=None,
        command=_VSTAR,
    ),
)


def _own(address: str, found: Any) -> ArmSpec:
    """An arm of a user's own: an `ArmSpec`, or the function that trains it, whose steps are taken to be SCoRe's."""
    if isinstance(found, ArmSpec):
        return found
    if isinstance(found, type) or not callable(found) or "out" not in inspect.signature(found).parameters:
        raise ConfigurationError(
            f"{address} is no arm: expected an ArmSpec or a function (settings, *, out, progress=None, resume=False) "
            f"-> RunResult, got {shown_kind(found)}"
        )
    says = (inspect.getdoc(found) or address).splitlines()[0]
    return reinforced(address, says, address, command=Command(says))


ARMS: Registry[ArmSpec] = Registry("arm", {spec.name: spec for spec in _ALL}, accept=_own)
"""Every arm, in the order of the tables."""


def comparable() -> list[str]:
    """The names of the arms that can be compared at equal cost."""
    return [name for name, spec in ARMS.items() if spec.planned is not None]


def arm_specs(names: Sequence[str]) -> list[ArmSpec]:
    """The arms of these names, in this order, each once.

    Raises:
        ConfigurationError: a name is unknown; the message names the nearest. Or the arm cannot be compared.
    """
    if not names:
        raise ConfigurationError(f"no arms to compare; the arms are {', '.join(comparable())}")
    found = [ARMS.find(name) for name in dict.fromkeys(names)]
    for spec in found:
        if spec.planned is None:
            raise ConfigurationError(
                f"{spec.name} cannot be compared at equal cost; the arms are {', '.join(comparable())}"
            )
    return found
