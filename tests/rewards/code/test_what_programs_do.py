"""Votes on programs: those with the same outcomes on a problem's examples are one answer."""

import asyncio
from collections.abc import Iterator

import pytest

from selfcorrect.rewards.checkers import ExecutingChecker, KeyedChecker
from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.code.behaviour import LATE

PROBLEM = 'def f(x):\n    """\n    >>> f(2)\n    4\n    >>> f(3)\n    9\n    """'
SQUARE = "f(2) = 4 ; f(3) = 9"


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=2.0) as checker:
        yield checker


def key(checker: UnitTestChecker, program: str, problem: str = PROBLEM) -> str | None:
    return asyncio.run(checker.executed_key(f"Here it is:\n```python\n{program}\n```", problem))


@pytest.mark.parametrize(
    "program",
    [
        "def f(x):\n    return x * x",
        "def f(x):\n    print('working', x)\n    return float(x ** 2)",  # 4.0 is 4
        "import sys\ndef f(x):\n    return sum([x] * x)\nx = input('x? ')",  # what it has defined until it fails
        "def f(x): return x * x\nraise SystemExit(f(2))",
        "f = lambda x: x * x\nif __name__ == '__main__':\n    while True: pass",
    ],
)
def test_programs_that_do_the_same_are_one_answer(checker: UnitTestChecker, program: str) -> None:
    assert key(checker, program) == SQUARE


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("def f(x): return x + x", "f(2) = 4 ; f(3) = 6"),
        ("def f(x): return 4 if x == 2 else 1 / 0", "f(2) = 4 ; f(3): ZeroDivisionError"),
        ("def f(x): return 4 if x == 2 else f(x)", "f(2) = 4 ; f(3): RecursionError"),
        ("def f(x): return {1, 3, 2} if x == 2 else {3: 'b', 1: (2, [None])}",
         "f(2) = {1, 2, 3} ; f(3) = {1: (2, [None],), 3: 'b'}"),
        ("def f(x): return True if x == 2 else 1", "f(2) = True ; f(3) = 1"),
        ("def f(x): return object() if x == 2 else iter('a')", "f(2) = a object ; f(3) = a str_ascii_iterator"),
        ("import os\ndef f(x): return 4 if x == 2 else os._exit(0)", "f(2) = 4 ; f(3): the program ended"),
        ("def f(x):\n    while x > 2: pass\n    return 4", f"f(2) = 4 ; f(3): {LATE}"),
        ("def f(x): return float('nan') if x == 2 else 0.1 + 0.2", "f(2) = nan ; f(3) = 0.3"),
    ],
)  # fmt: skip
def test_what_a_program_does_is_told_as_python_writes_it(checker: UnitTestChecker, program: str, told: str) -> None:
    assert key(checker, program) == told


def test_long_values_are_told_apart_by_all_of_them(checker: UnitTestChecker) -> None:
    one, other = (key(checker, f"def f(x): return 'a' * 500 + '{end}'") for end in "bc")
    assert one != other and one is not None and len(one) < 250


@pytest.mark.parametrize("program", ["def g(x): return x", "def f(x): raise ValueError", "def f(x) return 4", "x = ("])
def test_a_program_of_which_nothing_comes_is_counted_by_its_text(checker: UnitTestChecker, program: str) -> None:
    assert key(checker, program) == program


def test_without_examples_or_a_program_the_text_counts(checker: UnitTestChecker) -> None:
    assert key(checker, "def f(x): return 4", "Write f.") == "def f(x): return 4"
    assert asyncio.run(checker.executed_key("", PROBLEM)) is None
    assert asyncio.run(checker.executed_key("<think>\nno end", PROBLEM)) is None


def test_a_program_cannot_tell_more_than_was_asked(checker: UnitTestChecker) -> None:
    spoof = "import os\nos.write(1, b'[\"1\", true]\\n' * 9)\ndef f(x): return x"
    assert key(checker, spoof) == "f(2) = 1 ; f(3) = 1"  # as if it were another program: no reward is made of it


def test_what_examples_expect_is_not_looked_at(checker: UnitTestChecker) -> None:
    other = PROBLEM.replace("\n    9\n", "\n    10\n")
    assert key(checker, "def f(x): return x * x", other) == SQUARE


def test_it_is_one_of_the_checkers_that_run_answers(checker: UnitTestChecker) -> None:
    assert isinstance(checker, ExecutingChecker) and isinstance(checker, KeyedChecker)


def test_the_same_program_is_run_once(checker: UnitTestChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    key(checker, "def f(x): return x * x * x")
    monkeypatch.setattr(checker._pool, "run", None)
    assert key(checker, "def f(x): return x * x * x") == "f(2) = 8 ; f(3) = 27"
