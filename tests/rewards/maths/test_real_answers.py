"""Bug reports of public graders, realistic answers of models, and attacks (real_answers.jsonl): what is right and what not."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.maths import EquivalenceRules, MathChecker

ROWS = [json.loads(line) for line in Path(__file__).with_name("real_answers.jsonl").read_text("utf-8").splitlines()]
DISAGREED = {
    "realistic-maths-m103": "12 manzanas for 12 apples: what is counted is not translated (docs/math-answers.md)"
}


@pytest.fixture(scope="module")
def guessing() -> Any:
    with MathChecker(workers=1, deadline=20.0, unmarked="guess") as checker:
        yield checker


@pytest.mark.parametrize("row", [row for row in ROWS if row["id"] not in DISAGREED], ids=lambda row: row["id"])
def test_the_verdict_is_the_expected_one(guessing: MathChecker, row: dict[str, str]) -> None:
    verdict = guessing.check_sync(row["response"], row["reference"])
    assert verdict.correct is (row["expected"] == "correct"), verdict
    assert verdict.status is not Status.UNJUDGED


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_every_reference_is_usable(guessing: MathChecker, row: dict[str, str]) -> None:
    assert guessing.validate_reference(row["reference"]) is None


@pytest.mark.parametrize("row", [row for row in ROWS if row["id"] in DISAGREED], ids=lambda row: row["id"])
def test_where_we_disagree_the_verdict_is_ours(guessing: MathChecker, row: dict[str, str]) -> None:
    assert guessing.check_sync(row["response"], row["reference"]).status is Status.WRONG


@pytest.mark.parametrize("row", [row for row in ROWS if row["expected"] == "wrong"], ids=lambda row: row["id"])
def test_what_is_wrong_is_wrong_by_every_rule(row: dict[str, str], lenient: MathChecker) -> None:
    """The lenient rules forgive forms: only answers whose value is right differ from the strict verdict."""
    if "copy" in row["source"] or row["source"] == "tiny exponent":
        pytest.skip("the value is right to 40 digits, only the form is not: the lenient rules may accept it")
    assert not lenient.check_sync(row["response"], row["reference"]).correct


@pytest.mark.parametrize("row", [row for row in ROWS if row["expected"] == "correct"], ids=lambda row: row["id"])
def test_training_finds_answers_that_are_marked(row: dict[str, str], checker: MathChecker) -> None:
    verdict = checker.check_sync(row["response"], row["reference"])
    assert verdict.correct or verdict.status is Status.UNREADABLE or row["id"] in DISAGREED, verdict


def test_the_lenient_rules_are_for_evaluation() -> None:
    assert EquivalenceRules.lenient() == EquivalenceRules(form="worked out", refuse_copies=False)
