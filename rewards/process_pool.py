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
from typing import Generic, Protocol, TypeVar

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
                if len(self._all) - len(self._idle) < self._size:
                    return self._idle_or_new()
                self._changed.wait()
        raise PoolClosed

    def _idle_or_new(self) -> AnyMember:
        while self._idle:
            member = self._idle.pop()
            if not member.has_died():
                return member
            self._all.remove(member)
            member.end()
        return self._hire()

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

    def start_one(self) -> None:
        """Start a member if there is none."""
        with self._changed:
            if not self._all and not self.closed:
                self._idle.append(self._hire())

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
        size: how many work at a time at most; None means the number of processors, at most `at_most`.
        at_most: see `size`.
    """

    def __init__(self, make: Callable[[], AnyMember], size: int | None = None, at_most: int = 1024) -> None:
        self._make, self._size = make, size or min(usual_size(), at_most)
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

    def start(self) -> None:
        """Start one member now, in the background, so that the first job need not wait for it."""
        self.present().start_one()

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


def usual_size() -> int:
    """Members of a pool: as many as there are processors for this process, 1 at least. The processes that a launcher
    started on this machine (torchrun and accelerate tell their number in LOCAL_WORLD_SIZE) each have a pool, and share
    the processors."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, processors // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
