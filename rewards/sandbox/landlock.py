"""Landlock: which files a process may open, whether it may open TCP connections, and whom it may signal.

Kernel documentation: userspace-api/landlock. ABI 1 (Linux 5.13) restricts files, 4 (6.7) TCP, 6 (6.12) signals and
abstract Unix sockets. The numbers of its system calls are the same on every architecture.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterable

from selfcorrect.rewards.sandbox.libc import PreparedCall, libc, system_call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION, _RULE_PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_IN = sum(1 << bit for bit in (1, 2, 3, 4, 5, 7, 8, 14))
"""Write, read and list; remove folders and files; make folders and files; truncate (ABI 3). Nothing is executed, and no
sockets, pipes, devices or links are made."""
_ALL_FILE_ACCESS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Every right that files can be denied, by ABI; later ABIs have those of 5."""
_ALL_TCP = 0b11
_ALL_SCOPES = 0b11


def landlock_abi() -> int:
    """The version of Landlock this kernel offers, 0 if none."""
    return max(0, int(libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_GET_VERSION))))


class FileRules:
    """A set of rules made once: nothing may be opened but `readable` (files, or folders with all below), for reading,
    and what lies in the folders `writable`.

    Paths that do not exist are passed over. TCP and signals to processes outside are denied too where the kernel can.

    Raises:
        OSError: the kernel has no Landlock.
    """

    def __init__(self, readable: Iterable[str], writable: Iterable[str] = ()) -> None:
        abi = landlock_abi()
        handled = _ALL_FILE_ACCESS.get(abi, _ALL_FILE_ACCESS[5]), _ALL_TCP, _ALL_SCOPES
        known = 3 if abi >= 6 else 2 if abi >= 4 else 1  # how many fields of the structure this kernel has
        attributes = struct.pack(f"={known}Q", *handled[:known])
        self._descriptor = system_call(libc().syscall, _CREATE_RULESET, attributes, len(attributes), 0)
        for path in readable:
            self._allow(path, _READ_FILE | _READ_DIR if os.path.isdir(path) else _READ_FILE)
        for path in writable:
            self._allow(path, _WRITE_IN)

    def enforce(self) -> None:
        """Put the rules on this process and all its future children, for good. Needs no_new_privs."""
        system_call(libc().syscall, _RESTRICT_SELF, self._descriptor, 0)

    def close(self) -> None:
        os.close(self._descriptor)

    def _allow(self, path: str, rights: int) -> None:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            rule = struct.pack("=Qi", rights, descriptor)
            system_call(libc().syscall, _ADD_RULE, self._descriptor, _RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(descriptor)


class SignalRules:
    """Rules made once (in the zygote) that put a process in a Landlock domain of its own, below its parent's, so that
    even the parent is out of reach.

    Nothing before ABI 6, where only seccomp stands before kill(2).

    Args:
        lowest: the descriptor of the rules has this number or a higher one.
    """

    def __init__(self, lowest: int) -> None:
        self._descriptor = -1
        if landlock_abi() >= 6:
            attributes = struct.pack("=3Q", 0, 0, _ALL_SCOPES)
            made = system_call(libc().syscall, _CREATE_RULESET, attributes, len(attributes), 0)
            self._descriptor = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, lowest)
            os.close(made)
        self._enforce = PreparedCall(libc().syscall, _RESTRICT_SELF, self._descriptor, 0)

    def isolate(self) -> None:
        """Put the rules on this process and all its future children, for good. Needs no_new_privs."""
        if self._descriptor >= 0:
            self._enforce()
