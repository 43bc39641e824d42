"""A seccomp filter: which system calls a jailed process may make, and with which arguments.

Everything not listed fails with EPERM (clone3 with ENOSYS, so that libraries fall back to clone, which fails). The filter assumes
native code in the process, not just Python: it lists what is harmless, whoever calls it.

- No fork, thread, exec, signal to anybody, ptrace, socket, connect or bind; nothing that changes files, limits or identity.
- Pairs of connected sockets are allowed, because asyncio needs one to wake itself; sending to an address is not.
- Files may be opened for reading only: Landlock before ABI 3 does not know of truncation.
- fcntl may not name a process to be signalled (F_SETOWN), nor may ioctl.
- Limits may be read, not set.
"""

import ctypes
import errno
import struct

from selfcorrect.rewards.sandbox.libc import libc, system_call
from selfcorrect.rewards.sandbox.syscalls import Architecture

_FREE = (
    "read write readv writev close lseek pread64 stat fstat lstat newfstatat statx access faccessat faccessat2 "
    "readlink readlinkat getdents64 getcwd mmap munmap mprotect mremap madvise brk futex poll ppoll select pselect6 epoll_create1 "
    "epoll_ctl epoll_wait epoll_pwait eventfd2 pipe pipe2 dup dup2 dup3 recvfrom shutdown getsockname getpeername "
    "getsockopt rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait sigaltstack setitimer getitimer alarm pause "
    "nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getrusage getrlimit getrandom getpid getppid gettid "
    "getuid geteuid getgid getegid getpgrp getcpu sched_getaffinity sysinfo uname set_robust_list set_tid_address rseq "
    "membarrier restart_syscall exit exit_group"
)

# Each: system call, index of the argument that decides, the values it may have (low and high 32 bits are compared).
_AF_UNIX, _SOCK_STREAM_VARIANTS = 1, (0x1, 0x801, 0x80001, 0x80801)
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
_IOCTL_REQUESTS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_RESTRICTED: dict[str, tuple[tuple[int, tuple[int, ...]], ...]] = {
    "sendto": ((4, (0,)),),
    "socketpair": ((0, (_AF_UNIX,)), (1, _SOCK_STREAM_VARIANTS)),
    "fcntl": ((1, _FCNTL_COMMANDS),),
    "ioctl": ((1, _IOCTL_REQUESTS),),
    "prlimit64": ((0, (0,)), (2, (0,))),
}

# Each: system call, index of the argument with its flags, of which none of these may be set.
_O_WRONLY, _O_RDWR, _O_CREAT, _O_TRUNC = 0o1, 0o2, 0o100, 0o1000
_CHANGING = _O_WRONLY | _O_RDWR | _O_CREAT | _O_TRUNC
_WITHOUT_FLAGS: dict[str, tuple[int, int]] = {"open": (1, _CHANGING), "openat": (2, _CHANGING)}

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JSET|K, BPF_RET|K
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data
_SET_MODE_FILTER = 1

Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, k"""


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def filter_program(architecture: Architecture) -> list[Instruction]:
    """The filter as BPF instructions."""
    numbers = architecture.numbers
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, _KILL),  # another calling convention (32-bit on x86_64) has other numbers
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for name in _FREE.split():
        if name in numbers:
            program += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ALLOW)]
    for name, conditions in _RESTRICTED.items():
        checks = _checks(conditions)
        program += [(_EQUAL, 0, len(checks), numbers[name]), *checks]
    for name, (argument, flags) in _WITHOUT_FLAGS.items():
        if name in numbers:
            low = _ARGUMENTS_AT + 8 * argument
            denial, allowance = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
            checks = [(_LOAD, 0, 0, low), (_ANY_BIT, 0, 1, flags), denial, allowance]
            program += [(_EQUAL, 0, len(checks), numbers[name]), *checks]
    program += [(_EQUAL, 0, 1, numbers["clone3"]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    program.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    return program


def _checks(conditions: tuple[tuple[int, tuple[int, ...]], ...]) -> list[Instruction]:
    """Instructions that end in ALLOW if every argument named has one of its values, else in EPERM."""
    denial = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    steps: list[Instruction] = []
    for argument, values in conditions:
        low = _ARGUMENTS_AT + 8 * argument
        steps += [(_LOAD, 0, 0, low + 4), (_EQUAL, 1, 0, 0), denial, (_LOAD, 0, 0, low)]
        steps += [(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
        steps.append(denial)
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


class SeccompFilter:
    """A filter made once (in the zygote) and put on many processes (its children)."""

    def __init__(self, architecture: Architecture) -> None:
        packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in filter_program(architecture))
        self._code = ctypes.create_string_buffer(packed)
        self._program = _Program(len(packed) // 8, ctypes.addressof(self._code))
        self._seccomp = architecture.seccomp

    def install(self) -> None:
        """Put the filter on this process, for good. Needs no_new_privs.

        Raises:
            OSError: the kernel has no seccomp filters.
        """
        system_call(libc().syscall, self._seccomp, _SET_MODE_FILTER, 0, ctypes.byref(self._program))
