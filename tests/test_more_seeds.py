"""Seeds that are added to committed results: their figures by hand, and what is no part of one comparison refused."""

import json
import math
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import ttest_rel

from selfcorrect.files import finite
from selfcorrect.training.compare.statistics import mean_over_seeds

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "more_seeds.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="there are no benchmarks beside an installed wheel")


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name="more_seeds"))


def row(seeds: Sequence[int], second: Sequence[float]) -> dict[str, Any]:
    def figure(values: Sequence[float]) -> dict[str, Any]:
        mean = mean_over_seeds(values, is_share=True)
        return {"mean": mean.mean, "interval": [finite(end) for end in mean.interval], "by_seed": list(values)}

    whole = {
        "seeds": list(seeds),
        "longest": 2,
        "accuracy_t1": figure([0.5] * len(seeds)),
        "accuracy_t2": figure(second),
    }
    return {**whole, "tokens_per_episode": 10.0 * len(seeds), "truncated": 0.0, "unjudged": 0.0}


def results(rows: Mapping[str, dict[str, Any]], seeds: Sequence[int], **changes: Any) -> dict[str, Any]:
    test = {"mean": 0.1, "interval": [0.0, 0.2], "p": 0.04, "seeds": 2, "problems": 100, "p_holm": 0.04}
    tests = {"accuracy_t2": {arm: test for arm in rows if arm != "ours"}}
    same = {"task": "sums", "policy": "small", "problems": 100, "temperature": 0.7, "reference": "ours"}
    ways = {"greedy": dict(rows), "sampled": dict(rows), "greedy_tests": tests, "sampled_tests": tests}
    return {
        **same,
        "seeds": list(seeds),
        "arms": dict.fromkeys(rows, "an arm"),
        "budgets": {},
        "alarms": {},
        **ways,
        **changes,
    }


def test_means_and_tests_are_those_of_all_seeds(script: SimpleNamespace) -> None:
    kept = results({"ours": row([0, 1], [0.8, 0.7]), "theirs": row([0, 1], [0.6, 0.6])}, [0, 1])
    more = results({"ours": row([2], [0.9]), "theirs": row([2], [0.5])}, [2])
    joined = script.joined(kept, more)
    assert joined["seeds"] == [0, 1, 2]
    ours = joined["greedy"]["ours"]
    assert ours["seeds"] == [0, 1, 2]
    expected = mean_over_seeds([0.8, 0.7, 0.9], is_share=True)
    assert (ours["accuracy_t2"]["mean"], tuple(ours["accuracy_t2"]["interval"])) == (expected.mean, expected.interval)
    assert ours["tokens_per_episode"] == pytest.approx((20 * 2 + 10) / 3)
    test = joined["greedy_tests"]["accuracy_t2"]["theirs"]
    by_hand = ttest_rel([0.8, 0.7, 0.9], [0.6, 0.6, 0.5])
    assert test["p"] == pytest.approx(by_hand.pvalue)
    assert test["interval"] == pytest.approx(list(by_hand.confidence_interval()))
    assert (test["mean"], test["seeds"], test["paired"]) == (pytest.approx(0.7 / 3), 3, "by seed")
    json.dumps(joined, allow_nan=False)


def test_what_gains_no_seed_keeps_its_test_over_problems(script: SimpleNamespace) -> None:
    kept = results({"ours": row([0, 1], [0.8, 0.7]), "theirs": row([0, 1], [0.6, 0.6])}, [0, 1])
    more = results({"ours": row([2], [0.9]), "new": row([2], [0.5])}, [2])
    joined = script.joined(kept, more)
    assert joined["greedy"]["theirs"] == kept["greedy"]["theirs"]
    assert joined["greedy_tests"]["accuracy_t2"]["theirs"]["interval"] == [0.0, 0.2]
    assert "new" not in joined["greedy_tests"]["accuracy_t2"], "one common seed, and its problems are not in the file"
    assert joined["greedy"]["new"]["seeds"] == [2]


def test_a_test_of_more_arms_is_adjusted_anew(script: SimpleNamespace) -> None:
    arms = {"ours": row([0, 1], [0.8, 0.7]), "theirs": row([0, 1], [0.6, 0.6]), "third": row([0, 1], [0.4, 0.3])}
    more = results({"ours": row([2], [0.9]), "third": row([2], [0.5])}, [2])
    tests = script.joined(results(arms, [0, 1]), more)["greedy_tests"]["accuracy_t2"]
    smaller, larger = sorted((tests["theirs"]["p"], tests["third"]["p"]))
    adjusted = sorted((tests["theirs"]["p_holm"], tests["third"]["p_holm"]))
    assert adjusted == pytest.approx([2 * smaller, max(2 * smaller, larger)])


def test_figures_without_a_value_are_left_out_of_the_mean(script: SimpleNamespace) -> None:
    kept, more = row([0], [0.8]), row([1], [0.6])
    more["accuracy_t1"]["by_seed"] = [None]
    joined = script.joined(results({"ours": kept}, [0]), results({"ours": more}, [1]))["greedy"]["ours"]
    assert joined["accuracy_t1"]["mean"] == 0.5
    assert math.isclose(joined["accuracy_t2"]["mean"], 0.7)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"problems": 200}, "problems: 100 in the results and 200"),
        ({"task": "products"}, "task: 'sums'"),
        ({"reference": "theirs"}, "reference"),
    ],
)
def test_other_comparisons_are_refused(script: SimpleNamespace, changes: Mapping[str, Any], told: str) -> None:
    kept = results({"ours": row([0], [0.8])}, [0])
    with pytest.raises(SystemExit, match=told):
        script.joined(kept, results({"ours": row([1], [0.8])}, [1], **changes))


def test_a_seed_of_both_and_episodes_of_other_lengths_are_refused(script: SimpleNamespace) -> None:
    kept = results({"ours": row([0, 1], [0.8, 0.7])}, [0, 1])
    with pytest.raises(SystemExit, match=r"ours: seeds \[1\] are in both"):
        script.joined(kept, results({"ours": row([1, 2], [0.8, 0.7])}, [1, 2]))
    longer = {**row([2], [0.8]), "longest": 9}
    with pytest.raises(SystemExit, match="ours: episodes of 2 answers, and of 9"):
        script.joined(kept, results({"ours": longer}, [2]))


def test_what_was_not_trained_answers_greedily_as_before(script: SimpleNamespace) -> None:
    base = row([0], [0.4])
    kept, more = (
        results({"ours": row([0], [0.8]), "base": base}, [0]),
        results({"ours": row([1], [0.7]), "base": {**base, "seeds": [1]}}, [1]),
    )
    assert script.joined(kept, more)["greedy"]["base"] == base


def test_alarms_are_those_of_all_seeds(script: SimpleNamespace) -> None:
    kept = results({"ours": row([0], [0.8])}, [0], alarms={"ours": {"sandbagging": [0]}})
    raised = {"ours": {"sandbagging": [1], "no_signal": [1]}, "new": {"no_signal": [1]}}
    more = results({"ours": row([1], [0.8]), "new": row([1], [0.7])}, [1], alarms=raised)
    both = {"ours": {"sandbagging": [0, 1], "no_signal": [1]}, "new": {"no_signal": [1]}}
    assert script.joined(kept, more)["alarms"] == both
