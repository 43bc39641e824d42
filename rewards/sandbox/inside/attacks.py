"""What the jail is tried with. Each attack must raise; those that do not are reported by name."""

import ctypes
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from selfcorrect.rewards import framing

_CHANNEL = 3


def run() -> None:
    """The role of a child: try everything, report what worked."""
    channel = framing.Channel(_CHANNEL)
    target = channel.receive()
    secret, parent = target["secret"], target["parent"]
    folder = os.path.dirname(secret)
    attacks: dict[str, Callable[[], Any]] = {
        "read a file": lambda: open(secret).close(),
        "create a file": lambda: open(f"{folder}/made", "w").close(),
        "list a folder": lambda: os.listdir(folder),
        "delete a file": lambda: os.unlink(secret),
        "change a file's mode": lambda: os.chmod(secret, 0o777),
        "read another process's memory": lambda: open(f"/proc/{os.getppid()}/mem", "rb").close(),
        "read the environment of a process": lambda: open("/proc/self/environ", "rb").close(),
        "open a TCP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
        "open a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "open a Unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close(),
        "signal its parent": lambda: os.kill(os.getppid(), 0),
        "signal the process that judges": lambda: os.kill(parent, 0),
        "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)),
        "trace a process": _trace,
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "fork": _fork,
    }
    channel.send([name for name, attack in attacks.items() if _works(attack)])


def _works(attack: Callable[[], Any]) -> bool:
    try:
        attack()
    except (OSError, ValueError):
        return False
    return True


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _trace() -> None:
    if ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
