"""Rows of data sets as they are published become tests without any code of the user's."""

import base64
import json
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code import Calls, StdinStdout, UnitTestChecker, read_suite

SOLUTION = "class Solution:\n    def add(self, a, b):\n        return {}\n"
LOOP = (
    "def assertion(out, exp, atol):\n    exact_match = out == exp\n    assert exact_match\n\n"
    "inputs = [[1], [2], [3]]\nresults = [1, 4, 9]\n"
    "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion({}(*inp), exp, 0)\n"
)
CHECK = "def check(candidate):\n" + "".join(f"    {line}\n" for line in LOOP.format("candidate").splitlines())
LIVE = [{"input": "1\n2", "output": "3", "testtype": "functional"}]
PACKED = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(LIVE)))).decode()
CASE = (
    "import unittest\nclass TestCases(unittest.TestCase):\n    def setUp(self): self.n = 3\n    def test_a(self):"
    " self.assertEqual(f(self.n), 9)\n    def test_b(self):\n        for n in (1, 2):\n            with"
    " self.subTest(n=n): self.assertEqual(f(n), n * n)"
)
SQUARE, CUBE = "def f(x): return x * x", "def f(x): return x ** 3"

ROWS: dict[str, tuple[Any, str, str]] = {
    "HumanEval+": (
        {"task_id": "HumanEval/0", "prompt": 'def f(x):\n    """Square."""\n', "entry_point": "f", "test": CHECK},
        SQUARE,
        CUBE,
    ),
    "MBPP": (
        {
            "task_id": 1,
            "text": "Square",
            "code": SQUARE,
            "test_list": ["assert f(2) == 4", "assert f(0) == 0"],
            "test_setup_code": "",
            "challenge_test_list": [],
        },
        SQUARE,
        CUBE,
    ),
    "MBPP+": (
        {"task_id": 1, "test_list": ["assert f(2) == 4"], "test_imports": [], "test": LOOP.format("f")},
        SQUARE,
        CUBE,
    ),
    "BigCodeBench": ({"task_id": "BigCodeBench/0", "entry_point": "f", "test": CASE}, SQUARE, CUBE),
    "APPS stdin": (
        {"input_output": json.dumps({"inputs": ["2\n"], "outputs": ["4\n"]})},
        "print(int(input()) ** 2)",
        "print(input())",
    ),
    "APPS calls": ({"input_output": json.dumps({"fn_name": "f", "inputs": [[2]], "outputs": [[4]]})}, SQUARE, CUBE),
    "TACO": (
        {"input_output": {"inputs": [["1", "2"]], "outputs": [["1", "2"]]}, "time_limit": "2.0 seconds"},
        "print(input())\nprint(input())",
        "print(input())",
    ),
    "LiveCodeBench stdin": (
        {
            "public_test_cases": json.dumps([{"input": "2", "output": "4", "testtype": "stdin"}]),
            "private_test_cases": "[]",
        },
        "print(int(input()) ** 2)",
        "print(input())",
    ),
    "LiveCodeBench functional": (
        {
            "public_test_cases": json.dumps(LIVE),
            "private_test_cases": PACKED,
            "metadata": json.dumps({"func_name": "add"}),
            "starter_code": "class Solution:\n",
        },
        SOLUTION.format("a + b"),
        SOLUTION.format("a - b"),
    ),
    "pytest": (
        (
            "import pytest\nfrom solution import f\n@pytest.mark.parametrize('x, y', [(1, 1), (2, 4)])\ndef test_f(x,"
            " y):\n    assert f(x) == y\ndef test_raises():\n    with pytest.raises(TypeError, match='NoneType'):\n    "
            "    f(None)"
        ),
        SQUARE,
        CUBE,
    ),
    "doctest": (
        (
            ">>> f(2)\n4\n>>> print(f(3))\n9\n>>> f(None)\nTraceback (most recent call last):\nTypeError: unsupported"
            " operand type(s) for *: 'NoneType' and 'NoneType'\n"
        ),
        SQUARE,
        CUBE,
    ),
    "a function called sum": (
        ["assert sum(10, 15) == 25"],
        "def sum(a, b): return a + b",
        "def sum(a, b): return a - b",
    ),
}


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=20.0, workers=1) as checker:
        yield checker


@pytest.mark.parametrize("name", ROWS)
def test_a_published_row_is_read_and_judges(checker: UnitTestChecker, name: str) -> None:
    row, right, wrong = ROWS[name]
    assert checker.validate_reference(row) is None
    verdict = checker.check_sync(f"```python\n{right}\n```", row)
    assert verdict.correct, verdict.reason
    assert checker.check_sync(f"```python\n{wrong}\n```", row).status is Status.WRONG


def test_a_time_limit_of_a_row_is_that_of_each_case() -> None:
    suite = read_suite(ROWS["TACO"][0])
    assert isinstance(suite, StdinStdout) and suite.seconds == 2.0


