"""Many callers at once, one batch: collect concurrent requests on an event loop and answer them together."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Request = TypeVar("Request")
Result = TypeVar("Result")

QUIET_PASSES = 2
"""A batch is run when this many passes of the event loop have brought no further request."""


class Batcher(Generic[Request, Result]):
    """Answers concurrent `submit` calls by batched calls of `run_batch`.

    There is no clock: as long as the loop's ready tasks keep submitting, the batch grows; as soon as none is left that
    could submit without waiting for something else, it runs. One batch runs at a time; what arrives meanwhile forms the
    next.

    Args:
        run_batch: requests -> for each its result, or the exception to raise for it alone. An exception that it raises
            itself goes to every caller.
        in_thread: run batches in a thread, so that the event loop stays responsive, rather than on the loop.
    """

    def __init__(
        self, run_batch: Callable[[Sequence[Request]], Sequence[Result | Exception]], *, in_thread: bool
    ) -> None:
        self._run_batch = run_batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="selfcorrect-policy") if in_thread else None
        self._lock = threading.Lock()
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[Request, Result]] = WeakKeyDictionary()

    async def submit(self, request: Request) -> Result:
        """The result of `request`, after the batch that it became part of."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(loop, self._run)
        return await queue.put(request)

    def _run(self, requests: Sequence[Request]) -> "asyncio.Future[Sequence[Result | Exception]]":
        loop = asyncio.get_running_loop()
        if self._thread is not None:
            return loop.run_in_executor(self._thread, self._run_alone, requests)
        answer = loop.create_future()
        try:
            answer.set_result(self._run_alone(requests))
        except Exception as error:  # noqa: BLE001  # belongs to the callers, who get it through their futures
            answer.set_exception(error)
        return answer

    def _run_alone(self, requests: Sequence[Request]) -> Sequence[Result | Exception]:
        with self._lock:
            return self._run_batch(requests)


class _Arrivals(Generic[Request, Result]):
    """Collects the requests of one event loop until no more come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[Request, asyncio.Future[Result]]] = []
        self._watched = False

    def put(self, request: Request) -> "asyncio.Future[Result]":
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((request, future))
        self._watch()
        return future

    def _watch(self) -> None:
        if self._waiting and not self._watched:
            self._watched = True
            self._loop.call_soon(self._look, len(self._waiting), 0)

    def _look(self, seen: int, quiet: int) -> None:
        """One pass later: did the queue grow?"""
        quiet = quiet + 1 if len(self._waiting) == seen else 0
        if quiet < QUIET_PASSES:
            self._loop.call_soon(self._look, len(self._waiting), quiet)
        else:
            self._flush()

    def _taken(self) -> "list[tuple[Request, asyncio.Future[Result]]]":
        """All that wait, but for those whose callers are gone."""
        batch = [(request, future) for request, future in self._waiting if not future.done()]
        self._waiting = []
        if not batch:
            self._watched = False
        return batch

    def _flush(self) -> None:
        raise NotImplementedError


class _Queue(_Arrivals[Request, Result]):
    """The waiting requests of one event loop, answered a batch at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        run: Callable[[Sequence[Request]], "asyncio.Future[Sequence[Result | Exception]]"],
    ) -> None:
        super().__init__(loop)
        self._run = run

    def _flush(self) -> None:
        batch = self._taken()
        if not batch:
            return
        running = self._run([request for request, _ in batch])
        running.add_done_callback(lambda answered: self._deliver([future for _, future in batch], answered))

    def _deliver(
        self, futures: Sequence["asyncio.Future[Result]"], answered: "asyncio.Future[Sequence[Result | Exception]]"
    ) -> None:
        self._watched = False
        error = answered.exception()
        answers = [error] * len(futures) if error is not None else answered.result()
        for future, answer in zip(futures, answers, strict=True):
            settle(future, answer)
        self._watch()


def settle(future: "asyncio.Future[Result]", answer: Result | BaseException | None) -> None:
    """Give `future` its answer or exception, unless its caller was cancelled meanwhile."""
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)  # type: ignore[arg-type]
