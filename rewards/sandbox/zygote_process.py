"""A zygote, seen from its parent."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from typing import Any

from selfcorrect.errors import SandboxError
from selfcorrect.rewards.process_pool import MemberLost
from selfcorrect.rewards.sandbox.jail import Confinement, Isolation
from selfcorrect.rewards.sandbox.zygote import REQUEST_BYTES

STACK_BYTES = 256 * 2**20
"""Deep recursion through C code (a memoised function, say) needs that; contest sites give as much."""
_START_SECONDS = 60.0
_ANSWER_SECONDS = 20.0
_LIMITS = "look at the limits of this user and container: ulimit -n (open files), ulimit -u (processes)"
_BOOTSTRAP = f"""
import os, resource, sys
stack, most = resource.getrlimit(resource.RLIMIT_STACK)
if 0 < stack < {STACK_BYTES} and not 0 < most < {STACK_BYTES}:  # the room for it is laid out when a process starts
    resource.setrlimit(resource.RLIMIT_STACK, ({STACK_BYTES}, most))
    os.execv(sys.executable, sys.orig_argv)
import json
own, module, confinement, path = json.loads(sys.argv[1])
sys.path[:] = own
from selfcorrect.rewards.sandbox.zygote import main
main(module, confinement, path)
"""


class ZygoteLost(MemberLost):
    """The zygote died or does not answer. Internal: the pool starts another."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a jailed child ended.

    Attributes:
        by_itself: it had ended before it was told to.
        exit_code: its exit code; negative: the signal that killed it.
        cpu_seconds: processor time of its life.
        pauses: how often it gave up a processor of its own accord, to wait or to sleep.
        memory_mb: the most memory it had resident, in MiB.
    """

    by_itself: bool
    exit_code: int
    cpu_seconds: float
    pauses: int
    memory_mb: float


class ZygoteProcess:
    """One zygote process. It starts in the background; `wait_until_ready` blocks until it serves.

    Args:
        module: the module whose `ROLES` its children can play.
        confinement: the layers around it, and what they let through.
    """

    def __init__(self, module: str, confinement: Confinement) -> None:
        importable = _standard_library_path()
        own = [*importable, *(entry for entry in sys.path if os.path.isabs(entry) and entry not in importable)]
        arguments = json.dumps([own, module, confinement.as_data(), importable])
        command = [sys.executable, "-P", "-s", "-S", "-B", "-c", _BOOTSTRAP, arguments]
        if confinement.isolation is Isolation.BUBBLEWRAP:
            command = [*_bubblewrap(), *command]
        try:
            self._control, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise SandboxError(f"no pair of sockets can be made for jailed processes ({error}); {_LIMITS}") from error
        try:
            self._process = subprocess.Popen(
                command,
                stdin=inner.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            self._control.close()
            raise SandboxError(f"no process can be started for jailed programs ({error}); {_LIMITS}") from error
        finally:
            inner.close()
        self._ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Block until it serves.

        Raises:
            SandboxError: this machine lacks a layer of the jail, or the process does not start.
            ZygoteLost: it was killed from outside.
        """
        if self._ready:
            return
        try:
            message = self._receive(_START_SECONDS)
        except ZygoteLost:
            code = self._exit_code()
            if code in (-signal.SIGKILL, -signal.SIGTERM):
                raise
            raise SandboxError(
                f"the process that starts jailed programs ended before it was ready (exit code {code})"
            ) from None
        if "refused" in message:
            raise SandboxError(
                f"code cannot be jailed on this machine: {message['refused']}. "
                f"To run programs with resource limits only, "
                'which protects neither files nor network, pass isolation="unsafe"'
            )
        self._ready = True

    def fork(
        self, role: str, seconds: float, descriptors: list[int], *, stays: bool = False, ahead: Any = None
    ) -> None:
        """Fork a child that plays `role` with `descriptors`, without waiting for it. At most one child lives at a time.

        One that is not ended within `seconds` (and two) ends anyway, unless it `stays`; processor time is limited in
        any case. `ahead`: what is made ready before the fork, if it is short.

        Raises:
            ZygoteLost: the zygote is dead.
        """
        try:
            request = {"fork": role, "seconds": seconds, "stays": stays, "ahead": ahead}
            packet = json.dumps(request).encode()
            if len(packet) > REQUEST_BYTES:
                packet = json.dumps(request | {"ahead": None}).encode()
            socket.send_fds(self._control, [packet], descriptors)
        except OSError:
            raise ZygoteLost from None

    def child_pid(self) -> int:
        """Ask for the process id of the child; 0 if there is none.

        Raises:
            ZygoteLost: the zygote is dead.
        """
        self._request({"who": True})
        return int(self._receive(_ANSWER_SECONDS).get("pid", 0))

    def end_child_soon(self) -> None:
        """Have the child killed, without waiting for it.

        Raises:
            ZygoteLost: the zygote is dead, and so its child.
        """
        self._request({"kill": True})

    def end_child(self, grace: float = 0.0) -> Ending:
        """Wait `grace` seconds for the child to end, then kill it.

        Raises:
            ZygoteLost: the zygote is dead, and so its child.
        """
        self._request({"end": grace})
        answer = self._receive(grace + _ANSWER_SECONDS)
        if "exit_code" not in answer:
            raise ZygoteLost
        return Ending(**answer)

    def has_died(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill it without reaping: for a thread other than the one that uses it."""
        if self._process.returncode is None:
            self._process.kill()

    def end(self) -> None:
        """Kill and reap it; the kernel kills its child with it."""
        self._control.close()
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def disown(self) -> None:
        """In a forked child of ours: forget the process, which is our parent's."""
        self._process.returncode = 0
        self._control.close()

    def _request(self, request: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(request).encode())
        except OSError:
            raise ZygoteLost from None

    def _exit_code(self) -> int | None:
        """How it ended; None if it has not, although it is silent."""
        try:
            return self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return None

    def _receive(self, seconds: float) -> dict[str, Any]:
        try:
            poll = select.poll()
            poll.register(self._control, select.POLLIN)
            packet = self._control.recv(4096) if poll.poll(seconds * 1000) else b""
        except (OSError, ValueError):  # closed in another thread
            packet = b""
        if not packet:
            raise ZygoteLost
        message: dict[str, Any] = json.loads(packet)
        return message


def _standard_library_path() -> list[str]:
    stdlib, platstdlib = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")
    zipped = os.path.join(os.path.dirname(stdlib), f"python{sys.version_info.major}{sys.version_info.minor}.zip")
    dynamic = sysconfig.get_config_var("DESTSHARED") or os.path.join(platstdlib, "lib-dynload")
    return list(dict.fromkeys([zipped, stdlib, platstdlib, dynamic]))


def _environment() -> dict[str, str]:
    """Sets of strings keep the same order in every process; what the dynamic loader needs to find libpython is kept."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # Once for all children, instead of the rest by each of them at its first call of a function.
    bound = {"LD_BIND_NOW": "1"}
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    return {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"} | bound | one_thread | kept


def _bubblewrap() -> list[str]:
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError(
            'isolation="bubblewrap" needs the program bwrap: install the package bubblewrap of your system '
            '(apt-get install bubblewrap, dnf install bubblewrap), or use isolation="jail"'
        )
    return [program, "--unshare-all", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--"]


# The jailed process of the tests, seen from the parent.

PROGRAMS_AT_MOST = 16
"""That one process of tests may see, one after the other; then a fresh one takes its place."""


class TestsProcess:
    """The process of the tests, with connections to the programs it is going to test, one after the other.

    Most suites compare calls with literals and run no code of their own. After one of those the process is as it was
    before, and a fork is saved; after any other it is ended.
    """

    def __init__(self, zygote: ZygoteProcess, deadline: float, connections: int, job: dict[str, Any]) -> None:
        self.channel, inner = socket.socketpair()
        self._zygote = zygote
        pairs = [socket.socketpair() for _ in range(connections)]
        self.connections = [ours for ours, _ in reversed(pairs)]
        try:
            ahead = {"suite": job["suite"], "by_case": job["by_case"]}
            descriptors = [inner.fileno(), *(theirs.fileno() for _, theirs in pairs)]
            zygote.fork("tests", deadline * connections, descriptors, stays=connections > 1, ahead=ahead)
        except BaseException:
            self.close()
            raise
        finally:
            for end in (inner, *(theirs for _, theirs in pairs)):
                end.close()

    def pid(self) -> int:
        """Ask for its process id."""
        return self._zygote.child_pid()

    def close(self) -> None:
        for end in (self.channel, *self.connections):
            end.close()
