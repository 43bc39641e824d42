"""One arm of a comparison: how it is trained, in which loop it is evaluated, and how its budget is fitted and planned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.rewards.checker import Checker
from selfcorrect.training.arms import Arm
from selfcorrect.training.compare.budgets import Costs
from selfcorrect.training.run_directory import Budget
from selfcorrect.training.settings import RunSettings

StarData = Literal["single", "single+rationalised", "multi", "multi+correct"]
PairData = Literal["pairs", "pairs+correct"]
NOTHING = Budget(generated_tokens=0, optimiser_steps=0)
BuildLoop = Callable[[RunSettings, Any, Checker], CorrectionGraph]


@dataclass(frozen=True)
class Entrant:
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
    from selfcorrect.training.opening import open_graph

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
) -> Entrant:
    """An arm of reinforcement learning whose training episodes cost `episode` tokens: cheaper ones are played more often a step."""

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

    return Entrant(name, says, loop, load, fitted, planned)


def goal_of(settings: RunSettings, costs: Costs) -> Budget:
    """What SCoRe costs with `settings`: the budget of all arms."""
    optimiser, steps = settings.optimiser, settings.score.total_steps
    return Budget(
        generated_tokens=round(steps * optimiser.episodes_per_step * usual_episode(settings, costs)),
        optimiser_steps=steps * optimiser.minibatches * optimiser.ppo_epochs,
    )


def self_taught(name: str, says: str, load: Callable[[], Arm], data: StarData) -> Entrant:
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

    return Entrant(name, says, usual_loop, load, fitted, planned)


def paired(name: str, says: str, load: Callable[[], Arm], data: PairData) -> Entrant:
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

    return Entrant(name, says, usual_loop, load, fitted, planned)
