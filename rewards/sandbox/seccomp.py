"""A seccomp filter: which system calls a jailed process may make, and with which arguments.

Everything not listed fails with EPERM (clone3 with ENOSYS, so that libraries fall back to clone, which fails). The
filter assumes native code in the process, not just Python: it lists what is harmless, whoever calls it.

- No fork, thread, exec, signal to anybody, ptrace, socket, connect or bind; nothing that changes files, limits or
identity.
- Pairs of connected sockets are allowed, because asyncio needs one to wake itself; sending to an address is not.
- Files may be opened for reading only: Landlock before ABI 3 does not know of truncation.
- fcntl may not name a process to be signalled (F_SETOWN), nor may ioctl.
- Limits may be read, not set.
- On the user's word: threads (clone for nothing but a thread of this process), and changing files (where Landlock
says).
"""

import ctypes
import errno
import platform
import struct
from dataclasses import dataclass

from selfcorrect.rewards.sandbox.libc import PreparedCall, libc

# System call numbers by name, for the two architectures the jail knows.
#
# Source: the kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. The lists hold only
# what the jail allows or treats specially. aarch64 came late and lacks the older forms (open, stat, poll, ...): they
# are absent there.

_X86_64 = (
    "read=0 write=1 open=2 close=3 stat=4 fstat=5 lstat=6 poll=7 lseek=8 mmap=9 mprotect=10 "
    "munmap=11 brk=12 rt_sigaction=13 "
    "rt_sigprocmask=14 rt_sigreturn=15 ioctl=16 pread64=17 readv=19 writev=20 access=21 "
    "pipe=22 select=23 sched_yield=24 "
    "mremap=25 madvise=28 dup=32 dup2=33 pause=34 nanosleep=35 getitimer=36 alarm=37 setitimer=38 getpid=39 sendto=44 "
    "recvfrom=45 shutdown=48 getsockname=51 getpeername=52 socketpair=53 getsockopt=55 clone=56 exit=60 uname=63 "
    "fsync=74 fdatasync=75 ftruncate=77 chdir=80 rename=82 mkdir=83 rmdir=84 unlink=87 "
    "mkdirat=258 unlinkat=263 renameat=264 renameat2=316 "
    "fcntl=72 getcwd=79 readlink=89 gettimeofday=96 getrlimit=97 getrusage=98 sysinfo=99 "
    "times=100 getuid=102 getgid=104 "
    "geteuid=107 getegid=108 getppid=110 getpgrp=111 rt_sigpending=127 rt_sigtimedwait=128 "
    "sigaltstack=131 gettid=186 time=201 "
    "futex=202 sched_getaffinity=204 getdents64=217 set_tid_address=218 restart_syscall=219 "
    "clock_gettime=228 clock_getres=229 "
    "clock_nanosleep=230 exit_group=231 epoll_wait=232 epoll_ctl=233 openat=257 newfstatat=262 "
    "readlinkat=267 faccessat=269 "
    "pselect6=270 ppoll=271 set_robust_list=273 epoll_pwait=281 eventfd2=290 epoll_create1=291 "
    "dup3=292 pipe2=293 prlimit64=302 "
    "getcpu=309 getrandom=318 membarrier=324 statx=332 rseq=334 clone3=435 faccessat2=439"
)
_AARCH64 = (
    "getcwd=17 eventfd2=19 epoll_create1=20 epoll_ctl=21 epoll_pwait=22 dup=23 dup3=24 "
    "fcntl=25 ioctl=29 faccessat=48 openat=56 "
    "close=57 pipe2=59 getdents64=61 lseek=62 read=63 write=64 readv=65 writev=66 pread64=67 "
    "pselect6=72 ppoll=73 readlinkat=78 "
    "newfstatat=79 fstat=80 exit=93 exit_group=94 set_tid_address=96 futex=98 set_robust_list=99 "
    "nanosleep=101 getitimer=102 "
    "setitimer=103 clock_gettime=113 clock_getres=114 clock_nanosleep=115 sched_getaffinity=123 sched_yield=124 "
    "restart_syscall=128 sigaltstack=132 rt_sigaction=134 rt_sigprocmask=135 rt_sigpending=136 rt_sigtimedwait=137 "
    "rt_sigreturn=139 times=153 uname=160 getrlimit=163 getrusage=165 getcpu=168 gettimeofday=169"
    " getpid=172 getppid=173 "
    "getuid=174 geteuid=175 getgid=176 getegid=177 gettid=178 sysinfo=179 socketpair=199 "
    "getsockname=204 getpeername=205 "
    "mkdirat=34 unlinkat=35 renameat=38 ftruncate=46 chdir=49 fsync=82 fdatasync=83 renameat2=276 "
    "sendto=206 recvfrom=207 getsockopt=209 shutdown=210 brk=214 munmap=215 mremap=216 clone=220 mmap=222 "
    "mprotect=226 madvise=233 prlimit64=261 getrandom=278 membarrier=283 statx=291 rseq=293 clone3=435 faccessat2=439"
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a seccomp filter must know of a processor.

    Attributes:
        audit: the AUDIT_ARCH_* value the kernel shows to a filter.
        numbers: system call numbers by name.
        seccomp: the number of seccomp(2) itself.
    """

    audit: int
    numbers: dict[str, int]
    seccomp: int


def _numbers(table: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (entry.partition("=") for entry in table.split())}


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, _numbers(_X86_64), 317),
    "aarch64": Architecture(0xC00000B7, _numbers(_AARCH64), 277),
}


def this_architecture() -> Architecture | None:
    """The architecture of this process, or None if the jail has no table for it."""
    return ARCHITECTURES.get(platform.machine())


_FREE = (
    "read write readv writev close lseek pread64 stat fstat lstat newfstatat statx access faccessat faccessat2 "
    "readlink readlinkat getdents64 getcwd mmap munmap mprotect mremap madvise brk futex "
    "poll ppoll select pselect6 epoll_create1 "
    "epoll_ctl epoll_wait epoll_pwait eventfd2 pipe pipe2 dup dup2 dup3 recvfrom shutdown getsockname getpeername "
    "getsockopt rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait "
    "sigaltstack setitimer getitimer alarm pause "
    "nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getrusage "
    "getrlimit getrandom getpid getppid gettid "
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

_CLONE_VM, _CLONE_THREAD = 0x100, 0x10000
_FOR_WRITING = (
    "open openat fsync fdatasync ftruncate chdir rename renameat renameat2 mkdir mkdirat rmdir unlink unlinkat"
)

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _RETURN, _JUMP = 0x20, 0x06, 0x05  # BPF_LD|W|ABS, BPF_RET|K, BPF_JMP|JA
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45  # BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_JMP|JSET|K
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data
_SET_MODE_FILTER = 1

Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, k"""
_DENIAL, _ALLOWANCE = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def filter_program(architecture: Architecture, *, threads: bool = False, writing: bool = False) -> list[Instruction]:
    """The filter as BPF instructions: a search tree over the numbers. For a list of comparisons the kernel, which tries
    each filter with every number when it is installed, takes five times as long."""
    numbers = architecture.numbers
    rules = {name: [_ALLOWANCE] for name in [*_FREE.split(), *(_FOR_WRITING.split() if writing else [])]}
    rules |= {name: _checks(conditions) for name, conditions in _RESTRICTED.items()}
    if threads:
        rules["clone"] = _thread_checks()
    for name, (argument, flags) in _WITHOUT_FLAGS.items():
        if not writing:
            load = (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument)
            rules[name] = [load, (_ANY_BIT, 0, 1, flags), _DENIAL, _ALLOWANCE]
    rules["clone3"] = [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    return [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, _KILL),  # another calling convention (32-bit on x86_64) has other numbers
        (_LOAD, 0, 0, _NUMBER_AT),
        *_search(_ranges({numbers[name]: rule for name, rule in rules.items() if name in numbers})),
    ]


def _ranges(rules: dict[int, list[Instruction]]) -> list[tuple[int, list[Instruction]]]:
    """What becomes of every number there is: the first numbers of ranges that are treated alike, in order."""
    ranges: list[tuple[int, list[Instruction]]] = []
    for number in sorted({0, *rules, *(number + 1 for number in rules)}):
        rule = rules.get(number, [_DENIAL])
        if not ranges or ranges[-1][1] != rule:
            ranges.append((number, rule))
    return ranges


def _search(ranges: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """Instructions that find the range of the number at hand, and do what its rule says."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    first = ranges[middle][0]
    near = [(_AT_LEAST, len(low), 0, first)]  # a conditional jump reaches over 255 instructions
    return [*(near if len(low) < 256 else [(_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(low))]), *low, *high]


def _thread_checks() -> list[Instruction]:
    """Instructions that allow clone(2) for a thread, which shares all memory, and for nothing else."""
    load = (_LOAD, 0, 0, _ARGUMENTS_AT)
    return [load, (_ANY_BIT, 1, 0, _CLONE_THREAD), _DENIAL, (_ANY_BIT, 1, 0, _CLONE_VM), _DENIAL, _ALLOWANCE]


def _checks(conditions: tuple[tuple[int, tuple[int, ...]], ...]) -> list[Instruction]:
    """Instructions that end in ALLOW if every argument named has one of its values, else in EPERM."""
    steps: list[Instruction] = []
    for argument, values in conditions:
        low = _ARGUMENTS_AT + 8 * argument
        steps += [(_LOAD, 0, 0, low + 4), (_EQUAL, 1, 0, 0), _DENIAL, (_LOAD, 0, 0, low)]
        steps += [(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
        steps.append(_DENIAL)
    return [*steps, _ALLOWANCE]


class SeccompFilter:
    """A filter made once (in the zygote) and put on many processes (its children)."""

    def __init__(self, architecture: Architecture, *, threads: bool = False, writing: bool = False) -> None:
        program = filter_program(architecture, threads=threads, writing=writing)
        packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
        self._code = ctypes.create_string_buffer(packed)
        self._program = _Program(len(packed) // 8, ctypes.addressof(self._code))
        reference = ctypes.byref(self._program)
        self._install = PreparedCall(libc().syscall, architecture.seccomp, _SET_MODE_FILTER, 0, reference)

    def install(self) -> None:
        """Put the filter on this process, for good. Needs no_new_privs.

        Raises:
            OSError: the kernel has no seccomp filters.
        """
        self._install()
