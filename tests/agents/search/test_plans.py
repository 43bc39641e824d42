"""Difficulty, plans, and the strategy that follows them."""

import asyncio
from pathlib import Path

import pytest
from drawn_answers import candidates
from step_policy import ListPolicy

from selfcorrect.agents import Majority, search_sync
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.search.compute_optimal import BudgetPlan, ComputeOptimal, SearchPlan, difficulty_of
from selfcorrect.agents.search.strategies import sized
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import ScriptedVerifier, Status, Verdict
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.scaling.fitting import Outcome, fit_plan
from selfcorrect.training.scaling.measuring import Experiment, mean_answer_tokens, measure
from selfcorrect.training.scaling.summary import pass_at_k, summarise, tokens_to_reach


def plan(**changes: object) -> SearchPlan:
    fields: dict[str, object] = {
        "task": "t", "policy": "p", "measure": "verifier", "samples": 2, "edges": [0.5], "answer_tokens": 1.0,
        "budgets": [
            BudgetPlan(answers=2, tokens=2, strategies=["majority:2"]),
            BudgetPlan(answers=6, tokens=6, strategies=["best_of_n:6:sure=0.8", "mixed:3x1"]),
        ],
    }  # fmt: skip
    return SearchPlan.model_validate(fields | changes)


def test_difficulty_is_what_the_verifier_or_the_vote_lacks() -> None:
    assert difficulty_of(candidates("abab", [0.5, 0.5, 1.0, None]), "verifier") == 0.5
    assert difficulty_of(candidates("aab-"), "agreement") == 0.5
    assert difficulty_of(candidates("--"), "agreement") == difficulty_of([], "verifier") == 1.0


def test_an_easy_problem_ends_early_and_the_estimate_is_part_of_the_search() -> None:
    policy = ListPolicy(["a", "b", "c"])
    verifier = ScriptedVerifier({"a": 0.9, "b": 0.5, "c": 0.1})
    result = search_sync("?", ComputeOptimal(plan()), policy, verifier, 6)
    assert result.difficulty == pytest.approx(0.3) and result.strategy == "best_of_n:6:sure=0.8"
    assert (result.answer, result.tokens, policy.calls, result.stop_reason) == ("a", 2, 2, "sure")


def test_a_hard_problem_goes_on_from_the_answers_of_the_estimate() -> None:
    policy = ListPolicy(["a", "b", "c"], revise=lambda text: f"{text}2")
    verifier = ScriptedVerifier({"a": 0.1, "b": 0.2, "c": 0.3, "a2": 0.7, "b2": 0.0, "c2": 0.0})
    result = search_sync("?", ComputeOptimal(plan()), policy, verifier, 6)
    assert [one["text"] for one in result.candidates] == ["a", "b", "c", "a2", "b2", "c2"] and policy.calls == 3
    assert (result.answer, result.strategy, result.tokens) == ("a2", "mixed:3x1", 6)


def test_a_small_budget_estimates_nothing() -> None:
    result = search_sync("?", ComputeOptimal(plan()), ListPolicy(["a"]), ScriptedVerifier({"a": 0.1}), 3)
    assert (result.strategy, result.difficulty) == ("majority:2", None)


def test_a_plan_whose_strategies_cannot_go_on_from_the_estimate_is_refused() -> None:
    narrow = plan(budgets=[BudgetPlan(answers=6, tokens=6, strategies=["revise:3", "majority:4"])])
    with pytest.raises(ConfigurationError, match="fewer parallel chains"):
        search_sync("?", ComputeOptimal(narrow), ListPolicy(["a"]), ScriptedVerifier({"a": 0.1}), 6)
    with pytest.raises(ConfigurationError, match="--verifier"):
        search_sync("?", ComputeOptimal(plan()), ListPolicy(["a"]), None, 6)


def test_plans_are_plain_files(tmp_path: Path) -> None:
    plan().save(tmp_path / "plan.json")
    assert SearchPlan.load(tmp_path / "plan.json") == plan()
    for text in ("{}", "nonsense", plan().model_dump_json().replace("majority:2", "magic:2")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ConfigurationError, match=r"bad.json holds no plan"):
            SearchPlan.load(tmp_path / "bad.json")
    with pytest.raises(ConfigurationError, match="cannot read"):
        SearchPlan.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match="3 strategies for 2 bins"):
        plan(budgets=[BudgetPlan(answers=1, tokens=1, strategies=["majority:1"] * 3)])


def outcomes() -> list[Outcome]:
    """Easy problems (difficulty below 0.5) are solved by votes, hard ones by revision; both cost 8, but a sure vote
    costs 3."""
    made = []
    for number in range(20):
        hard = number >= 10
        for strategy, right, tokens in [
            ("majority:8", not hard, 8),
            ("best_of_n:8:sure=0.9", not hard, 3),
            ("mixed:4x1", hard, 8),
        ]:
            made.append(Outcome(f"p{number}", strategy, 8, float(right), tokens))
        made.append(Outcome(f"p{number}", "majority:1", 1, float(not hard), 1))
    return made


def test_a_fit_on_synthetic_data_finds_the_known_best() -> None:
    difficulties = {f"p{number}": number / 20 for number in range(20)}
    fitted = fit_plan(outcomes(), difficulties, samples=2, measure="agreement", answer_tokens=1.0, bins=2)
    small, large = fitted.budgets
    assert fitted.edges == [pytest.approx(0.475)]
    assert small.strategies == ["majority:1"] and small.accuracy == [0.5]
    assert large.strategies == ["best_of_n:8:sure=0.9", "mixed:4x1"]  # as good as the vote, and cheaper
    assert large.accuracy == [1.0, 1.0] and large.mean_tokens == [3.0, 8.0]


