"""A pool of zygote pairs: as many checks at a time as there are processors, and no answer lost when a process is killed."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from selfcorrect.rewards.sandbox.jail import Isolation
from selfcorrect.rewards.sandbox.self_test import prove
from selfcorrect.rewards.sandbox.zygote_pair import ZygotePair
from selfcorrect.rewards.sandbox.zygote_process import ZygoteLost

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
        """Do `work` with a pair of one's own. If a process of the pair is killed from outside, do it again with another.

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
