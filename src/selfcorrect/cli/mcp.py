"""`selfcorrect mcp`: checkers and a policy as tools of an agent, by the Model Context Protocol."""

from typing import Annotated, Any, Literal

import typer

from selfcorrect.cli.console import notes, reporting
from selfcorrect.cli.options import Device, Dtype, PromptsName
from selfcorrect.errors import ConfigurationError


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

        options: dict[str, Any] = {} if model is None else _opened(model, prompts)
        if revisions is not None:
            options["revisions"] = revisions
        server = mcp_server(**options)
        if transport == "stdio":
            server.run("stdio")
        else:
            _listen(server, host or "127.0.0.1", 8001 if port is None else port)


def _refuse(options: dict[str, Any], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigurationError(f"{given[0]} has no effect here: {why}")


def _opened(model: str, words: str | None) -> dict[str, Any]:
    from selfcorrect.cli.naming import open_policy

    named = open_policy(model, in_thread=True)
    return {"policy": named.policy, "prompts": named.prompts(usual="plain", chosen=words)}


def _listen(server: Any, host: str, port: int) -> None:
    import uvicorn

    from selfcorrect.cli.serve import listen

    with listen(host, port) as listening:
        notes.print(f"serving at http://{host}:{listening.getsockname()[1]}/mcp", markup=False)
        uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).run(sockets=[listening])
