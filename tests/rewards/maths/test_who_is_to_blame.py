"""UNJUDGED is for judges that fail by themselves. An answer never earns it."""

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.maths import MathChecker
from selfcorrect.rewards.maths.symbolic import findings
from selfcorrect.rewards.worker_pool import Outcome

pytestmark = pytest.mark.slow

PAIRS = [("a", "b")]


@pytest.mark.parametrize(
    ("outcome", "blame"),
    [
        (Outcome("timed out", "no result in 5 s", "comparison", 4.9, 5.0), "answer"),
        (Outcome("timed out", "no result in 5 s", "answer", 4.0, 5.0), "answer"),
        (Outcome("timed out", "no result in 5 s", "reference", 4.9, 5.0), "reference"),
        (Outcome("timed out", "no result in 5 s", "answer", 0.08, 5.0), "judge"),
        (Outcome("timed out", "no result in 5 s", "answer", 0.25, 5.0), "answer"),  # load 40 on two processors
        (Outcome("timed out", "no result in 2 s", "answer", 0.25, 2.0), "answer"),
        (Outcome("timed out", "no result in 5 s", "reference", 0.7, 5.0), "reference"),
        (Outcome("timed out", "no result in 60 s", "comparison", 0.6, 60.0), "answer"),
        (Outcome("failed", "MemoryError", "answer", 1.0, 1.0), "answer"),
        (Outcome("failed", "RecursionError", "comparison", 1.0, 1.0), "answer"),
        (Outcome("failed", "MemoryError", "reference", 1.0, 1.0), "reference"),
        (Outcome("failed", "ImportError: gone", "answer", 1.0, 1.0), "judge"),
        (Outcome("crashed", "the worker ended with code -11", "comparison", 1.0, 1.0), "answer"),
        (Outcome("crashed", "the worker ended with code -11", "reference", 1.0, 1.0), "reference"),
        (Outcome("lost", "the worker ended with code -9", "answer", 1.0, 1.0), "judge"),
        (Outcome("done", [None], "", 0.1, 0.1), "reference"),
    ],
)
def test_a_failure_is_blamed_on_what_caused_it(outcome: Outcome, blame: str) -> None:
    found = findings(PAIRS, outcome)
    assert found.blame == blame
    assert found.problem
    assert not found.verdicts


def test_a_finished_job_is_read_pair_by_pair() -> None:
    assert findings([("a", "b"), ("c", "d")], Outcome("done", [True, False], "", 0.1, 0.1)).verdicts == {
        ("a", "b"): True,
        ("c", "d"): False,
    }


def test_a_reference_that_cannot_be_judged_abstains(checker: MathChecker) -> None:
    verdict = checker.check_sync(r"\boxed{1}", r"\frac{1}{")
    assert verdict.status is Status.UNJUDGED
    assert verdict.score is None


def test_checks_survive_killed_workers_without_losing_or_mixing_up_verdicts() -> None:
    rng = random.Random(3)
    references = [rf"\int_0^1 {n} dx" for n in range(2, 9)]
    with MathChecker(workers=2, deadline=20.0) as checker, ThreadPoolExecutor(3) as threads:

        def check(number: int) -> bool:
            if number % 10 == 5 and (living := checker.worker_pids):
                os.kill(rng.choice(living), signal.SIGKILL)
            return checker.check_sync(rf"\boxed{{{2 + number % 7}}}", references[number % 5]).correct

        verdicts = list(threads.map(check, range(40)))
        pids = checker.worker_pids
    assert verdicts == [number % 7 == number % 5 for number in range(40)]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_memory_hungry_answers_are_wrong_and_leave_the_pool_alive() -> None:
    with MathChecker(workers=1, deadline=3.0, memory_mb=512) as checker:
        verdict = checker.check_sync(
            r"\boxed{\sum_{k=1}^{3} \left(\int_0^1 x^{k} dx\right)^{10^7}}", r"\int_0^1 t^2 dt"
        )
        assert verdict.status is Status.WRONG, verdict
        assert checker.check_sync(r"\boxed{\int_0^1 x dx}", r"\int_0^1 t dt").correct
