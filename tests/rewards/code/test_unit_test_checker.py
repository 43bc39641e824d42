"""The checker's life: what verdicts say, who is to blame, and what becomes of its processes."""

import asyncio
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from selfcorrect.errors import ConfigurationError, SandboxError
from selfcorrect.rewards.checker import Checker, Status, Verdict
from selfcorrect.rewards.code import UnitTestChecker

SQUARE = "def square(x):\n    return x * x\n"
TESTS = "assert square(3) == 9\nassert square(-2) == 4\nassert square(0) == 0"


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=20.0, workers=2) as checker:
        yield checker


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int]) -> bool:
    for _ in range(400):
        if not any(map(is_alive, pids)):
            return True
        threading.Event().wait(0.05)
    return False


def test_it_is_a_checker(checker: UnitTestChecker) -> None:
    assert isinstance(checker, Checker)


def test_the_reason_tells_how_many_passed_and_which_call_failed(checker: UnitTestChecker) -> None:
    verdict = checker.check_sync("def square(x):\n    return x * abs(x)\n", TESTS)
    assert verdict.status is Status.WRONG
    assert verdict.reason == "passed 2 of 3 tests; test 2 failed: square(-2) returned -4"


def test_the_reason_tells_the_error_and_its_line(checker: UnitTestChecker) -> None:
    verdict = checker.check_sync("def square(x):\n    y = x + 1\n    return y / (y - 4)\n", TESTS)
    assert "test 1 failed: square(3) raised ZeroDivisionError: division by zero (line 3)" in verdict.reason


def test_the_reason_never_tells_what_was_expected(checker: UnitTestChecker) -> None:
    for tests in (
        "assert square(3) == 90210",
        "assert square(3) == 90210, 'it should be 90210'",
        "wanted = 90210\nassert wanted == square(3), f'{wanted=}'",
        "import unittest\ndef test_square():\n    unittest.TestCase().assertEqual(square(3), 90210)",
        {"function": "square", "cases": [[[3], 90210]]},
    ):
        assert "90210" not in checker.check_sync(SQUARE, tests).reason


def test_the_reason_shows_the_arguments_as_they_were_handed_over(checker: UnitTestChecker) -> None:
    verdict = checker.check_sync("def f(xs):\n    xs.clear()\n    return xs", "assert f([1, 2]) == [1]")
    assert "f([1, 2]) returned []" in verdict.reason


def test_a_program_that_does_not_compile_is_wrong_in_a_block_and_unreadable_as_prose(checker: UnitTestChecker) -> None:
    assert checker.check_sync("```python\ndef square(x) return\n```", TESTS).status is Status.WRONG
    assert checker.check_sync("I would square it.", TESTS).status is Status.UNREADABLE
    assert checker.check_sync("", TESTS).status is Status.UNREADABLE


def test_what_passes_the_deadline_is_wrong_and_tells_the_call() -> None:
    with UnitTestChecker(deadline=0.5, workers=1) as checker:
        verdict = checker.check_sync("import time\ndef square(x):\n    time.sleep(60 * x)", TESTS)
    assert verdict.status is Status.WRONG
    assert verdict.reason == "passed 0 of 3 tests; no result within 0.5 s; running: square(3)"


def test_tests_passed_before_the_deadline_are_counted() -> None:
    with UnitTestChecker(deadline=1.5, workers=1) as checker:
        verdict = checker.check_sync(
            "import time\ndef square(x):\n    time.sleep(60 * (x < 0))\n    return x * x", TESTS
        )
    assert verdict.reason == "passed 1 of 3 tests; no result within 1.5 s; running: square(-2)"


