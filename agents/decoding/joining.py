"""Many callers at once, one computation that goes on: requests join it between its steps, and each is answered as soon
as it is done."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from selfcorrect.agents.decoding.batcher import _Arrivals, settle

Request = TypeVar("Request")
Result = TypeVar("Result")
_Asked_contra = TypeVar("_Asked_contra", contravariant=True)
_Answer_co = TypeVar("_Answer_co", covariant=True)

PASSES_AFTER_ANSWERS = 32
"""Passes of the event loop after answers were given on it, before the next step: who was answered may ask again (a
second turn), and gets there by way of a graph's nodes."""


class Ongoing(Protocol[_Asked_contra, _Answer_co]):
    """A computation that takes requests at any time and goes on by steps. Called by one thread at a time."""

    @property
    def busy(self) -> bool:
        """Whether `advance` has anything to do."""
        ...

    def join(self, number: int, request: _Asked_contra) -> None:
        """Take `request`, which will be answered by its `number`."""
        ...

    def advance(self) -> Sequence[tuple[int, _Answer_co | Exception]]:
        """A few steps; the numbers that were answered by them, each with its result, or the exception for it alone."""
        ...

    def abandon(self) -> None:
        """Forget all requests, after `advance` raised."""
        ...


class Joining(Generic[Request, Result]):
    """Answers concurrent `submit` calls by one computation that goes on as long as there are any.

    Args:
        work: the computation. An exception that its `advance` raises goes to every caller.
        in_thread: go on in a thread, so that the event loop stays responsive, rather than on the loop.
    """

    def __init__(self, work: Ongoing[Request, Result], *, in_thread: bool) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="selfcorrect-policy") if in_thread else None
        self._working, self._state = threading.Lock(), threading.Lock()
        self._driven = False
        self._inbox: list[tuple[int, Request]] = []
        self._open: dict[int, asyncio.Future[Result]] = {}
        self._numbers = 0
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop[Request, Result]] = WeakKeyDictionary()

    async def submit(self, request: Request) -> Result:
        """The result of `request`, as soon as it is there."""
        loop = asyncio.get_running_loop()
        arrivals = self._loops.get(loop)
        if arrivals is None:
            arrivals = self._loops[loop] = _Loop(loop, self._arrived, self._go_on)
        return await arrivals.put(request)

    def _arrived(self, batch: "Sequence[tuple[Request, asyncio.Future[Result]]]") -> None:
        """Take these requests; in a thread, see that it runs."""
        with self._state:
            for request, future in batch:
                self._numbers += 1
                self._open[self._numbers] = future
                self._inbox.append((self._numbers, request))
            start, self._driven = self._thread is not None and not self._driven, True
        if self._thread is not None and start:
            self._thread.submit(self._drive)

    def _drive(self) -> None:
        """In the thread: go on until there is nothing to do."""
        while True:
            with self._state:
                if not self._inbox and not self._work.busy:
                    self._driven = False
                    return
            self._deliver(self._step(), here=None)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> tuple[bool, bool]:
        """On the loop: a few steps; whether any answer was given on it, and whether any is still awaited."""
        if self._thread is not None:
            return False, False
        answered = self._deliver(self._step(), here=loop)
        with self._state:
            awaited = any(future.get_loop() is loop for future in self._open.values())
        return answered, awaited

    def _step(self) -> Sequence[tuple[int, Result | Exception]]:
        with self._working:
            with self._state:
                inbox, self._inbox = self._inbox, []
            try:
                for number, request in inbox:
                    self._work.join(number, request)
                answers = self._work.advance()
            except Exception as error:  # noqa: BLE001  # belongs to the callers, who get it through their futures
                self._work.abandon()
                with self._state:
                    answers = [(number, error) for number in self._open]
        if not answers and not self._work.busy:
            self._close_cancelled()
        return answers

    def _close_cancelled(self) -> None:
        """Nobody is being answered: what is open and not in the inbox was cancelled."""
        with self._state:
            coming = {number for number, _ in self._inbox}
            self._open = {number: future for number, future in self._open.items() if number in coming}

    def _deliver(
        self, answers: Sequence[tuple[int, Result | Exception]], *, here: asyncio.AbstractEventLoop | None
    ) -> bool:
        """Give each answer on the loop of its caller; whether there was any on the loop `here`."""
        of_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Result], Result | Exception]]] = {}
        with self._state:
            for number, answer in answers:
                future = self._open.pop(number, None)
                if future is not None:
                    of_loop.setdefault(future.get_loop(), []).append((future, answer))
        for loop, pairs in of_loop.items():
            if loop is here:
                _settle_all(pairs)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_settle_all, pairs)
        return here in of_loop


def _settle_all(pairs: "Sequence[tuple[asyncio.Future[Result], Result | Exception]]") -> None:
    for future, answer in pairs:
        settle(future, answer)


class _Loop(_Arrivals[Request, Result]):
    """The requests of one event loop: handed on as soon as no more come, and stepped for where no thread does."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        arrived: "Callable[[Sequence[tuple[Request, asyncio.Future[Result]]]], None]",
        go_on: Callable[[asyncio.AbstractEventLoop], tuple[bool, bool]],
    ) -> None:
        super().__init__(loop)
        self._arrived, self._go_on = arrived, go_on
        self._stepping = False

    def _flush(self) -> None:
        batch = self._taken()
        if not batch:
            return
        self._watched = False
        self._arrived(batch)
        if not self._stepping:
            self._stepping = True
            self._loop.call_soon(self._step, 0)

    def _step(self, passes: int) -> None:
        """Go on, once `passes` more passes of the loop are over and nobody is about to ask."""
        if passes > 0 or self._watched:
            self._loop.call_soon(self._step, max(0, passes - 1))
            return
        answered, awaited = self._go_on(self._loop)
        if awaited:
            self._loop.call_soon(self._step, PASSES_AFTER_ANSWERS if answered else 0)
        else:
            self._stepping = False
