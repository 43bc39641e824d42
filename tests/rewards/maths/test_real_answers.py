"""Bug reports of public graders, realistic answers of models, and attacks: which are right (real_answers.jsonl)."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.maths import EquivalenceRules, MathChecker

ROWS = [json.loads(line) for line in Path(__file__).with_name("real_answers.jsonl").read_text("utf-8").splitlines()]
DISAGREED = {
    "realistic-maths-m103": "12 manzanas for 12 apples: what is counted is not translated (docs/math-answers.md)"
}


COSTLY = "int bomb vs int ref"
"""This takes the judge all of its time, however much that is."""


def rows(wanted: Callable[[dict[str, str]], bool]) -> list[Any]:
    """Those that are wanted, by their ids."""
    slow = {COSTLY: [pytest.mark.slow]}
    return [pytest.param(row, id=row["id"], marks=slow.get(row["source"], [])) for row in ROWS if wanted(row)]


def judged(checker: MathChecker, row: dict[str, str]) -> Verdict:
    """The verdict, of a checker with less patience where no patience helps."""
    if row["source"] != COSTLY:
        return checker.check_sync(row["response"], row["reference"])
    with MathChecker(workers=1, deadline=2.0, policy=checker.policy, unmarked=checker.unmarked) as hasty:
        return hasty.check_sync(row["response"], row["reference"])


@pytest.mark.parametrize("row", rows(lambda row: row["id"] not in DISAGREED))
def test_the_verdict_is_the_expected_one(guessing: MathChecker, row: dict[str, str]) -> None:
    verdict = judged(guessing, row)
    assert verdict.correct is (row["expected"] == "correct"), verdict
    assert verdict.status is not Status.UNJUDGED


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_every_reference_is_usable(guessing: MathChecker, row: dict[str, str]) -> None:
    assert guessing.validate_reference(row["reference"]) is None


@pytest.mark.parametrize("row", [row for row in ROWS if row["id"] in DISAGREED], ids=lambda row: row["id"])
def test_where_we_disagree_the_verdict_is_ours(guessing: MathChecker, row: dict[str, str]) -> None:
    assert guessing.check_sync(row["response"], row["reference"]).status is Status.WRONG


@pytest.mark.parametrize("row", rows(lambda row: row["expected"] == "wrong"))
def test_what_is_wrong_is_wrong_by_every_rule(row: dict[str, str], lenient: MathChecker) -> None:
    """The lenient rules forgive forms: only answers whose value is right differ from the strict verdict."""
    if row["id"] == "realistic-maths-m201":
        pytest.skip("the set {1, 2, 3} for the list 1,2,3: the lenient rules take braces for a matter of form")
    if "copy" in row["source"] or row["source"] == "tiny exponent":
        pytest.skip("the value is right to 40 digits, only the form is not: the lenient rules may accept it")
    assert not judged(lenient, row).correct


@pytest.mark.parametrize("row", [row for row in ROWS if row["expected"] == "correct"], ids=lambda row: row["id"])
def test_training_finds_answers_that_are_marked(row: dict[str, str], checker: MathChecker) -> None:
    verdict = checker.check_sync(row["response"], row["reference"])
    assert verdict.correct or verdict.status is Status.UNREADABLE or row["id"] in DISAGREED, verdict


def test_the_lenient_rules_are_for_evaluation() -> None:
    assert EquivalenceRules.lenient() == EquivalenceRules(form="worked out", refuse_copies=False)


@pytest.mark.skipif("SELFCORRECT_MATH_DATA" not in os.environ, reason="SELFCORRECT_MATH_DATA names no folder of data")
@pytest.mark.parametrize(("name", "copies"), [("math", 11), ("gsm8k", 0)])
def test_the_references_of_whole_data_sets_are_usable_and_copies_are_not_paid(
    checker: MathChecker, name: str, copies: int
) -> None:
    """SELFCORRECT_MATH_DATA holds math.json and gsm8k.json, test splits as JSON Lines; see benchmarks/math_data.py."""
    script = Path(__file__).parents[3] / "benchmarks" / "math_data.py"
    spec = importlib.util.spec_from_file_location("math_data", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    rows = module.rows_of(Path(os.environ["SELFCORRECT_MATH_DATA"]) / f"{name}.json")
    found = module.count(rows, checker, shown=5)
    assert found["usable"] == found["gold"] == len(rows)
    assert found["plain"] >= len(rows) - 2
    assert found["copies"] <= copies


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        (r"\int_0^1 2x dx", "1", True),
        (r"\int_0^1 2x dx", "0.9999999999", False),
        (r"\int_0^1 x^2 dx", r"\frac{1}{3}", True),
        (r"\int_0^\pi \sin x dx", "2", True),
        (r"\int_0^\pi \sin x dx", "-2", False),
        (r"\int_1^2 \frac{1}{x} dx", r"\ln 2", True),
        (r"\int_1^2 \frac{1}{x} dx", r"\ln 3", False),
        (r"\int_0^1 \sqrt{x} dx", r"\frac{2}{3}", True),
        (r"\sum_{k=1}^{4} k", "10", True),
        (r"\sum_{k=1}^{4} k", r"2 \cdot 5", True),
        (r"\sum_{k=1}^{4} k", "11", False),
        (r"\sum_{k=1}^{\infty} \frac{1}{k^2}", r"\frac{\pi^2}{6}", True),
        (r"\sum_{k=1}^{\infty} \frac{1}{k^2}", r"\frac{\pi^2}{7}", False),
        (r"\lim_{x \to 0} \frac{\sin 3x}{x}", "3", True),
        (r"\lim_{x \to 0} \frac{\sin 3x}{x}", r"\sqrt{9.01}", False),
    ],
)
def test_integrals_sums_and_limits_are_compared_in_a_worker(
    checker: MathChecker, reference: str, answer: str, right: bool
) -> None:
    verdict = checker.check_sync(rf"\boxed{{{answer}}}", reference)
    assert verdict.correct is right, verdict
