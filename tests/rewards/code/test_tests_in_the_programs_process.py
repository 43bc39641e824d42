"""`isolation="together"`: tests that run where the program could reach them, and still are not its to decide."""

import ast
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hostile_programs import ASSERTS, CHECK, GROUPS, PROGRAMS, judged
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.code.together import _points_of, another

SEND = (
    "import json, os, struct, sys\ndef send(message):\n    data = json.dumps(message).encode()\n"
    "    os.write(3, struct.pack('>I', len(data)) + data)\n"
    "def forge():\n    for k in range(9):\n        send({'point': k, 'held': True})\n"
    "        send({'unit': k, 'why': None})\n    send({'done': True})\n"
)
FORGERS = {
    "reports while it loads": f"{SEND}send({{'loaded': True}})\nforge()\ndef total(n): return 0",
    "reports at the first call": f"{SEND}def total(n):\n    forge()\n    os._exit(0)",
    "reports at the end": f"{SEND}import atexit\natexit.register(forge)\ndef total(n): forge()",
    "lets every point hold": (
        "import sys\ndef total(n):\n    space = sys._getframe(1).f_globals\n"
        "    space['_selfcorrect_not_held'] = space['_selfcorrect_held']\n    return 0"
    ),
    "changes what is sent": (
        "import sys\ndef total(n):\n    channel = sys.modules['selfcorrect.rewards.framing'].Channel\n"
        "    send = channel.send\n"
        "    channel.send = lambda self, m: send(self, m | {'held': True} if 'point' in m else m)\n    return 0"
    ),
    "returns what is expected, from the stack": (
        "import dis, sys\ndef total(n):\n    frame = sys._getframe(1)\n    for step in dis.get_instructions("
        "frame.f_code):\n        if step.offset > frame.f_lasti and step.opname == 'LOAD_CONST':\n"
        "            return step.argval"
    ),
    "is equal to everything": "class All:\n    def __eq__(self, other): return True\ndef total(n): return All()",
    "skips the lines that assert": (
        "import sys\ndef total(n):\n    frame = sys._getframe(1)\n    def trace(f, event, arg):\n        if event =="
        " 'line':\n            f.f_trace = None\n            f.f_lineno += 1\n        return trace\n"
        "    sys.settrace(trace)\n    frame.f_trace = trace\n    return 0"
    ),
    "reports the opposite of what its first run must": f"{SEND}def total(n):\n    for k in range(9):\n"
    "        send({'point': k, 'held': k % 2 == 0})\n        send({'unit': k, 'why': None})\n    send({'done': 1})\n",
}
PARAMETRIZED = """
import pytest

@pytest.mark.parametrize("x", [1, 2])
def test_it(x):
    assert f(x) is not None
    assert f(0) is None
    assert f(x) in (1, 2)
    with pytest.raises(TypeError):
        f()
"""
METHODS = """
import unittest

class TotalTest(unittest.TestCase):
    def test_some(self):
        self.assertEqual(total([17, 4]), 21)
        self.assertEqual(total([8, 8, 8]), 24)
"""


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=2.0, workers=1, isolation="together") as checker:
        yield checker


@pytest.fixture(scope="module")
def hasty() -> Iterator[UnitTestChecker]:
    """For programs that end at the deadline, whichever it is."""
    with UnitTestChecker(deadline=0.5, workers=1, isolation="together") as checker:
        yield checker


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def total(n): return sum(n)", ASSERTS),
        ("def total(n): return sum(n)", CHECK),
        ("def total(n): return sum(n)", METHODS),
        ("class Money:\n    def __init__(self, n): self.n = n\n    def __lt__(self, o): return self.n < o",
         "assert Money(3) < 5\nassert not Money(7) < 5\nassert Money(2).n == 2"),
        ("class Bag(list): pass", "b = Bag()\nb.append(1)\nassert b == [1]\nassert b.pop() == 1\nassert len(b) == 0"),
        ("def f(x): return x if x else None",
         PARAMETRIZED),
        ("def f(): return {'a': [1, 2.5, 'x', b'y', True, None], (1,): {3}}",
         "assert f() == {'a': [1, 2.5, 'x', b'y', True, None], (1,): {3}}\nassert f()[(1,)] == {3}"),
        ("n = int(input())\ndef f(x): return x", "assert f(2) == 2"),
    ],
)  # fmt: skip
def test_a_right_program_is_right_as_in_one_file(checker: UnitTestChecker, program: str, tests: Any) -> None:
    verdict = checker.check_sync(program, tests)
    assert verdict.correct, verdict.reason
    assert "could reach its tests" in verdict.reason


