"""One pool of killable processes, whatever they do: who is idle, who is at work, and what becomes of a job whose
process was killed.

Why not multiprocessing or a ProcessPoolExecutor: their deadline only stops *waiting*, a hung worker keeps its place;
and their spawn and forkserver methods run the user's main module again.
"""

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.worker_process import DeadlinePassed, Ending, WorkerGone, WorkerProcess

_TRIES_AT_LEAST = 10
"""A process killed from outside says nothing about its job. It is tried again until its deadline, and this often in any
case; somebody who keeps killing them all is not waited out for ever."""


class Member(Protocol):
    """What a pool needs of a process, or of a group of them that work together."""

    def has_died(self) -> bool: ...
    def pids(self) -> list[int]: ...
    def kill(self) -> None: ...
    def end(self) -> object: ...
    def disown(self) -> None: ...


AnyMember = TypeVar("AnyMember", bound=Member)
Result = TypeVar("Result")


class PoolClosed(Exception):
    """The pool was closed while a job was waiting or running."""


class MemberLost(Exception):
    """The process that did a job was killed from outside, or is gone for no reason of the job's. The pool starts
    another."""


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


class _Crew(Generic[AnyMember]):
    """The processes of a pool between two closings. They belong to the process that made them (`owner`)."""

    def __init__(self, make: Callable[[], AnyMember], size: int) -> None:
        self.owner, self.closed = os.getpid(), False
        self.threads = ThreadPoolExecutor(size, thread_name_prefix="selfcorrect-checks")
        self._make, self._size = make, size
        self._changed = threading.Condition()
        self._idle: list[AnyMember] = []
        self._all: list[AnyMember] = []

    def take(self) -> AnyMember:
        """An idle member, or a new one, or the next to become free."""
        with self._changed:
            while not self.closed:
                while self._idle:
                    member = self._idle.pop()
                    if not member.has_died():
                        return member
                    self._all.remove(member)
                    member.end()
                if len(self._all) < self._size:
                    return self._hire()
                self._changed.wait()
        raise PoolClosed

    def give_back(self, member: AnyMember, sound: bool, replace: bool) -> None:
        """Make a member free for the next job, or end it; then `replace` says whether a new one starts at once."""
        with self._changed:
            if member not in self._all:
                return
            if sound and not self.closed:
                self._idle.append(member)
            else:
                self._all.remove(member)
                member.end()
                if replace and not self.closed:
                    self._idle.insert(0, self._hire())  # starts in the background, and is taken last
            self._changed.notify_all()

    def _hire(self) -> AnyMember:
        member = self._make()
        self._all.append(member)
        return member

    def start_one(self, *, spare: bool = False) -> None:
        """Start a member if there is none; as a `spare`, if none is idle and one more may be."""
        with self._changed:
            wanted = not self._idle and len(self._all) < self._size if spare else not self._all
            if wanted and not self.closed:
                self._idle.insert(0, self._hire())

    def pids(self) -> list[int]:
        with self._changed:
            return [pid for member in self._all for pid in member.pids()]

    def close(self) -> None:
        """End everything; in a forked child, forget everything (the processes are the parent's)."""
        if self.owner != os.getpid():
            for member in self._all:
                member.disown()
            self._all.clear()
            self.closed = True
            return
        with self._changed:
            self.closed = True
            for member in self._idle:
                self._all.remove(member)
                member.end()
            self._idle.clear()
            for member in self._all:  # at work: the thread that waits for it sees it die, and reaps it
                member.kill()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._all, timeout=2.0)
        self.threads.shutdown(wait=False)


class ProcessPool(Generic[AnyMember]):
    """Members that serve jobs, for threads and for coroutines alike. They start on demand.

    A pool that was closed starts anew when it is used again, and a forked child starts members of its own.

    Args:
        make: starts a member; it may still be getting ready when it is returned.
        size: how many at most; None means the number of processors, at most `at_most`.
        at_most: see `size`.
    """

    def __init__(self, make: Callable[[], AnyMember], size: int | None = None, at_most: int = 1024) -> None:
        self._make, self._size = make, size or min(_processors(), at_most)
        self._open()

    def run(self, work: Callable[[AnyMember], tuple[Result, bool]], seconds: float) -> Result:
        """Do `work` with a member of one's own. Where that is killed from outside, do it again with another, for
        `seconds` in all and ten times at least.

        Args:
            work: returns the job's result and whether the member may serve again.
            seconds: the job's deadline.

        Raises:
            MemberLost: the members were killed each time.
            PoolClosed: the pool was closed.
        """
        crew, until, tries = self.present(), time.monotonic() + seconds, 0
        while True:
            member = crew.take()
            sound = replace = False
            tries += 1
            try:
                result, sound = work(member)
                replace = True
                return result
            except MemberLost:
                replace = True
                if crew.closed:
                    raise PoolClosed from None
                if tries >= _TRIES_AT_LEAST and time.monotonic() > until:
                    raise
            finally:
                crew.give_back(member, sound, replace)

    async def run_async(self, job: Callable[[], Result]) -> Result:
        """Call `job`, which uses the pool, in one of its threads. A cancelled call leaves its job to end by itself.

        Raises:
            PoolClosed: the pool was closed.
        """
        crew = self.present()
        try:
            waiting = asyncio.get_running_loop().run_in_executor(crew.threads, job)
        except RuntimeError:
            if not crew.closed:
                raise
            raise PoolClosed from None
        return await waiting

    def start(self, *, spare: bool = False) -> None:
        """Start one member now, in the background, so that the first job need not wait for it; as a `spare`, so that
        the next need not wait for the successor of one that may have to be killed."""
        self.present().start_one(spare=spare)

    def pids(self) -> list[int]:
        """The ids of the processes that live now."""
        return self._crew.pids()

    def close(self) -> None:
        """End all members. The pool starts anew when it is used again."""
        self._crew.close()

    def present(self) -> "_Crew[AnyMember]":
        """The members of this process; new ones after a fork and after `close`."""
        crew = self._crew
        if crew.closed or crew.owner != os.getpid():
            with _opening.held():
                if self._crew is crew:
                    crew.close()
                    self._open()
        return self._crew

    def _open(self) -> None:
        self._crew = _Crew(self._make, self._size)
        weakref.finalize(self, self._crew.close)  # at garbage collection and at the interpreter's exit


