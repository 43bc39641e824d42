"""The layers around a process that runs code nobody has read.

Two steps, because some layers cost time and hold for children too:

- the zygote, once: no capabilities, no_new_privs, Landlock (files, TCP, signals);
- every child after its fork: dies with the zygote, own session, resource limits, a Landlock domain of its own, seccomp.

With `Isolation.UNSAFE` only the limits remain: separate processes, memory, processor time, wall clock.
"""

import os
from enum import StrEnum

from selfcorrect.rewards.sandbox.landlock import FileRules, isolate_signals, landlock_abi
from selfcorrect.rewards.sandbox.privileges import (
    die_with_parent,
    give_up_privileges,
    hide_memory,
    limit_resources,
)
from selfcorrect.rewards.sandbox.readable_paths import readable_paths
from selfcorrect.rewards.sandbox.seccomp import SeccompFilter
from selfcorrect.rewards.sandbox.syscalls import this_architecture


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
