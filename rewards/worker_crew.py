"""The processes of a worker pool: who is idle, who is at work, and what became of a job."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from selfcorrect.rewards.worker_process import DeadlinePassed, Ending, WorkerGone, WorkerProcess

_TRIES_AFTER_OUTSIDE_KILL = 10
"""A worker killed from outside says nothing about its job; somebody who keeps killing them all is not waited out for ever."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job.

    Attributes:
        kind: "done"; "failed" (the handler raised); "timed out" (killed at the deadline); "crashed" (the worker died of
            the job, twice); "lost" (workers were killed from outside each time, or the pool was closed).
        result: the handler's result when done; otherwise what is known, as text.
        stage: the last stage the handler reported, "" if none.
        cpu_seconds: processor time the job used in its last worker.
        seconds: wall-clock time from the first worker's taking the job.
    """

    kind: Literal["done", "failed", "timed out", "crashed", "lost"]
    result: Any
    stage: str
    cpu_seconds: float
    seconds: float


CLOSED = Outcome("lost", "the pool was closed", "", 0.0, 0.0)


class Crew:
    """The processes of a pool, and who is idle. It belongs to the process that made it (`owner`)."""

    def __init__(self, handler: str, workers: int | None, memory_mb: int) -> None:
        self.size = workers or min(os.cpu_count() or 1, 4)
        self.owner = os.getpid()
        self.closed = False
        self.threads = ThreadPoolExecutor(self.size, thread_name_prefix="selfcorrect-checks")
        self._handler, self._memory_mb = handler, memory_mb
        self._changed = threading.Condition()
        self._idle: list[WorkerProcess] = []
        self._all: list[WorkerProcess] = []

    def run(self, payload: Any, deadline: float) -> Outcome:
        outcome, crashes = CLOSED, 0
        for _ in range(_TRIES_AFTER_OUTSIDE_KILL):
            worker = self._take()
            if worker is None:
                break
            outcome, reusable = self._attempt(worker, payload, deadline)
            self._give_back(worker, reusable)
            if outcome.kind == "crashed":
                crashes += 1
            if outcome.kind not in ("crashed", "lost") or crashes == 2 or self.closed:
                break
            deadline = max(0.05, deadline - outcome.seconds)
        return outcome

    def _attempt(self, worker: WorkerProcess, payload: Any, deadline: float) -> tuple[Outcome, bool]:
        """One try in one worker; also says whether the worker may serve again."""
        stage, begun = "", time.monotonic()
        try:
            worker.wait_until_ready()
            begun, cpu_before = time.monotonic(), worker.cpu_at_rest
            worker.send(payload, deadline)
            while "stage" in (message := worker.receive(begun + deadline)):
                stage = str(message["stage"])
        except DeadlinePassed:
            spent = worker.end().cpu_seconds - cpu_before
            return Outcome("timed out", f"no result in {deadline:g} s", stage, spent, time.monotonic() - begun), False
        except WorkerGone:
            return _as_outcome(worker.end(), stage, time.monotonic() - begun), False
        except BaseException:  # not ours to handle (Ctrl-C, a worker that cannot start); leave no process behind
            self._give_back(worker, False)
            raise
        spent, seconds = worker.cpu_at_rest - cpu_before, time.monotonic() - begun
        if "error" in message:
            # After running out of memory or stack a process is not to be trusted with the next job.
            reusable = message["error"] not in ("MemoryError", "RecursionError")
            return Outcome("failed", message["error"], stage, spent, seconds), reusable
        return Outcome("done", message["result"], stage, spent, seconds), True

    def _take(self) -> WorkerProcess | None:
        """An idle worker, or a new one, or the next to become free; None when the crew was closed."""
        with self._changed:
            while not self.closed:
                while self._idle:
                    worker = self._idle.pop()
                    if not worker.has_died():
                        return worker
                    self._all.remove(worker)
                    worker.end()
                if len(self._all) < self.size:
                    return self._hire()
                self._changed.wait()
        return None

    def _give_back(self, worker: WorkerProcess, reusable: bool) -> None:
        with self._changed:
            if worker not in self._all:
                return
            if reusable and not self.closed:
                self._idle.append(worker)
            else:
                self._all.remove(worker)
                worker.end()
                if not self.closed and worker.ready:
                    self._idle.insert(0, self._hire())  # starts in the background, and is taken last
            self._changed.notify_all()

    def _hire(self) -> WorkerProcess:
        worker = WorkerProcess(self._handler, self._memory_mb)
        self._all.append(worker)
        return worker

    def start_one(self) -> None:
        with self._changed:
            if not self._all and not self.closed:
                self._idle.append(self._hire())

    def pids(self) -> list[int]:
        with self._changed:
            return [worker.pid for worker in self._all if worker.alive]

    def close(self) -> None:
        """End everything; in a forked child, forget everything (the workers are the parent's)."""
        if self.owner != os.getpid():
            for worker in self._all:
                worker.disown()
            self._all.clear()
            self.closed = True
            return
        with self._changed:
            self.closed = True
            for worker in self._idle:
                self._all.remove(worker)
                worker.end()
            self._idle.clear()
            for worker in self._all:  # at work: the thread that waits for it sees it die, and reaps it
                worker.kill()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._all, timeout=2.0)
        self.threads.shutdown(wait=False)


def _as_outcome(ending: Ending, stage: str, seconds: float) -> Outcome:
    kind: Literal["lost", "crashed"] = "lost" if ending.from_outside else "crashed"
    return Outcome(kind, f"the worker ended with code {ending.exit_code}", stage, ending.cpu_seconds, seconds)
