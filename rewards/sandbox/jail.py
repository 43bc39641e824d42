"""The layers around a process that runs code nobody has read.

Two steps, because some layers cost time and hold for children too:

- the zygote, once: no capabilities, no_new_privs, Landlock (files, TCP, signals);
- every child after its fork: dies with the zygote, own session, resource limits, a Landlock domain of its own, seccomp.

With `Isolation.UNSAFE` only the limits remain: separate processes, memory, processor time, wall clock.
"""

import ctypes
import math
import os
import resource
import signal
import struct
import sysconfig
from collections.abc import Iterator
from enum import StrEnum

from selfcorrect.rewards.sandbox.landlock import FileRules, isolate_signals, landlock_abi
from selfcorrect.rewards.sandbox.libc import libc, system_call
from selfcorrect.rewards.sandbox.seccomp import SeccompFilter, this_architecture

# Resource limits and capabilities of a jailed process.

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
    """Cap address space (MiB), processor time (a second above the wall clock's deadline), files and open
    descriptors."""
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


# The files a jailed process may read: the standard library without any installed package, and shared libraries.

_PACKAGES = ("site-packages", "dist-packages")
"""Installed packages may hold what a program must not see (a benchmark's tests, say), and lie inside the standard
library's folder."""
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_LIBRARIES = (
    "ld- libc. libm. libdl. libpthread. librt. libutil. libgcc_s. libstdc++. libpython libffi. libz. libbz2. liblzma. libzstd. libexpat. "
    "libmpdec. libssl. libcrypto. libsqlite3. libuuid. libreadline. libtinfo libncurses libpanel libcrypt. libnsl. libtirpc. libgdbm libdb-"
)
"""What the standard library's extension modules link to. Not every library of the machine: the kernel copies the
rules at every fork."""
_SINGLE_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo")


def readable_paths() -> list[str]:
    """Files and folders, deduplicated; those that do not exist may be among them."""
    return list(dict.fromkeys([*_standard_library(), *_shared_libraries(), *_SINGLE_FILES]))


def _standard_library() -> Iterator[str]:
    for folder in dict.fromkeys(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")):
        if os.path.isdir(folder):
            yield from (os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name not in _PACKAGES)


def _shared_libraries() -> Iterator[str]:
    known = tuple(_LIBRARIES.split())
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = [*_LIBRARY_FOLDERS, *(os.path.join(folder, multiarch) for folder in _LIBRARY_FOLDERS[:3] if multiarch)]
    folders.append(sysconfig.get_config_var("LIBDIR") or "")
    for folder in {os.path.realpath(folder) for folder in folders if os.path.isdir(folder)}:
        for entry in os.scandir(folder):
            if ".so" in entry.name and entry.name.startswith(known) and entry.is_file():
                yield entry.path


class Isolation(StrEnum):
    """How code is kept in."""

    JAIL = "jail"
    """Landlock, seccomp, no capabilities, resource limits. The default."""
    BUBBLEWRAP = "bubblewrap"
    """The jail inside namespaces of bubblewrap: no network device, no other process in sight."""
    UNSAFE = "unsafe"
    """Separate processes with resource limits only. Code can read and write whatever the user can."""


class JailUnavailable(Exception):
    """This machine lacks a layer of the jail. Internal: the parent raises `SandboxError`."""


class Jail:
    """The layers of one zygote and its children.

    Raises:
        JailUnavailable: the kernel or the processor lacks one of them.
    """

    def __init__(self, isolation: Isolation, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._filter: SeccompFilter | None = None
        if isolation is Isolation.UNSAFE:
            return
        architecture = this_architecture()
        if architecture is None:
            raise JailUnavailable(f"no system call table for this processor ({os.uname().machine})")
        if landlock_abi() < 1:
            raise JailUnavailable(
                "the kernel offers no Landlock (Linux 5.13 or later, enabled at boot with lsm=landlock)"
            )
        self._filter = SeccompFilter(architecture)

    def close_around_zygote(self) -> None:
        """The layers that hold for this process and everything it forks."""
        if self._filter is None:
            return
        try:
            give_up_privileges()
            rules = FileRules(readable_paths())
            rules.enforce()
            rules.close()
        except OSError as error:
            raise JailUnavailable(f"the kernel refused a layer of the jail: {error}") from error

    def close_around_child(self, zygote: int, seconds: float) -> None:
        """All the rest, in a child just forked. Nothing it runs afterwards can undo it."""
        die_with_parent(zygote)
        os.setsid()
        if self._filter is not None:
            hide_memory()
            isolate_signals()
        limit_resources(self._memory_mb, seconds)
        if self._filter is not None:
            self._filter.install()