@pytest.mark.parametrize(
    "suite", [ASSERTS, pytest.param(CHECK, marks=pytest.mark.slow), pytest.param(METHODS, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", FORGERS)
def test_a_program_that_reports_for_its_tests_is_wrong(checker: UnitTestChecker, name: str, suite: Any) -> None:
    verdict = judged(checker, FORGERS[name], suite)
    assert verdict.status is Status.WRONG, verdict.reason


@pytest.mark.slow
@pytest.mark.parametrize("suite", [ASSERTS, CHECK, METHODS], ids=["asserts", "check", "methods"])
def test_every_hostile_program_is_wrong_in_the_process_of_its_tests_too(
    checker: UnitTestChecker, hasty: UnitTestChecker, suite: Any
) -> None:
    judges = {f"exhaust: {name}": hasty for name in GROUPS["exhaust"]}
    verdicts = {name: judged(judges.get(name, checker), program, suite) for name, program in PROGRAMS.items()}
    assert {name: verdict for name, verdict in verdicts.items() if verdict.status is not Status.WRONG} == {}


def test_what_this_gives_up_is_known() -> None:
    """Where no literal is expected a test is only turned round, and an object that equals everything passes, as in
    plain Python; so it is off by default."""
    equal = "class All:\n    def __eq__(self, other): return True\ndef total(n): return All()"
    by_name = "expected = 21\nassert total([17, 4]) == expected"
    with UnitTestChecker(deadline=20.0, workers=1, isolation="together") as checker:
        assert judged(checker, equal, by_name).correct
        assert judged(checker, equal, "assert total([17, 4]) == 21").status is Status.WRONG
    with UnitTestChecker(deadline=20.0, workers=1) as checker:
        assert judged(checker, equal, by_name).status is Status.WRONG


def test_a_suite_asks_and_a_checker_allows() -> None:
    asks = {"code": "assert f(2) == 4\nassert f(3) == 9", "isolation": "together"}
    needs_not = {"code": "assert f(2) == 4", "isolation": "jail"}
    square = "def f(x): return x * x"
    with UnitTestChecker(deadline=20.0, workers=1) as strict:
        assert strict.check_sync(square, asks).status is Status.UNJUDGED
        assert 'UnitTestChecker(isolation="together")' in (strict.validate_reference(asks) or "")
    with UnitTestChecker(deadline=20.0, workers=1, isolation="together") as checker:
        assert checker.validate_reference(asks) is None
        assert "could reach" in checker.check_sync(square, asks).reason
        for tests in (needs_not, {"function": "f", "cases": [[[2], 4]]}, ">>> f(2)\n4\n"):
            assert checker.check_sync(square, tests).reason == "passed 1 of 1 tests"
        loop = {"code": "for i in range(3):\n    assert f(i) == i * i", "isolation": "together"}
        assert "no assert stands by itself" in (checker.validate_reference(loop) or "")


def test_a_part_is_paid_for_what_held_and_failed_as_it_must() -> None:
    """Two of three points; of one who forges them all, none."""
    with UnitTestChecker(deadline=20.0, workers=1, isolation="together", partial=True) as checker:
        verdict = checker.check_sync("def f(x): return x", "assert f(1) == 1\nassert f(2) == 4\nassert f(3) == 3")
        assert (verdict.status, verdict.score) == (Status.WRONG, pytest.approx(2 / 3))
        assert judged(checker, FORGERS["reports while it loads"], ASSERTS).score == 0.0


literals: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers() | st.floats(-1e6, 1e6) | st.text(max_size=5) | st.binary(max_size=5) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.integers(), inner),
)


@given(literals)
def test_another_value_is_of_the_same_type_and_never_equal(value: Any) -> None:
    try:
        new = another(value)
    except ValueError:
        return
    assert type(new) is type(value) and new != value
    assert eval(repr(new)) == new


@pytest.mark.slow
def test_checks_in_threads_do_not_mix_what_they_change() -> None:
    tests = _points_of("\n".join(f"assert f({number}) == {number}" for number in range(40)), None)

    def changed_in(text: str) -> list[int]:
        asserts = [statement.body[0] for statement in ast.parse(text).body if isinstance(statement, ast.Try)]
        return [number for number, test in enumerate(asserts) if ast.unparse(test) != f"assert f({number}) == {number}"]

    def write(number: int) -> list[str]:
        return [tests.written({number})[0] for _ in range(5)]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            written = list(threads.map(write, range(40)))
    finally:
        sys.setswitchinterval(before)
    assert [[changed_in(text) for text in texts] for texts in written] == [[[number]] * 5 for number in range(40)]
