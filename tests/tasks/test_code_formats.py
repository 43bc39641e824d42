"""Programming problems as their data sets publish them, judged in the jail."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.cli.naming import task_options
from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.rewards.checker import Status
from selfcorrect.tasks import open_task, task_settings, validate_task

MBPP = [
    {
        "text": "Write a function to add two numbers.",
        "code": "def add(a, b):\r\n  return a + b",
        "task_id": number,
        "test_setup_code": "",
        "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0", f"assert add({number}, 1) == {number + 1}"],
        "challenge_test_list": [],
    }
    for number in (2, 11, 12, 511, 601)
]
for _row in MBPP:
    _row["text"] = f"{_row['text']} Number {_row['task_id']}."
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x: int) -> int:\n    """Twice x."""\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
}
APPS = {
    "problem_id": 7,
    "question": "Read a number, write its double.",
    "solutions": json.dumps(["print(2 * int(input()))"]),
    "input_output": json.dumps({"inputs": ["2\n", "5\n"], "outputs": ["4\n", "10\n"]}),
    "difficulty": "introductory",
    "starter_code": "",
}
LIVE = {
    "question_id": "abc_1",
    "question_content": "Return the sum of the list.",
    "starter_code": "class Solution:\n    def total(self, nums: List[int]) -> int:\n        ",
    "public_test_cases": json.dumps([{"input": "[1, 2]", "output": "3", "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "[]", "output": "0", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "total"}),
    "difficulty": "easy",
}


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def only(task: Any, split: str = "test") -> Any:
    (problem,) = task.problems(split, task.available(split))
    return problem


def test_mbpp_shows_its_tests_and_keeps_the_published_splits(tmp_path: Path) -> None:
    task: Any = open_task(f"mbpp:{lines(tmp_path / 'mbpp.jsonl', *MBPP)}")
    assert [problem.id for problem in task.problems("train", 1)] == ["mbpp-601"]
    assert {problem.id for problem in task.problems("test", 2)} == {"mbpp-11", "mbpp-12"}
    assert (task.available("train"), task.available("test")) == (1, 2)  # neither the prompts nor the validation split
    assert "assert add(601, 1) == 602" in only(task, "train").prompt
    assert validate_task(task).passed
    assert not task.checker.check_sync("def add(a, b):\n    return a - b", only(task, "train").reference).correct


def test_mbpp_repair_shows_the_program_that_is_to_be_mended(tmp_path: Path) -> None:
    row = MBPP[-1] | {"attempt": "def add(a, b):\n    return a"}
    problem = only(open_task(f"mbpp-repair:{lines(tmp_path / 'r.jsonl', row)}"), "train")
    assert "return a\n" in problem.prompt and problem.id == "mbpp-601-repair"


def played(number: int, program: str, **turn: Any) -> dict[str, Any]:
    """An episode as `selfcorrect eval --task mbpp --out` keeps it."""
    first = {"role": "attempt", "text": f"```python\n{program}\n```", "verdict": "wrong", "answer": program} | turn
    second = {"role": "revise", "text": "", "verdict": "wrong", "answer": "def second(): pass"}
    prompt, tests = f"Add two numbers.\n\nYour code should pass these tests:\n\nassert add({number}, 1)", MBPP[1]
    reference = {"code": "\n".join(tests["test_list"])}
    return {"id": f"mbpp-{number}", "prompt": prompt, "reference": reference, "turns": [first, second]}


def test_offline_repair_takes_the_wrong_first_programs_of_an_evaluation(tmp_path: Path) -> None:
    rows = [
        played(11, "def add(a, b):\n    return a - b"),
        played(12, "def add(a, b):\n    return a + b", verdict="correct"),
        played(13, "", verdict="unreadable", answer=None),
        played(14, "def add(a, b):\n    return 0", verdict="unjudged"),
        played(601, "def add(a, b):\n    return a"),
        played(600, "def add(a, b):\n    return b"),
    ]
    task: Any = open_task(f"mbpp-repair:{lines(tmp_path / 'episodes.jsonl', *rows)}")
    assert (task.available("train"), task.available("test"), task.refused) == (1, 1, ())
    problem = only(task)
    assert problem.id == "mbpp-11-repair" and "a - b\n```\n\nMend it." in problem.prompt
    assert "second" not in problem.prompt and problem.prompt.startswith("Add two numbers.")
    assert task.checker.check_sync("```python\ndef add(a, b):\n    return a + b\n```", problem.reference).correct
    assert not task.checker.check_sync(rows[0]["turns"][0]["text"], problem.reference).correct


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (played(11, "x = 1") | {"id": "humaneval-11"}, "'humaneval-11', which is no problem of mbpp"),
        (played(11, "x = 1") | {"id": "mbpp-11-repair"}, "'mbpp-11-repair', which is no problem of mbpp"),
        (played(11, "x = 1") | {"turns": []}, "without an answer"),
        (played(11, "x = 1") | {"turns": "none"}, "without an answer"),
        (played(11, "x = 1") | {"turns": [1]}, "without an answer"),
    ],
)
def test_offline_repair_refuses_episodes_that_hold_nothing_to_mend(row: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=why):
        open_task(f"mbpp-repair:{lines(tmp_path / 'episodes.jsonl', row)}")


def test_humaneval_asks_for_the_function_and_has_no_training_split(tmp_path: Path) -> None:
    task: Any = open_task(f"humaneval:{lines(tmp_path / 'h.jsonl', HUMANEVAL)}")
    problem = only(task)
    assert problem.id == "humaneval-0" and "def double" in problem.prompt and task.available("train") == 0
    assert validate_task(task).passed
    wrong = f"```python\n{HUMANEVAL['prompt']}    return x\n```"
    assert not task.checker.check_sync(wrong, problem.reference).correct


@pytest.mark.slow
def test_the_packaged_humaneval_is_read_where_nothing_is_named() -> None:
    task: Any = open_task("humaneval")
    assert task.available("test") == 164 and task.refused == ()


def test_contests_read_standard_input(tmp_path: Path) -> None:
    task: Any = open_task(f"apps:{lines(tmp_path / 'a.jsonl', APPS)}")
    (split,) = [name for name in ("train", "test") if task.available(name)]
    problem = only(task, split)
    assert "standard input" in problem.prompt
    assert task.checker.check_sync(problem.gold, problem.reference).correct
    assert not task.checker.check_sync("```python\nprint(input())\n```", problem.reference).correct


def test_livecodebench_calls_the_method_of_its_starter_code(tmp_path: Path) -> None:
    task: Any = open_task(f"livecodebench:{lines(tmp_path / 'l.jsonl', LIVE)}")
    problem = only(task)
    assert "class Solution" in problem.prompt
    program = "```python\nclass Solution:\n    def total(self, nums):\n        return {}\n```"
    assert task.checker.check_sync(program.format("sum(nums)"), problem.reference).correct
    assert not task.checker.check_sync(program.format("len(nums)"), problem.reference).correct


@pytest.mark.parametrize("name", ["humaneval+", "mbpp+"])
def test_the_plus_sets_are_for_evaluation(tmp_path: Path, name: str) -> None:
    row = HUMANEVAL if name == "humaneval+" else MBPP[1] | {"prompt": "Add.", "test": "assert add(2, 2) == 4"}
    task: Any = open_task(f"{name}:{lines(tmp_path / 'p.jsonl', row)}")
    assert (task.available("train"), task.available("test")) == (0, 1)
    assert validate_task(task).passed


def test_a_wrong_program_is_paid_the_share_of_its_tests_where_that_is_asked_for(tmp_path: Path) -> None:
    file, program = lines(tmp_path / "rows.jsonl", *MBPP), "def add(a, b):\n    return 0"
    scores = {}
    for asked in (f"mbpp:{file}", f"mbpp:{file},partial=true"):
        task: Any = open_task(asked)
        verdict = task.checker.check_sync(program, only(task, "train").reference)
        assert verdict.status is Status.WRONG
        scores[asked.partition(",partial")[2]] = verdict.score
    assert scores == {"": 0.0, "=true": pytest.approx(1 / 3)}  # of the three tests add(0, 0) == 0 alone
    settings = task_settings(f"mbpp:{file},partial=true")
    assert task_options(settings) == ["--task", f"mbpp:{file},partial=true"]
    assert open_task(f"mbpp:{lines(tmp_path / 'a,b.jsonl', *MBPP)}").name == "mbpp"
    with pytest.raises(ConfigurationError, match="partail: unknown; did you mean partial"):
        task_settings(f"mbpp:{file},partail=true")


@pytest.mark.parametrize(("name", "field"), [("apps", "input_output"), ("livecodebench", "public_test_cases")])
def test_rows_of_another_format_are_told_the_field_that_they_lack(tmp_path: Path, name: str, field: str) -> None:
    rows = lines(tmp_path / "own.jsonl", *({"question": f"{n} + {n}?", "gold": 2 * n} for n in range(3)))
    with pytest.raises(TaskError, match=f"is not of the format {name!r}.*\n.*there is no {field!r}"):
        open_task(f"{name}:{rows}")


def test_unreadable_tests_are_refused_with_the_field(tmp_path: Path) -> None:
    good, bad = APPS, APPS | {"problem_id": 8, "question": "Another.", "input_output": "no json"}
    task: Any = open_task(f"apps:{lines(tmp_path / 'a.jsonl', good, bad)}")
    assert [(row, "input_output" in why) for row, _, why in task.refused] == [(2, True)]
