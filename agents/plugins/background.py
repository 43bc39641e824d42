"""One event loop in a thread of its own, for synchronous callers: what they ask for at the same time shares batches."""

import asyncio
import os
import queue
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig

from selfcorrect.agents.episodes import NODE_THREADS, run_blocking

Result = TypeVar("Result")
Item = TypeVar("Item")


_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""By process id: a forked child has no thread that runs its parent's loop."""


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            loop.set_default_executor(ThreadPoolExecutor(NODE_THREADS, thread_name_prefix="selfcorrect-node"))
            threading.Thread(target=loop.run_forever, name="selfcorrect-loop", daemon=True).start()
        return loop


def run_in_background(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run `coroutine` on the background loop, with the caller's context variables, and wait for it."""
    loop = _loop()
    if (
        _running_loop() is loop
    ):  # synchronous code inside one of our own coroutines: waiting for the loop would be for ever
        return run_blocking(coroutine)
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    finally:
        future.cancel()


def iterate_in_background(items: AsyncIterator[Item]) -> Iterator[Item]:
    """What `items` yields, as it comes; leaving early cancels it."""
    arrived: queue.SimpleQueue[tuple[Item] | None] = queue.SimpleQueue()

    async def pump() -> None:
        try:
            async for item in items:
                arrived.put((item,))
        finally:
            arrived.put(None)

    future: Future[None] = asyncio.run_coroutine_threadsafe(pump(), _loop())
    try:
        while (entry := arrived.get()) is not None:
            yield entry[0]
        future.result()
    finally:
        future.cancel()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


# Chat models of LangChain that think asynchronously, for callers who do not.


class BackgroundChatModel(BaseChatModel):
    """A chat model whose synchronous calls are its asynchronous ones, run on one background event loop.

    Subclasses must write `_agenerate` and `_astream`: those of LangChain would call the synchronous ones again.
    """

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return run_in_background(self._agenerate(messages, stop, None, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from iterate_in_background(self._astream(messages, stop, None, **kwargs))

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """All of `inputs` at once, so that a local policy decodes them together."""
        return run_in_background(self.abatch(inputs, config, return_exceptions=return_exceptions, **kwargs))
