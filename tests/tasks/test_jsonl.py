import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfcorrect.errors import TaskError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.tasks.jsonl import JsonlTask, split_of


class ExactChecker:
    """Accepts responses that hold the reference; references must not hold a question mark."""

    def check_sync(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.CORRECT if reference in response else Status.WRONG)

    async def check(self, response: str, reference: Any) -> Verdict:
        return self.check_sync(response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        return "it holds a question mark" if "?" in reference else None


def written(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def opened(path: Path, **options: Any) -> JsonlTask:
    return JsonlTask(path, judge=ExactChecker(), **options)


def fault_of(path: Path) -> str:
    with pytest.raises(TaskError) as caught:
        opened(path)
    return str(caught.value)


def many(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(count)]


def test_a_row_becomes_a_problem(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "1+1?", "answer": 2, "id": "a", "difficulty": 3, "subject": "sums"})
    task = opened(path, test_share=0.999999)
    (problem,) = task.problems("test", 1)
    assert (problem.id, problem.prompt, problem.reference, problem.difficulty) == ("a", "1+1?", "2", 3.0)
    assert problem.metadata == {"line": 1, "subject": "sums"}
    assert task.name == "rows"


def test_blank_lines_and_a_byte_order_mark_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\n{"prompt": "p", "answer": "1"}\r\n\n')
    task = opened(path)
    assert task.available("train") + task.available("test") == 1


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p"}, "line 2, answer: missing"),
        ({"prompt": "p", "anwser": "1"}, "line 2, answer: missing; did you mean this by 'anwser'?"),
        ({"answer": "1"}, "line 2, prompt: missing"),
        ({"prompt": " ", "answer": "1"}, "line 2, prompt: expected readable text that is not blank"),
        ({"prompt": 3, "answer": "1"}, "line 2, prompt: expected readable text that is not blank, got 3"),
        ({"prompt": "p", "answer": None}, "line 2, answer: expected text that is not blank or a number, got null"),
        ({"prompt": "p", "answer": True}, "line 2, answer: expected text that is not blank or a number, got true"),
        ({"prompt": "p", "answer": ""}, "line 2, answer: expected"),
        ('{"prompt": "p", "answer": NaN}', "line 2, answer: expected"),
        ({"prompt": "p", "answer": "1", "id": []}, "line 2, id: expected"),
        ({"prompt": "p", "answer": "1", "difficulty": "hard"}, 'line 2, difficulty: expected a number, got "hard"'),
        ({"prompt": "p", "answer": "1?"}, "line 2, answer: the checker cannot use '1?': it holds a question mark"),
        ('{"prompt": "p"', "line 2: no valid JSON at column"),
        ({"prompt": "half \ud800", "answer": "1"}, "line 2, prompt: expected readable text"),
        ('{"prompt": "p", "answer": ' + "1" * 5000 + "}", "line 2: cannot be read"),
        ('{"prompt": "p", "answer": 1, "difficulty": ' + "1" * 400 + "}", "line 2, difficulty: expected a number"),
        ("[" * 100_000, "line 2: "),
        ("3", "line 2: expected an object"),
        ('[{"prompt": "p", "answer": "1"}]', "line 2: expected an object"),
        ("[", "is the file one JSON array?"),
        ({"prompt": "first", "answer": "2"}, "line 2, answer: '2', but line 1 answers this prompt with '1'"),
        ({"prompt": "p", "answer": "1", "id": "line-1"}, "line 2, id: 'line-1' is the id of line 1 already"),
    ],
)
def test_a_bad_row_is_refused_with_file_line_and_field(tmp_path: Path, row: object, expected: str) -> None:
    path = written(tmp_path, {"prompt": "first", "answer": "1"}, row)
    message = fault_of(path)
    assert message.startswith(f"{path}: 1 bad row")
    assert expected in message


