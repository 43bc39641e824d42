"""`selfcorrect serve` and `selfcorrect mcp`: an endpoint for OpenAI's clients, tools for agents; `selfcorrect init`: an
application for LangGraph's server."""

import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from selfcorrect.agents.serving.limits import Limits, limits_for
from selfcorrect.cli.console import notes, reporting, tell_files
from selfcorrect.cli.options import (
    NOTHING_REVISED,
    Critique,
    Device,
    Dtype,
    ModelName,
    PromptsName,
    RevisionsOrNone,
    refuse_typed,
)
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect

_LIMITS = Limits()


def serve(
    ctx: typer.Context,
    model: ModelName = "embedded",
    device: Device = None,
    dtype: Dtype = None,
    name: Annotated[str | None, typer.Option(help="What clients call the model; by default as --model does.")] = None,
    revisions: RevisionsOrNone = None,
    critique: Critique = None,
    prompts: PromptsName = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="SELFCORRECT_API_KEY", help="What clients must send; by default nothing.")
    ] = None,
    max_body: Annotated[int | None, typer.Option(min=1, help="Bytes of a request; by default 4 conversations.")] = None,
    max_messages: Annotated[
        int | None, typer.Option(min=1, help="Messages of a conversation; by default one for 4 tokens of the context.")
    ] = None,
    max_prompt: Annotated[
        int | None, typer.Option(min=1, help="Bytes of a conversation; by default 16 for a token of the context.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests answered at a time.")] = _LIMITS.concurrency,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; one more is a 429.")] = _LIMITS.queue,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds a request may take.")] = _LIMITS.seconds,
    grace: Annotated[float, typer.Option(min=0.001, help="Seconds to finish on a stop.")] = _LIMITS.grace,
    constrained: Annotated[
        bool, typer.Option(help="Draw JSON answers, and calls of tools that are demanded, by their schemas.")
    ] = False,
    cors: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may call the server; may be given again.")
    ] = None,
) -> None:
    """Serve MODEL with its correction loop at /v1/chat/completions, for OpenAI's clients."""
    with reporting(as_json=False):
        from selfcorrect.agents.critiques import CRITIQUES

        if CRITIQUES.find(critique or "instruction").needs_checker:
            raise ConfigurationError(
                f"--critique {critique}: nothing judges the answers of a conversation; use self or instruction"
            )
        if revisions == 0:
            refuse_typed(ctx, ("critique",), NOTHING_REVISED)
        _refuse_without_extra()
        if constrained:
            _refuse_without_outlines()
        with listen(host, port) as listening:
            chat = _chat_model(model, revisions, critique, prompts, constrained)
            notes.print(f"serving {name or model} at http://{host}:{listening.getsockname()[1]}/v1", markup=False)
            if chat.streams_whole is not None:
                notes.print(f"streams are one piece: {chat.streams_whole}", markup=False)
            limits = limits_for(
                [chat.policy],
                body_bytes=max_body,
                messages=max_messages,
                prompt_bytes=max_prompt,
                concurrency=concurrency,
                queue=queue,
                seconds=timeout,
                grace=grace,
            )
            _run({name or model: chat}, api_key, listening, limits, cors or [])


def _chat_model(
    model: str, revisions: int | None, critique: str | None, words: str | None, constrained: bool
) -> "ChatSelfCorrect":
    from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
    from selfcorrect.cli.naming import open_policy

    named = open_policy(model, in_thread=True)  # decoding in a thread, so that the server answers meanwhile
    if constrained or revisions == 0:  # what it was trained in has no part then: no critiques in JSON, or none at all
        critique = critique or "instruction"
    loop = named.loop(critique, revisions, fits=lambda mode: not mode.needs_checker)
    named.warn_beyond(loop.revisions)
    chosen = named.prompts(loop.critique, usual="plain", chosen=words)
    return ChatSelfCorrect(
        policy=named.policy,
        prompts=chosen,
        revisions=loop.revisions,
        critique=loop.critique,
        model=model,
        constrained=constrained,
    )


def _run(
    models: "dict[str, ChatSelfCorrect]",
    api_key: str | None,
    listening: socket.socket,
    limits: Limits,
    cors: list[str],
) -> None:
    import logging
    import math

    import uvicorn

    from selfcorrect.agents.serving.limits import patient_protocol
    from selfcorrect.agents.serving.openai_app import openai_app

    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    logging.getLogger("selfcorrect.serve").setLevel(logging.INFO)
    config = uvicorn.Config(
        openai_app(models, api_key=api_key, limits=limits, cors=cors),
        http=patient_protocol(limits.body_seconds),
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=math.ceil(limits.grace),
    )
    uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A bound socket: an address in use is told before a model is loaded."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # who comes before the server has started waits, and is not refused
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {error.strerror}; try --port 0") from error
    return listening


def _refuse_without_outlines() -> None:
    from importlib.util import find_spec

    if find_spec("outlines_core") is None:
        from selfcorrect.distribution import install_command

        raise ConfigurationError(f"--constrained needs: {install_command('constrained')}")


def _refuse_without_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        from selfcorrect.distribution import install_command

        raise ConfigurationError(f"serve needs {' and '.join(missing)}: {install_command('serve')}")


# `selfcorrect mcp`: the same for agents that speak the Model Context Protocol.


