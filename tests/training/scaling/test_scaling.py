"""Comparing strategies at equal tokens, and plans made of a comparison."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from step_policy import ListPolicy, RenewingListPolicy

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.search.strategies import sized
from selfcorrect.agents.state import Generation
from selfcorrect.errors import ConfigurationError, PolicyError, TaskError
from selfcorrect.rewards.checker import ScriptedVerifier
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.scaling.measuring import PROBE, Asked, Measured
from selfcorrect.training.scaling.run import Comparison, compare, families_for, sparing_for, tune, write_comparison
from selfcorrect.training.scaling.summary import best_played, label_of, scale_svg, summarise

RIGHT = "3 + 5 = 8 ; 8 * 7 = 56"


def played(strategy: str, answers: int, tokens: int, correct: float = 1.0) -> Measured:
    return Measured("0/p", strategy, answers, correct, tokens, strategy.split(":")[0], 0, "complete")


def comparison(*measured: Measured) -> Comparison:
    return Comparison([Asked("0/p", [1.0], {"agreement": 0.5})], list(measured), [], answer_tokens=10.0)


def test_a_beam_in_a_plan_leaves_room_for_the_estimate() -> None:
    beams = [played("beam:1x4", 4, 40), played("beam:2x4", 8, 80), played("beam:4x4", 16, 160)]
    plan = tune(comparison(*beams), measure_by="agreement", samples=4, bins=1)
    # of 16 answers, 4 are the estimate's: the beam of 8 is the largest that fits; of 8, the beam of 4
    assert [(one.answers, one.strategies, one.mean_tokens) for one in plan.budgets] == [
        (4, ["beam:1x4"], [40.0]),
        (8, ["beam:1x4"], [80.0]),
        (16, ["beam:2x4"], [120.0]),
    ]


def easy_and_hard(*measured: tuple[str, int, bool]) -> Comparison:
    """Strategies with 8 answers, of which each solves either the easy problem or the hard one, at so many tokens."""
    asked = [Asked(f"0/{name}", [1.0], {"agreement": one}) for name, one in (("easy", 0.2), ("hard", 0.8))]
    outcomes = [
        replace(played(strategy, 8, tokens, correct=float(easy is (name == "easy"))), problem=f"0/{name}")
        for strategy, tokens, easy in measured
        for name in ("easy", "hard")
    ]
    return Comparison(asked, outcomes, [], answer_tokens=10.0)


def test_a_strategy_costs_at_least_its_estimate_and_chains_are_as_many_as_its_answers() -> None:
    both = easy_and_hard(
        ("best_of_n:8:sure=0.9", 10, True), ("majority:8", 80, False), ("mixed:2x3", 10, False), ("revise:7", 10, False)
    )
    (plan,) = tune(both, measure_by="agreement", samples=4, bins=2).budgets
    assert (plan.strategies, plan.mean_tokens) == (["best_of_n:8:sure=0.9", "majority:8"], [40.0, 80.0])


def test_after_an_estimate_a_policy_that_judges_itself_judges_those_answers_too() -> None:
    both = easy_and_hard(("majority:8", 10, True), ("self_judged:8x0", 12, False), ("self_judged:2x3", 9, False))
    (plan,) = tune(both, measure_by="agreement", samples=4, bins=2).budgets
    assert (plan.strategies, plan.mean_tokens) == (["majority:8", "self_judged:8x0"], [40.0, 80.0])


def test_where_one_strategy_for_all_is_as_good_nothing_is_estimated_and_it_costs_what_was_measured() -> None:
    (plan,) = tune(comparison(played("self_judged:8x0", 8, 12)), measure_by="agreement", samples=4, bins=1).budgets
    assert (plan.strategies, plan.mean_tokens, plan.estimates) == (["self_judged:8x0"], [12.0], False)


def test_what_is_compared_depends_on_who_scores() -> None:
    verifier, policy = ScriptedVerifier({}), ListPolicy(["a"])
    alone = families_for(policy, None, None, None)
    assert alone == ("majority", "revise:pick=majority", "self_judged", "self_judged:revisions=3")
    assert {"best_of_n", "weighted", "mixed", "beam"} <= set(families_for(policy, verifier, None, None))


def test_a_policy_that_was_made_for_two_turns_is_not_asked_to_judge_itself() -> None:
    policy = ListPolicy(["a"])
    policy.tokenizer = SimpleNamespace(init_kwargs={"selfcorrect_turns": 2})  # type: ignore[attr-defined]
    assert families_for(policy, None, None, None) == ("majority", "revise:pick=majority")


def test_what_may_save_tokens_depends_on_the_verifier_and_on_what_the_policy_can_draw() -> None:
    verifier, plain, renewing = ScriptedVerifier({}), ListPolicy(["a"]), RenewingListPolicy(["a"])
    assert sparing_for(renewing, None, Sampling()) == ()
    assert not any("distinct" in name for name in sparing_for(plain, verifier, Sampling()))
    assert not any("distinct" in name for name in sparing_for(renewing, verifier, Sampling(temperature=0)))
    names = sparing_for(renewing, verifier, Sampling())
    assert any("distinct" in name for name in names) and all(sized(name, 8) is not None for name in names)


@pytest.mark.slow
def test_a_comparison_keeps_to_its_budgets_and_writes_its_figures(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = compare(
        ListPolicy([RIGHT, "3 + 5 = 9"]), CountdownTask(3), prompts=PLAIN, families=["majority", "best_of_n"],
        answers=[1, 4], problems=3,
        verifier=ScriptedVerifier(lambda prompt, text: 0.5), on_progress=lambda *progress: told.append(progress),
    )  # fmt: skip
    assert done.answer_tokens == 8.0  # 11 words and 5
    assert all(one.tokens <= one.answers * 8 for one in done.measured) and told[-1] == (15, 15)
    write_comparison(tmp_path, done, about={"task": "t"})
    assert (tmp_path / "scale.json").exists()
    drawn = scale_svg(done.points)
    assert "best of N" in drawn and "prefers-color-scheme: dark" in drawn
    assert label_of("best_of_n:sure=0.9") == "best of N (sure=0.9)"
    assert label_of("best_of_n:distinct=true:sure=0.9") == "best of N (distinct, sure=0.9)"


class _HeldOutOnly(CountdownTask):
    """A published set of problems that is for evaluation alone."""

    def available(self, split: str) -> int:
        return 3 if split == "test" else 0

    def problems(self, split: Any, count: int, *, seed: int = 0) -> list[Problem]:
        if count > self.available(split):
            raise TaskError(f"there are no {count} {split} problems")
        return super().problems(split, count, seed=seed)


def test_lengths_are_measured_on_what_there_is() -> None:
    done = compare(ListPolicy([RIGHT]), _HeldOutOnly(3), prompts=PLAIN, families=["majority"], answers=[1], problems=3)
    assert done.answer_tokens == 11.0 and len(done.asked) == 3


class _Interrupted(ListPolicy):
    """Its connection breaks at one of the calls."""

    breaks: int | None = None

    async def generate(self, *asked: Any, **options: Any) -> Generation:
        if self.calls == self.breaks:
            raise PolicyError("the server went away")
        return await super().generate(*asked, **options)


def test_answers_are_kept_as_they_come_and_not_asked_for_again(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"prompts": PLAIN, "families": ["majority"], "answers": [1, 4], "problems": 3}
    unbroken = ListPolicy([RIGHT, "3 + 5 = 9"])
    whole = compare(unbroken, CountdownTask(3), **arguments)

    policy = _Interrupted([RIGHT, "3 + 5 = 9"])
    policy.breaks = PROBE + 7
    with pytest.raises(PolicyError, match="went away"):
        compare(policy, CountdownTask(3), **arguments, folder=tmp_path)
    (kept,) = (tmp_path / "chunks").iterdir()
    assert kept.name == "seed-0-chunk-0.answers.jsonl" and len(kept.read_text().splitlines()) == 7
    kept.write_text(kept.read_text()[:-30])  # and the machine, too, while the last one was written

    policy.breaks, policy.calls = None, PROBE + 6
    done = compare(policy, CountdownTask(3), **arguments, folder=tmp_path)
    assert policy.calls == unbroken.calls  # neither the lengths nor the six answers were asked for again
    assert (done.measured, done.asked, done.answer_tokens) == (whole.measured, whole.asked, whole.answer_tokens)
    assert [one.name for one in (tmp_path / "chunks").iterdir()] == ["seed-0-chunk-0.json"]


def test_a_folder_is_not_gone_on_with_by_another_verifier(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"prompts": PLAIN, "families": ["best_of_n"], "answers": [1], "problems": 1}

    def choosing(name: str) -> Comparison:
        verifier = ScriptedVerifier(lambda prompt, text: 0.5)
        named = {"verifier": verifier, "verifier_name": name}
        return compare(ListPolicy([RIGHT]), CountdownTask(3), **arguments, **named, folder=tmp_path)

    assert choosing("one").measured == choosing("one").measured
    with pytest.raises(ConfigurationError, match="other settings of verifier"):
        choosing("other")


def test_the_command_goes_on_with_what_was_right_most_often_and_can_be_played_without_more() -> None:
    def best(*rows: tuple[str, float, int]) -> str | None:
        measured = [played(name, 4, tokens, correct=right) for name, right, tokens in rows]
        asked = [Asked("0/p", [1.0], {"agreement": 0.5})]
        return best_played(summarise(asked, measured), measured)

    assert best(("majority:4", 0.0, 4), ("best_of_n:4", 1.0, 9), ("self_judged:4x0", 1.0, 7)) == "self_judged:4x0"
    assert best(("beam:2x2", 1.0, 3), ("compute_optimal", 1.0, 2), ("majority:4", 0.0, 4)) == "majority:4"
    assert best(("compute_optimal", 1.0, 2)) is None


def test_a_perfect_verifier_is_told_at_every_power_of_two_that_there_are_answers_for() -> None:
    asked = [Asked("0/p", [1.0] * 300 + [0.0] * 300, {"agreement": 0.5})]
    sizes = [point.answers for point in summarise(asked, []) if point.bin is None]
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_comparisons_of_nothing_are_refused(tmp_path: Path) -> None:
    for bad in (
        {"answers": []},
        {"answers": [0]},
        {"seeds": ()},
        {"families": ["magic"]},
        {"families": ["compute_optimal"]},
    ):
        with pytest.raises(ConfigurationError):
            compare(
                ListPolicy([RIGHT]),
                CountdownTask(3),
                **{"prompts": PLAIN, "families": ["majority"], "problems": 1, **bad},
            )  # type: ignore[arg-type]
