"""The answer's tokens as they are drawn, while drafts and critiques are kept back.

Only the policy that draws knows of tokens, and only the graph knows which call is the answer. They meet in a context
variable: a policy in this process asks `listener()` before it draws, and tells each token to what it is given.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from selfcorrect.agents.recording import CallSite, call_site

Tell = Callable[[int], None]
"""Told each token id of a call, from whichever thread draws."""
IsAnswer = Callable[[int, CallSite], bool]
"""Whether the n-th call (from 1), made at that place of the graph, is the answer."""
_UNFINISHED = "\ufffd"

_stream: ContextVar["AnswerStream | None"] = ContextVar("selfcorrect_stream", default=None)


def listener() -> Tell | None:
    """Whom the call that begins here is to tell its tokens; None is nobody."""
    stream = _stream.get()
    return None if stream is None else stream.begin()


class AnswerStream:
    """Turns token ids into pieces of text.

    Args:
        decode: ids -> text.
        stop: texts that end the answer and are no part of it.
        is_answer: which call is listened to.
        put: takes each piece, on the event loop that makes this.
    """

    def __init__(
        self, decode: Callable[[list[int]], str], stop: Sequence[str], is_answer: IsAnswer, put: Callable[[str], None]
    ) -> None:
        self._decode, self._stop, self._is_answer, self._put = decode, tuple(stop), is_answer, put
        self._loop = asyncio.get_running_loop()
        self._calls = 0
        self._ids: list[int] = []
        self.told = ""
        """The beginning of the answer that was put."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Calls made inside the block are this answer's."""
        token = _stream.set(self)
        try:
            yield
        finally:
            _stream.reset(token)

    def begin(self) -> Tell | None:
        self._calls += 1
        if not self._is_answer(self._calls, call_site()) or self.told:
            return None
        self._ids = []
        return lambda token: _call_soon(self._loop, self._hear, token)

    def _hear(self, token: int) -> None:
        self._ids.append(token)
        text = self._decode(self._ids)
        found = [place for place in (text.find(words) for words in self._stop) if place >= 0]
        held = max((len(words) - 1 for words in self._stop), default=0)
        sure = text[: min(found)] if found else text[: len(text) - held]
        sure = sure.rstrip(_UNFINISHED)  # the first bytes of a character
        if len(sure) > len(self.told) and sure.startswith(self.told):
            self._put(sure[len(self.told) :])
            self.told = sure


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[int], None], token: int) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, token)


def last_nodes(graph: Any) -> frozenset[str]:
    """The nodes of a compiled graph that lead nowhere but to its end."""
    drawn = graph.get_graph()
    ends: dict[str, set[str]] = {}
    for edge in drawn.edges:
        ends.setdefault(edge.source, set()).add(edge.target)
    return frozenset(name for name, targets in ends.items() if targets == {"__end__"})
