"""The layers around a process that runs code nobody has read.

Two steps, because some layers cost time and hold for children too:

- the zygote, once: no capabilities, no_new_privs, memory hidden, Landlock (files, TCP, signals);
- every child after its fork: dies with the zygote, resource limits, a Landlock domain of its own, seccomp.

What a child does is worked out before the fork as far as it can be: all that it touches is copied for it.

With `Isolation.UNSAFE` only the limits remain: separate processes, memory, processor time, wall clock.
"""

import ctypes
import importlib.util
import math
import os
import resource
import signal
import struct
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from selfcorrect.rewards.sandbox.landlock import FileRules, SignalRules, landlock_abi
from selfcorrect.rewards.sandbox.libc import PreparedCall, libc, system_call
from selfcorrect.rewards.sandbox.seccomp import SeccompFilter, this_architecture

# Resource limits and capabilities of a jailed process.

_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 1, 24, 38, 47, 4
_SET_DUMPABLE = 4
_CAPABILITY_VERSION_3 = 0x20080522
OPEN_FILES = 32
OUT_OF_THE_WAY = 27
"""The zygote's own descriptors have this number or a higher one: what it is sent for a child gets 3, 4, ... then."""


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
    """Keep other processes of the same user from reading this one's memory, and that of its children."""
    system_call(libc().prctl, _SET_DUMPABLE, 0, 0, 0, 0)


Limits = list[tuple[int, tuple[int, int]]]
"""Arguments of `resource.setrlimit`."""


def limits_of(memory_mb: int, file_mb: int = 0) -> Limits:
    """Caps on address space (MiB), files (MiB) and open descriptors, as far as this process may have them."""
    values = (
        (resource.RLIMIT_AS, memory_mb * 2**20),
        (resource.RLIMIT_FSIZE, file_mb * 2**20),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    )
    return [(limit, _within(limit, value)) for limit, value in values]


def _within(limit: int, value: int) -> tuple[int, int]:
    hard = resource.getrlimit(limit)[1]
    wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return wanted, wanted


# The files a jailed process may read: the standard library without any installed package, and shared libraries.

_PACKAGES = ("site-packages", "dist-packages")
"""Installed packages may hold what a program must not see (a benchmark's tests, say), and lie inside the standard
library's folder."""
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_LIBRARIES = (
    "ld- libc. libm. libdl. libpthread. librt. libutil. libgcc_s. libstdc++. libpython "
    "libffi. libz. libbz2. liblzma. libzstd. libexpat. "
    "libmpdec. libssl. libcrypto. libsqlite3. libuuid. libreadline. libtinfo libncurses "
    "libpanel libcrypt. libnsl. libtirpc. libgdbm libdb-"
)
"""What the standard library's extension modules link to. Not every library of the machine: the kernel copies the
rules for every child."""
_SINGLE_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
_INSIDE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "inside")
"""What runs in the jail may load more of itself, for tests of the rarer kinds."""


def readable_paths() -> list[str]:
    """Files and folders, deduplicated; those that do not exist may be among them."""
    return list(dict.fromkeys([*_standard_library(), *_shared_libraries(), *_SINGLE_FILES, _INSIDE]))


