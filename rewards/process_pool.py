"""The processes of a worker pool: who is idle, who is at work, and what became of a job."""

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.sandbox.jail import Isolation
from selfcorrect.rewards.sandbox.self_test import prove
from selfcorrect.rewards.sandbox.zygote_pair import ZygotePair
from selfcorrect.rewards.sandbox.zygote_process import ZygoteLost
from selfcorrect.rewards.worker_process import DeadlinePassed, Ending, WorkerGone, WorkerProcess

_TRIES_AFTER_OUTSIDE_KILL = 10
"""A worker killed from outside says nothing about its job; somebody who keeps killing them all is not waited out for
ever."""


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


# A lock for objects that live on in forked children.


class ForkSafeLock:
    """A lock that a forked child finds open, whoever held it in the parent: the thread that did is not in the child.

    For module level: every one made is remembered until the process ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in a `with` block."""
        with self._lock:
            yield


# A pool of worker processes that may be killed at any moment without losing or mixing up an answer.
#
# Why not multiprocessing or a ProcessPoolExecutor: their deadline only stops *waiting*, a hung worker keeps its place;
# and their spawn and forkserver methods run the user's main module again.

__all__ = ["Outcome", "WorkerPool"]


class WorkerPool:
    """Processes that serve jobs of plain JSON data, for threads and for coroutines alike.

    Workers start on demand. A job that passes its deadline has its worker killed (SIGKILL), and a new one takes the
    place at once. A worker's crash is tried again on another worker. Pickling a pool carries its settings, never its
    processes, and a forked child starts workers of its own.

    Args:
        handler: "package.module:function"; the function takes the payload and a function that reports the stage
            reached.
        workers: how many processes at most; None means the number of processors, at most 4.
        deadline: wall-clock seconds for a job, from its start in a worker (not while it waits for a free one).
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

    def run(self, payload: Any) -> Outcome:
        """Do one job in a worker; blocks the calling thread.

        Raises:
            CheckerError: workers cannot be started on this machine, or the payload is over 60 kB of JSON.
        """
        return self._present_crew().run(payload, self._settings["deadline"])

    async def run_async(self, payload: Any) -> Outcome:
        """As `run`, without blocking the event loop. A cancelled call leaves its job to end by itself."""
        crew = self._present_crew()
        try:
            waiting = asyncio.get_running_loop().run_in_executor(crew.threads, self.run, payload)
        except RuntimeError:
            if not crew.closed:
                raise
            return CLOSED
        return await waiting

    def start(self) -> None:
        """Start one worker now, in the background, so that the first job need not wait for it."""
        self._present_crew().start_one()

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers that live now."""
        return self._crew.pids()

    def close(self) -> None:
        """End all workers. Jobs under way come out as "lost". The pool starts anew when it is used again."""
        self._crew.close()

    def _open(self) -> None:
        self._crew = Crew(self._settings["handler"], self._settings["workers"], self._settings["memory_mb"])
        weakref.finalize(self, self._crew.close)  # at garbage collection and at the interpreter's exit

    def _present_crew(self) -> "Crew":
        crew = self._crew
        if crew.closed or crew.owner != os.getpid():
            with _opening.held():
                if self._crew is crew:
                    crew.close()
                    self._open()
        return self._crew

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._settings)

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_opening = ForkSafeLock()


# A pool of zygote pairs: as many checks at a time as there are processors, and no answer lost when a process is killed.

_TRIES = 10
"""A pair killed from outside says nothing about the program; somebody who kills them all is not waited out for ever."""

Result = TypeVar("Result")


class PoolClosed(Exception):
    """The pool was closed while a check was waiting or running."""


class PairPool:
    """The pairs of one process (`owner`).

    Args:
        isolation: the layers around each process.
        memory_mb: address space of a program and of its tests, each, in MiB.
        size: pairs at most; None means the number of processors.
    """

    def __init__(self, isolation: Isolation, memory_mb: int, size: int | None) -> None:
        self.owner = os.getpid()
        self.closed = False
        self.size = size or _processors()
        self.threads = ThreadPoolExecutor(self.size, thread_name_prefix="selfcorrect-code")
        self._isolation, self._memory_mb = isolation, memory_mb
        self._changed = threading.Condition()
        self._idle: list[ZygotePair] = []
        self._all: list[ZygotePair] = []

    def run(self, work: Callable[[ZygotePair], Result]) -> Result:
        """Do `work` with a pair of one's own. If a process of the pair is killed from outside, do it again with
        another.

        Raises:
            ZygoteLost: that happened ten times.
            PoolClosed: the pool was closed.
            SandboxError: processes cannot be started or jailed on this machine.
        """
        for _ in range(_TRIES):
            pair = self._take()
            sound = False
            try:
                self._make_ready(pair)
                result = work(pair)
                sound = True
                return result
            except ZygoteLost:
                if self.closed:
                    raise PoolClosed from None
            finally:
                self._give_back(pair, sound)
        raise ZygoteLost

    def _make_ready(self, pair: ZygotePair) -> None:
        if not pair.proven:
            pair.wait_until_ready()
            if self._isolation is not Isolation.UNSAFE:
                prove(pair)
            pair.proven = True

    def _take(self) -> ZygotePair:
        with self._changed:
            while not self.closed:
                while self._idle:
                    pair = self._idle.pop()
                    if not pair.has_died():
                        return pair
                    self._all.remove(pair)
                    pair.end()
                if len(self._all) < self.size:
                    pair = ZygotePair(self._isolation, self._memory_mb)
                    self._all.append(pair)
                    return pair
                self._changed.wait()
        raise PoolClosed

    def _give_back(self, pair: ZygotePair, sound: bool) -> None:
        with self._changed:
            if sound and not self.closed:
                self._idle.append(pair)
            else:
                self._all.remove(pair)
                pair.end()
            self._changed.notify_all()

    def start_one(self) -> None:
        """Start a pair in the background, if there is none."""
        with self._changed:
            if not self._all and not self.closed:
                pair = ZygotePair(self._isolation, self._memory_mb)
                self._all.append(pair)
                self._idle.append(pair)

    def pids(self) -> list[int]:
        """Process ids of the zygotes that live now."""
        with self._changed:
            return [pid for pair in self._all for pid in pair.pids()]

    def close(self) -> None:
        """End everything; in a forked child, forget everything (the processes are the parent's)."""
        if self.owner != os.getpid():
            for pair in self._all:
                pair.disown()
            self._all.clear()
            self.closed = True
            return
        with self._changed:
            self.closed = True
            for pair in self._idle:
                self._all.remove(pair)
                pair.end()
            self._idle.clear()
            for pair in self._all:  # at work: the thread that waits for it sees it die, and reaps it
                pair.kill()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._all, timeout=2.0)
        self.threads.shutdown(wait=False)


def _processors() -> int:
    """How many this process may use; 1 where that is unknown."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
