"""Whole programs judged by what they print: each case is a process of its own, and its output is compared here."""

import json
import math
import os
import re
import select
import time
from dataclasses import dataclass
from decimal import Decimal

from selfcorrect.rewards import framing
from selfcorrect.rewards.code.suites import StdinCase, StdinStdout
from selfcorrect.rewards.sandbox.zygote_pair import ZygotePair, was_starved
from selfcorrect.rewards.sandbox.zygote_process import ZygoteProcess

_SLACK = 65_536
_MAX_COMPLAINT = 4096
_PAUSE_BYTES = 1024
"""A program that prints so much may have waited for the pipe to be read."""
_GRACE = 0.5
"""Seconds that a program which has closed its output may take to end."""


@dataclass(slots=True)
class Run:
    """What one run of a program came to.

    Attributes:
        printed: its output, cut a little above its limit.
        complaint: the end of its standard error.
        exit_code: 0 if all went well; negative: a signal.
        timed_out: the deadline passed first.
        too_long: it printed more than its limit.
        starved: it missed the deadline because other programs had the processors.
    """

    printed: bytes = b""
    complaint: bytes = b""
    exit_code: int = 0
    timed_out: bool = False
    too_long: bool = False
    starved: bool = False


def run_script(
    pair: ZygotePair, program: str, stdin: str, seconds: float, limit: int, zygote: ZygoteProcess | None = None
) -> Run:
    """Run `program` on `stdin`, for `seconds` at most.

    Args:
        pair: the processes to run it with.
        program: its text.
        stdin: its standard input: a file in memory, so that it may seek in it and ask for its size.
        seconds: wall-clock limit.
        limit: bytes of output that are too many.
        zygote: whose child it is; None means the zygote of programs.

    Raises:
        ZygoteLost: a process was killed from outside.
    """
    start = time.monotonic()
    zygote = zygote or pair.programs
    code, printed, complaint = (os.pipe() for _ in range(3))
    theirs = [code[0], _file_in_memory(stdin), printed[1], complaint[1]]
    talk = _Conversation(code[1], framing.packed(program), printed[0], complaint[0], limit)
    try:
        try:
            zygote.fork("script", max(0.01, seconds), theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        timed_out = not talk.finished_by(start + seconds)
    finally:
        talk.close()
    too_long = talk.overflowed
    waited = pair.waited_for_processor(zygote.child_pid()) if timed_out else 0.0
    patience = min(_GRACE, max(0.0, start + seconds - time.monotonic()))
    ending = zygote.end_child(0.0 if timed_out or too_long else patience)
    pair.blame_outsiders(ending)
    pauses = ending.pauses - len(talk.heard[printed[0]]) // _PAUSE_BYTES
    starved = timed_out and was_starved(waited, ending.cpu_seconds, pauses, time.monotonic() - start)
    heard, said = bytes(talk.heard[printed[0]]), bytes(talk.heard[complaint[0]])
    return Run(heard, said, ending.exit_code, timed_out, too_long, starved)


def _file_in_memory(text: str) -> int:
    """A descriptor of an open file with `text`, at its beginning."""
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC)
    data = memoryview(text.encode("utf-8", "surrogatepass"))
    while data:
        data = data[os.write(descriptor, data) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class _Conversation:
    """Hands a program its text and hears it, both at once, so that neither side waits for ever on a full pipe.

    Args:
        code: where its text goes.
        text: the message with its text.
        printed: its standard output.
        complaint: its standard error; the last 4 KiB are kept.
        limit: how many bytes of output are too many.
    """

    def __init__(self, code: int, text: bytes, printed: int, complaint: int, limit: int) -> None:
        self._code, self._unsent = code, memoryview(text)
        self._printed, self._limit = printed, limit
        self._open = {code, printed, complaint}
        self._poll = select.poll()
        self.heard = {descriptor: bytearray() for descriptor in (printed, complaint)}
        os.set_blocking(code, False)
        self._poll.register(code, select.POLLOUT)
        for descriptor in self.heard:
            self._poll.register(descriptor, select.POLLIN)

    def finished_by(self, until: float) -> bool:
        """Whether the program closed its output, or overflowed it, before the instant `until`."""
        while self._open & self.heard.keys() and not self.overflowed:
            events = self._poll.poll(max(0.0, until - time.monotonic()) * 1000)
            if not events:
                return False
            for descriptor, _ in events:
                self._hear(descriptor) if descriptor in self.heard else self._send()
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

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._code, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # the program does not read (any more)
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._end(self._code)

    def _end(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._open.discard(descriptor)
        os.close(descriptor)


def output_limit(suite: StdinStdout, case: StdinCase, io_mb: float) -> int:
    """How many bytes of output are too many: by the setting, and never much more than is expected."""
    most = int(io_mb * 2**20)
    return most if suite.judge else min(most, 2 * len(case.stdout.encode("utf-8", "surrogatepass")) + _SLACK)


# Comparing output.

_WRITTEN_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,40})?(?:\.\d{1,60})?(?:[eE][-+]?\d{1,3})?")
_MANY_DECIMALS, _BY_DEFAULT, _TINY = 6, 1e-6, 1e-3


