"""A server that stays up: bad input, limits, slow and vanished clients, tools, and the other endpoints."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from local_server import serving_app
from small_models import llama
from typing_policy import TypingPolicy, family_tokenizer, typed_call

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.serving.limits import Limits, limits_for, patient_protocol
from selfcorrect.agents.serving.openai_app import openai_app
from selfcorrect.errors import ConfigurationError

TALK: Any = [{"role": "user", "content": "3 + 4?"}]
ADD: Any = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
SMALL = Limits(
    body_bytes=20_000, messages=10, prompt_bytes=5_000, concurrency=1, queue=1, seconds=2.0, body_seconds=0.5
)


def says(prompt: str, seed: int) -> str:
    if "JSON schema" in prompt:
        return '```json\n{"sum": 7}\n```'
    return typed_call("add", '{"a": 3}') if "# Tools" in prompt and "<tool_response>" not in prompt else "It is 7"


@contextmanager
def serving(limits: Limits | None = None, **options: Any) -> Iterator[httpx.Client]:
    tokenizer = family_tokenizer("qwen3")
    endless = TransformersPolicy(
        llama(len(tokenizer), positions=100_000), tokenizer, max_new_tokens=50_000, in_thread=True
    )
    endless._eos_ids = []
    models = {
        "typist": ChatSelfCorrect(policy=TypingPolicy(says), revisions=0),
        "plain": ChatSelfCorrect(policy=ScriptedPolicy(["a", "b"])),
        "endless": ChatSelfCorrect(policy=endless, revisions=0, temperature=1.0),
    }
    app = openai_app(models, limits=limits, **options)
    with serving_app(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def roomy() -> Iterator[httpx.Client]:
    with serving() as client:
        yield client


@pytest.fixture(scope="module")
def small() -> Iterator[httpx.Client]:
    with serving(SMALL) as client:
        yield client


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "typist", "messages": TALK, **changes}


CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
BAD: dict[str, bytes | dict[str, Any]] = {
    "a lone surrogate": b'{"model": "typist", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "nesting": b'{"model": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "half a body": b'{"model": "typist", ',
    "no UTF-8": b'{"model": "\xff"}',
    "a list": b"[]",
    "an infinite temperature": json.dumps(body(temperature=7)).replace("7", "1e999").encode(),
    "Infinity": b'{"model": "typist", "messages": [{"role": "user", "content": "x"}], "temperature": Infinity}',
    "a block without a text": body(messages=[{"role": "user", "content": [{"type": "text"}]}]),
    "an image": body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
    "ill-typed calls": body(messages=[*TALK, {"role": "assistant", "tool_calls": [{"id": 1, "function": "f"}]}]),
    "calls that are no list": body(messages=[*TALK, {"role": "assistant", "tool_calls": "f"}]),
    "arguments that are no JSON": body(
        messages=[*TALK, {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}]
    ),
    "a result of no call": body(messages=[*TALK, {"role": "tool", "content": "7"}]),
    "a role": body(messages=[{"role": "judge", "content": "x"}]),
    "no content": body(messages=[{"role": "user"}]),
    "a schema that is none": body(response_format={"type": "json_schema", "json_schema": {"schema": {"type": 7}}}),
    "tools that are none": body(tools=[{"type": "function"}]),
    "a choice of no tool": body(tools=[ADD], tool_choice="multiply"),
    "an enormous seed": body(seed=2**80),
    "an enormous number of tokens": body(max_tokens=2**80),
    "log-probabilities that nobody knows": {"model": "plain", "messages": TALK, "logprobs": True},
}


@pytest.mark.parametrize("kind", BAD)
def test_every_bad_input_is_an_error_of_openais_shape(kind: str, roomy: httpx.Client) -> None:
    sent = BAD[kind]
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = roomy.post("/v1/chat/completions", content=content)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["message"] and error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}


def test_unknown_routes_methods_and_models_are_json_too(roomy: httpx.Client) -> None:
    answers = [
        roomy.get("/nowhere"),
        roomy.get("/v1/chat/completions"),
        roomy.post("/v1/completions", json={"model": "x", "prompt": ""}),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 404]
    assert all(answer.json()["error"]["message"] for answer in answers)
    assert roomy.get("/v1/models/x").json()["error"]["code"] == "model_not_found"


def test_what_is_too_large_is_refused_before_it_is_read(small: httpx.Client) -> None:
    assert small.post("/v1/chat/completions", content=b" " * 30_000).status_code == 413
    chunked = small.post("/v1/chat/completions", content=iter([b" " * 10_000] * 4))
    assert chunked.status_code == 413
    long = small.post("/v1/chat/completions", json=body(messages=[{"role": "user", "content": "x" * 6_000}]))
    many = small.post("/v1/chat/completions", json=body(messages=TALK * 11))
    assert (long.status_code, many.status_code) == (400, 400)
    assert "5000" in long.json()["error"]["message"] and "10" in many.json()["error"]["message"]


def test_a_request_that_takes_too_long_ends_and_leaves_the_batch(small: httpx.Client) -> None:
    answer = small.post("/v1/chat/completions", json={"model": "endless", "messages": TALK})
    assert answer.status_code == 408
    assert small.post("/v1/chat/completions", json=body()).json()["choices"][0]["message"]["content"] == "It is 7"


def test_a_full_queue_is_told_with_when_to_come_again() -> None:
    with serving(Limits(concurrency=1, queue=1, seconds=3.0)) as client:
        statuses: list[tuple[int, str | None]] = []

        def ask() -> None:
            answer = client.post("/v1/chat/completions", json={"model": "endless", "messages": TALK})
            statuses.append((answer.status_code, answer.headers.get("retry-after")))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [again for status, again in statuses if status == 429]
        assert len(refused) == 4 and all(int(again or 0) >= 1 for again in refused)
        assert sorted(status for status, _ in statuses if status != 429) == [408, 408]


def test_a_client_that_hangs_up_frees_its_place(small: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        small.post("/v1/chat/completions", json={"model": "endless", "messages": TALK}, timeout=0.3)
    began = time.monotonic()
    assert small.post("/v1/chat/completions", json=body()).status_code == 200
    assert time.monotonic() - began < SMALL.seconds


def test_a_body_that_does_not_come_is_not_waited_for(small: httpx.Client) -> None:
    with _connected(small) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = connection.recv(10_000)
    assert b" 408 " in answer and b"connection: close" in answer


def test_a_head_that_does_not_come_closes_the_connection() -> None:
    import asyncio

    import uvicorn

    async def head() -> tuple[bytes, bytes]:
        app = openai_app({"plain": ChatSelfCorrect(policy=ScriptedPolicy(["a", "b"]))})
        config = uvicorn.Config(
            app, port=0, http=patient_protocol(0.3), ws="none", log_level="critical", lifespan="off"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        first = await reader.readuntil(b"}")
        writer.write(b"GET /health HT")
        closed = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        server.should_exit = True
        await serving
        return first, closed

    first, closed = asyncio.run(head())
    assert b"200 OK" in first and closed == b""


@contextmanager
def _connected(client: httpx.Client) -> Iterator[socket.socket]:
    parts = urlsplit(str(client.base_url))
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=20) as connection:
        yield connection


@pytest.mark.parametrize(
    ("positions", "messages", "prompt_bytes"),
    [(128, 64, 65_536), (8_192, 2_048, 131_072), (32_768, 4_096, 524_288), (10**6, 4_096, 4 * 2**20)],
)
def test_limits_follow_from_the_context_unless_they_are_chosen(
    positions: int, messages: int, prompt_bytes: int
) -> None:
    policy = SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(max_position_embeddings=positions)))
    derived = limits_for([policy], queue=None)
    assert (derived.messages, derived.prompt_bytes, derived.body_bytes) == (messages, prompt_bytes, 4 * prompt_bytes)
    assert limits_for([policy], messages=7, queue=3) == replace(derived, messages=7, queue=3)
    assert limits_for([policy], prompt_bytes=100).body_bytes == 400
    assert limits_for([policy, ScriptedPolicy(["a"])]) == Limits()  # nobody knows the context of the other


def test_what_a_small_context_could_never_read_is_refused_before_it_is_tokenised() -> None:
    policy = TypingPolicy(says)  # 16,384 tokens: 256 KiB of text
    with serving_app(openai_app({"typist": ChatSelfCorrect(policy=policy, revisions=0)})) as address:
        body = {"model": "typist", "messages": [{"role": "user", "content": "x" * 2**18}]}
        answer = httpx.post(f"{address}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "more than this server takes (262144)" in answer.json()["error"]["message"]


def test_limits_are_above_nothing() -> None:
    with pytest.raises(ConfigurationError, match="body_bytes"):
        Limits(body_bytes=0)


# What else the server has.


def test_requests_have_ids_and_are_counted(roomy: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="selfcorrect.serve"):
        answer = roomy.post("/v1/chat/completions", json=body(), headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert any("mine-1 POST /v1/chat/completions 200" in record.getMessage() for record in caplog.records)
    odd = roomy.get("/health", headers={"x-request-id": "a b"})
    assert len(odd.headers["x-request-id"]) == 32
    page = roomy.get("/metrics").text
    assert 'selfcorrect_requests_total{route="/v1/chat/completions",status="200"}' in page
    assert 'selfcorrect_tokens_total{kind="written"}' in page
    assert "selfcorrect_request_seconds_bucket" in page


def test_pages_of_chosen_origins_may_call() -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    with serving(cors=["https://app.example"]) as client:
        allowed = client.options("/v1/chat/completions", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    with serving() as client:
        assert "access-control-allow-origin" not in client.options("/v1/chat/completions", headers=asked).headers


def test_tools_go_through_openais_client(roomy: httpx.Client) -> None:
    with openai.OpenAI(base_url=f"{roomy.base_url}/v1", api_key="none", max_retries=0) as client:
        first = client.chat.completions.create(model="typist", messages=TALK, tools=[ADD])
        (call,) = first.choices[0].message.tool_calls or ()
        assert first.choices[0].finish_reason == "tool_calls"
        assert call.type == "function" and (call.function.name, call.function.arguments) == ("add", '{"a": 3}')
        talk = [*TALK, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "7"}]
        assert (
            client.chat.completions.create(model="typist", messages=talk, tools=[ADD]).choices[0].message.content
            == "It is 7"
        )
        streamed = client.chat.completions.create(model="typist", messages=TALK, tools=[ADD], stream=True)
        told = [chunk.choices[0].delta.tool_calls for chunk in streamed if chunk.choices[0].delta.tool_calls]
        assert told[0] is not None and told[0][0].function is not None and told[0][0].function.name == "add"


def test_a_demanded_call_is_refused_where_nothing_promises_it(roomy: httpx.Client) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "add"}}):
        body = {"model": "typist", "messages": TALK, "tools": [ADD], "tool_choice": choice}
        answer = roomy.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert "start it with --constrained" in answer.json()["error"]["message"]
    for choice in ("auto", "none"):
        body = {"model": "typist", "messages": TALK, "tools": [ADD], "tool_choice": choice}
        assert roomy.post("/v1/chat/completions", json=body).status_code == 200


def test_formats_and_log_probabilities_go_through_openais_client(roomy: httpx.Client) -> None:
    schema: Any = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    with openai.OpenAI(base_url=f"{roomy.base_url}/v1", api_key="none", max_retries=0) as client:
        formed = client.chat.completions.create(model="typist", messages=TALK, response_format=form)
        assert json.loads(formed.choices[0].message.content or "") == {"sum": 7}
        sure = client.chat.completions.create(model="typist", messages=TALK, logprobs=True).choices[0]
        assert sure.logprobs is not None and sure.logprobs.content is not None
        assert "".join(token.token for token in sure.logprobs.content) == "It is 7<|im_end|>"
        assert all(token.logprob < 0 for token in sure.logprobs.content)


def test_completions_and_responses_answer_too(roomy: httpx.Client) -> None:
    with openai.OpenAI(base_url=f"{roomy.base_url}/v1", api_key="none", max_retries=0) as client:
        text = client.completions.create(model="typist", prompt=["one", "two"], n=2)
        assert [choice.text for choice in text.choices] == ["It is 7"] * 4
        tool: Any = {"type": "function", **ADD["function"]}
        first = client.responses.create(model="typist", input="3 + 4?", instructions="Be brief.", tools=[tool])
        call: Any = next(item for item in first.output if item.type == "function_call")
        assert (call.name, call.arguments) == ("add", '{"a": 3}')
        items: Any = [
            {"role": "user", "content": [{"type": "input_text", "text": "3 + 4?"}]},
            {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
            {"type": "function_call_output", "call_id": call.call_id, "output": "7"},
        ]
        second = client.responses.create(model="typist", input=items, tools=[tool])
        assert second.output_text == "It is 7"
        assert second.usage is not None and second.usage.output_tokens > 0
