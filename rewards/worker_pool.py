"""The pool of killable workers that serve jobs of plain JSON data with a function of ours."""

import time
from dataclasses import dataclass
from typing import Any, Literal, Self

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.process_pool import MemberLost, PoolClosed, ProcessPool
from selfcorrect.rewards.worker_process import DeadlinePassed, Ending, JobEnded, WorkerGone, WorkerProcess


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

    @property
    def kept_busy(self) -> bool:
        """Whether the job kept its last worker computing; one that hardly ran was starved by the machine."""
        return self.cpu_seconds >= min(_LEAST_SHARE * self.seconds, _BUSY_SECONDS)


_LEAST_SHARE = 0.25
"""Of the time taken: processor time from which a worker counts as having been at work all along."""
_BUSY_SECONDS = 0.1
"""Processor time from which it does so on a machine however busy: five times what an honest job takes in the median,
and more than nine of ten take."""

CLOSED = Outcome("lost", "the pool was closed", "", 0.0, 0.0)
LOST = Outcome("lost", "its workers were killed from outside, each time", "", 0.0, 0.0)


class WorkerPool:
    """Processes that serve jobs of plain JSON data, for threads and for coroutines alike.

    Workers start on demand. A job that passes its deadline has the process that does it killed (SIGKILL); another is
    forked from one that has loaded the handler, in some milliseconds. A crash is tried again once. Pickling a pool
    carries its settings, never its processes, and a forked child starts workers of its own.

    Args:
        handler: "package.module:function"; the function takes the payload and a function that reports the stage
            reached.
        workers: how many work at a time at most; None means the number of processors, at most 4.
        deadline: wall-clock seconds for a job, from when a worker is free for it. Only the loading of the handler,
            which no job can bring about, comes on top.
        memory_mb: address space of a worker, in MiB; what it starts with counts.
    """

    def __init__(
        self, handler: str, *, workers: int | None = None, deadline: float = 5.0, memory_mb: int = 1024
    ) -> None:
        if workers is not None and workers < 1:
            raise ConfigurationError(f"workers must be 1 or more, or None, got {workers}")
        if not 0 < deadline < 86_400:
            raise ConfigurationError(f"deadline must be seconds above 0 and below a day, got {deadline}")
        if memory_mb < 256:
            raise ConfigurationError(f"memory_mb must be at least 256: a worker with sympy needs that, got {memory_mb}")
        self._settings: dict[str, Any] = {
            "handler": handler,
            "workers": workers,
            "deadline": deadline,
            "memory_mb": memory_mb,
        }
        self._open()

    def _open(self) -> None:
        handler, memory_mb = self._settings["handler"], self._settings["memory_mb"]
        self._pool = ProcessPool(lambda: WorkerProcess(handler, memory_mb), self._settings["workers"], at_most=4)

    def run(self, payload: Any) -> Outcome:
        """Do one job in a worker; blocks the calling thread.

        Raises:
            CheckerError: workers cannot be started on this machine, or the payload is over 60 kB of JSON.
        """
        job = _Job(payload, self._settings["deadline"])
        try:
            return self._pool.run(job, job.deadline)
        except MemberLost:
            return LOST
        except PoolClosed:
            return CLOSED

    async def run_async(self, payload: Any) -> Outcome:
        """As `run`, without blocking the event loop. A cancelled call leaves its job to end by itself."""
        try:
            return await self._pool.run_async(lambda: self.run(payload))
        except PoolClosed:
            return CLOSED

    def start(self) -> None:
        """Start one worker now, in the background, so that the first job need not wait for it."""
        self._pool.start()

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers that live now."""
        return self._pool.pids()

    def close(self) -> None:
        """End all workers. Jobs under way come out as "lost". The pool starts anew when it is used again."""
        self._pool.close()

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._settings)

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Job:
    """One job, tried until it is done, has killed two processes by itself, or its deadline has passed."""

    def __init__(self, payload: Any, deadline: float) -> None:
        self.deadline = deadline
        self._payload = payload
        self._spent, self._crashes, self._cpu, self._stage = 0.0, 0, 0.0, ""

    def __call__(self, worker: WorkerProcess) -> tuple[Outcome, bool]:
        """Do it; the outcome, and whether the worker may serve again.

        Raises:
            MemberLost: its processes were killed from outside.
        """
        try:
            worker.wait_until_ready()
            while True:
                begun = time.monotonic()
                try:
                    return self._try(worker, begun), True
                except JobEnded as end:
                    outcome = self._after(end.ending, time.monotonic() - begun)
                    if outcome is not None:
                        return outcome, True
        except WorkerGone:
            raise MemberLost from None

    def _try(self, worker: WorkerProcess, begun: float) -> Outcome:
        cpu_before, self._stage = worker.cpu_at_rest, ""
        seconds = max(0.05, self.deadline - self._spent)
        try:
            worker.send(self._payload, seconds)
            message = self._answer_of(worker, begun + seconds)
        except DeadlinePassed:
            cpu = self._cpu + worker.end_job().cpu_seconds - cpu_before
            took = self._spent + time.monotonic() - begun
            return Outcome("timed out", f"no result in {self.deadline:g} s", self._stage, cpu, took)
        spent, took = worker.cpu_at_rest - cpu_before, time.monotonic() - begun
        if "error" not in message:
            return Outcome("done", message["result"], self._stage, spent, took)
        if message["error"] in ("MemoryError", "RecursionError"):
            worker.end_job()  # after that a process is not to be trusted with the next job
        return Outcome("failed", message["error"], self._stage, spent, took)

    def _answer_of(self, worker: WorkerProcess, until: float) -> dict[str, Any]:
        while "stage" in (message := worker.receive(until)):
            self._stage = str(message["stage"])
        return message

    def _after(self, ending: Ending, seconds: float) -> Outcome | None:
        """What comes of a job whose process has ended; None if it is to be tried again.

        Raises:
            MemberLost: it was killed from outside; there may be more of those kills.
        """
        self._spent += seconds
        self._cpu += ending.cpu_seconds
        if ending.from_outside:
            raise MemberLost
        self._crashes += 1
        if self._crashes < 2:
            return None
        said = f"the worker ended with code {ending.exit_code}"
        return Outcome("crashed", said, self._stage, self._cpu, self._spent)
