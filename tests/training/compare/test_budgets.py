"""What the arms are planned to cost: the same, by arithmetic."""

import pytest

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.budgets import Costs, refuse_unequal
from selfcorrect.training.arms.registry import ARMS, arm_specs, comparable
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.compare.report import drift_lines
from selfcorrect.training.settings import DEMO, GraphSettings

COSTS = Costs(attempt=18.0, revise=24.0, critique=7.0, called_wrong=0.5, correct=0.4)


@pytest.mark.parametrize(
    ("arm", "problems"),
    [
        ("score", 32),
        ("multi-turn", 32),
        ("single-turn", 75),  # 32 * (18 + 24) / 18 = 74.7
        ("pag", 36),  # 18 + 7 + 0.5 * 24 = 37 tokens an episode: 32 * 42 / 37 = 36.3
    ],
)
def test_cheaper_episodes_are_played_more_often(arm: str, problems: int) -> None:
    (arm_spec,) = arm_specs([arm])
    assert arm_spec.fitted(DEMO, COSTS).optimiser.problems_per_step == problems


def test_episodes_of_a_drawn_length_cost_their_mean() -> None:
    drawn = DEMO.model_copy(update={"graph": GraphSettings(revisions=4, fewest_revisions=2)})
    (score, pag) = arm_specs(["score", "pag"])
    assert score.planned(drawn, COSTS) == Budget(160 * 256 * (18 + 3 * 24), 160 * 4)
    # All episodes may have two revisions, two thirds a third one, a third a fourth one; half of the answers are revised
    judged = 18 + (7 + 0.5 * 24) + 0.5 * (7 + 0.5 * 24) + 2 / 3 * 0.25 * (7 + 0.5 * 24) + 1 / 3 * 0.125 * (7 + 12)
    assert pag.planned(drawn, COSTS).generated_tokens == round(160 * 256 * judged)


def test_the_goal_is_what_score_costs() -> None:
    (score,) = arm_specs(["score"])
    # 160 steps of 256 episodes of 42 tokens; 2 minibatches in 2 epochs
    assert score.planned(DEMO, COSTS) == Budget(160 * 256 * 42, 160 * 4)


def test_supervised_arms_sample_and_step_as_much_in_equal_parts() -> None:
    star, pair = arm_specs(["star", "pair-sft"])
    fitted = star.fitted(DEMO, COSTS).star
    assert (fitted.tokens, fitted.steps, fitted.data) == (160 * 256 * 42 // fitted.loops, 640 // fitted.loops, "multi")
    assert pair.fitted(DEMO, COSTS).pair_sft.tokens == 160 * 256 * 42


def test_all_arms_of_the_demo_cost_the_same() -> None:
    planned = {
        arm_spec.name: arm_spec.planned(arm_spec.fitted(DEMO, COSTS), COSTS)
        for arm_spec in map(ARMS.find, comparable())
        if arm_spec.planned
    }
    refuse_unequal(planned)
    assert planned["base"] == planned["self-refine"] == Budget(0, 0)


def test_unequal_steps_are_told() -> None:
    with pytest.raises(ConfigurationError, match=r"\(optimiser steps differ by more than 5%\)"):
        refuse_unequal({"a": Budget(1000, 10), "b": Budget(1000, 20)})


def test_an_arm_that_cost_other_than_planned_is_told() -> None:
    def row(planned: int, measured: int | None) -> dict[str, object]:
        cost = None if measured is None else {"generated_tokens": measured, "optimiser_steps": 4}
        return {"planned": {"generated_tokens": planned, "optimiser_steps": 4}, "measured": cost}

    budgets = {"even": row(1000, 1040), "pag": row(1000, 840), "star": row(1000, 1200), "base": row(0, None)}
    assert drift_lines({**budgets, "unfinished": row(1000, None)}) == [
        "pag generated 16% fewer tokens than planned, so it was not compared at equal cost",
        "star generated 20% more tokens than planned, so it was not compared at equal cost",
    ]
