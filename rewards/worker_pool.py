"""A pool of worker processes that may be killed at any moment without losing or mixing up an answer.

Why not multiprocessing or a ProcessPoolExecutor: their deadline only stops *waiting*, a hung worker keeps its place; and
their spawn and forkserver methods run the user's main module again.
"""

import asyncio
import os
import weakref
from typing import Any, Self

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.fork_safe_lock import ForkSafeLock
from selfcorrect.rewards.worker_crew import CLOSED, Crew, Outcome

__all__ = ["Outcome", "WorkerPool"]


class WorkerPool:
    """Processes that serve jobs of plain JSON data, for threads and for coroutines alike.

    Workers start on demand. A job that passes its deadline has its worker killed (SIGKILL), and a new one takes the place at
    once. A worker's crash is tried again on another worker. Pickling a pool carries its settings, never its processes, and
    a forked child starts workers of its own.

    Args:
        handler: "package.module:function"; the function takes the payload and a function that reports the stage reached.
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
