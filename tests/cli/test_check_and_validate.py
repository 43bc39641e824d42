import json
from pathlib import Path
from typing import Any

import pytest


def rows(path: Path, *answers: object) -> Path:
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "answer": a}) + "\n" for n, a in enumerate(answers)))
    return path


def test_a_right_and_a_wrong_mathematical_answer_differ_in_exit_status(run: Any) -> None:
    right = run("check", "math", "--response", "It is \\boxed{0.5}.", "--reference", "1/2")
    wrong = run("check", "math", "--response", "It is \\boxed{0.4}.", "--reference", "1/2")
    assert (right.status, wrong.status) == (0, 1)
    assert right.stdout.startswith("correct") and wrong.stdout.startswith("wrong")


def test_a_check_as_json_tells_all_of_the_verdict(run_json: Any) -> None:
    verdict = run_json("check", "math", "--response", "\\boxed{7}", "--reference", "7")
    assert (verdict["status"], verdict["correct"]) == ("correct", True)
    assert {"answer", "reason", "seconds"} < set(verdict)


def test_a_reference_that_cannot_be_read_is_a_wrong_setting(run: Any) -> None:
    done = run("check", "math", "--response", "\\boxed{7}", "--reference", " ")
    assert done.status == 2
    assert "the checker cannot use this reference" in done.stderr


def test_a_missing_program_or_broken_tests_are_named(run: Any, tmp_path: Path) -> None:
    missing = run("check", "code", "--file", tmp_path / "no.py", "--tests", tmp_path / "tests.json")
    assert missing.status == 2 and "--file: cannot read" in missing.stderr and "no.py" in missing.stderr
    (tmp_path / "yes.py").write_text("x = 1")
    (tmp_path / "tests.json").write_text("[1,\n")
    broken = run("check", "code", "--file", tmp_path / "yes.py", "--tests", tmp_path / "tests.json")
    assert broken.status == 2 and "line 2: no valid JSON" in broken.stderr


def test_a_program_is_judged_by_its_tests(run: Any, run_json: Any, tmp_path: Path) -> None:
    pytest.importorskip("selfcorrect.rewards.code")
    (tmp_path / "double.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "good.py").write_text("assert double(2) == 4\n")
    (tmp_path / "bad.py").write_text("assert double(2) == 5\n")
    assert run("check", "code", "--file", tmp_path / "double.py", "--tests", tmp_path / "good.py").status == 0
    assert (
        run_json("check", "code", "--file", tmp_path / "double.py", "--tests", tmp_path / "bad.py")["status"] == "wrong"
    )


def test_countdown_validates(run: Any, run_json: Any) -> None:
    done = run("validate", "countdown-3", "-n", "20")
    assert done.status == 0 and "countdown-3: 40 of 40 problems accepted" in done.stdout
    report = run_json("validate", "countdown", "-n", "5")
    assert report == {"task": "countdown-4", "passed": True, "checked": 10, "without_gold": 0, "failures": []}


def test_a_file_is_validated_whole(run: Any, tmp_path: Path) -> None:
    done = run("validate", rows(tmp_path / "rows.jsonl", "1/2", "\\sqrt{2}", 7))
    assert done.status == 0 and "rows: 3 of 3 problems accepted" in done.stdout


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        ('{"prompt": "p"}\n', "line 1, answer: missing"),
        ('{"prompt": "p", "anwser": "1"}\n', "did you mean this by 'anwser'?"),
        ("not json\n", "line 1: no valid JSON"),
    ],
)
def test_a_bad_file_is_told_without_a_traceback(run: Any, tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    done = run("validate", tmp_path / "rows.jsonl")
    assert done.status == 1
    assert expected in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_errors_as_json_go_to_standard_output(run_json: Any, tmp_path: Path) -> None:
    error = run_json("validate", tmp_path / "nowhere.jsonl")["error"]
    assert error["kind"] == "TaskError" and "nowhere.jsonl" in error["message"]


def test_an_unknown_task_is_a_wrong_setting(run: Any) -> None:
    done = run("validate", "sudoku")
    assert done.status == 2 and "unknown task 'sudoku'" in done.stderr


@pytest.mark.parametrize("task", ["equations", "equations-2", "equations-4"])
def test_equations_accept_their_own_golds(run_json: Any, task: str) -> None:
    report = run_json("validate", task, "-n", "20")
    assert report["passed"] and report["checked"] == 40 and report["task"] == (task if "-" in task else "equations-3")


def test_equations_have_two_to_four_unknowns(run: Any) -> None:
    done = run("validate", "equations-5")
    assert done.status == 2 and "unknowns: expected less than or equal to 4, got 5" in done.stderr


def test_an_answer_that_repeats_the_problem_is_wrong_and_an_unmarked_one_is_guessed_on_demand(run: Any) -> None:
    copied = ["--response", r"\boxed{x^2-4}", "--reference", "x^2-2^2"]
    assert run("check", "math", *copied).status == 0
    assert run("check", "math", *copied, "--problem", "Simplify $x^2-4$.").status == 1
    unmarked = ["--response", "There were 12 of them. Somebody counted 18 later on.", "--reference", "18"]
    assert run("check", "math", *unmarked).status == 1
    assert run("check", "math", *unmarked, "--lenient").status == 0