def mcp(
    model: Annotated[
        str | None,
        typer.Option(
            help="Offer solve and revise too, by this policy: embedded, a folder, a Hugging Face id, vllm:MODEL@URL. "
            "By default only the checkers are offered, and nothing is loaded.",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    prompts: PromptsName = None,
    revisions: Annotated[
        int | None, typer.Option(min=0, max=8, help="How often solve revises its answer.", show_default="1")
    ] = None,
    transport: Annotated[
        Literal["stdio", "http"], typer.Option(help="stdio: the agent starts this command; http: it listens.")
    ] = "stdio",
    host: Annotated[str | None, typer.Option(help="http: address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="http: 0 takes a free one.", show_default="8001")
    ] = None,
) -> None:
    """Serve check_math and check_code (with --model also solve and revise) to agents that speak MCP."""
    with reporting(as_json=False):
        without_model = {"--prompts": prompts, "--revisions": revisions, "--device": device, "--dtype": dtype}
        _refuse(without_model if model is None else {}, "only solve and revise use it: name a --model")
        _refuse({"--host": host, "--port": port} if transport == "stdio" else {}, "stdio listens on no address")
        from selfcorrect.agents.serving.mcp_server import mcp_server

        options: dict[str, Any] = {} if model is None else _policy_options(model, prompts)
        if revisions is not None:
            options["revisions"] = revisions
        server = mcp_server(**options)
        if transport == "stdio":
            server.run("stdio")
        else:
            _listen_http(server, host or "127.0.0.1", 8001 if port is None else port)


def _refuse(options: dict[str, Any], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigurationError(f"{given[0]} has no effect here: {why}")


def _policy_options(model: str, words: str | None) -> dict[str, Any]:
    from selfcorrect.cli.naming import open_policy

    named = open_policy(model, in_thread=True)
    return {"policy": named.policy, "prompts": named.prompts(usual="plain", chosen=words)}


def _listen_http(server: Any, host: str, port: int) -> None:
    import uvicorn

    with listen(host, port) as listening:
        notes.print(f"serving at http://{host}:{listening.getsockname()[1]}/mcp", markup=False)
        uvicorn.Server(uvicorn.Config(server.streamable_http_app(), ws="none", log_level="warning")).run(
            sockets=[listening]
        )


# `selfcorrect init graph`: a folder that LangGraph's server and Studio serve, outside this repository.

_OF_THE_SERVER = "langgraph-cli[inmem]>=0.4"
_FILES = {
    "langgraph.json": """\
{
  "dependencies": ["."],
  "graphs": {"selfcorrect": "./graph.py:graph"},
  "env": ".env"
}
""",
    "graph.py": '''\
"""A conversation whose replies have been revised. Start it with: langgraph dev

Change the model and the loop here; .env changes them without editing (see selfcorrect.agents.serving.langgraph_app).
"""

import asyncio
import os

from selfcorrect.agents.serving.langgraph_app import conversation_graph, model_from


async def graph():
    """What langgraph.json names; the model is loaded off the server's event loop."""
    model = await asyncio.to_thread(model_from, os.environ)
    return conversation_graph(model)
''',
    ".env": """\
# "embedded", a model folder, a Hugging Face id, or "provider:model" of LangChain
SELFCORRECT_MODEL=embedded
SELFCORRECT_REVISIONS=1
SELFCORRECT_CRITIQUE=instruction
""",
}
_FROM_HERE = """\
# From where it was installed here. A server elsewhere needs an address that it can reach, or a wheel in this folder:
# selfcorrect @ git+https://ADDRESS    or    ./selfcorrect-{version}-py3-none-any.whl
{requirement}
"""
_FROM_UNKNOWN = """\
# Put here what selfcorrect was installed from (no package index has it, and the installation does not tell):
# selfcorrect @ git+https://ADDRESS    or    ./selfcorrect-{version}-py3-none-any.whl
"""


def _requirements() -> str:
    from selfcorrect.distribution import __version__, requirement

    known = requirement()
    ours = (_FROM_UNKNOWN if known is None else _FROM_HERE).format(version=__version__, requirement=known)
    return f"{ours}{_OF_THE_SERVER}\n"


def init(
    what: Annotated[Literal["graph"], typer.Argument(help="graph: for langgraph dev, up and Studio.")],
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")] = Path("."),
) -> None:
    """Write the files of a LangGraph application around a correction loop into FOLDER."""
    with reporting(as_json=False):
        files = _FILES | {"requirements.txt": _requirements()}
        there = [name for name in files if (folder / name).exists()]
        if there:
            raise ConfigurationError(f"{folder} already holds {', '.join(there)}; choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be made a folder: {error.strerror}; choose another") from error
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        start = f"cd {shlex.quote(str(folder))} && langgraph dev"
        tell_files({"files": f"{', '.join(files)} in {folder}", "next": f"{start}  (needs {_OF_THE_SERVER})"})


def serve_page(page: Callable[[], str], port: int) -> None:
    """Serve `page` to browsers on this machine until Ctrl-C."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            local = (self.headers.get("Host") or "").rpartition(":")[0] in ("127.0.0.1", "localhost")
            if not local or self.path != "/":  # another name for this machine would be another site's
                self.send_error(404)
                return
            body = page().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    except OSError as error:
        why = error.strerror or error
        raise ConfigurationError(f"cannot serve on port {port}: {why}; choose another --port") from error
    with server:
        notes.print(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)", markup=False)
        server.serve_forever()
