"""The judge of programs."""

import json
import time
from collections.abc import Sequence
from typing import Any, Literal, Self

from selfcorrect.errors import CheckerError, ConfigurationError, SandboxError
from selfcorrect.rewards.answer_keys import program_text
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.code.behaviour import Outcome, outcomes_of
from selfcorrect.rewards.code.examples import names_called, shown_examples
from selfcorrect.rewards.code.extraction import CUT_OFF, find_program
from selfcorrect.rewards.code.findings import Finding, Limits, judge_report, judge_script, unfinished
from selfcorrect.rewards.code.suites import (
    AnySuite,
    Asserts,
    CheckFunction,
    StdinStdout,
    idle_programs,
    names_needed,
    read_suite,
)
from selfcorrect.rewards.code.together import has_points, judge_together
from selfcorrect.rewards.process_pool import MemberLost, PoolClosed, ProcessPool
from selfcorrect.rewards.sandbox import packages as installed
from selfcorrect.rewards.sandbox.jail import Confinement, Isolation
from selfcorrect.rewards.sandbox.self_test import make_ready
from selfcorrect.rewards.sandbox.zygote_pair import ZygotePair

_MOST_REMEMBERED = 4096
"""Programs whose outcomes are remembered before all are forgotten: strategies that are compared ask for the same
answers again."""