def test_a_packed_row_may_hold_nothing_but_a_string() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (print, ("it ran",))

    for content in (pickle.dumps(Bomb()), b"no pickle"):
        packed = base64.b64encode(zlib.compress(content)).decode()
        with pytest.raises(CheckerError, match="private_test_cases"):
            read_suite({"public_test_cases": "[]", "private_test_cases": packed})


@pytest.mark.parametrize(
    ("printed", "expected", "suite", "same"),
    [
        ("1  2\n3", "1 2 3", {}, True),
        ("2.0", "2", {}, True),
        ("007", "7", {}, False),
        ("0.333333", "0.333333333333", {}, True),
        ("0.33", "0.333333333333", {}, False),
        ("3.142", "3.1415926", {}, False),
        ("3.142", "3.1415926", {"tolerance": 1e-3}, True),
        ("1e5", "100000", {}, False),
        ("nan", "nan", {}, True),
        ("1 2", "1 2 3", {}, False),
        ("Yes", "YES", {}, False),
        ("1  2", "1 2", {"compare": "lines"}, False),
        ("1 2  \n\n", "1 2", {"compare": "lines"}, True),
        ("1 2\n", "1 2", {"compare": "exact"}, False),
    ],
)
def test_output_is_compared_by_tokens_and_numbers_by_value(
    printed: str, expected: str, suite: dict[str, Any], same: bool
) -> None:
    from selfcorrect.rewards.code.scripts import same_output

    whole = StdinStdout.model_validate({"cases": [["", expected]], **suite})
    assert same_output(printed.encode(), expected, whole) is same


def test_a_special_judge_decides_where_answers_are_not_unique(checker: UnitTestChecker) -> None:
    judge = (
        "def judge(stdin, printed, expected):\n    a, b = map(int, printed.split())\n    return a * b == int(stdin) and"
        " a > 1 < b"
    )
    row = {"cases": [["12", "3 4"], ["35", "5 7"]], "judge": judge}
    assert checker.validate_reference(row) is None
    assert checker.check_sync(
        "n = int(input())\nd = next(d for d in range(2, n) if n % d == 0)\nprint(d, n // d)", row
    ).correct
    for wrong in ("print(1, input())", "print('none')", "print('__import__(\"os\")._exit(0)')"):
        assert checker.check_sync(wrong, row).status is Status.WRONG
    broken = row | {"judge": "def judge(stdin, printed, expected):\n    return 1 / 0"}
    assert checker.check_sync("print(2, 6)", broken).status is Status.UNJUDGED


@pytest.mark.parametrize(
    "program",
    [
        "print(int(input()) + 1)\nexit()",
        "print(int(input()) + 1)\nquit(0)",
        (
            "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**27)\ndef main():\n    def"
            " d(n): return 1 if n == 0 else d(n - 1)\n    print(int(input()) + d(50000))\nt ="
            " threading.Thread(target=main)\nt.start()\nt.join()"
        ),
        "import os, sys\nprint(int(os.read(0, os.fstat(0).st_size)) + 1)",
        "import sys\nprint(int(sys.stdin.buffer.readline()) + 1)",
        (
            "import functools, sys\nsys.setrecursionlimit(10**6)\n@functools.cache\ndef d(n): return 1 if n == 0 else"
            " d(n - 1)\nprint(int(open(0).read()) + d(20000))"
        ),
    ],
)
def test_contest_programs_work(checker: UnitTestChecker, program: str) -> None:
    verdict = checker.check_sync(f"```python\n{program}\n```", {"stdin_stdout": [["4\n", "5\n"]]})
    assert verdict.correct, verdict.reason


def test_each_case_may_have_a_limit_of_its_own(checker: UnitTestChecker) -> None:
    row = {"cases": [{"stdin": "", "stdout": "1", "seconds": 0.5}, ["", "1"]]}
    verdict = checker.check_sync("import time\ntime.sleep(5)\nprint(1)", row)
    assert "no result within 0.5 s" in verdict.reason


def test_large_input_is_bounded_by_a_setting() -> None:
    row = {"stdin_stdout": [["1 " * 2_500_000, "2500000"]]}
    counts = "import sys\nprint(len(sys.stdin.read().split()))"
    with UnitTestChecker(deadline=30.0, workers=1) as checker:
        assert checker.check_sync(counts, row).correct
    with UnitTestChecker(deadline=30.0, workers=1, io_mb=1.0) as checker:
        verdict = checker.check_sync(counts, row)
        assert verdict.status is Status.UNJUDGED and "io_mb" in verdict.reason


def test_calls_compare_as_json_does(checker: UnitTestChecker) -> None:
    assert checker.check_sync("def f(): return {1: (2, 3)}", {"function": "f", "cases": [[[], {"1": [2, 3]}]]}).correct
    row = {"function": "f", "cases": [[[], [1, 2]]]}
    assert checker.check_sync("def f(): return {2, 1}", row).status is Status.WRONG  # sorted([2, 1]) was asked, perhaps
    assert checker.check_sync("def f(): return {2, 1}", row | {"unordered": True}).correct
    assert isinstance(read_suite(row), Calls)
