"""What keeps the server up: limits on what is sent and on how long it may take, metrics, ids of requests.

Bodies are read here, whole and against the clock, before anything looks at them.
"""

import asyncio
import logging
import math
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

from selfcorrect.errors import ConfigurationError

log = logging.getLogger("selfcorrect.serve")
_REQUEST_ID = re.compile(r"[\w.-]{1,64}\Z")
_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models", "/health", "/metrics")


@dataclass(frozen=True)
class Limits:
    """What a server lets in.

    Args:
        body_bytes: of a request; more is a 413.
        messages: of a conversation; more is a 400.
        prompt_bytes: of all texts of a conversation, which are counted before anything is tokenised; more is a 400.
        concurrency: requests that are answered at a time.
        queue: requests that may wait for their turn; one more is a 429 with Retry-After.
        seconds: that a request may take, its waiting included; then it is a 408.
        body_seconds: in which head and body of a request have to arrive; then the connection is closed.
        grace: seconds that running requests have when the server is told to stop.

    Raises:
        ConfigurationError: a limit is not above 0 (the queue: below 0).
    """

    body_bytes: int = 4 * 2**20
    messages: int = 1024
    prompt_bytes: int = 2**20
    concurrency: int = 64
    queue: int = 1024
    seconds: float = 300.0
    body_seconds: float = 20.0
    grace: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0 and not (field.name == "queue" and value == 0):
                raise ConfigurationError(f"the server's limit {field.name} must be above 0, got {value}")


_BYTES_A_TOKEN = 16
"""No text but long runs of blanks has more on average; English has four."""
_ESCAPED = 4
"""A body may be so many times its texts: JSON writes some characters as six bytes."""


def limits_for(policies: Iterable[Any], **chosen: Any) -> Limits:
    """The limits of a server of these policies: what a limit is not `chosen` for follows from the largest context, so
    that only what no policy could read is refused before it is tokenised.

    Messages: one for every 4 tokens, from 64 to 4,096. Bytes of a conversation: 16 for every token, from 64 KiB to 4
    MiB; of a body 4 times as many. A policy whose context nobody knows has the defaults of `Limits`.

    Args:
        chosen: limits by name; None is not chosen.

    Raises:
        ConfigurationError: a limit is not above 0.
    """
    contexts = [context_of(policy) for policy in policies]
    given = {name: value for name, value in chosen.items() if value is not None}
    derived: dict[str, Any] = {}
    if contexts and None not in contexts:
        context = max(context or 0 for context in contexts)
        derived["messages"] = min(max(context // 4, 64), 4096)
        derived["prompt_bytes"] = min(max(_BYTES_A_TOKEN * context, 64 * 2**10), 4 * 2**20)
    derived["body_bytes"] = _ESCAPED * int(given.get("prompt_bytes", derived.get("prompt_bytes", Limits.prompt_bytes)))
    return Limits(**{**derived, **given})


def context_of(policy: Any) -> int | None:
    """How many tokens a policy can be shown; None if nobody knows."""
    config = getattr(getattr(policy, "model", None), "config", None)
    context = getattr(config, "max_position_embeddings", None)
    if context is None:
        context = getattr(getattr(policy, "tokenizer", None), "model_max_length", None)
    return context if isinstance(context, int) and 0 < context < 10**9 else None  # tokenizers say 1e30 for "unknown"


class Busy(Exception):
    """The queue is full.

    Args:
        seconds: after which to try again.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the server is busy; try again in {seconds} seconds")
        self.seconds = seconds


class Metrics:
    """What /metrics shows, by prometheus-client, in a registry of this server's own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"namespace": "selfcorrect", "registry": self.registry}
        self.requests = Counter("requests", "Answered requests.", ["route", "status"], **named)
        self.seconds = Histogram("request_seconds", "From the request's head to the end of its answer.", **named)
        self.tokens = Counter("tokens", "Tokens read and written.", ["kind"], **named)
        self.running = Gauge("running", "Requests that are being answered.", **named)
        self.waiting = Gauge("waiting", "Requests that wait for their turn.", **named)

    def page(self) -> bytes:
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


class Gate:
    """Lets a number of requests through at a time, and a number of others wait."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._free = asyncio.Semaphore(limits.concurrency)
        self._waiting = 0
        self._mean_seconds = 1.0

    def refuse_if_full(self) -> None:
        """Raise Busy if too many wait already."""
        if self._free.locked() and self._waiting >= self._limits.queue:
            ahead = (self._waiting + 1) / self._limits.concurrency
            raise Busy(max(1, math.ceil(self._mean_seconds * ahead)))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A turn of one's own.

        Raises:
            Busy: too many wait already.
        """
        self.refuse_if_full()
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)
        began = time.monotonic()
        self._metrics.running.inc()
        try:
            yield
        finally:
            self._mean_seconds += 0.1 * (time.monotonic() - began - self._mean_seconds)
            self._metrics.running.dec()
            self._free.release()


class Guard:
    """ASGI middleware: every request has an id and is counted; what is too large or too slow is refused.

    Args:
        app: what answers.
        limits, metrics: see there.
    """

    def __init__(self, app: Any, limits: Limits, metrics: Metrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ident, began, status = _request_id(scope), time.monotonic(), 499

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", ident.encode())]}
            await send(message)

        try:
            body, wrong = await self._body(scope, receive)
            if wrong is not None:
                await _refuse(wrong, scope, receive, sending)
            else:
                await self._app(scope, _replayed(body, receive), sending)
        finally:
            seconds = time.monotonic() - began
            self._metrics.requests.labels(_route(scope["path"]), str(status)).inc()
            self._metrics.seconds.observe(seconds)
            log.info("%s %s %s %d %.3fs", ident, scope["method"], scope["path"][:200], status, seconds)

    async def _body(self, scope: Any, receive: Any) -> tuple[bytes, tuple[int, str] | None]:
        """The whole body, or status and words of the refusal."""
        limit = self._limits.body_bytes
        large = (413, f"the body is larger than {limit} bytes, which is as much as this server takes")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return b"", large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        return b"", large
                    more = message.get("more_body", False)
        except TimeoutError:
            return b"", (408, f"the body did not arrive within {self._limits.body_seconds:g} seconds")
        return b"".join(parts), None


def _replayed(body: bytes, receive: Any) -> Any:
    """`receive` with the body that was read already before what comes next."""
    told = False

    async def replay() -> Any:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(wrong: tuple[int, str], scope: Any, receive: Any, send: Any) -> None:
    from starlette.responses import JSONResponse

    from selfcorrect.agents.serving.responses import error_body

    status, words = wrong
    answer = JSONResponse(error_body(words), status_code=status, headers={"connection": "close"})
    await answer(scope, receive, send)


def _request_id(scope: Any) -> str:
    """The client's own, if it is a plain one."""
    sent = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return sent if _REQUEST_ID.match(sent) else uuid.uuid4().hex


def _route(path: str) -> str:
    return next((route for route in _ROUTES if path == route or path.startswith(f"{route}/")), "other")


def patient_protocol(seconds: float) -> type[Any]:
    """uvicorn's HTTP protocol, which closes a connection whose request's head has not arrived after `seconds`."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is h11.IDLE:
                self._wait_for_head()
            else:
                self._stop_waiting()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait_for_head(self) -> None:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _give_up(self) -> None:
            self._head_timer = None
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self.transport.close()

    return PatientProtocol
