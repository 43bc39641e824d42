import asyncio
import contextlib
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from selfcorrect.errors import CheckerError, ConfigurationError
from selfcorrect.rewards.process_pool import MemberLost, ProcessPool, usual_size
from selfcorrect.rewards.worker_pool import Outcome, WorkerPool, _Job
from selfcorrect.rewards.worker_process import Ending

HERE = Path(__file__).parent
HANDLER = "pool_handlers:serve"


@pytest.fixture(autouse=True)
def handlers_can_be_imported_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(HANDLER, workers=2, deadline=20.0) as pool:
        yield pool
    assert pool.worker_pids == []


def echo(value: object) -> dict[str, object]:
    return {"do": "echo", "echo": value}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_job_gives_its_result_to_threads_and_to_coroutines(pool: WorkerPool) -> None:
    assert pool.run(echo("one")).result == "one"
    assert asyncio.run(pool.run_async(echo("two"))).result == "two"
    assert pool.run(echo("back from the loop")).kind == "done"


def test_any_text_crosses_the_pipe_unharmed(pool: WorkerPool) -> None:
    for text in ("", "\x00\n\r", "é√∞😀", "\ud800 lone surrogate", '"\\', "x" * 5000):
        assert pool.run(echo(text)).result == text


def test_a_job_past_its_deadline_is_killed_and_the_pool_goes_on() -> None:
    with WorkerPool(HANDLER, workers=1, deadline=0.3) as pool:
        pool.run(echo("warm"))
        (victim,) = pool.worker_pids
        outcome = pool.run({"do": "spin", "stages": ["reading", "computing"]})
        assert (outcome.kind, outcome.stage) == ("timed out", "computing")
        assert not is_alive(victim)
        assert pool.run(echo("next")).result == "next"


def test_a_sleeping_worker_is_told_from_a_computing_one_by_its_processor_time() -> None:
    with WorkerPool(HANDLER, workers=1, deadline=0.5) as pool:
        asleep = pool.run({"do": "sleep", "seconds": 60})
        busy = pool.run({"do": "spin"})
    assert asleep.kind == busy.kind == "timed out"
    assert asleep.cpu_seconds < busy.cpu_seconds / 2


def test_memory_is_capped_and_running_out_of_it_is_reported() -> None:
    with WorkerPool(HANDLER, workers=1, memory_mb=256) as pool:
        outcome = pool.run({"do": "eat", "megabytes": 512})
        assert (outcome.kind, outcome.result) == ("failed", "MemoryError")
        assert pool.run({"do": "eat", "megabytes": 16}).result == 16 * 2**20


def test_a_crash_is_tried_again_once_and_then_reported(pool: WorkerPool) -> None:
    for action in ("segfault", "exit"):
        outcome = pool.run({"do": action, "stages": ["at it"]})
        assert (outcome.kind, outcome.stage) == ("crashed", "at it")
    assert pool.run(echo(1)).result == 1


def test_an_exception_in_the_handler_is_a_failed_job_and_not_a_dead_worker(pool: WorkerPool) -> None:
    pool.run(echo("warm"))
    before = pool.worker_pids
    outcome = pool.run({"do": "raise", "message": "no such thing"})
    assert (outcome.kind, outcome.result) == ("failed", "ValueError: no such thing")
    assert pool.worker_pids == before


def test_running_out_of_stack_is_a_failed_job_and_the_worker_is_replaced(pool: WorkerPool) -> None:
    pool.run(echo("warm"))
    before = pool.worker_pids
    assert pool.run({"do": "recurse"}).result == "RecursionError"
    assert pool.worker_pids != before


def test_what_a_library_prints_does_not_disturb_the_protocol(pool: WorkerPool) -> None:
    assert pool.run({"do": "print", "echo": "still here"}).result == "still here"


def test_workers_see_no_environment_and_no_main_module_of_ours(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "value")
    seen = pool.run({"do": "where"}).result
    assert "A_SECRET" not in seen["environment"]
    assert seen["main"] is None


def test_many_threads_and_coroutines_share_the_pool_without_mixing_up_answers(pool: WorkerPool) -> None:
    async def many() -> list[Outcome]:
        return list(await asyncio.gather(*(pool.run_async(echo(f"async {n}")) for n in range(60))))

    with ThreadPoolExecutor(6) as threads:
        from_threads = [threads.submit(pool.run, echo(f"thread {n}")) for n in range(60)]
        from_loop = asyncio.run(many())
    assert [future.result().result for future in from_threads] == [f"thread {n}" for n in range(60)]
    assert [outcome.result for outcome in from_loop] == [f"async {n}" for n in range(60)]
    assert len(pool.worker_pids) <= 2


