import asyncio
import subprocess
import sys
import threading

import pytest

from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.maths import MathChecker


def test_it_follows_the_protocol_of_checkers(checker: MathChecker) -> None:
    assert isinstance(checker, Checker)


def test_plain_checks_load_neither_sympy_nor_torch_and_start_no_process() -> None:
    code = """
import sys
from selfcorrect.rewards.maths import MathChecker
checker = MathChecker()
for answer, reference in (("42", "42"), ("x^2+1", "1+x^2"), (r"\\\\sqrt{8}", r"2\\\\sqrt{2}"), ("(1,2)", "(1, 2)")):
    assert checker.check_sync(r"\\\\boxed{" + answer + "}", reference).correct, answer
assert checker.worker_pids == []
print(sorted({"sympy", "torch", "transformers", "math_verify"} & set(sys.modules)))
""".replace("\\\\\\\\", "\\\\")
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == "[]"


def test_the_event_loop_runs_on_while_a_worker_is_busy() -> None:
    async def both(checker: MathChecker) -> tuple[int, str]:
        ticks = 0
        check = asyncio.ensure_future(checker.check(r"\boxed{\sum_{k=1}^{10} (k^{10^7})!}", r"\sum_{k=1}^{10} k"))
        while not check.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, (await check).status.value

    with MathChecker(workers=1, deadline=1.0) as checker:
        ticks, status = asyncio.run(both(checker))
    assert ticks > 5
    assert status == "wrong"


@pytest.mark.slow
def test_one_checker_serves_several_loops_and_threads() -> None:
    results: list[bool] = []

    def in_a_loop_of_its_own(checker: MathChecker, value: int) -> None:
        verdict = asyncio.run(checker.check(rf"\boxed{{{value}}}", rf"\int_0^1 {value} dx"))
        results.append(verdict.correct)

    with MathChecker(workers=2, deadline=20.0) as checker:
        threads = [threading.Thread(target=in_a_loop_of_its_own, args=(checker, value)) for value in range(2, 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 6


@pytest.mark.slow
def test_a_closed_checker_leaves_no_process_and_can_be_used_again(checker: MathChecker) -> None:
    with MathChecker(workers=1, deadline=20.0) as other:
        assert other.check_sync(r"\boxed{2}", r"\int_0^1 2 dx").correct
        assert len(other.worker_pids) == 1
        other.close()
        assert other.worker_pids == []
        assert other.check_sync(r"\boxed{2}", r"\int_0^1 2 dx").correct
