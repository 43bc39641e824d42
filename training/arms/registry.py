"""One arm of a comparison: how it is trained, in which loop it is evaluated, and how its budget is fitted and
planned."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Checker
from selfcorrect.training.arms import Arm
from selfcorrect.training.arms.budgets import Costs
from selfcorrect.training.runs.run_directory import Budget
from selfcorrect.training.settings import RunSettings

StarData = Literal["single", "single+rationalised", "multi", "multi+correct"]
PairData = Literal["pairs", "pairs+correct"]
NOTHING = Budget(generated_tokens=0, optimiser_steps=0)
BuildLoop = Callable[[RunSettings, Any, Checker], CorrectionGraph]


@dataclass(frozen=True)
class ArmSpec:
    """One arm in a comparison.

    Attributes:
        name: on the command line, in tables, and of its folder.
        says: what it is, in a few words.
        loop: makes the graph in which it is evaluated.
        load: imports the function that trains it; None for the base policy, which is only evaluated.
        fitted: the settings with which it costs what SCoRe costs with the given ones.
        planned: what it costs with its fitted settings.
    """

    name: str
    says: str
    loop: BuildLoop
    load: Callable[[], Arm] | None = None
    fitted: Callable[[RunSettings, Costs], RunSettings] = lambda settings, costs: settings
    planned: Callable[[RunSettings, Costs], Budget] = lambda settings, costs: NOTHING


def usual_loop(settings: RunSettings, policy: Any, checker: Checker) -> CorrectionGraph:
    from selfcorrect.training.runs.opening import open_graph

    return open_graph(settings, policy, checker)


def self_judging_loop(settings: RunSettings, policy: Any, checker: Checker) -> CorrectionGraph:
    graph = settings.graph.model_copy(update={"critique": "self"})
    return usual_loop(settings.model_copy(update={"graph": graph}), policy, checker)


def usual_episode(settings: RunSettings, costs: Costs) -> float:
    """Tokens of an attempt and its revisions."""
    return costs.attempt + settings.graph.revisions * costs.revise


def reinforced(
    name: str,
    says: str,
    load: Callable[[], Arm],
    *,
    episode: Callable[[RunSettings, Costs], float] = usual_episode,
    loop: BuildLoop = usual_loop,
) -> ArmSpec:
    """An arm of reinforcement learning whose training episodes cost `episode` tokens: cheaper ones are played more
    often a step."""

    def fitted(settings: RunSettings, costs: Costs) -> RunSettings:
        ratio = usual_episode(settings, costs) / episode(settings, costs)
        problems = max(1, round(settings.optimiser.problems_per_step * ratio))
        optimiser = settings.optimiser.model_copy(update={"problems_per_step": problems})
        return settings.model_copy(update={"optimiser": optimiser})

    def planned(settings: RunSettings, costs: Costs) -> Budget:
        optimiser, steps = settings.optimiser, settings.score.total_steps
        return Budget(
            generated_tokens=round(steps * optimiser.episodes_per_step * episode(settings, costs)),
            optimiser_steps=goal_of(settings, costs).optimiser_steps,
        )

    return ArmSpec(name, says, loop, load, fitted, planned)


def goal_of(settings: RunSettings, costs: Costs) -> Budget:
    """What SCoRe costs with `settings`: the budget of all arms."""
    optimiser, steps = settings.optimiser, settings.score.total_steps
    return Budget(
        generated_tokens=round(steps * optimiser.episodes_per_step * usual_episode(settings, costs)),
        optimiser_steps=steps * optimiser.minibatches * optimiser.ppo_epochs,
    )


def self_taught(name: str, says: str, load: Callable[[], Arm], data: StarData) -> ArmSpec:
    """STaR on one kind of data: the goal's tokens and steps in equal parts over its loops."""

    def fitted(settings: RunSettings, costs: Costs) -> RunSettings:
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

    def planned(settings: RunSettings, costs: Costs) -> Budget:
        loops = settings.star.loops
        return Budget(loops * (settings.star.tokens or 0), loops * settings.star.steps)

    return ArmSpec(name, says, usual_loop, load, fitted, planned)