def test_all_bad_rows_are_told_up_to_ten(tmp_path: Path) -> None:
    two = fault_of(written(tmp_path, {"prompt": "p"}, {"answer": "1"}))
    assert two.splitlines()[0].endswith("2 bad rows:") and len(two.splitlines()) == 3
    twelve = fault_of(written(tmp_path, *[{"prompt": f"p{n}"} for n in range(12)]))
    assert "12 bad rows, the first 10 faults:" in twelve and len(twelve.splitlines()) == 11


def test_an_empty_missing_or_undecodable_file_is_named(tmp_path: Path) -> None:
    assert "is empty" in fault_of(written(tmp_path))
    assert "is empty" in fault_of(written(tmp_path, "", "  "))
    assert "No such file" in fault_of(tmp_path / "nowhere.jsonl")
    assert "cannot read" in fault_of(tmp_path)
    broken = tmp_path / "latin.jsonl"
    broken.write_bytes(b'{"prompt": "p", "answer": "1"}\n{"prompt": "caf\xe9", "answer": "1"}\n')
    assert "latin.jsonl, line 2: not UTF-8" in fault_of(broken)


def test_rows_that_say_the_same_are_merged(tmp_path: Path) -> None:
    task = opened(written(tmp_path, {"prompt": "a  b", "answer": "1"}, {"prompt": "a b", "answer": 1}))
    assert task.available("train") + task.available("test") == 1


def test_the_splits_hold_every_prompt_once_and_about_the_share_asked_for(tmp_path: Path) -> None:
    task = opened(written(tmp_path, *many(1000)), test_share=0.2)
    train = {problem.prompt for problem in task.problems("train", task.available("train"))}
    test = {problem.prompt for problem in task.problems("test", task.available("test"))}
    assert not train & test
    assert len(train | test) == 1000
    assert 150 < len(test) < 250


def test_the_split_of_a_prompt_does_not_depend_on_the_rest_of_the_file(tmp_path: Path) -> None:
    rows = many(60)
    test_of_all = {problem.prompt for problem in _all(opened(written(tmp_path, *rows)), "test")}
    test_of_some = {problem.prompt for problem in _all(opened(written(tmp_path, *reversed(rows[:30]))), "test")}
    assert test_of_some == test_of_all & {row["prompt"] for row in rows[:30]}


def _all(task: JsonlTask, split: Any) -> Any:
    return task.problems(split, task.available(split))


def test_a_seed_fixes_the_problems(tmp_path: Path) -> None:
    task = opened(written(tmp_path, *many(50)))
    assert task.problems("train", 20, seed=1) == task.problems("train", 20, seed=1)
    assert task.problems("train", 20, seed=1) != task.problems("train", 20, seed=2)


def test_asking_for_more_than_a_split_holds_says_what_it_holds(tmp_path: Path) -> None:
    task = opened(written(tmp_path, *many(20)))
    with pytest.raises(
        TaskError, match=rf"50 test problems were asked for, but that split holds {task.available('test')} of 20"
    ):
        task.problems("test", 50)


@pytest.mark.parametrize("share", [0.0, 1.5, -1.0, float("nan")])
def test_the_test_share_is_a_share(tmp_path: Path, share: float) -> None:
    with pytest.raises(TaskError, match="test_share must be above 0 and at most 1"):
        opened(written(tmp_path, *many(2)), test_share=share)


@given(st.text(string.printable, min_size=1), st.floats(0.01, 0.5), st.floats(0.5, 0.99))
def test_a_larger_share_never_moves_a_prompt_out_of_the_test_split(prompt: str, small: float, large: float) -> None:
    if split_of(prompt, small) == "test":
        assert split_of(prompt, large) == "test"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_either_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.jsonl"
    path.write_bytes(content)
    try:
        opened(path)
    except TaskError as error:
        assert str(path) in str(error)


def test_the_math_checker_judges_by_default(tmp_path: Path) -> None:
    pytest.importorskip("selfcorrect.rewards.maths")
    task = JsonlTask(written(tmp_path, {"prompt": "Half of 1?", "answer": "\\frac{1}{2}"}))
    assert task.checker.check_sync("It is $\\boxed{0.5}$.", "\\frac{1}{2}").correct
