"""Resource limits and capabilities of a jailed process."""

import ctypes
import math
import os
import resource
import signal
import struct

from selfcorrect.rewards.sandbox.libc import libc, system_call

_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 1, 24, 38, 47, 4
_SET_DUMPABLE = 4
_CAPABILITY_VERSION_3 = 0x20080522
OPEN_FILES = 32


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which forked it, ends."""
    system_call(libc().prctl, _SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def give_up_privileges() -> None:
    """Drop every capability, for good: no set-uid program can give one back (no_new_privs)."""
    system_call(libc().prctl, _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc().prctl(*map(ctypes.c_long, (_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)))
    for capability in range(
        64
    ):  # fails without privileges, where there is nothing to drop, and past the last capability
        libc().prctl(*map(ctypes.c_long, (_CAPBSET_DROP, capability, 0, 0, 0)))
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    system_call(libc().capset, header, b"\0" * 24)


def hide_memory() -> None:
    """Keep other processes of the same user from reading this one's memory."""
    system_call(libc().prctl, _SET_DUMPABLE, 0, 0, 0, 0)


def limit_resources(memory_mb: int, seconds: float) -> None:
    """Cap address space (MiB), processor time (a second above the wall clock's deadline), files and open descriptors."""
    cpu = math.ceil(seconds) + 1
    for limit, value in (
        (resource.RLIMIT_AS, memory_mb * 2**20),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (wanted, wanted))
