"""The judge of programs."""

import asyncio
import json
import os
import time
import weakref
from dataclasses import dataclass
from typing import Any, Literal, Self

from selfcorrect.errors import CheckerError, ConfigurationError, SandboxError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.code.extraction import CUT_OFF, Found, find_program
from selfcorrect.rewards.code.scripts import JudgeFailed, Run, ask_judge, output_limit, run_script, same_output
from selfcorrect.rewards.code.suites import (
    AnySuite,
    Asserts,
    StdinCase,
    StdinStdout,
    idle_programs,
    names_needed,
    read_suite,
)
from selfcorrect.rewards.process_pool import ForkSafeLock, PairPool, PoolClosed
from selfcorrect.rewards.sandbox.jail import Isolation
from selfcorrect.rewards.sandbox.zygote_pair import Report, ZygotePair
from selfcorrect.rewards.sandbox.zygote_process import ZygoteLost

_LOST = Finding(Status.UNJUDGED, "the processes that run programs were killed from outside, each time")
_CLOSED = Finding(Status.UNJUDGED, "the checker was closed")
_UNSAFE = ' [isolation="unsafe": the program was not jailed]'


class UnitTestChecker:
    """Judges the program in a response by unit tests, all or nothing: CORRECT only if every test passes.

    The program and the tests run in two jailed processes that exchange plain data; the program's is forked for this
    check alone. Only the tests' process reports here, and only a deadline watched here ends them. The forms of tests
    are in `suites.py`. The reason of a verdict tells how many tests passed, and of the first that failed the call and
    what came of it (not what was expected).

    A program that runs out of time or memory, ends early or breaks the protocol is WRONG. UNJUDGED is kept for tests
    that cannot be used, processes killed from outside, and a machine too busy to run the program.

    Args:
        isolation: "jail" (Linux 5.13 or later, x86_64 or aarch64; needs no privileges), "bubblewrap" (the same inside
            namespaces), or "unsafe": processes with resource limits only, which every verdict then says.
        deadline: wall-clock seconds for one check, all its tests together.
        memory_mb: address space of the program's process, in MiB.
        workers: checks at a time at most; None means the number of processors. Processes start when first needed.
    """

    def __init__(
        self,
        *,
        isolation: Literal["jail", "bubblewrap", "unsafe"] = "jail",
        deadline: float = 5.0,
        memory_mb: int = 512,
        workers: int | None = None,
    ) -> None:
        if isolation not in list(Isolation):
            raise ConfigurationError(f'isolation must be "jail", "bubblewrap" or "unsafe", got {isolation!r}')
        if not 0 < deadline < 86_400:
            raise ConfigurationError(f"deadline must be seconds above 0 and below a day, got {deadline}")
        if memory_mb < 128:
            raise ConfigurationError(f"memory_mb must be at least 128: Python itself needs that, got {memory_mb}")
        if workers is not None and workers < 1:
            raise ConfigurationError(f"workers must be 1 or more, or None, got {workers}")
        self._isolation, self._deadline = Isolation(isolation), float(deadline)
        self._memory_mb, self._workers = memory_mb, workers
        self._open()

    def check_sync(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """Judge `response` by the tests `reference`; blocks for the deadline at most once a pair of processes is free.

        Raises:
            SandboxError: programs cannot be jailed on this machine (never because of a response).
        """
        start = time.perf_counter()
        text = find_program(response)
        if text.program is None:
            return Verdict(
                Status.UNREADABLE, None, f"no program was found: {text.problem}", time.perf_counter() - start
            )
        try:
            found = self._judge(text.program, read_suite(reference))
        except CheckerError as fault:
            if isinstance(fault, SandboxError):
                raise
            found = Finding(Status.UNJUDGED, str(fault))
        reason = found.reason + (_UNSAFE if self._isolation is Isolation.UNSAFE else "")
        if found.status is Status.UNREADABLE and text.marked:
            found = Finding(Status.WRONG, found.reason)  # a program with a slip of the pen, not the lack of one
        return Verdict(found.status, text.program, reason, time.perf_counter() - start)

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """As `check_sync`, without blocking the event loop. A cancelled call leaves its check to end by itself."""
        pool = self._present_pool()
        try:
            waiting = asyncio.get_running_loop().run_in_executor(pool.threads, self.check_sync, response, reference)
        except RuntimeError:
            if not pool.closed:
                raise
            return Verdict(_CLOSED.status, None, _CLOSED.reason)
        return await waiting

    def validate_reference(self, reference: Any) -> str | None:
        """Why the tests `reference` cannot be used, or None. Tests that a program which does nothing passes are
        refused.

        Whether a known solution passes is for the data set to try: `selfcorrect validate`.
        """
        try:
            suite = read_suite(reference)
        except CheckerError as problem:
            return str(problem)
        for what, program in idle_programs(suite):
            found = self._judge(program, suite)
            if found.status is Status.CORRECT:
                return f"{what} passes these tests"
            if found.status is Status.UNJUDGED:
                return found.reason
        return None

    def start(self) -> None:
        """Start processes in the background, so that the first check does not wait for them (a fifth of a second)."""
        self._present_pool().start_one()

    @property
    def worker_pids(self) -> list[int]:
        """The ids of the processes that live between checks."""
        return self._pool.pids()

    def close(self) -> None:
        """End the processes. The checker can still be used: new ones start when needed."""
        self._pool.close()

    def _judge(self, program: str, suite: AnySuite) -> Finding:
        job = {"program": program, "given": getattr(suite, "given", ""), "suite": suite.model_dump()}
        size = len(json.dumps(job))
        if size > MAX_JOB_BYTES:
            too_long = len(program) > MAX_JOB_BYTES // 2
            status = Status.WRONG if too_long else Status.UNJUDGED
            return Finding(status, f"program and tests take {size:,} bytes; the limit is {MAX_JOB_BYTES:,}")
        try:
            if isinstance(suite, StdinStdout):
                return self._present_pool().run(lambda pair: self._run_scripts(pair, program, suite))
            report = self._present_pool().run(lambda pair: pair.run(job, self._deadline))
        except ZygoteLost:
            return _LOST
        except PoolClosed:
            return _CLOSED
        return judge_report(report, self._deadline)

    def _run_scripts(self, pair: ZygotePair, program: str, suite: StdinStdout) -> Finding:
        until = time.monotonic() + self._deadline
        for number, case in enumerate(suite.cases):
            run = run_script(pair, program, case, until)
            failure = judge_run(run, case, number, len(suite.cases), self._deadline)
            if failure is not None:
                return failure
        return Finding(Status.CORRECT, f"passed {len(suite.cases)} of {len(suite.cases)} tests")

    def _open(self) -> None:
        self._pool = PairPool(self._isolation, self._memory_mb, self._workers)
        weakref.finalize(self, self._pool.close)  # at garbage collection and at the interpreter's exit

    def _present_pool(self) -> PairPool:
        pool = self._pool
        if pool.closed or pool.owner != os.getpid():
            with _opening.held():
                if self._pool is pool:
                    pool.close()
                    self._open()
        return self._pool

    def __getstate__(self) -> dict[str, Any]:
        return {
            "isolation": self._isolation.value,
            "deadline": self._deadline,
            "memory_mb": self._memory_mb,
            "workers": self._workers,
        }

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self.__init__(**settings)  # type: ignore[misc]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_opening = ForkSafeLock()
