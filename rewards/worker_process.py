"""One killable worker process, seen from the parent."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO, Any

from selfcorrect.errors import CheckerError
from selfcorrect.rewards import framing

START_SECONDS = 60.0
MAX_JOB_BYTES = 60_000
"""A job fits into an empty pipe, so that writing one never blocks, whatever the worker does."""
_MAX_RESULT_BYTES, _MAX_WORD_BYTES = 4_000_000, 10_000
_KILL_SECONDS = 10.0
"""That a worker has, on a machine however busy, for killing its child."""
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[3]); "
    "from selfcorrect.rewards.worker_main import main; main(sys.argv[1], int(sys.argv[2]))"
)


class WorkerGone(Exception):
    """The worker was killed, or wrote what is no answer to its job. Internal: the pool takes another."""


class JobEnded(Exception):
    """The process that did the job has ended; the worker has another. Internal: the pool turns it into an `Outcome`."""

    def __init__(self, ending: "Ending") -> None:
        super().__init__(ending)
        self.ending = ending


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
    """A fresh interpreter (`python -I`, own session, empty environment) that has loaded a handler, with a child that
    serves one job at a time. See `worker_main.py`.

    Attributes:
        cpu_at_rest: processor seconds of the present child until its last answer.
        ready: it has loaded its handler.
    """

    def __init__(self, handler: str, memory_mb: int) -> None:
        path = json.dumps([entry for entry in sys.path if os.path.isabs(entry)])
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _BOOTSTRAP, handler, str(memory_mb), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"OMP_NUM_THREADS": "1"} | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._jobs, self._answers, self._said = self._process.stdin, self._process.stdout, self._process.stderr
        self._answer, self._word = framing.MessageBuffer(_MAX_RESULT_BYTES), framing.MessageBuffer(_MAX_WORD_BYTES)
        self._job, self._child = 0, 0
        self.cpu_at_rest = 0.0
        self.ready = False

    @property
    def pid(self) -> int:
        """Of the child that serves; of the process itself while none is known."""
        return self._child or self._process.pid

    def pids(self) -> list[int]:
        """The id of the process that serves, while it lives."""
        return [self.pid] if self.alive else []

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def has_died(self) -> bool:
        """Whether it ended by itself or was killed from outside since it was last used."""
        return not self.alive or _has_ended(self._process.pid)

    def wait_until_ready(self) -> None:
        """Block until the worker has loaded its handler.

        Raises:
            CheckerError: it says that it cannot (a missing package, say), or says nothing for a minute.
            WorkerGone: it was killed.
        """
        until = time.monotonic() + START_SECONDS
        while not self.ready:
            if not self._wait_for([self._said], until):
                raise CheckerError(f"a checker's worker process did not start within {START_SECONDS:.0f} s")
            with contextlib.suppress(JobEnded):  # somebody killed the first child
                self._hear()

    def send(self, payload: Any, seconds: float) -> None:
        """Hand over a job; `seconds` is its deadline, after which an orphaned child ends itself."""
        self._job += 1
        job = framing.packed({"id": self._job, "payload": payload, "seconds": seconds})
        if len(job) > MAX_JOB_BYTES:
            raise CheckerError(f"a job of {len(job)} bytes for a checker's worker; the limit is {MAX_JOB_BYTES}")
        try:
            self._jobs.write(job)
        except (OSError, ValueError):  # closed in another thread
            raise WorkerGone from None

    def receive(self, until: float) -> dict[str, Any]:
        """The next message about the present job; `until` is a `time.monotonic()` instant.

        Raises:
            DeadlinePassed: none came in time.
            JobEnded: the process that did the job is dead.
            WorkerGone: the worker is.
        """
        try:
            while (message := self._answer.next()) is None:
                readable = self._wait_for([self._answers, self._said], until)
                if not readable:
                    raise DeadlinePassed
                if self._answers in readable:  # first: a result counts, whatever became of its process
                    self._answer.add(_read(self._answers))
                else:
                    self._hear()
        except framing.BadMessage:
            raise WorkerGone from None
        if not isinstance(message, dict) or message.get("id") != self._job:
            raise WorkerGone
        self.cpu_at_rest = message.get("cpu", self.cpu_at_rest)
        return message

    def end_job(self) -> Ending:
        """Kill the process that does the job; another takes its place.

        Raises:
            WorkerGone: the worker was killed, or does not do it.
        """
        os.kill(self._process.pid, signal.SIGUSR1)
        until = time.monotonic() + _KILL_SECONDS
        try:
            while self._wait_for([self._said], until):
                self._hear()
        except JobEnded as told:
            return told.ending
        raise WorkerGone

    def kill(self) -> None:
        """Have its job killed: for a thread other than the one that uses it."""
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGUSR1)

    def end(self) -> None:
        """End the processes and close the pipes; safe to call when they are dead already."""
        for pipe in (self._jobs, self._answers, self._said):
            pipe.close()
        if self._process.returncode is not None:
            return
        if not _has_ended(self._process.pid):
            os.kill(self._process.pid, signal.SIGTERM)  # it ends its child, and then itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_SECONDS)
                return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in its group
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def disown(self) -> None:
        """In a forked child: forget the parent's process without touching it."""
        self._process.returncode = 0
        for pipe in (self._jobs, self._answers, self._said):
            pipe.close()

    def _hear(self) -> None:
        """Take in what the worker says of its child.

        Raises:
            CheckerError: it cannot load its handler.
            JobEnded: the child is dead.
            WorkerGone: the worker is.
        """
        self._word.add(_read(self._said))
        while (word := self._word.next()) is not None:
            if "failed" in word:
                raise CheckerError(f"a checker's worker process cannot start: {word['failed']}")
            self._child = int(word.get("ready", 0))
            self.ready = True
            if "ended" in word:
                while self._wait_for([self._answers], 0.0):
                    _read(self._answers)
                self._answer, self.cpu_at_rest = framing.MessageBuffer(_MAX_RESULT_BYTES), 0.0
                raise JobEnded(Ending(word["ended"], word["cpu"]))

    def _wait_for(self, pipes: list[IO[bytes]], until: float) -> list[IO[bytes]]:
        """Those of `pipes` that can be read by `until`, a `time.monotonic()` instant."""
        try:
            poll = select.poll()
            for pipe in pipes:
                poll.register(pipe.fileno(), select.POLLIN)
            ready = {number for number, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000)}
            return [pipe for pipe in pipes if pipe.fileno() in ready]
        except (OSError, ValueError):  # closed in another thread
            raise WorkerGone from None


def _read(pipe: IO[bytes]) -> bytes:
    try:
        data = os.read(pipe.fileno(), 65536)
    except (OSError, ValueError):  # closed in another thread
        data = b""
    if not data:
        raise WorkerGone
    return data


def _has_ended(pid: int) -> bool:
    """Whether a child that is not yet reaped has ended. Its pid cannot have been given to another process."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