@pytest.mark.slow
def test_a_thousand_jobs_survive_while_every_tenth_worker_is_killed() -> None:
    rng = random.Random(7)
    pids: set[int] = set()
    with WorkerPool(HANDLER, workers=2, deadline=30.0) as pool, ThreadPoolExecutor(4) as threads:

        def job(number: int) -> object:
            if number % 10 == 0 and (living := pool.worker_pids):
                victim = rng.choice(living)
                pids.add(victim)
                with contextlib.suppress(ProcessLookupError):  # another thread was first
                    os.kill(victim, signal.SIGKILL)
            return pool.run(echo({"number": number, "text": "x" * (number % 50)})).result

        results = list(threads.map(job, range(1000)))
        pids.update(pool.worker_pids)
    assert results == [{"number": n, "text": "x" * (n % 50)} for n in range(1000)]
    assert len(pids) > 20
    assert not any(is_alive(pid) for pid in pids)


class Fragile:
    """A member that is none: what a pool does with it is counted."""

    def has_died(self) -> bool:
        return False

    def pids(self) -> list[int]:
        return []

    def kill(self) -> None: ...
    def end(self) -> None: ...
    def disown(self) -> None: ...


def killed_first(times: int) -> tuple[list[Fragile], Callable[[Fragile], tuple[str, bool]]]:
    """A job whose first members are killed by others, and those it has met."""
    met: list[Fragile] = []

    def work(member: Fragile) -> tuple[str, bool]:
        met.append(member)
        if len(met) <= times:
            raise MemberLost
        return "done", True

    return met, work


def test_a_job_that_others_kills_hit_is_tried_again_until_its_deadline() -> None:
    met, work = killed_first(500)
    assert ProcessPool(Fragile, 1).run(work, seconds=600.0) == "done"
    assert len(set(map(id, met))) > 1 and len(met) == 501


def test_past_its_deadline_a_job_is_tried_ten_times_in_all_and_then_lost() -> None:
    met, work = killed_first(9)
    assert ProcessPool(Fragile, 1).run(work, seconds=0.0) == "done"
    met, work = killed_first(10)
    with pytest.raises(MemberLost):
        ProcessPool(Fragile, 1).run(work, seconds=0.0)
    assert len(met) == 10


def test_only_a_jobs_own_crashes_count_against_it() -> None:
    """Killed from outside, crashed, killed, crashed: the second crash is its end, whatever others did between."""
    job = _Job({}, 60.0)
    for code in (-9, -15):
        with pytest.raises(MemberLost):
            job._after(Ending(code, 0.0), 0.1)
        outcome = job._after(Ending(-11, 0.25), 0.1)
    assert outcome is not None and outcome.kind == "crashed"
    assert (outcome.cpu_seconds, round(outcome.seconds, 6)) == (0.5, 0.4)


def test_what_comes_after_a_jobs_own_crash_is_part_of_its_deadline() -> None:
    """Otherwise an answer that crashes the judge takes as long as two."""
    job = _Job({"do": "spin"}, 5.0)
    assert job._after(Ending(-11, 2.0), 4.9) is None
    with WorkerPool(HANDLER, workers=1) as pool:
        outcome, sound = pool._pool.run(lambda worker: (job(worker), True), 5.0)
    assert (outcome.kind, outcome.kept_busy, sound) == ("timed out", True, True)
    assert 5.0 <= outcome.seconds < 6.0 and outcome.cpu_seconds >= 2.0


def test_a_job_behind_one_that_was_killed_does_not_wait_until_its_handler_is_loaded_again() -> None:
    with WorkerPool(HANDLER, workers=1, deadline=0.3) as pool:
        pool.run(echo("warm"))
        loaded_in = pool.run({"do": "where"}).result["parent"]
        for job in ({"do": "spin"}, {"do": "segfault"}, {"do": "recurse"}, {"do": "exit"}):
            assert pool.run(job).kind != "done"
            assert pool.run({"do": "where"}).result["parent"] == loaded_in


def test_what_a_killed_job_has_left_in_the_pipes_is_no_answer_to_the_next() -> None:
    with WorkerPool(HANDLER, workers=1, deadline=0.3) as pool:
        for number in range(5):
            assert pool.run({"do": "flood"}).kind == "timed out"
            assert pool.run(echo(number)).result == number


