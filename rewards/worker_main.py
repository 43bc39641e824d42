"""The inside of a worker: a process that has loaded the handler, and one child of it, which serves jobs.

A child that has to be killed is followed by another at once, however long loading takes: a fork takes some
milliseconds, and no job has touched what it copies.

Messages as in `framing.py`. The child reads jobs from standard input, `{"id", "payload", "seconds"}`, and answers on
standard output with any number of `{"id", "stage"}`, then one `{"id", "result", "cpu"}` or `{"id", "error", "cpu"}`.
The process itself speaks on standard error: `{"failed": why}`, or `{"ready": pid}` of each child and, when that has
ended, `{"ended": exit code, "cpu": seconds}`. SIGUSR1 has it kill the child, SIGTERM end with it.
"""

import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from selfcorrect.rewards import framing

ORPHAN_SECONDS = 2.0
"""How long past its deadline a child lives if nobody kills it, because the others are gone."""
_PARENT_GONE = 75
"""Exit code of a child whose standard input has ended."""
_SET_PDEATHSIG = 1
_WATCHED = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM}

Handler = Callable[[Any, Callable[[str], None]], Any]
"""A job's payload and a function that reports the stage reached, to plain JSON data."""


def main(handler: str, memory_mb: int) -> None:
    """Serve jobs with the function `handler` ("package.module:function") until standard input ends."""
    jobs, answers, own = map(os.dup, (0, 1, 2))
    _silence()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    said = framing.Channel(own)
    try:
        serve = _load(handler)
        _limit(memory_mb)
    except Exception as error:  # noqa: BLE001 - reported to the parent, which raises it for the user
        said.send({"failed": f"{type(error).__name__}: {error}"})
        return
    signal.signal(signal.SIGCHLD, lambda *_: None)  # ignored ones need not be told to those who wait for them
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    gc.freeze()  # keeps a child's garbage collector from copying pages it shares with us
    try:
        while _one_child(serve, jobs, answers, said):
            pass
    except framing.ChannelClosed:  # nobody hears what is said: the parent is gone
        return


def _one_child(serve: Handler, jobs: int, answers: int, said: framing.Channel) -> bool:
    """Fork a child and watch it to its end; whether another is wanted."""
    while signal.SIGUSR1 in signal.sigpending():  # meant for a child that has ended by itself meanwhile
        signal.sigwait({signal.SIGUSR1})
    process = os.getpid()
    child = os.fork()
    if child == 0:
        _end_with(process)
        said.close()
        _serve_jobs(serve, framing.Channel(jobs, answers))
    said.send({"ready": child})
    over = False
    while True:
        sent = signal.sigwait(_WATCHED)
        over = over or sent == signal.SIGTERM
        if sent != signal.SIGCHLD:
            os.kill(child, signal.SIGKILL)  # it is not reaped: the number is still its own
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
    code = os.waitstatus_to_exitcode(status)
    if over or code == _PARENT_GONE:
        return False
    _discard(jobs)
    said.send({"ended": code, "cpu": usage.ru_utime + usage.ru_stime})
    return True


def _end_with(parent: int) -> None:
    """In the child: the kernel ends it with its parent, however that ends, where the kernel can (Linux). Elsewhere an
    orphan answers the job that it has, and the pool ends it when it next looks."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it was gone before that was said
        os._exit(_PARENT_GONE)


def _serve_jobs(serve: Handler, channel: framing.Channel) -> NoReturn:
    """The child. It never returns into the process it was forked from."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        while True:
            _work(channel.receive(), serve, channel)
    except framing.ChannelClosed:
        os._exit(_PARENT_GONE)
    finally:
        os._exit(1)


def _discard(jobs: int) -> None:
    """Take away a job that the dead child has not read."""
    poll = select.poll()
    poll.register(jobs, select.POLLIN)
    while poll.poll(0) and os.read(jobs, 65536):
        pass


def _silence() -> None:
    """Whatever a library prints goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def _load(handler: str) -> Handler:
    module, _, function = handler.partition(":")
    serve: Handler = getattr(importlib.import_module(module), function)
    return serve


def _limit(memory_mb: int) -> None:
    """Cap address space; no core dumps, no files. macOS refuses caps on address space: there is none there."""
    for limit, value in (
        (resource.RLIMIT_AS, memory_mb * 2**20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        if limit == resource.RLIMIT_AS and sys.platform == "darwin":
            continue
        hard = resource.getrlimit(limit)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (wanted, wanted))


def _work(job: dict[str, Any], serve: Handler, channel: framing.Channel) -> None:
    number = job["id"]
    # The kernel ends this process if the parent, which would have killed it at the deadline, no longer lives.
    signal.setitimer(signal.ITIMER_REAL, job["seconds"] + ORPHAN_SECONDS)
    try:
        answer = {"result": serve(job["payload"], lambda stage: channel.send({"id": number, "stage": stage}))}
    except (MemoryError, RecursionError) as error:
        answer = {"error": type(error).__name__}
    except Exception as error:  # noqa: BLE001 - the parent decides what a failing job means; the worker lives on
        answer = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    signal.setitimer(signal.ITIMER_REAL, 0)
    channel.send({"id": number, "cpu": time.process_time(), **answer})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