_opening = ForkSafeLock()


def _processors() -> int:
    """How many this process may use; 1 where that is unknown."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# The pool of workers that serve jobs of plain JSON data with a function of ours.


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
_BUSY_SECONDS = 0.5
"""Processor time from which it does so on a machine however busy: some ten times what an honest job takes."""

CLOSED = Outcome("lost", "the pool was closed", "", 0.0, 0.0)
LOST = Outcome("lost", "its workers were killed from outside, each time", "", 0.0, 0.0)


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

    def _open(self) -> None:
        handler, memory_mb = self._settings["handler"], self._settings["memory_mb"]
        self._pool = ProcessPool(lambda: WorkerProcess(handler, memory_mb), self._settings["workers"], at_most=4)

    def run(self, payload: Any) -> Outcome:
        """Do one job in a worker; blocks the calling thread.

        Raises:
            CheckerError: workers cannot be started on this machine, or the payload is over 60 kB of JSON.
        """
        job = _Job(payload, self._settings["deadline"], lambda: self._pool.start(spare=True))
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
    """One job, tried in one worker after the other: until it is done, has killed two workers by itself, or its deadline
    has passed. Once it has killed one, the time until another has started counts as its own."""

    def __init__(self, payload: Any, deadline: float, takes_long: Callable[[], None]) -> None:
        self.deadline = deadline
        self._payload, self._takes_long = payload, takes_long
        self._spent, self._crashes, self._cpu, self._stage = 0.0, 0, 0.0, ""

    def __call__(self, worker: WorkerProcess) -> tuple[Outcome, bool]:
        """One try; the outcome, and whether the worker may serve again."""
        begun, cpu_before = time.monotonic(), 0.0
        seconds = max(0.05, self.deadline - self._spent)
        try:
            if not worker.wait_until_ready(begun + seconds if self._crashes else None):
                return self._timed_out(seconds, self._cpu), True
            if self._crashes:
                seconds = max(0.05, begun + seconds - time.monotonic())
            begun, cpu_before, self._stage = time.monotonic(), worker.cpu_at_rest, ""
            message = self._asked(worker, seconds)
        except DeadlinePassed:
            spent = worker.end().cpu_seconds - cpu_before
            return self._timed_out(time.monotonic() - begun, spent), False
        except WorkerGone:
            return self._after_its_end(worker.end(), time.monotonic() - begun), False
        spent, took = worker.cpu_at_rest - cpu_before, time.monotonic() - begun
        if "error" in message:
            # After running out of memory or stack a process is not to be trusted with the next job.
            reusable = message["error"] not in ("MemoryError", "RecursionError")
            return Outcome("failed", message["error"], self._stage, spent, took), reusable
        return Outcome("done", message["result"], self._stage, spent, took), True

    def _asked(self, worker: WorkerProcess, seconds: float) -> dict[str, Any]:
        """The worker's answer. A job that takes long may well have its worker killed: a spare one starts meanwhile."""
        worker.send(self._payload, seconds)
        now = time.monotonic()
        until, patience = now + seconds, now + _LONG * seconds
        while True:
            try:
                message = worker.receive(min(patience, until))
            except DeadlinePassed:
                if patience >= until:
                    raise
                patience = until
                self._takes_long()
                continue
            if "stage" not in message:
                return message
            self._stage = str(message["stage"])

    def _timed_out(self, seconds: float, cpu_seconds: float) -> Outcome:
        return Outcome("timed out", f"no result in {self.deadline:g} s", self._stage, cpu_seconds, seconds)

    def _after_its_end(self, ending: Ending, seconds: float) -> Outcome:
        """Only a job that kills its worker twice by itself is given up; for any other end it is tried again."""
        self._spent += seconds
        self._crashes += not ending.from_outside
        if self._crashes < 2:
            self._cpu = ending.cpu_seconds
            raise MemberLost
        said = f"the worker ended with code {ending.exit_code}"
        return Outcome("crashed", said, self._stage, ending.cpu_seconds, seconds)


_LONG = 0.25
"""The part of its deadline after which a job may well be one whose worker has to be killed."""