def test_memory_is_capped() -> None:
    with UnitTestChecker(memory_mb=192, deadline=20.0, workers=1) as checker:
        program = "def eat(mb):\n    return len(bytearray(mb * 2**20)) // 2**20"
        assert checker.check_sync(program, "assert eat(50) == 50").correct
        assert "MemoryError" in checker.check_sync(program, "assert eat(300) == 300").reason


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        ("assert square(", "no Python"),
        ("import no_such_module\nassert square(1) == 1", "no_such_module"),
        ("square(2)", "no assert"),
        ("", "no assert"),
        ("def check(candidate):\n    assert candidate(1) == 1", "no assert"),
        ({"entry_point": "square", "code": "def test(f): assert f(1)"}, "check(candidate)"),
        ({"entry_point": "square", "code": "def check(candidate): pass"}, "no assert"),
        ({"function": "square", "cases": []}, "cases"),
        ({"cases": []}, "cases"),
        ([], "asserts"),
        (None, "asserts"),
        (7, "asserts"),
        ({"kind": "magic"}, "kind"),
        ({"function": "square", "cases": [[[1], 1]], "colour": "red"}, "colour"),
        ({"function": "square", "cases": [[[1], {1, 2}]]}, "expected"),
        ("assert True", "empty program"),
        ({"code": "assert square(1) == 1", "given": "1 / 0"}, "ZeroDivisionError"),
    ],
)
def test_tests_that_cannot_be_used_are_told_and_never_pass(
    checker: UnitTestChecker, tests: object, problem: str
) -> None:
    told = checker.validate_reference(tests)
    assert told is not None and problem in told
    if problem != "empty program":
        assert checker.check_sync(SQUARE, tests).status is Status.UNJUDGED


def test_a_program_cannot_make_its_tests_unusable(checker: UnitTestChecker) -> None:
    tests = "size = len(square(2))\nassert size == 2"
    for program in (
        "def square(x): return 5",
        "class square(Exception): pass",
        "def square(x): raise ImportError",
        "square = 5",
        "def other(): pass",
        "def square(x):\n    class A:\n        def __len__(self): return 'x'\n    return A()",
    ):
        assert checker.check_sync(program, tests).status is Status.WRONG


def test_what_the_task_gives_is_out_of_the_programs_reach(checker: UnitTestChecker) -> None:
    tests = {"given": "def double(x):\n    return 2 * x\nLIMIT = 3", "code": "assert f(LIMIT) == double(3)"}
    assert checker.check_sync("def f(x):\n    return double(x)", tests).correct
    assert not checker.check_sync("LIMIT = 0\ndef double(x):\n    return 0\nf = double", tests).correct


def test_classes_that_the_task_gives_live_with_the_program(checker: UnitTestChecker) -> None:
    tests = {
        "given": (
            "class Node:\n    def __init__(self, v, n=None):\n        self.v, self.n = v, n\n"
            "def build(vs):\n    return Node(vs[0], build(vs[1:])) if vs else None"
        ),
        "code": "assert total(build([1, 2, 3])) == 6\nassert total(None) == 0",
    }
    assert checker.check_sync("def total(n):\n    return n.v + total(n.n) if n else 0", tests).correct


def test_a_name_that_is_builtin_is_not_taken_from_the_program(checker: UnitTestChecker) -> None:
    assert not checker.check_sync("def f(x): return 1\ndef all(x): return True", "assert all([f(1) == 2])").correct
    assert checker.check_sync("def sum(a, b): return a + b", {"function": "sum", "cases": [[[1, 2], 3]]}).correct


def test_the_same_check_gives_the_same_verdict(checker: UnitTestChecker) -> None:
    program = "import random\ndef f():\n    return [random.random(), hash('a'), list({'x', 'y', 'z', 'w'})]"
    reasons = {checker.check_sync(program, "assert f() == 0").reason for _ in range(6)}
    with UnitTestChecker(workers=1) as another:
        reasons.add(another.check_sync(program, "assert f() == 0").reason)
    assert len(reasons) == 1


