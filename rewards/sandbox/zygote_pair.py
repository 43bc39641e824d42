"""Two zygotes, one for programs and one for tests, and the check that runs between their children."""

import contextlib
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfcorrect.rewards import framing
from selfcorrect.rewards.sandbox.jail import Confinement, Isolation
from selfcorrect.rewards.sandbox.zygote_process import PROGRAMS_AT_MOST, Ending, TestsProcess, ZygoteLost, ZygoteProcess

_PROGRAMS = "selfcorrect.rewards.sandbox.inside.candidate"
_TESTS = "selfcorrect.rewards.sandbox.inside.tester"
_MAX_REPORT = 1_000_000
LAST_BREATH = 0.2
"""Seconds: a process whose connection is closed is given that long to be dead, so that its own end is told from our
killing it."""
_LONG = 0.02
"""Seconds of silence after which a check may run into its deadline; most are over in a few milliseconds."""
_WAITED, _WORKED, _PAUSES = 0.7, 0.05, 20
"""A missed deadline is the machine's fault if the processes waited for a processor for most of it (a share), had one
for hardly any (seconds, ten times what an honest check takes), and the program seldom gave one up (times, besides those
between questions). A program that computed for longer is slow, however busy the machine: a policy shall not learn that
endless loops abstain, nor those that sleep a microsecond in each round to wait for their turn again."""


@dataclass(slots=True)
class Report:
    """What the tests said before they, or the deadline, came to an end.

    Attributes:
        tests: how many there are; None if the tests said nothing at all.
        failed: why each failed test failed, by number.
        passed: the numbers of those that passed and never failed.
        shares: of a failed test that is a loop, the share of its rounds that passed, by number.
        answers: how many the program had given when the tests were last heard of.
        now: the call that was running when the tests were last heard of, "" if none was slow.
        last: the final message, None if there was none.
        timed_out: the deadline passed.
        starved: of that time the program spent most waiting for a processor.
        program: how the program's process ended.
        seconds: wall-clock time.
    """

    tests: int | None = None
    failed: dict[int, str] = field(default_factory=dict)
    passed: set[int] = field(default_factory=set)
    shares: dict[int, float] = field(default_factory=dict)
    answers: int = 0
    now: str = ""
    last: dict[str, Any] | None = None
    timed_out: bool = False
    starved: bool = False
    program: Ending | None = None
    seconds: float = 0.0

    def add(self, message: dict[str, Any]) -> None:
        if "tests" in message:
            self.tests = int(message["tests"])
        elif "share" in message:
            number, passed, of = message["share"]
            self.shares[int(number)] = int(passed) / int(of)
        elif "results" in message:
            self.now, self.answers = str(message["now"]), int(message["answers"])
            for number, why in message["results"]:
                if why is not None:
                    self.failed.setdefault(int(number), str(why))
                elif number not in self.failed:
                    self.passed.add(int(number))
        else:
            self.last = message
        self.passed -= self.failed.keys()

    @property
    def complete(self) -> bool:
        """Every test was run to its end and passed."""
        return bool(
            self.last and "done" in self.last and self.tests and len(self.passed) == self.tests and not self.failed
        )


