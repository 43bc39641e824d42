"""Figures of the comparison of policies of several sizes, by hand."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from selfcorrect.training.scaling.measuring import Measured

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "larger.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="there are no benchmarks beside an installed wheel")


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name="larger"))


def played(problem: str, correct: float | None, tokens: int, family: str = "self_judged") -> Measured:
    return Measured(problem, f"{family}:4", 4, correct, tokens, family, 0, "sure")


def test_operations_are_two_for_each_weight_and_token_the_problem_read_once(script: SimpleNamespace) -> None:
    found = script._figures(1_000_000, [played("a", 1.0, 13), played("b", 0.0, 33)], {"a": 0, "b": 1})
    assert found["accuracy"] == 0.5 and found["tokens"] == 23
    assert found["mflop"] == pytest.approx(2 * (7 + 23))
    assert [(one["accuracy"], one["mflop"]) for one in found["by_difficulty"]] == [(1.0, 40.0), (0.0, 80.0)]


def test_what_was_not_judged_is_counted_neither_right_nor_wrong(script: SimpleNamespace) -> None:
    found = script._figures(
        1, [played("a", 1.0, 10), played("b", None, 30), played("c", 1.0, 20)], dict.fromkeys("abc", 0)
    )
    assert (found["n"], found["accuracy"]) == (2, 1.0)
    assert found["tokens"] == 20


def test_every_family_and_budget_has_a_row_and_the_greedy_answer_one(script: SimpleNamespace) -> None:
    searches = SimpleNamespace(measured=[played("a", 1.0, 9), played("a", 0.0, 9, family="majority")])
    greedy = SimpleNamespace(measured=[played("a", 1.0, 9, family="majority")])
    rows = script._rows("small", 1, (searches, greedy), {"a": 0})
    assert [(row["policy"], row["family"], row["answers"], row["accuracy"]) for row in rows] == [
        ("small", "one greedy answer", 1, 1.0),
        ("small", "self_judged", 4, 1.0),
        ("small", "majority", 4, 0.0),
    ]
