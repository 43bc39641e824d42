"""One killable worker process, seen from the parent."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from selfcorrect.errors import CheckerError
from selfcorrect.rewards import framing

START_SECONDS = 60.0
MAX_JOB_BYTES = 60_000
"""A job fits into an empty pipe, so that writing one never blocks, whatever the worker does."""
_MAX_RESULT_BYTES = 4_000_000
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[3]); "
    "from selfcorrect.rewards.worker_main import main; main(sys.argv[1], int(sys.argv[2]))"
)


class WorkerGone(Exception):
    """The worker died, or wrote what is no answer to its job. Internal: the pool turns it into an `Outcome`."""


class DeadlinePassed(Exception):
    """No complete message came in time. Internal: the pool turns it into an `Outcome`."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: its exit code (negative: the signal) and the CPU seconds of its life."""

    exit_code: int
    cpu_seconds: float

    @property
    def from_outside(self) -> bool:
        """Whether somebody killed it (SIGKILL, SIGTERM, ...), rather than its own crash (SIGSEGV, SIGABRT, exit)."""
        return -self.exit_code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class WorkerProcess:
    """A fresh interpreter (`python -I`, own session, empty environment) that serves one job at a time."""

    def __init__(self, handler: str, memory_mb: int) -> None:
        path = json.dumps([entry for entry in sys.path if os.path.isabs(entry)])
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _BOOTSTRAP, handler, str(memory_mb), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": "1"} | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,
            bufsize=0,
        )
        self._received = framing.MessageBuffer(_MAX_RESULT_BYTES)
        self._job = 0
        self.cpu_at_rest = 0.0
        self.ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def pids(self) -> list[int]:
        """Its process id, while it lives."""
        return [self.pid] if self.alive else []

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def has_died(self) -> bool:
        """Whether it ended by itself or was killed from outside since it was last used."""
        return not self.alive or _has_ended(self.pid)

    def wait_until_ready(self, until: float | None = None) -> bool:
        """Block until the worker has loaded its handler; whether it has by `until`, a `time.monotonic()` instant.

        Raises:
            CheckerError: it says that it cannot (a missing package, say), or says nothing for a minute.
            WorkerGone: it died.
        """
        if self.ready:
            return True
        try:
            message = self._receive(time.monotonic() + START_SECONDS if until is None else until)
        except DeadlinePassed:
            if until is not None:
                return False
            raise CheckerError(f"a checker's worker process did not start within {START_SECONDS:.0f} s") from None
        if "failed" in message:
            raise CheckerError(f"a checker's worker process cannot start: {message['failed']}")
        self.ready = True
        return True

    def send(self, payload: Any, seconds: float) -> None:
        """Hand over a job; `seconds` is its deadline, after which an orphaned worker ends itself."""
        self._job += 1
        job = framing.packed({"id": self._job, "payload": payload, "seconds": seconds})
        if len(job) > MAX_JOB_BYTES:
            raise CheckerError(f"a job of {len(job)} bytes for a checker's worker; the limit is {MAX_JOB_BYTES}")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(job)
        except OSError:
            raise WorkerGone from None

    def receive(self, until: float) -> dict[str, Any]:
        """The next message about the present job; `until` is a `time.monotonic()` instant."""
        message = self._receive(until)
        if message.get("id") != self._job:
            raise WorkerGone
        self.cpu_at_rest = message.get("cpu", self.cpu_at_rest)
        return message

    def kill(self) -> None:
        """Kill the process without reaping it: for a thread other than the one that uses it."""
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)

    def end(self) -> Ending:
        """Kill (SIGKILL) and reap the process and close its pipes; safe to call when it is dead already."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if process.returncode is not None:
            return Ending(process.returncode, self.cpu_at_rest)
        died_before = _has_ended(process.pid)
        if not died_before:
            os.kill(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return Ending(process.returncode, usage.ru_utime + usage.ru_stime)

    def disown(self) -> None:
        """In a forked child: forget the parent's process without touching it."""
        self._process.returncode = 0
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _receive(self, until: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            source = self._process.stdout.fileno()
            poll = select.poll()
            poll.register(source, select.POLLIN)
            while (message := self._received.next()) is None:
                if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                    raise DeadlinePassed
                data = os.read(source, 65536)
                if not data:
                    raise WorkerGone
                self._received.add(data)
        except (OSError, ValueError, framing.BadMessage):  # closed by `end` in another thread; or no message at all
            raise WorkerGone from None
        if not isinstance(message, dict):
            raise WorkerGone
        return message


def _has_ended(pid: int) -> bool:
    """Whether a child that is not yet reaped has ended. Its pid cannot have been given to another process."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
