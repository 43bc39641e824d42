"""The answer's tokens as they are drawn, while drafts and critiques are kept back.

Only the policy that draws knows of tokens, and only the graph knows which call is the answer. They meet in a context
variable: a policy asks `listener()` before it draws, and tells each token to what it is given.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from selfcorrect.agents.recording import CallSite, call_site
from selfcorrect.errors import GraphError

Tell = Callable[[int], None]
"""Told each token id of a call, from whichever thread draws; not the one that ends it."""
Decode = Callable[[list[int]], str]
"""The text of ids, as the policy that draws them reads them."""
IsAnswer = Callable[[int, CallSite], bool]
"""Whether the n-th call (from 1) that its node makes, at that place of the graph, is the answer."""
_UNFINISHED = "\ufffd"

_stream: ContextVar["AnswerStream | None"] = ContextVar("selfcorrect_stream", default=None)


def listener(decode: Decode) -> Tell | None:
    """Whom the call that begins here is to tell its tokens; None is nobody."""
    stream = _stream.get()
    return None if stream is None else stream.begin(decode)


class AnswerStream:
    """Turns token ids into pieces of text.

    Args:
        stop: texts that end the answer and are no part of it.
        is_answer: which call is listened to.
        put: takes each piece, on the event loop that makes this.
    """

    def __init__(self, stop: Sequence[str], is_answer: IsAnswer, put: Callable[[str], None]) -> None:
        self._stop, self._is_answer, self._put = tuple(stop), is_answer, put
        self._loop = asyncio.get_running_loop()
        self._calls: Counter[str] = Counter()
        self._ids: list[int] = []
        self._decode: Decode | None = None
        self._answering = ""
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

    def begin(self, decode: Decode) -> Tell | None:
        """Note that a call begins.

        Raises:
            GraphError: the same node drew already what was told as the answer.
        """
        site = call_site()
        self._calls[site.node] += 1
        if self._decode is not None:
            if site.node == self._answering:
                raise GraphError(
                    f"node {site.node!r} calls the policy again after its first call was streamed as the answer; name "
                    "a node whose one call is the answer, or no answer_node"
                )
            return None
        if not self._is_answer(self._calls[site.node], site):
            return None
        self._decode, self._answering = decode, site.node
        return lambda token: _call_soon(self._loop, self._hear, token)

    def _hear(self, token: int) -> None:
        assert self._decode is not None
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


def refuse_draft(graph: Any, node: str) -> None:
    """Raise a GraphError if `node` cannot be where the answer of a compiled graph is drawn."""
    drawn = graph.get_graph()
    names = sorted(name for name in drawn.nodes if not name.startswith("__"))
    if node not in names:
        raise GraphError(f"answer_node names {node!r}, but the graph has no such node. It has: {', '.join(names)}")
    after: set[str] = set()
    ahead = [node]
    while ahead:
        leads_to = {edge.target for edge in drawn.edges if edge.source == ahead[-1]}
        ahead = [*ahead[:-1], *(leads_to - after)]
        after |= leads_to
    if node in after:
        raise GraphError(
            f"answer_node names {node!r}, which can run again: whether it draws the answer or a draft is known only "
            "when it is over; without answer_node the answer is streamed whole"
        )
