"""Whole programs judged by what they print: each case is a process of its own, and its output is compared here."""

import os
import select
import time
from dataclasses import dataclass

from selfcorrect.rewards.code.suites import StdinCase
from selfcorrect.rewards.sandbox import framing
from selfcorrect.rewards.sandbox.zygote_pair import ZygotePair, was_starved

_SLACK = 65_536
_MAX_COMPLAINT = 4096
_GRACE = 0.5
"""Seconds that a program which has closed its output may take to end."""


@dataclass(slots=True)
class Run:
    """What one run of a program came to.

    Attributes:
        printed: its output, cut a little above the length expected.
        complaint: the end of its standard error.
        exit_code: 0 if all went well; negative: a signal.
        timed_out: the deadline passed first.
        too_long: it printed much more than expected.
        starved: it missed the deadline because other programs had the processors.
    """

    printed: bytes = b""
    complaint: bytes = b""
    exit_code: int = 0
    timed_out: bool = False
    too_long: bool = False
    starved: bool = False


def run_script(pair: ZygotePair, program: str, case: StdinCase, until: float) -> Run:
    """Run `program` on one case's input, until the `time.monotonic()` instant `until` at most.

    Raises:
        ZygoteLost: a process was killed from outside.
    """
    start = time.monotonic()
    code, given, printed, complaint = (os.pipe() for _ in range(4))
    theirs = [code[0], given[0], printed[1], complaint[1]]
    talk = _Conversation(
        to_send={code[1]: framing.packed(program), given[1]: case.stdin.encode("utf-8", "surrogatepass")},
        printed=printed[0],
        complaint=complaint[0],
        limit=len(case.stdout.encode("utf-8", "surrogatepass")) + _SLACK,
    )
    try:
        try:
            pid = pair.programs.fork("script", max(0.01, until - time.monotonic()), theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        timed_out = not talk.finished_by(until)
    finally:
        talk.close()
    too_long = talk.overflowed
    waited = pair.waited_for_processor(pid) if timed_out else 0.0
    ending = pair.programs.end_child(0.0 if timed_out or too_long else min(_GRACE, max(0.0, until - time.monotonic())))
    pair.blame_outsiders(ending)
    starved = timed_out and was_starved(waited, ending.cpu_seconds, time.monotonic() - start)
    return Run(
        bytes(talk.heard[printed[0]]), bytes(talk.heard[complaint[0]]), ending.exit_code, timed_out, too_long, starved
    )


class _Conversation:
    """Feeds a program and hears it, both at once, so that neither side waits for ever on a full pipe.

    Args:
        to_send: what to write, by descriptor.
        printed: the program's standard output.
        complaint: its standard error; the last 4 KiB are kept.
        limit: how many bytes of output are too many.
    """

    def __init__(self, to_send: dict[int, bytes], printed: int, complaint: int, limit: int) -> None:
        self._unsent = {descriptor: memoryview(data) for descriptor, data in to_send.items()}
        self._printed, self._limit = printed, limit
        self._open = {*to_send, printed, complaint}
        self._poll = select.poll()
        self.heard = {descriptor: bytearray() for descriptor in (printed, complaint)}
        for descriptor in to_send:
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLOUT)
        for descriptor in self.heard:
            self._poll.register(descriptor, select.POLLIN)

    def finished_by(self, until: float) -> bool:
        """Whether the program closed its output, or overflowed it, before the instant `until`."""
        while self._open & self.heard.keys() and not self.overflowed:
            events = self._poll.poll(max(0.0, until - time.monotonic()) * 1000)
            if not events:
                return False
            for descriptor, _ in events:
                self._hear(descriptor) if descriptor in self.heard else self._send(descriptor)
        return True

    @property
    def overflowed(self) -> bool:
        return len(self.heard[self._printed]) > self._limit

    def close(self) -> None:
        for descriptor in list(self._open):
            self._end(descriptor)

    def _hear(self, descriptor: int) -> None:
        data = os.read(descriptor, 65536)
        if data:
            self.heard[descriptor] += data
            if descriptor != self._printed:
                del self.heard[descriptor][:-_MAX_COMPLAINT]
        else:
            self._end(descriptor)

    def _send(self, descriptor: int) -> None:
        try:
            self._unsent[descriptor] = self._unsent[descriptor][os.write(descriptor, self._unsent[descriptor]) :]
        except BlockingIOError:
            return
        except OSError:  # the program does not read (any more)
            self._unsent[descriptor] = memoryview(b"")
        if not self._unsent[descriptor]:
            self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._open.discard(descriptor)
        os.close(descriptor)
