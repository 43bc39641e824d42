"""The OpenAI-compatible endpoint, driven by the real `openai` client."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest
from local_server import free_port, running, script, serving_app
from small_models import CHAT_TEMPLATE, CHAT_WORDS, WORDS, llama, word_tokenizer

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.serving.openai_app import openai_app
from selfcorrect.agents.state import Message
from selfcorrect.errors import GraphError

TALK: Any = [{"role": "user", "content": "2 + 2?"}]


def four_at_last(conversation: Sequence[Message]) -> str:
    last = conversation[-1]["content"]
    if last == PLAIN.critique:
        return "The answer is correct" if conversation[-2]["content"] == "four" else "The answer is wrong"
    return "four" if last == PLAIN.revise else "five"


def repeat(conversation: Sequence[Message]) -> str:
    return "|".join(f"{message['role']}:{message['content']}" for message in conversation)


def broken(conversation: Sequence[Message]) -> str:
    raise GraphError("the machine is on fire")


class Slow(ScriptedPolicy):
    """Never ends its second turn; tells that it was reached and that it was cancelled."""

    reached, cancelled = threading.Event(), threading.Event()

    async def generate(self, messages: Any, sampling: Any, *, after: Any = None) -> Any:
        if len(messages) > 1:
            Slow.reached.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                Slow.cancelled.set()
                raise
        return await super().generate(messages, sampling, after=after)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    models = {
        "careful": ChatSelfCorrect(policy=ScriptedPolicy(four_at_last, tokenizer=tokenizer), critique="self"),
        "parrot": ChatSelfCorrect(policy=ScriptedPolicy(repeat), revisions=0),
        "broken": ChatSelfCorrect(policy=ScriptedPolicy(broken)),
        "slow": ChatSelfCorrect(policy=Slow(["a", "b"])),
    }
    with serving_app(openai_app(models)) as served:
        yield served


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_the_answer_is_the_corrected_one_and_its_turns_come_along(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="careful", messages=TALK)
    choice: Any = completion.choices[0]
    assert choice.message.content == "four"
    assert choice.finish_reason == "stop"
    assert [turn["text"] for turn in choice.turns] == ["five", "The answer is wrong", "four"]
    assert "five" in choice.message.reasoning_content and "four" not in choice.message.reasoning_content
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0


def test_a_stream_tells_the_turns_then_the_answer_then_the_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="careful", messages=TALK, stream=True, stream_options={"include_usage": True}
    )
    with stream:
        chunks: list[Any] = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "four"
    thoughts = [delta.reasoning_content for delta in deltas if getattr(delta, "reasoning_content", None)]
    assert thoughts == ["Attempt:\nfive\n\n", "Critique:\nThe answer is wrong\n\n"]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    whole = client.chat.completions.create(model="careful", messages=TALK)
    assert chunks[-1].usage == whole.usage


def test_an_accepted_answer_is_streamed_after_its_critique(client: openai.OpenAI) -> None:
    talk = [{"role": "user", "content": PLAIN.revise}]  # makes the script answer rightly at once
    with client.chat.completions.create(model="careful", messages=talk, stream=True) as stream:  # type: ignore[call-overload]
        deltas = [chunk.choices[0].delta for chunk in stream]
    assert [delta.reasoning_content for delta in deltas if getattr(delta, "reasoning_content", None)] == [
        "Critique:\nThe answer is correct\n\n"
    ]
    assert "".join(delta.content or "" for delta in deltas) == "four"


def test_the_asynchronous_client_gets_many_answers_at_once(address: str) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
            calls = [
                client.chat.completions.create(model="parrot", messages=[{"role": "user", "content": str(number)}])
                for number in range(20)
            ]
            return [completion.choices[0].message.content or "" for completion in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == [f"user:{number}" for number in range(20)]


def test_every_role_is_understood(client: openai.OpenAI) -> None:
    talk: Any = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "2 + 2?"},
    ]
    completion = client.chat.completions.create(model="parrot", messages=talk)
    assert completion.choices[0].message.content == "system:be brief|user:hello|assistant:hi|user:2 + 2?"


def test_several_choices(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="parrot", messages=TALK, n=3, seed=1, temperature=1)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["careful", "parrot", "broken", "slow"]
    card: Any = client.models.retrieve("parrot")
    assert card.owned_by == "selfcorrect"
    assert card.streams_whole == "a ScriptedPolicy does not tell its tokens"


def test_a_client_that_hangs_up_cancels_the_episode(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="slow", messages=TALK, stream=True) as stream:
        next(iter(stream))
        assert Slow.reached.wait(60)
    assert Slow.cancelled.wait(60)


# --- bad input
# -----------------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt' here; there is 'careful'"):
        client.chat.completions.create(model="gpt", messages=TALK)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": -1}, "temperature: Input should be greater"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "user", "content": " "}]}, "blank"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "messages cannot be read"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "a tool is"),
        ({"response_format": {"type": "xml"}}, "response_format has the type 'xml'"),
        ({"n": 2, "stream": True}, "n above 1"),
    ],
)
def test_what_cannot_be_answered_is_a_bad_request(client: openai.OpenAI, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.chat.completions.create(**{"model": "parrot", "messages": TALK, **changes})


def test_a_failure_of_the_server_is_told_as_such(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="on fire"):
        client.chat.completions.create(model="broken", messages=TALK)


def test_a_failure_within_a_stream_reaches_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="on fire"):
        list(client.chat.completions.create(model="broken", messages=TALK, stream=True))


@pytest.mark.parametrize(("body", "words"), [(b"{", "no valid JSON"), (b"[]", "must be a JSON object")])
def test_a_body_that_is_no_json_object_is_told(address: str, body: bytes, words: str) -> None:
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(f"{address}/v1/chat/completions", data=body, method="POST"))
    with caught.value as answer:
        assert answer.code == 400
        assert words in json.loads(answer.read())["error"]["message"]


def test_a_wrong_key_is_refused_and_the_right_one_is_not() -> None:
    models = {"parrot": ChatSelfCorrect(policy=ScriptedPolicy(repeat), revisions=0)}
    with serving_app(openai_app(models, api_key="secret")) as address:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="guess") as client:
            with pytest.raises(openai.AuthenticationError, match="API key"):
                client.chat.completions.create(model="parrot", messages=TALK)
            with pytest.raises(openai.AuthenticationError):
                client.models.list()
        with openai.OpenAI(base_url=f"{address}/v1", api_key="secret") as client:
            assert client.chat.completions.create(model="parrot", messages=TALK).choices[0].message.content


# --- the command
# ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chat_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random chat model with a vocabulary of its own, as `from_pretrained` loads it."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = word_tokenizer([*CHAT_WORDS, *PLAIN.revise.split()], eos="<|im_end|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    llama(len(tokenizer)).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_command_serves_a_local_model(chat_model_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [script("selfcorrect"), "serve", "--model", str(chat_model_folder), "--name", "tiny", "--port", str(port)]
    served = running(command, f"http://127.0.0.1:{port}/health", folder=tmp_path)
    with served, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:
        completion: Any = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "3 5 7 get 9"}], max_tokens=4
        )
    assert [turn["role"] for turn in completion.choices[0].turns] == ["attempt", "revise"]
    assert 2 <= completion.usage.completion_tokens <= 8


def test_eval_takes_a_chat_model_of_langchain(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # the "provider" is our own server, asked by langchain-openai
    from typer.testing import CliRunner

    from selfcorrect.cli.app import app

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{address}/v1")
    arguments = ["eval", "--model", "openai:parrot", "--task", "countdown-3", "-n", "2", "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    figures = json.loads(done.stdout)
    assert (figures["model"], figures["n"], figures["accuracy_t1"]) == ("openai:parrot", 2, 0.0)
