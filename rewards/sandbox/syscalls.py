"""System call numbers by name, for the two architectures the jail knows.

Source: the kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. The lists hold only what the jail
allows or treats specially. aarch64 came late and lacks the older forms (open, stat, poll, ...): they are absent there.
"""

import platform
from dataclasses import dataclass

_X86_64 = (
    "read=0 write=1 open=2 close=3 stat=4 fstat=5 lstat=6 poll=7 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12 rt_sigaction=13 "
    "rt_sigprocmask=14 rt_sigreturn=15 ioctl=16 pread64=17 readv=19 writev=20 access=21 pipe=22 select=23 sched_yield=24 "
    "mremap=25 madvise=28 dup=32 dup2=33 pause=34 nanosleep=35 getitimer=36 alarm=37 setitimer=38 getpid=39 sendto=44 "
    "recvfrom=45 shutdown=48 getsockname=51 getpeername=52 socketpair=53 getsockopt=55 clone=56 exit=60 uname=63 "
    "fcntl=72 getcwd=79 readlink=89 gettimeofday=96 getrlimit=97 getrusage=98 sysinfo=99 times=100 getuid=102 getgid=104 "
    "geteuid=107 getegid=108 getppid=110 getpgrp=111 rt_sigpending=127 rt_sigtimedwait=128 sigaltstack=131 gettid=186 time=201 "
    "futex=202 sched_getaffinity=204 getdents64=217 set_tid_address=218 restart_syscall=219 clock_gettime=228 clock_getres=229 "
    "clock_nanosleep=230 exit_group=231 epoll_wait=232 epoll_ctl=233 openat=257 newfstatat=262 readlinkat=267 faccessat=269 "
    "pselect6=270 ppoll=271 set_robust_list=273 epoll_pwait=281 eventfd2=290 epoll_create1=291 dup3=292 pipe2=293 prlimit64=302 "
    "getcpu=309 getrandom=318 membarrier=324 statx=332 rseq=334 clone3=435 faccessat2=439"
)
_AARCH64 = (
    "getcwd=17 eventfd2=19 epoll_create1=20 epoll_ctl=21 epoll_pwait=22 dup=23 dup3=24 fcntl=25 ioctl=29 faccessat=48 openat=56 "
    "close=57 pipe2=59 getdents64=61 lseek=62 read=63 write=64 readv=65 writev=66 pread64=67 pselect6=72 ppoll=73 readlinkat=78 "
    "newfstatat=79 fstat=80 exit=93 exit_group=94 set_tid_address=96 futex=98 set_robust_list=99 nanosleep=101 getitimer=102 "
    "setitimer=103 clock_gettime=113 clock_getres=114 clock_nanosleep=115 sched_getaffinity=123 sched_yield=124 "
    "restart_syscall=128 sigaltstack=132 rt_sigaction=134 rt_sigprocmask=135 rt_sigpending=136 rt_sigtimedwait=137 "
    "rt_sigreturn=139 times=153 uname=160 getrlimit=163 getrusage=165 getcpu=168 gettimeofday=169 getpid=172 getppid=173 "
    "getuid=174 geteuid=175 getgid=176 getegid=177 gettid=178 sysinfo=179 socketpair=199 getsockname=204 getpeername=205 "
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