def same_output(printed: bytes, expected: str, suite: StdinStdout) -> bool:
    """Whether what was printed is what was expected, by the suite's way to compare."""
    try:
        text = printed.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if suite.compare == "exact":
        return text == expected
    if suite.compare == "lines":
        return _lines(text) == _lines(expected)
    mine, theirs = text.split(), expected.split()
    return len(mine) == len(theirs) and all(
        a == b or _same_number(a, b, suite.tolerance) for a, b in zip(mine, theirs, strict=True)
    )


def _same_number(printed: str, expected: str, tolerance: float | None) -> bool:
    """Two numbers of one value: 2.0 is 2. Not 007 for 7, and not two whole numbers that are written otherwise."""
    if not (_WRITTEN_NUMBER.fullmatch(printed) and _WRITTEN_NUMBER.fullmatch(expected)):
        return False
    if not (any(map(str.isdigit, printed)) and any(map(str.isdigit, expected))):
        return False
    a, b = Decimal(printed), Decimal(expected)
    if a == b:
        return "." in printed or "." in expected
    if tolerance is None:
        if len(expected.lower().partition("e")[0].partition(".")[2]) < _MANY_DECIMALS:
            return False
        scale = max(1.0, abs(float(b))) if abs(b) >= _TINY else abs(float(b))
        return abs(float(a) - float(b)) <= _BY_DEFAULT * scale
    return math.isclose(float(a), float(b), rel_tol=tolerance, abs_tol=tolerance)


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


# The special judge of a problem's author. It reads what an untrusted program printed, so it is jailed as well; it is a
# fresh process of the tests' zygote, and the program has ended before it starts.

_ASK = """
import json, sys
_given = json.loads(sys.stdin.read())
_kept, sys.stdout = sys.stdout, sys.stderr
_right = judge(_given["stdin"], _given["printed"], _given["expected"])
_said = "right" if _right is True or (type(_right) is int and _right == 1) else "wrong" if not _right else "unclear"
print(_said, end="", file=_kept, flush=True)
"""


class JudgeFailed(Exception):
    """The special judge raised, or said neither yes nor no, or took too long: the tests' fault, not the program's."""


def ask_judge(pair: ZygotePair, suite: StdinStdout, case: StdinCase, printed: bytes, seconds: float) -> bool:
    """Whether the special judge finds the output right.

    Raises:
        JudgeFailed: it cannot tell.
        ZygoteLost: its process was killed from outside.
    """
    try:
        text = printed.decode("utf-8")
    except UnicodeDecodeError:
        return False
    given = json.dumps({"stdin": case.stdin, "printed": text, "expected": case.stdout})
    run = run_script(pair, suite.judge + "\n" + _ASK, given, seconds, 100, pair.tests)
    said = run.printed.decode("utf-8", "replace")
    if run.timed_out or run.exit_code or said not in ("right", "wrong"):
        how = "took too long" if run.timed_out else run.complaint.decode("utf-8", "replace")[-200:] or f"said {said!r}"
        raise JudgeFailed(f"the special judge failed: {' '.join(how.split())}")
    return said == "right"