def _standard_library() -> Iterator[str]:
    for folder in dict.fromkeys(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")):
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if name not in _PACKAGES and not is_compiled(path):
                yield path


def is_compiled(source: str) -> bool:
    """Whether a module is imported without reading its source: what Python compiled lies beside it, and is of today.

    For such a source no rule is needed, and of 290 rules these are 170.
    """
    if not source.endswith(".py"):
        return False
    compiled = importlib.util.cache_from_source(source)
    if os.path.dirname(os.path.dirname(compiled)) != os.path.dirname(source):
        return False
    try:
        with open(compiled, "rb") as file:
            magic, flags, changed, size = struct.unpack("<4s3I", file.read(16))
        status = os.stat(source)
    except (OSError, struct.error):
        return False
    return (magic, flags, changed, size) == (
        importlib.util.MAGIC_NUMBER,
        0,
        int(status.st_mtime) & 0xFFFFFFFF,
        status.st_size & 0xFFFFFFFF,
    )


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
    TOGETHER = "together"
    """The jail; the tests run in the program's process, where it can reach them. See `rewards/code/together.py`."""
    BUBBLEWRAP = "bubblewrap"
    """The jail inside namespaces of bubblewrap: no network device, no other process in sight."""
    UNSAFE = "unsafe"
    """Separate processes with resource limits only. Code can read and write whatever the user can."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """How processes are kept in, and what is let through on the user's word.

    Attributes:
        isolation: the layers around each process.
        memory_mb: address space of a process, in MiB.
        packages: installed packages that programs and tests may import, with what these need.
        threads: whether a process may start threads (processes never).
        scratch_mb: size of a folder that a process may write to, in MiB; 0 means none.
    """

    isolation: Isolation = Isolation.JAIL
    memory_mb: int = 512
    packages: tuple[str, ...] = ()
    threads: bool = False
    scratch_mb: int = 0

    def as_data(self) -> dict[str, Any]:
        """As plain data, for another process."""
        return {"isolation": self.isolation.value} | {
            name: getattr(self, name) for name in ("memory_mb", "packages", "threads", "scratch_mb")
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "Confinement":
        """What `as_data` gave."""
        return cls(**data | {"isolation": Isolation(data["isolation"]), "packages": tuple(data["packages"])})


class JailUnavailable(Exception):
    """This machine lacks a layer of the jail. Internal: the parent raises `SandboxError`."""


class Jail:
    """The layers of one zygote and its children.

    Raises:
        JailUnavailable: the kernel or the processor lacks one of them.
    """

    def __init__(self, confinement: Confinement, readable: Iterable[str] = ()) -> None:
        self._confinement, self._readable = confinement, list(readable)
        self._limits = limits_of(confinement.memory_mb, confinement.scratch_mb)
        self._die_with_parent = PreparedCall(libc().prctl, _SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        self._filter: SeccompFilter | None = None
        self.scratch: Scratch | None = None
        if confinement.isolation is Isolation.UNSAFE:
            return
        architecture = this_architecture()
        if architecture is None:
            raise JailUnavailable(
                f"layer seccomp: no system call table for this processor ({os.uname().machine}"
                f"); x86_64 and aarch64 have one"
            )
        needed = 3 if confinement.scratch_mb else 1
        if (abi := landlock_abi()) < needed:
            raise JailUnavailable(
                f"layer Landlock: the kernel offers ABI {abi}, and {needed} is needed "
                f"(Linux {'6.2' if needed == 3 else '5.13'} or later, with landlock among lsm= at boot; "
                "in a container, a runtime whose seccomp profile allows its calls)"
            )
        self._filter = SeccompFilter(architecture, threads=confinement.threads, writing=bool(confinement.scratch_mb))
        self._signals = SignalRules(OUT_OF_THE_WAY)

    def close_around_zygote(self) -> None:
        """The layers that hold for this process and everything it forks."""
        if self._filter is None:
            return
        if self._confinement.scratch_mb:
            self.scratch = Scratch(self._confinement.scratch_mb, [*readable_paths(), *self._readable])
        try:
            layer = "capabilities and no_new_privs"
            give_up_privileges()
            layer = "Landlock"
            rules = FileRules([*readable_paths(), *self._readable], [self.scratch.folder] if self.scratch else [])
            rules.enforce()
            rules.close()
            layer = "memory hidden from other processes"
            hide_memory()
        except OSError as error:
            raise JailUnavailable(
                f"layer {layer}: the kernel refused it ({error}); in a container, its seccomp profile may be the reason"
            ) from error
        self._try_seccomp()

    def _try_seccomp(self) -> None:
        """Put the filter on a child, so that a kernel without it is known before a program runs."""
        code = -1
        while code < 0:  # killed by somebody: nothing is known yet
            code = self._install_in_child()
        if code:
            raise JailUnavailable(
                f"layer seccomp: the kernel refused the filter ({os.strerror(code)}); it needs CONFIG_SECCOMP_FILTER, "
                "and in a container a runtime that lets processes restrict themselves"
            )

    def _install_in_child(self) -> int:
        """The error number that installing the filter gives, 0 for none; negative: the child was killed."""
        assert self._filter is not None
        try:
            child = os.fork()
        except OSError as error:
            raise JailUnavailable(
                f"a process cannot be started ({error}): a limit on processes, "
                f"perhaps (ulimit -u, pids of the container)"
            ) from error
        if child == 0:
            try:
                self._filter.install()
                os._exit(0)
            except OSError as error:
                os._exit(error.errno or 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def limits_of_child(self, seconds: float) -> Limits:
        """The limits of a child to be forked. Processor time may be a second above the wall clock's deadline."""
        processors = _processors() if self._confinement.threads else 1
        cpu = math.ceil(seconds * processors) + 1
        return [*self._limits, (resource.RLIMIT_CPU, _within(resource.RLIMIT_CPU, cpu))]

    def part_child(self, zygote: int) -> None:
        """Keep a child just forked from outliving its zygote, and from reaching it; before its descriptors are closed.

        Without seccomp kill(0, ...) would reach the zygote's group. With it there is no kill(2), and the child stays in
        the session: a new one is a new group to a busy machine's scheduler, and waits 3 ms for its first turn.
        """
        self._die_with_parent()
        if os.getppid() != zygote:  # it ended before the call
            os._exit(1)
        if self._filter is None:
            os.setsid()
        else:
            self._signals.isolate()

    def close_around_child(self, limits: Limits) -> None:
        """All the rest. Nothing a child runs afterwards can undo it."""
        for limit, values in limits:
            resource.setrlimit(limit, values)
        if self.scratch is not None:
            self.scratch.enter()
        if self._filter is not None:
            self._filter.install()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


# A folder that a process may write to.

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_NOSUID_NODEV_NOEXEC, _MS_REC_PRIVATE = 2 | 4 | 8, 0x4000 | 0x40000
_FILES_AT_MOST = 1024


def _mount_point(needed: list[str]) -> str:
    """A folder that every system has and no path that is needed lies in: nothing is made, so nothing can be left."""
    for folder in ("/tmp", "/var/tmp", "/mnt", "/media", "/srv"):
        if os.path.isdir(folder) and not any(os.path.realpath(path).startswith(f"{folder}/") for path in needed):
            return folder
    raise JailUnavailable("scratch: none of /tmp, /var/tmp, /mnt, /media and /srv is free to mount a folder on")


class Scratch:
    """A file system in memory of a fixed size, mounted where only this zygote and its children see it.

    Nothing smaller bounds what a process can write: limits on files count each for itself.

    Raises:
        JailUnavailable: the kernel lets this process make no such mount.
    """

    def __init__(self, size_mb: int, needed: Iterable[str]) -> None:
        self.folder = _mount_point(list(needed))
        try:
            self._mount(size_mb)
        except OSError as error:
            raise JailUnavailable(
                f"scratch: the kernel lets this user mount no folder of its own ({error}); allow user namespaces "
                "(sysctl kernel.unprivileged_userns_clone=1, or an AppArmor profile), or leave scratch out"
            ) from error

    def _mount(self, size_mb: int) -> None:
        user, group = os.getuid(), os.getgid()
        namespaces = _CLONE_NEWNS if user == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
        system_call(libc().unshare, namespaces)
        if user != 0:
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{user} {user} 1"),
                ("gid_map", f"{group} {group} 1"),
            ):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
        system_call(libc().mount, b"none", b"/", None, _MS_REC_PRIVATE, None)
        options = f"size={size_mb}m,nr_inodes={_FILES_AT_MOST},mode=0700".encode()
        system_call(libc().mount, b"selfcorrect", self.folder.encode(), b"tmpfs", _MS_NOSUID_NODEV_NOEXEC, options)

    def enter(self) -> None:
        """Make it the current folder, and the one for temporary files, of a child just forked."""
        os.chdir(self.folder)
        os.environ["TMPDIR"] = self.folder

    def empty(self) -> bool:
        """Take away what a child left. Whether that worked: a hostile one may have made what cannot be removed."""
        import shutil

        try:
            for entry in os.scandir(self.folder):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        except (OSError, RecursionError):
            return False
        return True
