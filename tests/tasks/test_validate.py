import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.jsonl import JsonlTask
from selfcorrect.tasks.problem import Problem
from selfcorrect.tasks.validate import validate_problems, validate_task


def problem(name: str, gold: str | None, reference: Any = None) -> Problem:
    reference = reference or {"numbers": [3, 5], "target": 8}
    return Problem(id=name, prompt="3 5 get 8 :", reference=reference, checker="countdown", gold=gold)


class NeverJudges:
    def check_sync(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.UNJUDGED, reason="the judge is away")

    async def check(self, response: str, reference: Any) -> Verdict:
        return self.check_sync(response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        return None


@pytest.mark.parametrize("numbers", [3, 4, 5, 6])
def test_countdown_accepts_its_own_gold_answers(numbers: int) -> None:
    report = validate_task(CountdownTask(numbers), procedural=50)
    assert (report.checked, report.without_gold, report.failures) == (100, 0, ())
    assert report.passed


def test_wrong_golds_and_unusable_references_are_named() -> None:
    problems = [
        problem("right", "3 + 5 = 8"),
        problem("wrong", "3 * 5 = 15"),
        problem("no-gold", None),
        problem("no-target", "3 + 5 = 8", {"numbers": [3, 5]}),
    ]
    report = validate_problems(problems, CountdownChecker())
    assert [(failure.problem_id, failure.status) for failure in report.failures] == [
        ("wrong", "wrong"),
        ("no-target", "unusable reference"),
    ]
    assert all(failure.reason for failure in report.failures)
    assert (report.checked, report.without_gold, report.passed) == (4, 1, False)


def test_a_gold_that_cannot_be_judged_is_a_failure() -> None:
    report = validate_problems([problem("p", "3 + 5 = 8")], NeverJudges())
    assert report.failures[0].status == "unjudged"


def test_every_row_of_a_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "answer": n}) + "\n" for n in range(30)))
    calls: list[tuple[int, int]] = []
    report = validate_task(JsonlTask(path, judge=NeverJudges()), on_progress=lambda *call: calls.append(call))
    assert report.checked == len(report.failures) == 30
    assert calls == [(done, 30) for done in range(1, 31)]


def test_the_math_checker_accepts_the_golds_of_a_file(tmp_path: Path) -> None:
    pytest.importorskip("selfcorrect.rewards.maths")
    answers = ["4", "-7", "\\frac{1}{2}", "0.25", "\\sqrt{2}", "x^2+1", "(1,2)", "\\frac{\\pi}{3}", "12%"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{a}", "answer": a}) + "\n" for a in answers))
    assert validate_task(JsonlTask(path)).failures == ()