def test_a_check_sees_nothing_of_the_checks_before(checker: UnitTestChecker) -> None:
    program = "import math\ndef f():\n    before = getattr(math, 'mark', 0)\n    math.mark = 1\n    return before"
    assert all(checker.check_sync(program, "assert f() == 0\nassert f() == 1").correct for _ in range(5))


def test_many_coroutines_share_the_processes_without_mixing_up_answers(checker: UnitTestChecker) -> None:
    async def many() -> list[Verdict]:
        return await asyncio.gather(
            *(checker.check(f"def f(): return {n}", f"assert f() == {n // 2 * 2}") for n in range(60))
        )

    verdicts = asyncio.run(many())
    assert [verdict.correct for verdict in verdicts] == [n % 2 == 0 for n in range(60)]
    assert len(checker.worker_pids) <= 4


@pytest.mark.slow
def test_three_hundred_checks_survive_while_every_tenth_worker_is_killed() -> None:
    rng = random.Random(11)
    seen: set[int] = set()
    with UnitTestChecker(deadline=60.0, workers=2) as checker, ThreadPoolExecutor(4) as threads:

        def check(number: int) -> Verdict:
            if number % 10 == 0 and (living := checker.worker_pids):
                children = [child for pid in living for child in _children(pid)]
                victim = rng.choice(living + children * 3)
                seen.update(living)
                _kill(victim)
            return checker.check_sync(f"def f(x): return x + {number}", f"assert f(1) == {number + 1 + number % 2}")

        verdicts = list(threads.map(check, range(300)))
        seen.update(checker.worker_pids)
    for number, verdict in enumerate(verdicts):
        assert verdict.status is (Status.WRONG if number % 2 else Status.CORRECT), (number, verdict.reason)
        if number % 2:
            assert verdict.reason == f"passed 0 of 1 tests; test 1 failed: f(1) returned {number + 1}"
    assert len(seen) > 10
    assert wait_until_gone(list(seen))


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.slow
def test_no_pair_of_processes_gets_stuck_however_long_it_serves() -> None:
    """The zygote's answers to what nobody waits for once filled its socket after 140 checks."""
    with UnitTestChecker(deadline=60.0, workers=1) as checker:
        for number in range(320):
            assert checker.check_sync(f"def f(x): return x + {number}", f"assert f(1) == {number + 1}").correct


def test_close_ends_a_check_under_way_and_leaves_no_process() -> None:
    checker = UnitTestChecker(deadline=300.0, workers=1)
    checker.check_sync(SQUARE, TESTS)
    pids, verdicts = checker.worker_pids, list[Verdict]()
    thread = threading.Thread(
        target=lambda: verdicts.append(checker.check_sync("import time\ntime.sleep(300)", TESTS)), daemon=True
    )
    thread.start()
    for _ in range(200):
        if children := [child for pid in pids for child in _children(pid)]:
            break
        threading.Event().wait(0.02)
    checker.close()
    thread.join(30)
    assert not thread.is_alive()
    assert verdicts[0].status is Status.UNJUDGED
    assert wait_until_gone([*pids, *children])


@pytest.mark.slow
def test_a_closed_checker_starts_anew_when_used_again(checker: UnitTestChecker) -> None:
    assert checker.check_sync(SQUARE, TESTS).correct
    before = set(checker.worker_pids)
    checker.close()
    assert checker.worker_pids == []
    assert checker.check_sync(SQUARE, TESTS).correct
    assert not before & set(checker.worker_pids)


def test_a_checker_that_is_forgotten_leaves_no_process() -> None:
    checker = UnitTestChecker(workers=1)
    checker.check_sync(SQUARE, TESTS)
    pids = checker.worker_pids
    del checker
    assert wait_until_gone(pids)


def test_pickling_carries_the_settings_and_not_the_processes(checker: UnitTestChecker) -> None:
    checker.check_sync(SQUARE, TESTS)
    with pickle.loads(pickle.dumps(checker)) as copy:
        assert copy.worker_pids == []
        assert copy.check_sync(SQUARE, TESTS).correct
        assert not set(copy.worker_pids) & set(checker.worker_pids)


