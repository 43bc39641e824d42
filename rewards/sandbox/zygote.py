"""A process that forks jailed children and does nothing else: it never sees a program, a test or an answer.

Started fresh (`python -P -s -S`, an environment of one variable), never forked from the user's process: a fork of a
process with torch loaded costs 7 to 200 ms, one of this about 1 ms. It serves its parent over a socket on descriptor 0,
one request a packet, and ends when that socket is closed. Only the last two are answered: an answer nobody waits for
costs a switch between processes.

- `{"fork": role, "seconds": s, "stays": bool, "ahead": data}` with descriptors: fork a child that gets the descriptors
  as 3, 4, ... and calls `ROLES[role]`. If nothing else is heard for `s` seconds (and two more), the child is killed,
  unless it stays. `data`, if it is not null, is handed to `PREPARE[role]` before the fork.
- `{"kill": true}`: kill the child.
- `{"end": grace}`: wait `grace` seconds for the child to end by itself, then kill it. Answer: its exit code, signal,
  memory, time, pauses.
- `{"who": true}`: answer `{"pid": p}`, 0 if there is no child.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from selfcorrect.rewards import framing
from selfcorrect.rewards.sandbox.jail import OUT_OF_THE_WAY, Confinement, Isolation, Jail, JailUnavailable
from selfcorrect.rewards.sandbox.libc import give_back_free_memory

CONTROL = 0
FIRST_OWN = 3
"""The descriptor of the first channel a child is given; 0, 1 and 2 are /dev/null."""
REQUEST_BYTES = 16_384
"""Of a request, at most."""
_ORPHAN_SECONDS = 2.0
_THREAD_STACK = 8 * 2**20
_DESCRIPTOR = struct.Struct("i")
_ROOM_FOR_DESCRIPTORS = socket.CMSG_LEN((OUT_OF_THE_WAY - FIRST_OWN) * _DESCRIPTOR.size)
_PRELOADED = (
    "abc bisect collections collections.abc contextlib copy dataclasses datetime decimal "
    "enum fractions functools heapq io itertools "
    "json math operator random re statistics string struct sys textwrap time types typing warnings"
)
"""Loaded before the fork, so that programs import them at no cost. Not all that they may want: every fork copies the
tables of it."""

Role = Callable[[], None]


def main(module: str, confinement: dict[str, Any], importable: list[str]) -> None:
    """Serve with the roles of `module` until the parent is gone. `importable`: the `sys.path` of the children."""
    limits = Confinement.from_data(confinement)
    control = socket.socket(fileno=fcntl.fcntl(CONTROL, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY))
    _redirect_standard_descriptors()
    try:
        with _no_work_after_forks():
            inside, jail = _made_ready(module, limits, importable)
            inside.warm_up()
    except JailUnavailable as reason:
        _answer(control, {"refused": str(reason)})
        return
    gc.collect()
    give_back_free_memory()  # or every fork copies the tables of it
    gc.freeze()  # keeps a child's garbage collector from copying pages it shares with us
    _answer(control, {"ready": os.getpid()})
    _serve(control, inside.ROLES, inside.PREPARE, jail)


@contextlib.contextmanager
def _no_work_after_forks() -> Iterator[None]:
    """What is loaded here does nothing in a child.

    `threading` and `logging` make their locks anew, which nobody holds here, where there is one thread; `random` seeds
    itself. In the process of the tests that were 180 pages of 810 to be copied. Numbers start with the same seed in
    every child: the same program gives the same result every time.
    """
    ours, os.register_at_fork = os.register_at_fork, lambda **_: None
    try:
        importlib.import_module("random").seed(0)
        yield
    finally:
        os.register_at_fork = ours


def _made_ready(module: str, limits: Confinement, importable: list[str]) -> tuple[Any, Jail]:
    """The module with the roles, and the jail, closed around this process.

    Raises:
        JailUnavailable: this machine lacks one of its layers.
    """
    inside = importlib.import_module(module)
    for name in _PRELOADED.split():
        importlib.import_module(name)
    if limits.isolation is Isolation.TOGETHER:
        importlib.import_module("selfcorrect.rewards.sandbox.inside.together")
    found = _load_packages(limits.packages) if limits.packages else []
    if limits.threads:
        importlib.import_module("threading").stack_size(_THREAD_STACK)
    _set_import_path(importable)
    jail = Jail(limits, [path for one in found for path in one.paths])
    jail.close_around_zygote()
    return inside, jail


def _load_packages(names: tuple[str, ...]) -> list[Any]:
    from selfcorrect.rewards.sandbox import packages  # every child copies what is loaded here

    found = packages.load(names)
    packages.let_import(found)
    return found


def _set_import_path(importable: list[str]) -> None:
    sys.path[:] = importable
    sys.path_importer_cache.clear()
    sys.argv[:] = [""]
    del sys.orig_argv[:]
    os.environ.clear()


def _serve(
    control: socket.socket, roles: dict[str, Role], prepare: dict[str, Callable[[Any], None]], jail: Jail
) -> None:
    child = 0
    patience: float | None = None
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        if patience is not None and not poll.poll(1000 * patience):
            _kill(child)  # the parent has forgotten it
            child, patience = 0, None
        packet, descriptors = _next_packet(control)
        if not packet:
            if child:
                _kill(child)
            if jail.scratch is not None:
                jail.scratch.empty()
            return
        request = framing.parsed(packet)
        if "fork" in request:
            if request["ahead"] is not None:
                prepare[request["fork"]](request["ahead"])
            child = _fork(control, roles[request["fork"]], jail, descriptors, request["seconds"])
            patience = None if request["stays"] else request["seconds"] + _ORPHAN_SECONDS
        elif "who" in request:
            _answer(control, {"pid": child})
        else:
            if "end" in request:
                _answer(control, _end(child, request["end"]) if child else {"forgotten": True})
            elif child:
                _kill(child)
            child, patience = 0, None
            if jail.scratch is not None and not jail.scratch.empty():
                return  # nobody after this child may find what it left; the parent starts another zygote


def _next_packet(control: socket.socket) -> tuple[bytes, list[int]]:
    """A request and the descriptors that came with it; nothing when the parent is gone."""
    try:
        packet, passed, _, _ = control.recvmsg(REQUEST_BYTES, _ROOM_FOR_DESCRIPTORS)
    except OSError:
        return b"", []
    return packet, [number for _, _, data in passed for (number,) in _DESCRIPTOR.iter_unpack(data)]


def _fork(control: socket.socket, role: Role, jail: Jail, descriptors: list[int], seconds: float) -> int:
    zygote, limits = os.getpid(), jail.limits_of_child(seconds)
    child = os.fork()
    if child:
        for descriptor in descriptors:
            os.close(descriptor)
        return child
    try:
        control.detach()
        jail.part_child(zygote)
        _keep_only(descriptors)
        jail.close_around_child(limits)
        role()
    finally:  # whatever happens, the child must not return into the zygote's loop
        os._exit(0)


def _keep_only(descriptors: list[int]) -> None:
    """Give the channels the numbers 3, 4, ... and close everything else. They have them already, unless a package that
    was loaded holds files open."""
    free = FIRST_OWN + len(descriptors)  # above all their numbers, and as low as a tight limit on open files wants it
    if descriptors != list(range(FIRST_OWN, free)):
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, free) for descriptor in descriptors]
        for index, descriptor in enumerate(high):
            os.dup2(descriptor, FIRST_OWN + index)
    os.closerange(free, 1024)


def _kill(child: int) -> None:
    """End a child whose end tells nothing. Each part of this code that does not run is memory that is not copied."""
    os.kill(child, signal.SIGKILL)  # it is ours, and not reaped before: nobody else has its number
    os.waitpid(child, 0)


def _end(child: int, grace: float) -> dict[str, Any]:
    if grace > 0:
        descriptor = os.pidfd_open(child)
        select.select([descriptor], [], [], grace)
        os.close(descriptor)
    # WNOWAIT: whether it ended by itself, before it is reaped and its number is free for another process.
    by_itself = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    if not by_itself:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return {
        "by_itself": by_itself,
        "exit_code": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "pauses": usage.ru_nvcsw,
        "memory_mb": usage.ru_maxrss / 1024,
    }


def _redirect_standard_descriptors() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _answer(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode())
    except OSError:  # the parent is gone; the next receive says so
        return