def test_a_worker_that_is_killed_takes_the_process_of_its_job_with_it() -> None:
    with WorkerPool(HANDLER, workers=1, deadline=20.0) as pool:
        seen = pool.run({"do": "where"}).result
        os.kill(seen["parent"], signal.SIGKILL)
        assert pool.run(echo("another worker")).result == "another worker"
        for _ in range(400):
            if not is_alive(seen["pid"]) or _is_zombie(seen["pid"]):
                return
            threading.Event().wait(0.05)
        raise AssertionError("the process lives on")


def test_both_processes_of_a_worker_end_with_their_parent_and_with_the_pool() -> None:
    pool = WorkerPool(HANDLER, workers=1)
    seen = pool.run({"do": "where"}).result
    assert pool.worker_pids == [seen["pid"]]
    pool.close()
    assert not is_alive(seen["pid"]) and not is_alive(seen["parent"])


def test_close_ends_jobs_under_way_and_leaves_no_process() -> None:
    pool = WorkerPool(HANDLER, workers=1, deadline=60.0)
    outcomes: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(pool.run({"do": "sleep", "seconds": 60, "stages": ["begun"]}))
    )
    pool.run(echo("warm"))
    pids = pool.worker_pids
    thread.start()
    pool.close()
    thread.join(20)
    assert not thread.is_alive()
    assert outcomes[0].kind == "lost"
    assert not any(map(is_alive, pids))


def test_a_closed_pool_starts_anew_when_used_again(pool: WorkerPool) -> None:
    first = pool.run({"do": "where"}).result["pid"]
    pool.close()
    assert pool.worker_pids == []
    assert pool.run({"do": "where"}).result["pid"] != first


def test_a_pool_that_is_forgotten_leaves_no_process() -> None:
    pool = WorkerPool(HANDLER, workers=1)
    pool.run(echo("warm"))
    (pid,) = pool.worker_pids
    del pool
    assert not is_alive(pid)


def test_pickling_carries_the_settings_and_not_the_processes(pool: WorkerPool) -> None:
    pool.run(echo("warm"))
    with pickle.loads(pickle.dumps(pool)) as copy:
        assert copy.worker_pids == []
        assert copy.run(echo("from the copy")).result == "from the copy"
        assert not set(copy.worker_pids) & set(pool.worker_pids)


def _in_a_forked_child(pool: WorkerPool, report: "multiprocessing.Queue[object]") -> None:
    report.put(pool.run({"do": "where"}).result["pid"])
    pool.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_workers_of_its_own(pool: WorkerPool) -> None:
    ours = pool.run({"do": "where"}).result["pid"]
    context = multiprocessing.get_context("fork")
    report: multiprocessing.Queue[object] = context.Queue()
    child = context.Process(target=_in_a_forked_child, args=(pool, report))
    child.start()
    theirs = report.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert theirs != ours
    assert is_alive(ours)
    assert pool.run({"do": "where"}).result["pid"] == ours


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from selfcorrect.rewards.worker_pool import WorkerPool
        sys.path.insert(0, sys.argv[1])
        pool = WorkerPool("pool_handlers:serve", workers=1, deadline=0.5)
        seen = pool.run({"do": "where"}).result
        print(seen["pid"], seen["parent"], flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(HERE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    for _ in range(400):
        if not any(is_alive(pid) and not _is_zombie(pid) for pid in pids):
            return
        threading.Event().wait(0.05)
    raise AssertionError("the worker lives on")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return True


def test_a_worker_that_cannot_start_is_the_users_error_and_says_why() -> None:
    with WorkerPool("no_such_module:serve", workers=1) as pool, pytest.raises(CheckerError, match="no_such_module"):
        pool.run(echo(1))


def test_a_job_too_large_for_the_pipe_is_refused_and_the_pool_goes_on(pool: WorkerPool) -> None:
    with pytest.raises(CheckerError, match="60000"):
        pool.run(echo("x" * 100_000))
    assert pool.run(echo(1)).result == 1


@pytest.mark.parametrize("setting", [{"workers": 0}, {"deadline": 0.0}, {"deadline": float("nan")}, {"memory_mb": 10}])
def test_impossible_settings_are_refused_with_their_name(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(setting))):
        WorkerPool(HANDLER, **setting)  # type: ignore[arg-type]


@pytest.mark.parametrize(("processes", "size"), [("1", 8), ("4", 2), ("16", 1)])
def test_the_pools_of_the_processes_of_a_machine_share_its_processors(
    monkeypatch: pytest.MonkeyPatch, processes: str, size: int
) -> None:
    """Eight trainers on eight GPUs had eight pools of all processors each."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert usual_size() == size
