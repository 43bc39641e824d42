"""The inside of a worker process: reads jobs from its standard input, writes results to its standard output.

Messages as in `framing.py`. A job is `{"id", "payload", "seconds"}`; the answers are any number of `{"id", "stage"}`,
then one `{"id", "result", "cpu"}` or `{"id", "error", "cpu"}`.
"""

import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from selfcorrect.rewards import framing

ORPHAN_SECONDS = 2.0
"""How long past its deadline a worker lives if nobody kills it, because its parent is gone."""

Handler = Callable[[Any, Callable[[str], None]], Any]
"""A job's payload and a function that reports the stage reached, to plain JSON data."""


def main(handler: str, memory_mb: int) -> None:
    """Serve jobs with the function `handler` ("package.module:function") until standard input ends."""
    channel = _private_channel()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        serve = _load(handler)
        _limit(memory_mb)
    except Exception as error:  # noqa: BLE001 - reported to the parent, which raises it for the user
        channel.send({"failed": f"{type(error).__name__}: {error}"})
        return
    channel.send({"ready": os.getpid()})
    try:
        while True:
            _work(channel.receive(), serve, channel)
    except framing.ChannelClosed:
        return


def _private_channel() -> framing.Channel:
    """The pipes to the parent under descriptors of their own: whatever a library prints goes nowhere."""
    channel = framing.Channel(os.dup(0), os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return channel


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
