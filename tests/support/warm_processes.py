"""Processes of Python that need not import: each is forked from one that has imported everything once.

`warm_python(folder, owner)` is an executable that takes Python's place in a command: `[warm, "-m", "selfcorrect"]`. It
asks the process that has the imports to fork, and hands over arguments, environment, folder and standard streams;
signals go through it, its exit status is the other's, and where it is killed the other is. Imports are most of what a
short run costs (8 seconds with TRL), so tests of what processes do use it; those of how one starts, or is told of its
parent's end, do not.
"""

import fcntl
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from select import select
from types import ModuleType
from typing import Any

IMPORTED = (
    "accelerate.commands.launch",
    "ipykernel.kernelapp",
    "selfcorrect.agents.solving.solve",
    "selfcorrect.cli",
    "selfcorrect.training.arms.reinforced",
    "selfcorrect.training.own_graph_run",
    "torch.distributed.run",
)
ASK = """#!{python} -S
import json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
socket.send_fds(link, [b"."], [0, 1, 2])
link.sendall(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode() + b"\\n")
told = link.makefile()
pid = int(told.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = os.waitstatus_to_exitcode(int(told.readline()))
if code < 0:
    if code != -signal.SIGKILL:  # which has no handler
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
"""The executable. It starts in 30 ms."""


def warm_python(folder: Path, owner: int) -> str:
    """The executable, made in `folder` by the first who asks for it, for as long as the process `owner` lives.

    Where processes cannot be forked safely it is Python itself.
    """
    if sys.platform != "linux":
        return sys.executable
    folder.mkdir(exist_ok=True)
    executable = folder / "python"
    with (folder / "lock").open("w") as lock, (folder / "said.txt").open("a") as said:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not executable.exists():
            address = f"{tempfile.mkdtemp(prefix='warm')}/socket"
            environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            command = [sys.executable, __file__, address, str(owner), str(executable)]
            subprocess.run(command, env=environment, stdout=said, stderr=said, check=True)
            executable.write_text(ASK.format(python=sys.executable, address=address))
            executable.chmod(0o755)
    return str(executable)


class Forks:
    """The process that has imported everything: it forks whoever is asked for, and tells how they ended."""

    def __init__(self, address: str, owner: int) -> None:
        self._owner = owner
        self._address = Path(address)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(address)
        self._listening.listen(64)
        self._askers: dict[int, socket.socket] = {}

    def wait(self) -> tuple[list[str], dict[str, str], str]:
        """Fork whoever is asked for, until the owner is gone. Returns in those who were forked: arguments, environment
        and folder."""
        self._woken, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken)
        while Path(f"/proc/{self._owner}").exists():
            ready, _, _ = select([self._listening, self._woken, *self._askers.values()], [], [], 2.0)
            self._kill_forsaken(ready)
            self._tell_ends()
            if self._listening in ready and (asked := self._forked()):
                signal.set_wakeup_fd(-1)
                os.close(woken)
                return asked
        for pid in self._askers:
            os.kill(pid, signal.SIGKILL)
        self._address.unlink()
        self._address.parent.rmdir()
        os._exit(0)

    def _kill_forsaken(self, ready: list[Any]) -> None:
        for pid, asker in self._askers.items():
            if asker in ready:  # it says nothing more: it was killed
                os.kill(pid, signal.SIGKILL)
        if self._woken in ready:
            os.read(self._woken, 4096)

    def _tell_ends(self) -> None:
        while self._askers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._askers.pop(pid) as asker:
                try:
                    asker.sendall(f"{status}\n".encode())
                except OSError:
                    pass  # it is gone

    def _forked(self) -> tuple[list[str], dict[str, str], str] | None:
        asker, _ = self._listening.accept()
        _, streams, _, _ = socket.recv_fds(asker, 1, 3)
        with asker.makefile() as lines:
            asked = json.loads(lines.readline())
        pid = os.fork()
        if pid:
            asker.sendall(f"{pid}\n".encode())
            self._askers[pid] = asker
        else:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            for link in (self._listening, asker, *self._askers.values()):
                link.close()
            os.close(self._woken)
        for stream in streams:
            os.close(stream)
        return None if pid else (asked[0], asked[1], asked[2])


def become(executable: str, arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Run what Python would run with these arguments."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update({"PYTHON_EXEC": executable} | environment)  # by which torchrun starts Python
    os.chdir(folder)
    random.seed()
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    while arguments[0] not in ("-m", "-c") and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option == "-W":
            warnings.simplefilter(arguments.pop(0))  # type: ignore[arg-type]
    kind, *rest = arguments
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.modules["__main__"] = program = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), program.__dict__)  # noqa: S102
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(kind).parent))
        runpy.run_path(kind, run_name="__main__")


def main(address: str, owner: str, executable: str) -> None:
    forks = Forks(address, int(owner))  # who asks from now on waits in line
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    become(executable, *forks.wait())


if __name__ == "__main__":
    main(*sys.argv[1:])
