"""An endpoint that OpenAI's clients can talk to: every completion is an episode of a correction loop."""

import asyncio
import hmac
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy
from selfcorrect.agents.plugins.one_call import Wanted
from selfcorrect.agents.serving.limits import Busy, Gate, Guard, Limits, Metrics, limits_for
from selfcorrect.agents.serving.openapi import document
from selfcorrect.agents.serving.requests import (
    BadRequest,
    ChatRequest,
    Drawing,
    ResponseRequest,
    TextRequest,
    messages_of,
    parsed_json,
    read_request,
)
from selfcorrect.agents.serving.responses import ChunkWriter, completion, error_body, response_object, text_completion
from selfcorrect.errors import ConfigurationError, PolicyError, SelfCorrectError
from selfcorrect.files import json_line

try:
    import prometheus_client  # noqa: F401  # part of the extra, used in limits
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError as error:
    from selfcorrect.distribution import install_command

    raise ImportError(f"the OpenAI-compatible server needs: {install_command('serve')}") from error

# Answers that end when their reader hangs up, even while nothing is being sent.

Item = TypeVar("Item")
_GONE = 499
"""The status, in metrics and logs, of a request whose client did not wait."""


async def until_hangup(request: Request, items: AsyncIterator[Item]) -> AsyncGenerator[Item]:
    """What `items` yields; it is cancelled as soon as the client of `request` is gone."""
    arrived: asyncio.Queue[tuple[Item] | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for item in items:
                arrived.put_nowait((item,))
        finally:
            arrived.put_nowait(None)

    pumping = asyncio.create_task(pump())
    watching = asyncio.create_task(_hangup(request))
    watching.add_done_callback(lambda _: pumping.cancel())
    try:
        while (entry := await arrived.get()) is not None:
            yield entry[0]
        if not watching.done():
            await pumping  # raises what `items` raised
    finally:
        watching.cancel()
        pumping.cancel()
        await asyncio.wait([watching, pumping])


async def unless_hangup(request: Request, answer: Coroutine[Any, Any, Item]) -> Item | None:
    """The result of `answer`, or None if the client of `request` is gone before; it is cancelled then."""
    answering = asyncio.ensure_future(answer)
    watching = asyncio.create_task(_hangup(request))
    try:
        await asyncio.wait([answering, watching], return_when=asyncio.FIRST_COMPLETED)
        return await answering if answering.done() else None
    finally:
        answering.cancel()
        watching.cancel()
        await asyncio.wait([answering, watching])


async def _hangup(request: Request) -> None:
    """Returns when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def openai_app(
    models: Mapping[str, ChatSelfCorrect],
    *,
    api_key: str | None = None,
    limits: Limits | None = None,
    cors: Sequence[str] = (),
) -> Starlette:
    """The application, for any ASGI server.

    Routes: POST /v1/chat/completions (with `stream`, too), /v1/completions and /v1/responses, GET /v1/models,
    /v1/models/NAME, /health, /metrics (for Prometheus) and /openapi.json.

    Args:
        models: by the name that clients ask for.
        api_key: clients must send it; None lets everyone in.
        limits: of what is taken; None is those of `limits_for` these models.
        cors: origins whose pages may call the server, "*" for all.
    """
    chosen, metrics = limits or limits_for(model.policy for model in models.values()), Metrics()
    service = _Service(models, api_key, chosen, metrics)
    crossing = Middleware(CORSMiddleware, allow_origins=list(cors), allow_methods=["*"], allow_headers=["*"])
    return Starlette(
        routes=[
            Route("/v1/chat/completions", service.answering(service.chat), methods=["POST"]),
            Route("/v1/completions", service.answering(service.text), methods=["POST"]),
            Route("/v1/responses", service.answering(service.respond), methods=["POST"]),
            Route("/v1/models", service.list_models),
            Route("/v1/models/{name:path}", service.show_model),
            Route("/health", _health),
            Route("/metrics", service.show_metrics),
            Route("/openapi.json", _openapi),
        ],
        middleware=[*([crossing] if cors else []), Middleware(Guard, limits=chosen, metrics=metrics)],
        exception_handlers=cast(
            Any,
            {
                BadRequest: _bad_request,
                PolicyError: _bad_request,
                ConfigurationError: _bad_request,
                SelfCorrectError: _failed,
                Busy: _busy,
                HTTPException: _http_error,
                Exception: _failed,
            },
        ),
    )


Answering = Callable[[Request, Any], Awaitable[Response]]


class _Service:
    def __init__(
        self, models: Mapping[str, ChatSelfCorrect], api_key: str | None, limits: Limits, metrics: Metrics
    ) -> None:
        self._models, self._api_key, self._limits, self._metrics = models, api_key, limits, metrics
        self._gate = Gate(limits, metrics)
        self._started = int(time.time())

    def answering(self, answer: Answering) -> Callable[[Request], Awaitable[Response]]:
        """`answer` to those who may ask, given the request's JSON."""

        async def endpoint(request: Request) -> Response:
            if not self._allowed(request):
                return _unauthorised()
            body = await request.body()
            return await answer(request, await asyncio.to_thread(parsed_json, body))

        return endpoint

    async def chat(self, request: Request, body: Any) -> Response:
        asked = read_request(body, ChatRequest)
        model = self._model(asked)
        _refuse_unkept_choice(model, asked.options)
        messages = await asyncio.to_thread(messages_of, asked.messages, self._limits)
        if asked.stream:
            self._gate.refuse_if_full()
            events = self._events(request, model, asked, messages)
            return StreamingResponse(events, media_type="text/event-stream")
        calls = [(messages, _choice_options(asked, index)) for index in range(asked.n or 1)]
        return await self._answered(request, model, calls, lambda replies: completion(asked.model, replies))

    async def text(self, request: Request, body: Any) -> Response:
        asked = read_request(body, TextRequest)
        if asked.stream:
            raise BadRequest("stream is not supported here; use /v1/chat/completions", "stream")
        model = self._model(asked)
        if not asked.prompts or sum(len(prompt.encode()) for prompt in asked.prompts) > self._limits.prompt_bytes:
            raise BadRequest(f"prompt is empty or has more than {self._limits.prompt_bytes} bytes", "prompt")
        if len(asked.prompts) > self._limits.messages:
            raise BadRequest(f"prompt lists more than {self._limits.messages} texts", "prompt")
        calls: list[tuple[list[BaseMessage], dict[str, Any]]] = [
            ([HumanMessage(prompt)], _choice_options(asked, index))
            for prompt in asked.prompts
            for index in range(asked.n or 1)
        ]
        return await self._answered(request, model, calls, lambda replies: text_completion(asked.model, replies))

    async def respond(self, request: Request, body: Any) -> Response:
        asked = read_request(body, ResponseRequest)
        if asked.stream or (asked.n or 1) > 1:
            raise BadRequest("stream and n are not supported here; use /v1/chat/completions", "stream")
        model = self._model(asked)
        _refuse_unkept_choice(model, asked.options)
        messages = await asyncio.to_thread(messages_of, asked.chat_messages(), self._limits)
        calls = [(messages, asked.options)]
        return await self._answered(request, model, calls, lambda replies: response_object(asked.model, replies[0]))

    async def _answered(
        self,
        request: Request,
        model: ChatSelfCorrect,
        calls: Sequence[tuple[list[BaseMessage], dict[str, Any]]],
        written: Callable[[list[AIMessage]], Any],
    ) -> Response:
        """The replies to `calls` in the form that `written` gives them."""

        async def reply() -> list[AIMessage]:
            async with asyncio.timeout(self._limits.seconds), self._gate.turn():
                return list(await asyncio.gather(*(model.ainvoke(messages, **options) for messages, options in calls)))

        try:
            replies = await unless_hangup(request, reply())
        except TimeoutError:
            return JSONResponse(error_body(self._too_slow, kind="timeout"), status_code=408)
        if replies is None:
            return Response(status_code=_GONE)
        for one in replies:
            self._count(one.usage_metadata)
        return JSONResponse(written(replies))

    async def _events(
        self, request: Request, model: ChatSelfCorrect, asked: ChatRequest, messages: list[BaseMessage]
    ) -> AsyncIterator[str]:
        """The server-sent events of a streamed completion. A client that hangs up cancels the episode."""
        writer = ChunkWriter(asked.model)
        yield _event(writer.opening())
        usage = None
        try:
            async with (
                asyncio.timeout(self._limits.seconds),
                self._gate.turn(),
                aclosing(until_hangup(request, model.astream(messages, **asked.options))) as stream,
            ):
                async for chunk in stream:
                    for made in _chunks(writer, chunk):
                        yield _event(made)
                    usage = chunk.usage_metadata or usage
        except (SelfCorrectError, Busy, TimeoutError) as error:
            # the status line is sent already: clients read errors from the stream
            words = str(error) or self._too_slow
            kind = "invalid_request_error" if isinstance(error, PolicyError | ConfigurationError) else "server_error"
            yield _event(error_body(words, kind=kind))
            return
        self._count(usage)
        if asked.wants_usage:
            yield _event(writer.usage(usage))
        yield "data: [DONE]\n\n"

    @property
    def _too_slow(self) -> str:
        return f"the answer took longer than {self._limits.seconds:g} seconds"

    def _count(self, usage: Any) -> None:
        if usage is not None:
            self._metrics.tokens.labels("read").inc(usage["input_tokens"])
            self._metrics.tokens.labels("written").inc(usage["output_tokens"])

    async def list_models(self, request: Request) -> Response:
        if not self._allowed(request):
            return _unauthorised()
        return JSONResponse({"object": "list", "data": [self._card(name) for name in self._models]})

    async def show_model(self, request: Request) -> Response:
        if not self._allowed(request):
            return _unauthorised()
        name = request.path_params["name"]
        if name not in self._models:
            raise self._unknown(name)
        return JSONResponse(self._card(name))

    async def show_metrics(self, request: Request) -> Response:
        return Response(self._metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _card(self, name: str) -> dict[str, Any]:
        """OpenAI's card of a model, and why its streams are one piece (None: they are tokens)."""
        card = {"id": name, "object": "model", "created": self._started, "owned_by": "selfcorrect"}
        return {**card, "streams_whole": self._models[name].streams_whole}

    def _model(self, asked: Drawing) -> ChatSelfCorrect:
        if asked.model not in self._models:
            raise self._unknown(asked.model)
        return self._models[asked.model]

    def _unknown(self, name: str) -> HTTPException:
        told = f"there is no model {name[:200]!r} here; there is {', '.join(map(repr, self._models))}"
        return HTTPException(404, cast(Any, error_body(told, param="model", code="model_not_found")))

    def _allowed(self, request: Request) -> bool:
        if self._api_key is None:
            return True
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(sent.encode(), self._api_key.encode())


def _chunks(writer: ChunkWriter, chunk: AIMessageChunk) -> list[dict[str, Any]]:
    metadata = chunk.response_metadata
    made = [event for turn in metadata.get("turns", []) for event in writer.turn(turn)]
    if chunk.chunk_position == "last":
        made += writer.closing(chunk, metadata["finish_reason"])
    elif chunk.text:
        made += writer.piece(str(chunk.text))
    return made


def _choice_options(asked: Drawing, index: int) -> dict[str, Any]:
    """Options of the `index`-th choice: with a seed, every choice has another one."""
    options = asked.options
    if "seed" in options:
        options["seed"] += index
    return options


def _refuse_unkept_choice(model: ChatSelfCorrect, options: Mapping[str, Any]) -> None:
    """Raise where a call of a tool is demanded that nothing makes the policy write."""
    if model.policy is None or model.constrained or isinstance(model.policy, ChatModelPolicy):
        return
    if Wanted.of_call(options, constrained=False).must_call:
        raise BadRequest(
            "tool_choice demands a call, and this server draws freely, so that it cannot promise one: use 'auto', or "
            "start it with --constrained",
            "tool_choice",
        )


def _event(data: Any) -> str:
    return f"data: {json_line(data)}\n"


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _openapi(request: Request) -> Response:
    return JSONResponse(document())


def _unauthorised() -> Response:
    body = error_body("the API key is missing or wrong; send it as 'Authorization: Bearer KEY'", code="invalid_api_key")
    return JSONResponse(body, status_code=401)


async def _busy(request: Request, busy: Busy) -> Response:
    body = error_body(str(busy), kind="rate_limit_error", code="server_busy")
    return JSONResponse(body, status_code=429, headers={"retry-after": str(busy.seconds)})


async def _bad_request(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(str(error), param=getattr(error, "param", None)), status_code=400)


async def _http_error(request: Request, error: HTTPException) -> Response:
    """404, 405 and the like, in OpenAI's form."""
    detail: Any = error.detail
    body = detail if isinstance(detail, dict) else error_body(f"{detail}: {request.method} {request.url.path[:200]}")
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    said = str(error) if isinstance(error, SelfCorrectError) else f"{type(error).__name__} inside the server"
    return JSONResponse(error_body(said, kind="server_error"), status_code=500)
