"""Threads and executors that the nodes of an episode start see the episode, as those of asyncio.to_thread do."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _worker as _executors_work
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from threading import Lock, Thread
from typing import Any

from selfcorrect.agents.recording import is_recording


@contextmanager
def threads_that_record() -> Iterator[None]:
    """Inside the block, threads and executors that an episode's nodes start see the episode, as asyncio.to_thread's do.

    Python hands a thread no context of its own accord before 3.14; only what is started where calls are recorded is
    changed.
    """
    with _patching:
        _Patched.count += 1
        if _Patched.count == 1:
            ThreadPoolExecutor.submit = _submit_with_context  # type: ignore[method-assign, assignment]
            Thread.start = _start_with_context  # type: ignore[method-assign]
    try:
        yield
    finally:
        with _patching:
            _Patched.count -= 1
            if _Patched.count == 0:
                ThreadPoolExecutor.submit, Thread.start = _submit, _start  # type: ignore[method-assign]


class _Patched:
    """How many blocks of `threads_that_record` are open."""

    count = 0


_patching = Lock()
_submit, _start = ThreadPoolExecutor.submit, Thread.start


def _submit_with_context(self: ThreadPoolExecutor, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    run = partial(copy_context().run, function) if is_recording() else function
    return _submit(self, run, *args, **kwargs)


def _start_with_context(self: Thread) -> None:
    # an executor's thread outlives the episode that started it; its work brings a context of its own
    executors = getattr(self, "_target", None) is _executors_work
    if is_recording() and not executors:
        self.run = partial(copy_context().run, self.run)  # type: ignore[method-assign]
    if executors:
        Context().run(_start, self)
    else:
        _start(self)