_LOST = Finding(Status.UNJUDGED, "the processes that run programs were killed from outside, each time")
_CLOSED = Finding(Status.UNJUDGED, "the checker was closed")
_NOT_TOGETHER = (
    'the tests ask for isolation="together", to run in the program\'s process; allow it with '
    'UnitTestChecker(isolation="together") (docs/code-tests.md says what that gives up)'
)
_REMARKS = {
    Isolation.UNSAFE: ' [isolation="unsafe": the program was not jailed]',
    Isolation.TOGETHER: ' [isolation="together": the program could reach its tests]',
}


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
            namespaces), "together" (the jail, with tests that are Python code in the program's own process, in four
            runs of `deadline` seconds each: for tests that no stand-in can serve; weaker, see `together.py`), or
            "unsafe": processes with resource limits only. Of the last two every verdict says so.
        deadline: wall-clock seconds for one check, all its tests together (whole programs may have limits of their own,
            see `StdinStdout`).
        memory_mb: address space of the program's process, in MiB.
        workers: checks at a time at most; None means the number of processors. Processes start when first needed.
        packages: installed packages that programs and tests may import, with what these require: ["numpy"].
        threads: whether programs may start threads.
        scratch: size of a folder that programs may write to, emptied after each check: "16MB". None means no folder.
        io_mb: input and output of one run of a whole program, each, in MiB.
        partial: WRONG verdicts carry the share of tests passed as their score, instead of 0.

    Raises:
        ConfigurationError: a limit is outside its range.
    """

    def __init__(
        self,
        *,
        isolation: Literal["jail", "together", "bubblewrap", "unsafe"] = "jail",
        deadline: float = 5.0,
        memory_mb: int = 512,
        workers: int | None = None,
        packages: Sequence[str] = (),
        threads: bool = False,
        scratch: str | None = None,
        io_mb: float = 64.0,
        partial: bool = False,
    ) -> None:
        if isolation not in list(Isolation):
            raise ConfigurationError(f"isolation must be one of {[str(one) for one in Isolation]}, got {isolation!r}")
        if not 0 < deadline < 86_400:
            raise ConfigurationError(f"deadline must be seconds above 0 and below a day, got {deadline}")
        if memory_mb < 128:
            raise ConfigurationError(f"memory_mb must be at least 128: Python itself needs that, got {memory_mb}")
        if workers is not None and workers < 1:
            raise ConfigurationError(f"workers must be 1 or more, or None, got {workers}")
        if not 0 < io_mb <= 1024:
            raise ConfigurationError(f"io_mb must be above 0 and at most 1024, got {io_mb}")
        names = _package_names(packages)
        self._settings: dict[str, Any] = {
            "isolation": isolation,
            "deadline": deadline,
            "memory_mb": memory_mb,
            "workers": workers,
            "packages": names,
            "threads": threads,
            "scratch": scratch,
            "io_mb": io_mb,
            "partial": partial,
        }
        self._deadline, self._partial, self._isolation = float(deadline), partial, Isolation(isolation)
        self._limits = Limits(self._deadline, io_mb, partial)
        self._confinement = Confinement(self._isolation, memory_mb, names, threads, _scratch_mb(scratch, isolation))
        self._pool = ProcessPool(_pairs_of(self._confinement), workers)
        self._known: dict[tuple[str, tuple[str, ...]], list[Outcome]] = {}

    def check_sync(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """Judge `response` by the tests `reference`; blocks for the deadline at most once a pair of processes is free.

        `problem` decides nothing here: a program is judged by what it does, wherever its text is from.

        Raises:
            SandboxError: programs cannot be jailed on this machine (never because of a response).
        """
        start = time.perf_counter()
        try:
            suite = read_suite(reference)
        except CheckerError as fault:
            return Verdict(Status.UNJUDGED, None, str(fault), time.perf_counter() - start)
        wanted = names_needed(suite) if response.count("```") + response.count("~~~") > 2 else ()
        text = find_program(response, wanted, script=isinstance(suite, StdinStdout))
        if text.program is None:
            why = f"no program was found: {text.problem}"
            return Verdict(Status.UNREADABLE, None, why, time.perf_counter() - start)
        try:
            found = self._judge(text.program, suite)
        except SandboxError:
            raise
        except CheckerError as fault:
            found = Finding(Status.UNJUDGED, str(fault))
        if text.cut_off and _is_no_python(found):
            found = unfinished(found, CUT_OFF)
        elif found.status is Status.UNREADABLE and text.marked:
            found = Finding(Status.WRONG, found.reason)  # a program with a slip of the pen, not the lack of one
        fraction = found.fraction if self._partial and found.status is Status.WRONG else None
        reason = found.reason + _REMARKS.get(self._isolation_of(suite), "")
        return Verdict(found.status, text.program, reason, time.perf_counter() - start, fraction)

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """As `check_sync`, without blocking the event loop. A cancelled call leaves its check to end by itself."""
        try:
            return await self._pool.run_async(lambda: self.check_sync(response, reference, problem=problem))
        except PoolClosed:
            return Verdict(_CLOSED.status, None, _CLOSED.reason)

    def validate_reference(self, reference: Any) -> str | None:
        """Why the tests `reference` cannot be used, or None. Tests that a program which does nothing passes are
        refused, and tests that hand over what cannot cross to the program's process.

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

    def answer_key(self, response: str, problem: str) -> str | None:
        """The program, for votes."""
        return program_text(response)

    async def executed_key(self, response: str, problem: str) -> str | None:
        """What the program does with the calls that `problem` shows as examples (see `shown_examples`), for votes: two
        programs with the same outcomes are one answer (Shi et al. 2022, arXiv 2204.11454). What the examples expect is
        not looked at.

        Without examples, where none of them has a value, or on a machine too busy to run them, it is the program, as
        for `answer_key`.

        Raises:
            SandboxError: programs cannot be jailed on this machine.
        """
        asked = tuple(dict.fromkeys(one.expression for one in shown_examples(problem)))
        program = find_program(response, names_called(asked)).program if asked else program_text(response)
        if program is None or not asked:
            return program
        try:
            found = await self._pool.run_async(lambda: self._outcomes(program, asked))
        except (MemberLost, PoolClosed):
            found = None
        if found is None:
            return program.strip() or None
        return " ; ".join(map(str, found)) if any(one.is_value for one in found) else program.strip() or None

    def is_whole(self, response: str, problem: str) -> bool:
        """Whether the program's block is closed, in a response that was cut off: what is missing is an explanation."""
        found = find_program(response, names_called(one.expression for one in shown_examples(problem)))
        return found.program is not None and found.marked and not found.cut_off

    def _outcomes(self, program: str, expressions: tuple[str, ...]) -> list[Outcome] | None:
        """As `outcomes_of`, remembered."""

        def work(pair: ZygotePair) -> tuple[list[Outcome] | None, bool]:
            make_ready(pair)
            return outcomes_of(pair, program, expressions, self._deadline), True

        key = program, expressions
        found = self._known.get(key) or self._pool.run(work, self._deadline)
        if found is not None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found

    def start(self) -> None:
        """Start processes in the background, so that the first check does not wait for them (a fifth of a second)."""
        self._pool.start()

    @property
    def partial(self) -> bool:
        """Whether a program that passes some of the tests is paid their share."""
        return self._partial

    @property
    def worker_pids(self) -> list[int]:
        """The ids of the processes that live between checks."""
        return self._pool.pids()

    def close(self) -> None:
        """End the processes. The checker can still be used: new ones start when needed."""
        self._pool.close()

    def _isolation_of(self, suite: AnySuite) -> Isolation:
        """Whether tests run with their program is the suite's to ask for and the checker's to allow.

        What a checker allows, and a suite neither asks for nor could be trusted with, is not done.
        """
        if isinstance(suite, (Asserts, CheckFunction)):
            if suite.isolation == "together":
                return Isolation.TOGETHER
            if suite.isolation is None and self._isolation is Isolation.TOGETHER and has_points(suite):
                return Isolation.TOGETHER
        return Isolation.JAIL if self._isolation is Isolation.TOGETHER else self._isolation

    def _judge(self, program: str, suite: AnySuite) -> Finding:
        job = {"program": program, "given": getattr(suite, "given", "")}
        if not isinstance(suite, StdinStdout):
            job |= {"suite": suite.model_dump(), "by_case": self._partial}
        together = self._isolation_of(suite) is Isolation.TOGETHER
        if together and self._isolation is not Isolation.TOGETHER:
            return Finding(Status.UNJUDGED, _NOT_TOGETHER)
        size = len(json.dumps(job))
        if size > (limit := int(self._limits.io_mb * 2**20)):
            too_long = len(program) > limit // 2
            status = Status.WRONG if too_long else Status.UNJUDGED
            return Finding(status, f"program and tests take {size:,} bytes; the limit is {limit:,}")

        def work(pair: ZygotePair) -> tuple[Finding, bool]:
            make_ready(pair)
            if isinstance(suite, StdinStdout):
                return judge_script(pair, program, suite, self._limits), True
            if together and isinstance(suite, (Asserts, CheckFunction)):
                return judge_together(pair, program, suite, self._deadline, self._partial), True
            return judge_report(pair.run(job, self._deadline), self._deadline), True

        try:
            return self._pool.run(work, self._deadline)
        except OSError as error:
            raise SandboxError(f"this process cannot open what a check needs ({error}); see ulimit -n") from error
        except PoolClosed:
            return _CLOSED
        except MemberLost:
            return _LOST

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._settings)

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self.__init__(**settings)  # type: ignore[misc]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pairs_of(confinement: Confinement) -> Any:
    """Makes pairs. It holds the settings alone: a pool that held its checker would never be forgotten."""
    return lambda: ZygotePair(confinement)


def _is_no_python(found: Finding) -> bool:
    return found.status is Status.UNREADABLE or "SyntaxError" in found.reason or "IndentationError" in found.reason


def _package_names(packages: Sequence[str]) -> tuple[str, ...]:
    if isinstance(packages, str):
        raise ConfigurationError(f'packages must be a list of names, ["{packages}"], got the text {packages!r}')
    if absent := installed.missing(packages):
        raise ConfigurationError(
            f"packages: {', '.join(absent)} cannot be imported here; install what programs may use"
        )
    return tuple(packages)


def _scratch_mb(scratch: str | None, isolation: str) -> int:
    if scratch is None:
        return 0
    number = scratch.removesuffix("MB")
    if number == scratch or not number.isdigit() or not 1 <= int(number) <= 1024:
        raise ConfigurationError(f'scratch must be a size from "1MB" to "1024MB", or None, got {scratch!r}')
    if isolation in (Isolation.UNSAFE, Isolation.BUBBLEWRAP):
        raise ConfigurationError(f'scratch has no effect with isolation="{isolation}": leave it out')
    return int(number)