def test_one_strategy_for_all_takes_the_place_of_an_estimate_that_does_not_pay() -> None:
    difficulties = {f"p{number}": number / 20 for number in range(20)}

    def fitted(accuracy: float, tokens: int) -> BudgetPlan:
        right = [1.0] * round(20 * accuracy) + [0.0] * round(20 * (1 - accuracy))
        alone = [Outcome(f"p{number}", "self_judged:8x0", 8, one, tokens) for number, one in enumerate(right)]
        made = fit_plan(
            outcomes(), difficulties, samples=2, measure="agreement", answer_tokens=1.0, bins=2, unestimated=alone
        )
        return made.budgets[-1]

    # the two bins together: accuracy 1, tokens (3 + 8) / 2
    assert fitted(1.0, 5).strategies == ["self_judged:8x0"] and fitted(1.0, 5).mean_tokens == [5.0]
    assert not fitted(1.0, 5).estimates
    assert fitted(1.0, 6).estimates  # as good, but dearer
    assert fitted(0.95, 5).estimates  # cheaper, but not within the tolerance of 0.02


def test_a_budget_for_which_no_strategy_can_go_on_from_an_estimate_gets_one_for_all() -> None:
    alone = [Outcome("p0", "revise:7", 8, 1.0, 8)]
    made = fit_plan(outcomes()[:4], {"p0": 0.5}, samples=5, measure="agreement", answer_tokens=1.0, unestimated=alone)
    assert [(one.answers, one.strategies) for one in made.budgets] == [(1, ["majority:1"]), (8, ["revise:7"])]


def test_a_fit_without_outcomes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="0 outcomes"):
        fit_plan([], {}, samples=2, measure="agreement", answer_tokens=1.0)


@pytest.mark.parametrize(
    ("family", "answers", "name"),
    [
        ("majority", 8, "majority:8"), ("best_of_n:sure=0.5", 8, "best_of_n:8:sure=0.5"), ("beam", 16, "beam:4x4"),
        ("beam", 2, "beam:1x2"),
        ("revise", 8, "revise:7:pick=verifier"), ("mixed", 8, "mixed:4x1"), ("mixed:revisions=3", 8, "mixed:2x3"),
    ],
)  # fmt: skip
def test_families_have_a_strategy_of_every_size(family: str, answers: int, name: str) -> None:
    strategy = sized(family, answers)
    assert strategy is not None and strategy.name == name


def test_families_that_cannot_be_so_small_or_are_none() -> None:
    assert sized("mixed", 1) is None and sized("revise", 1) is None
    with pytest.raises(ConfigurationError, match="unknown strategy"):
        sized("magic", 4)


class RightIsB:
    """A checker: the answer "b" is right."""

    def check_sync(self, response: str, reference: object) -> Verdict:
        return Verdict(Status.CORRECT if response == "b" else Status.WRONG, response)

    async def check(self, response: str, reference: object) -> Verdict:
        return self.check_sync(response, reference)

    def validate_reference(self, reference: object) -> str | None:
        return None


def experiment(policy: ListPolicy, **changes: object) -> Experiment:
    fields: dict[str, object] = {
        "policy": policy, "checker": RightIsB(), "prompts": PLAIN, "families": ("majority", "best_of_n"),
        "answers": (1, 3), "answer_tokens": 1.0, "verifier": ScriptedVerifier({"a": 0.2, "b": 0.9}), "samples": 2,
        "chunk": 2,
    }  # fmt: skip
    return Experiment(**(fields | changes))  # type: ignore[arg-type]


PROBLEMS = [Problem(id=f"p{n}", prompt=f"{n}", reference=None, checker="none") for n in range(3)]


def test_measuring_plays_everything_on_the_same_answers_and_takes_up_where_it_was_stopped(tmp_path: Path) -> None:
    policy = ListPolicy(["a", "b"])
    asked, measured = asyncio.run(measure(experiment(policy), PROBLEMS[:1], seed=0, folder=tmp_path))
    assert policy.calls == 3  # three answers, however many strategies
    assert asked[0].correct == [0.0, 1.0, 0.0] and asked[0].difficulty == {
        "agreement": 0.5,
        "verifier": pytest.approx(0.45),
    }
    found = {(one.family, one.answers): (one.correct, one.tokens) for one in measured}
    assert found == {
        ("majority", 1): (0.0, 1),
        ("best_of_n", 1): (0.0, 1),
        ("majority", 3): (0.0, 3),
        ("best_of_n", 3): (1.0, 3),
    }
    assert asyncio.run(measure(experiment(policy), PROBLEMS[:1], seed=0, folder=tmp_path)) == (asked, measured)
    assert policy.calls == 3


def test_figures_by_budget_and_by_difficulty() -> None:
    policy = ListPolicy(["b"])
    asked, measured = asyncio.run(measure(experiment(policy), PROBLEMS, seed=0))
    points = summarise(asked, measured, bins=1)
    best = next(one for one in points if one.family == "best_of_n" and one.answers == 3 and one.bin is None)
    assert (best.n, best.accuracy, best.tokens) == (3, 1.0, 3.0)
    assert tokens_to_reach(points, "majority", 1.0) == 1.0 and tokens_to_reach(points, "majority", 1.1) is None
    assert pass_at_k(asked[0], 2) == 1.0


def test_the_mean_answer_is_measured_in_tokens() -> None:
    policy = ListPolicy(["one two", "one two three four"])
    from selfcorrect.agents.policy import Sampling

    assert asyncio.run(mean_answer_tokens(policy, PROBLEMS[:2], prompts=PLAIN, sampling=Sampling())) == 3.0
    assert Majority(1).name == "majority:1"
