"""The jailed process of the tests, seen from the parent."""

import socket

from selfcorrect.rewards.sandbox.zygote_process import ZygoteProcess

PROGRAMS_AT_MOST = 16
"""That one process of tests may see, one after the other; then a fresh one takes its place."""


class TestsProcess:
    """The process of the tests, with connections to the programs it is going to test, one after the other.

    Most suites compare calls with literals and run no code of their own. After one of those the process is as it was before, and a fork
    is saved; after any other it is ended.
    """

    def __init__(self, zygote: ZygoteProcess, deadline: float, connections: int) -> None:
        self.channel, inner = socket.socketpair()
        pairs = [socket.socketpair() for _ in range(connections)]
        self.connections = [ours for ours, _ in reversed(pairs)]
        try:
            descriptors = [inner.fileno(), *(theirs.fileno() for _, theirs in pairs)]
            self.pid = zygote.fork("tests", deadline * connections, descriptors, stays=connections > 1)
        except BaseException:
            self.close()
            raise
        finally:
            for end in (inner, *(theirs for _, theirs in pairs)):
                end.close()

    def close(self) -> None:
        for end in (self.channel, *self.connections):
            end.close()
