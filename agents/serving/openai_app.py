"""An endpoint that OpenAI's clients can talk to: every completion is an episode of a correction loop."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar, cast

from langchain_core.messages import AIMessageChunk, BaseMessage
from starlette.requests import Request

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.serving.requests import BadRequest, ChatRequest, messages_of, read_request
from selfcorrect.agents.serving.responses import ChunkWriter, completion, error_body
from selfcorrect.errors import PolicyError, SelfCorrectError

# Streams that end when their reader hangs up, even while nothing is being sent.

Item = TypeVar("Item")


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


async def _hangup(request: Request) -> None:
    """Returns when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError as error:
    from selfcorrect.distribution import install_command

    raise ImportError(f"the OpenAI-compatible server needs: {install_command('serve')}") from error


def openai_app(models: Mapping[str, ChatSelfCorrect], *, api_key: str | None = None) -> Starlette:
    """The application, for any ASGI server.

    Routes: POST /v1/chat/completions (with `stream`, too), GET /v1/models, GET /v1/models/NAME, GET /health.

    Args:
        models: by the name that clients ask for.
        api_key: clients must send it; None lets everyone in.
    """
    service = _Service(models, api_key)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", service.complete, methods=["POST"]),
            Route("/v1/models", service.list_models),
            Route("/v1/models/{name:path}", service.show_model),
            Route("/health", _health),
        ],
        exception_handlers=cast(Any, {BadRequest: _bad_request, PolicyError: _bad_request, SelfCorrectError: _failed}),
    )


class _Service:
    def __init__(self, models: Mapping[str, ChatSelfCorrect], api_key: str | None) -> None:
        self._models = models
        self._api_key = api_key
        self._started = int(time.time())

    async def complete(self, request: Request) -> Response:
        if not self._allowed(request):
            return _unauthorised()
        asked = read_request(await _json(request))
        model = self._models.get(asked.model)
        if model is None:
            return self._unknown(asked.model)
        messages = messages_of(asked)
        if asked.stream:
            return StreamingResponse(_events(request, model, asked, messages), media_type="text/event-stream")
        calls = [model.ainvoke(messages, **_choice_options(asked, index)) for index in range(asked.n or 1)]
        return JSONResponse(completion(asked.model, await asyncio.gather(*calls)))

    async def list_models(self, request: Request) -> Response:
        if not self._allowed(request):
            return _unauthorised()
        return JSONResponse({"object": "list", "data": [self._card(name) for name in self._models]})

    async def show_model(self, request: Request) -> Response:
        if not self._allowed(request):
            return _unauthorised()
        name = request.path_params["name"]
        return JSONResponse(self._card(name)) if name in self._models else self._unknown(name)

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "selfcorrect"}

    def _unknown(self, name: str) -> Response:
        message = f"there is no model {name!r} here; there is {', '.join(map(repr, self._models))}"
        return JSONResponse(error_body(message, param="model", code="model_not_found"), status_code=404)

    def _allowed(self, request: Request) -> bool:
        if self._api_key is None:
            return True
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(sent.encode(), self._api_key.encode())


async def _events(
    request: Request, model: ChatSelfCorrect, asked: ChatRequest, messages: list[BaseMessage]
) -> AsyncIterator[str]:
    """The server-sent events of a streamed completion. A client that hangs up cancels the episode."""
    writer = ChunkWriter(asked.model)
    yield _event(writer.opening())
    usage = None
    try:
        async with aclosing(until_hangup(request, model.astream(messages, **asked.options))) as stream:
            async for chunk in stream:
                for made in _chunks(writer, chunk):
                    yield _event(made)
                usage = chunk.usage_metadata or usage
    except SelfCorrectError as error:  # the status line is sent already: clients read errors from the stream
        kind = "invalid_request_error" if isinstance(error, PolicyError) else "server_error"
        yield _event(error_body(str(error), kind=kind))
        return
    if asked.wants_usage:
        yield _event(writer.usage(usage))
    yield "data: [DONE]\n\n"


def _chunks(writer: ChunkWriter, chunk: AIMessageChunk) -> list[dict[str, Any]]:
    metadata = chunk.response_metadata
    made = [event for turn in metadata.get("turns", []) for event in writer.turn(turn)]
    if chunk.chunk_position == "last":
        made += writer.closing(str(chunk.text), metadata["finish_reason"])
    return made


def _choice_options(asked: ChatRequest, index: int) -> dict[str, Any]:
    """Options of the `index`-th choice: with a seed, every choice has another one."""
    options = asked.options
    if "seed" in options:
        options["seed"] += index
    return options


def _event(data: Any) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except ValueError as error:
        raise BadRequest(f"the body is no valid JSON: {error}") from error


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _unauthorised() -> Response:
    body = error_body("the API key is missing or wrong; send it as 'Authorization: Bearer KEY'", code="invalid_api_key")
    return JSONResponse(body, status_code=401)


async def _bad_request(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(str(error), param=getattr(error, "param", None)), status_code=400)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(str(error), kind="server_error"), status_code=500)
