"""Programs that try to be judged right without being right, by what they try: each is judged wrong and leaves nothing
behind.

All are asked for `total(numbers)`, the sum of a list; none computes it.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_programs import (
    ASSERTS,
    FORGE,
    FORGIVING_SUITES,
    GROUPS,
    LEAVE_EARLY,
    OTHER_SUITES,
    PROGRAMS,
    judged,
)

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.sandbox import zygote_pair
from selfcorrect.rewards.sandbox.jail import Confinement


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=1.0, workers=1) as checker:
        checker.check_sync("def total(n): return 1", f"import gc\n{ASSERTS}")
        yield checker


@pytest.fixture(scope="module")
def hasty() -> Iterator[UnitTestChecker]:
    """For programs that end at the deadline, whichever it is."""
    with UnitTestChecker(deadline=0.4, workers=1) as checker:
        checker.check_sync("def total(n): return 1", f"import gc\n{ASSERTS}")
        yield checker


def traces() -> dict[str, object]:
    """What a check may not change: files where one could be left, our descriptors, our children."""
    places = [Path.cwd(), Path(tempfile.gettempdir()), Path("/dev/shm")]
    hostile = [str(path) for place in places if place.is_dir() for path in place.glob("*hostile*")]
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {"files": hostile, "descriptors": sorted(os.listdir("/proc/self/fd")), "children": sorted(children)}


def descendants(pids: list[int]) -> list[str]:
    return [child for pid in pids for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone_soon(pid: str) -> bool:
    for _ in range(400):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_is_wrong_and_leaves_nothing_behind(
    checker: UnitTestChecker, hasty: UnitTestChecker, name: str
) -> None:
    checker = hasty if name.startswith("exhaust: ") else checker
    before, pids = traces(), checker.worker_pids
    # With code of their own that leaves something (import gc), so that the tests' process ends with the check too.
    verdict = judged(checker, PROGRAMS[name], f"import gc\n{ASSERTS}")
    assert verdict.status is Status.WRONG, verdict.reason
    assert checker.worker_pids == pids
    assert all(map(gone_soon, descendants(pids)))  # of one heard to its end, nobody waits for its death
    assert traces() == before


@pytest.mark.slow
@pytest.mark.parametrize("group", [group for group in GROUPS if group != "exhaust"])
@pytest.mark.parametrize("suite", OTHER_SUITES)
def test_hostile_programs_are_wrong_whatever_the_form_of_the_tests(
    checker: UnitTestChecker, group: str, suite: str
) -> None:
    for name, program in GROUPS[group].items():
        verdict = judged(checker, program, OTHER_SUITES[suite])
        assert verdict.status is Status.WRONG, (name, verdict.reason)


@pytest.mark.parametrize("group", ["leave early", "equal to all"])
@pytest.mark.parametrize("suite", FORGIVING_SUITES)
def test_leaving_and_hostile_objects_fail_even_tests_that_forgive_much(
    checker: UnitTestChecker, group: str, suite: str
) -> None:
    for name, program in GROUPS[group].items():
        verdict = judged(checker, program, FORGIVING_SUITES[suite])
        assert verdict.status is Status.WRONG, (name, verdict.reason)


def test_a_process_of_tests_that_is_kept_outlives_no_program_and_not_the_checker() -> None:
    before = traces()
    with UnitTestChecker(deadline=1.0, workers=1) as checker:
        for program in (*LEAVE_EARLY.values(), *FORGE.values(), *["def total(n): return sum(n)"] * 2):
            verdict = judged(checker, program, ASSERTS)
            assert verdict.correct == ("sum" in program), verdict.reason
            programs, tests = checker.worker_pids
            assert all(map(gone_soon, descendants([programs])))  # of one that passed, nobody waits for the end
            assert len(kept := descendants([tests])) <= 1
    assert kept, "tests that only compare with literals keep their process"
    assert traces() == before
    assert all(map(gone_soon, kept))  # the kernel ends it with its zygote, but not in the same instant


def test_after_all_of_them_a_right_program_is_still_right(checker: UnitTestChecker) -> None:
    assert checker.check_sync("def total(n): return sum(n)", ASSERTS).correct


def test_there_are_enough_of_them() -> None:
    assert len(PROGRAMS) >= 60


SCRIPTS = {
    "prints all day": "while True: print('6')",
    "says nothing and stays": "import time\ntime.sleep(1000)",
    "closes its output and stays": (
        "import os, time\nprint('6', flush=True)\nos.close(1)\nos.close(2)\ntime.sleep(1000)"
    ),
    "leaves with an error": "print('6')\nraise SystemExit(3)",
    "raises after printing": "print('6')\nraise ValueError('no')",
    "kills itself": "print('6', flush=True)\nimport ctypes\nctypes.string_at(0)",
    "looks for the expected output": "import os\nprint([os.read(fd, 1000) for fd in (3, 4, 5, 6)])",
    "reads nothing of a large input": "import time\nprint('5')",
    "prints something else": "print(int(input()) * 3)",
    "writes bytes that are no text": "import os\nos.write(1, b'6\\xff')",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_hostile_script_is_wrong_and_leaves_nothing_behind(checker: UnitTestChecker, name: str) -> None:
    before, pids = traces(), checker.worker_pids
    verdict = judged(checker, SCRIPTS[name], {"cases": [["3\n" + "x" * 200_000, "6"]]})
    assert verdict.status is Status.WRONG, verdict.reason
    programs, _ = pids  # the other may keep a process of tests, which such a check has no need of
    assert (checker.worker_pids, traces(), descendants([programs])) == (pids, before, [])


@pytest.mark.parametrize(
    ("waited", "worked", "pauses", "starved"),
    [
        (4.0, 0.01, 3, True),
        (3.4, 0.01, 3, False),  # it slept
        (4.5, 0.06, 3, False),  # an endless loop, of which little was run
        (4.5, 0.01, 500, False),  # it sleeps a microsecond, and waits for its turn, again and again
    ],
)
def test_only_a_program_that_hardly_ran_and_did_not_stand_back_was_starved(
    waited: float, worked: float, pauses: int, starved: bool
) -> None:
    assert zygote_pair.was_starved(waited, worked, pauses, 5.0) is starved


@pytest.mark.parametrize(
    "way", ["time.sleep(1e-6)", "select.select([], [], [], 1e-6)", "me.call_back(0, (), {})", "signal.pause()"]
)
def test_a_program_that_stands_back_all_the_time_is_known_by_its_pauses(way: str) -> None:
    program = (
        "import select, signal, sys, time\nframe = sys._getframe(1)\n"
        "while not hasattr(frame.f_locals.get('self'), 'call_back'): frame = frame.f_back\n"
        "me = frame.f_locals['self']\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\n"
        f"def square(x):\n    while True:\n        try: {way}\n        except Exception: pass"
    )
    pair = zygote_pair.ZygotePair(Confinement())
    try:
        pair.wait_until_ready()
        suite = {"kind": "asserts", "code": "assert square(2) == 4"}
        report = pair.run({"program": program, "given": "", "suite": suite, "by_case": False}, 1.5)
        assert report.timed_out and report.program is not None
        assert report.program.pauses - 2 * report.answers >= 20
    finally:
        pair.end()