def paired(name: str, says: str, load: Callable[[], Arm], data: PairData) -> ArmSpec:
    """Pair-SFT on one kind of data, in one loop."""

    def fitted(settings: RunSettings, costs: Costs) -> RunSettings:
        goal = goal_of(settings, costs)
        parts = {"data": data, "tokens": goal.generated_tokens, "steps": goal.optimiser_steps}
        return settings.model_copy(
            update={
                "pair_sft": settings.pair_sft.model_copy(update=parts),
                "evaluation": settings.evaluation.model_copy(update={"every": 0}),
            }
        )

    def planned(settings: RunSettings, costs: Costs) -> Budget:
        return Budget(settings.pair_sft.tokens or 0, settings.pair_sft.steps)

    return ArmSpec(name, says, usual_loop, load, fitted, planned)


# What can be compared.


def _star() -> Arm:
    from selfcorrect.training.arms.star import star

    return star


def _pair_sft() -> Arm:
    from selfcorrect.training.arms.pair_sft import pair_sft

    return pair_sft


def _score_stage2_star() -> Arm:
    from selfcorrect.training.arms.score_stage2_star import score_stage2_star

    return score_stage2_star


def _score() -> Arm:
    from selfcorrect.training.arms.reinforced import score

    return score


def _score_no_stage1() -> Arm:
    from selfcorrect.training.arms.reinforced import score_no_stage1

    return score_no_stage1


def _score_no_shaping() -> Arm:
    from selfcorrect.training.arms.reinforced import score_no_shaping

    return score_no_shaping


def _single_turn() -> Arm:
    from selfcorrect.training.arms.reinforced import single_turn

    return single_turn


def _multi_turn() -> Arm:
    from selfcorrect.training.arms.reinforced import multi_turn

    return multi_turn


def _pag() -> Arm:
    from selfcorrect.training.arms.reinforced import pag

    return pag


def _self_refine_loop(settings: RunSettings, policy: Any, checker: Checker) -> CorrectionGraph:
    from selfcorrect.training.arms.untrained import self_refine_loop

    return self_refine_loop(settings, policy)


def _sample_again_loop(settings: RunSettings, policy: Any, checker: Checker) -> CorrectionGraph:
    from selfcorrect.training.arms.untrained import sample_again_loop

    return sample_again_loop(settings, policy)


def _first_answer_only(settings: RunSettings, costs: Costs) -> float:
    return costs.attempt


def _judged_episode(settings: RunSettings, costs: Costs) -> float:
    """An answer, its judgement, and a revision of those called wrong, `revisions` times."""
    tokens, reached = costs.attempt, 1.0
    for _ in range(settings.graph.revisions):
        tokens += reached * costs.critique
        reached *= costs.called_wrong
        tokens += reached * costs.revise
    return tokens


ENTRANTS: tuple[ArmSpec, ...] = (
    ArmSpec("base", "the base policy", usual_loop),
    ArmSpec("sample-again", "base, second attempt drawn anew", _sample_again_loop),
    ArmSpec("self-refine", "base, critique before the revision", _self_refine_loop),
    self_taught("star", "STaR, mended second answers (D_STaR)", _star, "multi"),
    self_taught("star-plus", "STaR, mended and kept second answers (D+_STaR)", _star, "multi+correct"),
    self_taught("star-single", "STaR on first answers, without rationalisation", _star, "single"),
    self_taught("star-rationalised", "STaR on first answers, with rationalisation", _star, "single+rationalised"),
    paired("pair-sft", "fine-tuned on wrong and right answers put together (D_SFT)", _pair_sft, "pairs"),
    paired("pair-sft-plus", "the same, and right after right (D+_SFT)", _pair_sft, "pairs+correct"),
    reinforced("single-turn", "RL, first answer only", _single_turn, episode=_first_answer_only),
    reinforced("multi-turn", "RL, both answers", _multi_turn),
    reinforced("score", "SCoRe", _score),
    reinforced("score-no-stage1", "SCoRe without Stage I", _score_no_stage1),
    reinforced("score-no-shaping", "SCoRe without the progress bonus", _score_no_shaping),
    reinforced("score-stage2-star", "SCoRe with STaR as Stage II", _score_stage2_star),
    reinforced("pag", "RL, the policy judges itself", _pag, episode=_judged_episode, loop=self_judging_loop),
)


def arm_specs(names: Sequence[str]) -> list[ArmSpec]:
    """The arm_specs of these names, in this order, each once.

    Raises:
        ConfigurationError: a name is unknown; the message names the nearest.
    """
    known = {arm_spec.name: arm_spec for arm_spec in ENTRANTS}
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" did you mean {nearest[0]}?" if nearest else ""
            raise ConfigurationError(f"unknown arm {name!r};{hint} The arms are {', '.join(known)}")
    if not names:
        raise ConfigurationError(f"no arms to compare; the arms are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]