class ZygotePair:
    """The two processes that one check at a time is run with. They start in the background.

    Attributes:
        proven: its jail has stood its own test.
        confinement: the layers around its processes.
    """

    def __init__(self, confinement: Confinement) -> None:
        self.proven = False
        self.confinement = confinement
        self._tester: TestsProcess | None = None
        self._connections = 1
        self._numbers_are_ours = (
            confinement.isolation is not Isolation.BUBBLEWRAP
        )  # there children have numbers of another namespace
        self.programs = ZygoteProcess(_PROGRAMS, confinement)
        try:
            self.tests = ZygoteProcess(_TESTS, confinement)
        except BaseException:
            self.programs.end()
            raise

    def wait_until_ready(self) -> None:
        """As `ZygoteProcess.wait_until_ready`, for both."""
        self.programs.wait_until_ready()
        self.tests.wait_until_ready()

    def end_tester(self) -> None:
        """End the process of the tests that is kept for the next check, if there is one."""
        if self._tester is not None:
            self._tester.close()
            self._tester = None
            self.tests.end_child()

    def run(self, job: dict[str, Any], deadline: float) -> Report:
        """Run the tests of `job` on its program.

        Raises:
            ZygoteLost: one of the processes was killed from outside; the pair must be ended.
        """
        start = time.monotonic()
        kept, self._tester = self._tester, None
        tester = kept or TestsProcess(self.tests, deadline, self._connections, job)
        report = Report()
        try:
            with tester.connections.pop() as connection:
                self.programs.fork("candidate", deadline, [connection.fileno()])
            before = 0.0  # what a process of tests that was kept has waited for the sake of other programs

            def takes_long() -> None:
                nonlocal before
                before = self.waited_for_processor(tester.pid()) if kept else 0.0

            _converse(tester.channel, framing.packed(job), start + deadline, report, takes_long)
            waited = 0.0
            if report.timed_out:
                waited = self.waited_for_processor(self.programs.child_pid())
                waited += self.waited_for_processor(tester.pid()) - before
            again = bool(report.last and report.last.get("again"))
            self._connections = PROGRAMS_AT_MOST if again else 1
            if again and tester.connections:
                self._tester = tester
            return self._finish(report, start, waited)
        finally:
            if self._tester is not tester:
                tester.close()

    def _finish(self, report: Report, start: float, waited: float) -> Report:
        last = report.last or {}
        if report.complete or last.get("gone") is False:  # heard to the end: how the processes end tells nothing more
            self.programs.end_child_soon()
            if self._tester is None:
                self.tests.end_child_soon()
            report.seconds = time.monotonic() - start
            return report
        report.program = self.programs.end_child(LAST_BREATH if last.get("gone") else 0.0)
        tests = None
        if self._tester is None:
            tests = self.tests.end_child(0.0 if report.last or report.timed_out else LAST_BREATH)
        worked = report.program.cpu_seconds + (tests.cpu_seconds if tests else 0.0)
        pauses = report.program.pauses - 2 * report.answers
        report.starved = report.timed_out and was_starved(waited, worked, pauses, time.monotonic() - start)
        report.seconds = time.monotonic() - start
        if not report.complete:
            self.blame_outsiders(report.program)
            if tests is not None:
                self.blame_outsiders(tests)
        return report

    def blame_outsiders(self, ending: Ending) -> None:
        """Raise `ZygoteLost` if a child was killed by somebody outside.

        Nobody else can have sent SIGKILL or SIGTERM: the jail lets nobody signal. The exception is the kernel that runs
        out of memory, and for that a child which had much is to blame.
        """
        if (
            ending.by_itself
            and ending.exit_code in (-signal.SIGKILL, -signal.SIGTERM)
            and ending.memory_mb < self.confinement.memory_mb / 2
        ):
            raise ZygoteLost

    def waited_for_processor(self, pid: int) -> float:
        """Seconds a child was ready to run while others ran; 0 where nobody tells."""
        if not self._numbers_are_ours:
            return 0.0
        try:
            return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def has_died(self) -> bool:
        return self.programs.has_died() or self.tests.has_died()

    def pids(self) -> list[int]:
        return [self.programs.pid, self.tests.pid]

    def kill(self) -> None:
        self.programs.kill()
        self.tests.kill()

    def end(self) -> None:
        if self._tester is not None:
            self._tester.close()
        self.programs.end()
        self.tests.end()

    def disown(self) -> None:
        if self._tester is not None:
            self._tester.close()
        self.programs.disown()
        self.tests.disown()


def _converse(tests: socket.socket, job: bytes, until: float, report: Report, takes_long: Callable[[], None]) -> None:
    """Hand over the job and hear the report, until it ends or the deadline passes.

    Args:
        takes_long: called once, when the tests have been silent for a while.
    """
    tests.setblocking(False)
    unsent, buffer = memoryview(job), framing.MessageBuffer(_MAX_REPORT)
    poll, silent = select.poll(), False
    with contextlib.suppress(OSError):  # of a process that has died the first event tells
        unsent = unsent[tests.send(unsent) :]
    poll.register(tests, select.POLLIN | select.POLLOUT if unsent else select.POLLIN)
    while report.last is None:
        seconds = max(0.0, until - time.monotonic())
        events = poll.poll(1000 * (seconds if silent else min(seconds, _LONG)))
        if not events and not silent:
            takes_long()
            silent = True
            continue
        if not events:
            report.timed_out = True
            return
        try:
            if events[0][1] & select.POLLOUT and unsent:
                unsent = unsent[tests.send(unsent) :]
                if not unsent:
                    poll.modify(tests, select.POLLIN)
            if events[0][1] & (select.POLLIN | select.POLLHUP):
                data = tests.recv(65536)
                if not data:
                    return
                buffer.add(data)
                while (message := buffer.next()) is not None:
                    report.add(message)
        except BlockingIOError:
            continue
        except (OSError, framing.BadMessage):
            return


def was_starved(waited: float, worked: float, pauses: int, seconds: float) -> bool:
    """Whether it is the machine's fault that so little was done in `seconds`."""
    return waited > _WAITED * seconds and worked < _WORKED and pauses < _PAUSES
