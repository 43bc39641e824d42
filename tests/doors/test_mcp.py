"""Checkers and a policy as tools of any agent, driven by the official client over stdio and HTTP."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from selfcorrect.agents import GREEDY, PLAIN, ScriptedPolicy, mcp_server
from selfcorrect.agents.serving.mcp_server import PolicyTools
from selfcorrect.cli.app import app
from selfcorrect.errors import ConfigurationError

pytest.importorskip("mcp")

COMMAND = [sys.executable, "-m", "selfcorrect", "mcp"]


@contextlib.asynccontextmanager
async def session_over_stdio(*options: str) -> AsyncIterator[Any]:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    parameters = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *options], env=dict(os.environ))
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield session


def content(result: Any) -> Any:
    return json.loads(result.content[0].text)


def is_error(result: Any) -> bool:
    return bool(getattr(result, "isError", None) or getattr(result, "is_error", None))


CODE = "def double(x):\n    return 2 * x"


async def judgements(session: Any) -> dict[str, Any]:
    async def call(name: str, **arguments: Any) -> Any:
        return await session.call_tool(name, arguments)

    return {
        "tools": sorted(tool.name for tool in (await session.list_tools()).tools),
        "right": content(await call("check_math", response=r"so \boxed{1/2}", reference="0.5")),
        "wrong": content(await call("check_math", response=r"so \boxed{2}", reference="0.5")),
        "copied": content(await call("check_math", response=r"\boxed{17 \cdot 23}", reference="391", problem="17*23?")),
        "code": content(await call("check_code", program=CODE, tests="assert double(3) == 6")),
        "bad code": content(await call("check_code", program=CODE, tests="assert double(3) == 7")),
        "hostile": content(await call("check_code", program="import os\nos._exit(0)", tests="assert double(3) == 6")),
        "no tests": await call("check_code", program=CODE, tests="this is no Python"),
    }


@pytest.mark.slow
def test_an_agent_gets_verdicts_over_stdio() -> None:
    async def talk() -> dict[str, Any]:
        async with session_over_stdio() as session:
            return await judgements(session)

    found = asyncio.run(asyncio.wait_for(talk(), 120))
    assert found["tools"] == ["check_code", "check_math"]
    assert found["right"]["correct"] is True and found["right"]["answer"] == "1/2"
    assert found["wrong"]["status"] == found["copied"]["status"] == "wrong"
    assert found["code"]["correct"] is True
    assert found["bad code"]["status"] == found["hostile"]["status"] == "wrong"
    assert is_error(found["no tests"]) and "cannot use this reference" in found["no tests"].content[0].text


@contextlib.contextmanager
def listening_server(*options: str) -> Iterator[str]:
    with subprocess.Popen(
        [*COMMAND, "--transport", "http", "--port", "0", *options], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            until = time.monotonic() + 90
            seen = ""
            while time.monotonic() < until and (line := process.stderr.readline()):
                seen += line
                if address := re.search(r"http://\S+/mcp", line):
                    break
            else:
                pytest.fail(f"the server did not start: {seen}")
            yield address.group()
        finally:
            process.terminate()


@pytest.mark.slow
def test_a_policy_solves_and_revises_over_http() -> None:
    async def talk(address: str) -> dict[str, Any]:
        from mcp import ClientSession
        from mcp.client import streamable_http

        connect = getattr(streamable_http, "streamable_http_client", None) or streamable_http.streamablehttp_client
        async with connect(address) as (read, write, *_), ClientSession(read, write) as session:
            await session.initialize()
            question = "3 5 7 9 get 56 :"
            solved = content(await session.call_tool("solve", {"problem": question}))
            wrong = "3 + 5 = 8 ; 8 * 7 = 56 ; 56 + 9 = 65"
            revised = content(await session.call_tool("revise", {"problem": question, "answer": wrong}))
            blank = await session.call_tool("solve", {"problem": " "})
            return {"solved": solved, "revised": revised, "blank": blank}

    with listening_server("--model", "embedded") as address:
        found = asyncio.run(asyncio.wait_for(talk(address), 120))
    assert "=" in found["solved"]["answer"] and len(found["solved"]["earlier_answers"]) == 1
    assert "=" in found["revised"]["answer"]
    assert is_error(found["blank"]) and "blank" in found["blank"].content[0].text


def test_revise_shows_the_answer_and_what_was_found() -> None:
    shown: list[Any] = []

    def script(conversation: Any) -> str:
        shown.extend(conversation)
        return "better"

    tools = PolicyTools(ScriptedPolicy(script), PLAIN, revisions=1, sampling=GREEDY)
    assert asyncio.run(tools.revise("What is 2 + 2?", "5", "2 + 2 is not 5")) == {"answer": "better"}
    assert [message["role"] for message in shown] == ["user", "assistant", "user"]
    assert shown[1]["content"] == "5" and "2 + 2 is not 5" in shown[2]["content"]


def test_solve_revises_its_own_answer() -> None:
    tools = PolicyTools(ScriptedPolicy(["one", "two", "three"]), PLAIN, revisions=2, sampling=GREEDY)
    assert asyncio.run(tools.solve("?!")) == {"answer": "three", "earlier_answers": ["one", "two"]}


def test_negative_revisions_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="revisions must be 0 or more"):
        mcp_server(revisions=-1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--revisions", "2"], "--revisions has no effect here: only solve and revise use it"),
        (["--prompts", "math"], "--prompts has no effect here"),
        (["--port", "9000"], "--port has no effect here: stdio listens on no address"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["mcp", *options])
    assert result.exit_code != 0
    assert complaint in " ".join(result.output.split())