def _in_a_forked_child(checker: UnitTestChecker, report: "multiprocessing.Queue[object]") -> None:
    correct = checker.check_sync(SQUARE, TESTS).correct
    report.put((correct, checker.worker_pids))
    checker.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_processes_of_its_own(checker: UnitTestChecker) -> None:
    checker.check_sync(SQUARE, TESTS)
    ours = checker.worker_pids
    context = multiprocessing.get_context("fork")
    report: multiprocessing.Queue[tuple[bool, list[int]]] = context.Queue()
    child = context.Process(target=_in_a_forked_child, args=(checker, report))
    child.start()
    correct, theirs = report.get(timeout=60)
    child.join(60)
    assert (child.exitcode, correct) == (0, True)
    assert not set(ours) & set(theirs)
    assert all(map(is_alive, ours))
    assert checker.check_sync(SQUARE, TESTS).correct and checker.worker_pids == ours


def test_processes_do_not_outlive_a_parent_that_is_killed() -> None:
    script = textwrap.dedent("""
        import sys, threading
        from selfcorrect.rewards.code import UnitTestChecker
        checker = UnitTestChecker(workers=1, deadline=600.0)
        checker.check_sync("def f(): pass", "assert f() == 1")
        print(*checker.worker_pids, flush=True)
        checker.check_sync("def f():\\n    while True: pass", "assert f() == 1")
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        children: list[int] = []
        while len(children) < 2:
            children = [child for pid in pids for child in _children(pid)]
        parent.kill()
    assert len(pids) == 2
    assert wait_until_gone(pids + children)


def test_unsafe_verdicts_say_so() -> None:
    with UnitTestChecker(isolation="unsafe", workers=1) as checker:
        assert checker.check_sync(SQUARE, TESTS).reason.endswith('[isolation="unsafe": the program was not jailed]')
        wrong = checker.check_sync("def square(x): return 1", TESTS)
        assert wrong.status is Status.WRONG and "unsafe" in wrong.reason
        assert checker.check_sync("def square(x):\n    import os\n    os._exit(0)", TESTS).status is Status.WRONG


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs the program bwrap (bubblewrap)")
def test_bubblewrap_hides_the_other_processes() -> None:
    with UnitTestChecker(isolation="bubblewrap", workers=1, deadline=20.0) as checker:
        verdict = checker.check_sync(SQUARE, TESTS)
        if verdict.status is Status.UNJUDGED:
            pytest.skip("this machine lets nobody make namespaces")
        assert verdict.correct
        # In a process namespace of its own the zygote is one of the first processes.
        assert checker.check_sync("import os\ndef parent(): return os.getppid()", "assert parent() < 10").correct
        pids = checker.worker_pids
    assert wait_until_gone(pids)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs the program bwrap (bubblewrap)")
def test_process_numbers_inside_bubblewrap_are_not_taken_for_ours() -> None:
    """They are small, and here belong to processes of the kernel, which have waited for hours."""
    sleeper = "import time\ndef square(x):\n    time.sleep(60)"
    with UnitTestChecker(isolation="bubblewrap", workers=1, deadline=0.3) as checker:
        for _ in range(25):
            assert "too busy" not in checker.check_sync(sleeper, TESTS).reason


def test_bubblewrap_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        UnitTestChecker(isolation="bubblewrap") as checker,
        pytest.raises(SandboxError, match="apt-get install bubblewrap"),
    ):
        checker.check_sync(SQUARE, TESTS)


@pytest.mark.parametrize(
    "setting",
    [{"isolation": "none"}, {"deadline": 0.0}, {"deadline": float("nan")}, {"memory_mb": 10}, {"workers": 0}],
)
def test_impossible_settings_are_refused_with_their_name(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(setting))):
        UnitTestChecker(**setting)  # type: ignore[arg-type]
