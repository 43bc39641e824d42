"""The policy behind a server, against a server that speaks vLLM's protocol and holds a small model."""

import asyncio
import json
from typing import Any

import httpx
import pytest
import torch
from small_models import WORDS, llama, problem, texts, word_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.loading import named_policy
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.vllm import VLLMPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.recording import recording
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError

ASK = [Message(role="user", content="3 5 get 8 :")]


class Server(httpx.BaseTransport):
    """Decodes greedily, one token at a time, and answers as vLLM's `/v1/completions` does with `return_token_ids`."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.asked: list[dict[str, Any]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/completions"
        body = json.loads(request.read())
        self.asked.append(body)
        ids, logprobs = list(body["prompt"]), list[float]()
        while len(logprobs) < body["max_tokens"] and ids[-1] != self.tokenizer.eos_token_id:
            with torch.no_grad():
                last = self.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            ids.append(int(last.argmax()))
            logprobs.append(float(last.max()))
        drawn = ids[len(body["prompt"]) :]
        if body.get("stream"):
            return self._streamed(drawn, logprobs)
        ended = drawn[-1] == self.tokenizer.eos_token_id
        choice = {
            "text": "not looked at",
            "token_ids": drawn,
            "logprobs": {"token_logprobs": logprobs},
            "finish_reason": "stop" if ended else "length",
        }
        return httpx.Response(200, json={"choices": [choice]})

    def _streamed(self, drawn: list[int], logprobs: list[float]) -> httpx.Response:
        """A token an event, as vLLM streams; the last says why it is the last."""
        last = "stop" if drawn[-1] == self.tokenizer.eos_token_id else "length"
        choices = [
            {
                "text": "not looked at",
                "token_ids": [token],
                "logprobs": {"token_logprobs": [logprob]},
                "finish_reason": last if place == len(drawn) - 1 else None,
            }
            for place, (token, logprob) in enumerate(zip(drawn, logprobs, strict=True))
        ]
        events = [json.dumps({"choices": [choice]}) for choice in choices] + ['{"choices": []}', "[DONE]"]
        return httpx.Response(200, text="".join(f"data: {event}\n\n" for event in events))


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(WORDS, pad_token="<pad>")


@pytest.fixture
def server(tokenizer: PreTrainedTokenizerFast) -> Server:
    return Server(llama(len(tokenizer)), tokenizer)


def over(server: httpx.BaseTransport, tokenizer: Any, **options: Any) -> VLLMPolicy:
    return VLLMPolicy("http://server/v1/", "small", tokenizer, transport=server, max_new_tokens=6, **options)


def ask(policy: VLLMPolicy, sampling: Sampling = GREEDY, after: Generation | None = None) -> Generation:
    return asyncio.run(policy.generate(ASK, sampling, after=after))


def test_episodes_are_token_for_token_those_of_the_same_model_in_process(server: Server, tokenizer: Any) -> None:
    here = TransformersPolicy(server.model, tokenizer, max_new_tokens=6)
    with over(server, tokenizer) as there:
        mine, theirs = (
            play_sync(build_graph(policy, prompts=COUNTDOWN), [problem("3 5 get 8")], sampling=GREEDY, seed=1)[0]
            for policy in (here, there)
        )
    assert texts(mine) == texts(theirs)
    for one, other in zip(mine["turns"], theirs["turns"], strict=True):
        assert one["generation"]["prompt_ids"] == other["generation"]["prompt_ids"]
        assert one["generation"]["completion_ids"] == other["generation"]["completion_ids"]
        assert one["generation"]["logprobs"] == pytest.approx(other["generation"]["logprobs"], abs=1e-4)
        assert one["generation"]["messages"] == other["generation"]["messages"]


def test_what_is_drawn_how_is_the_servers_to_know(server: Server, tokenizer: Any) -> None:
    with over(server, tokenizer) as policy:
        ask(policy, Sampling(temperature=0.7, top_p=0.9, max_new_tokens=2, seed=5, stop=(";",)))
    asked = server.asked[0]
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"]) == (0.7, 0.9, 2)
    neutral = {name: asked[name] for name in ("top_k", "min_p", "repetition_penalty")}
    assert neutral == {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}, "else generation_config decides"
    assert asked["presence_penalty"] == asked["frequency_penalty"] == 0.0
    assert (asked["seed"], asked["stop"], asked["model"]) == (5, [";"], "small")


@pytest.mark.parametrize(("temperature", "processed", "recorded"), [(0.7, False, 0), (0.7, True, 2), (1.0, False, 2)])
def test_log_probabilities_at_another_temperature_are_not_recorded(
    server: Server, tokenizer: Any, temperature: float, processed: bool, recorded: int
) -> None:
    with over(server, tokenizer, processed_logprobs=processed) as policy:
        generation = ask(policy, Sampling(temperature=temperature, max_new_tokens=2))
    assert len(generation["logprobs"]) == recorded


def test_answers_are_streamed_token_by_token_and_are_the_same(server: Server, tokenizer: Any) -> None:
    with over(server, tokenizer) as policy:
        model = ChatSelfCorrect(policy=policy, prompts=COUNTDOWN)
        asked = model.invoke(ASK[0]["content"])
        chunks = list(model.stream(ASK[0]["content"]))
    assert [body.get("stream") for body in server.asked] == [None, None, None, True]  # drafts are asked for whole
    pieces = [str(chunk.text) for chunk in chunks if chunk.text]
    assert "".join(pieces) == asked.text and len(pieces) > 2
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert whole.usage_metadata == asked.usage_metadata
    assert whole.response_metadata == asked.response_metadata


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (httpx.Response(503, text="too busy"), r"refused the request \(503\): too busy"),
        (httpx.Response(200, text='data: {"error": "out of memory"}\n\n'), "failed within its stream: out of memory"),
        (
            httpx.Response(200, text='data: {"choices": [{"text": "8"}]}\n\n'),
            "answered something that is no completion",
        ),
    ],
)
def test_a_stream_that_fails_is_named(tokenizer: Any, answer: httpx.Response, complaint: str) -> None:
    with (
        over(httpx.MockTransport(lambda request: answer), tokenizer) as policy,
        pytest.raises(PolicyError, match=complaint),
    ):
        list(ChatSelfCorrect(policy=policy, revisions=0).stream("3 5 get 8 :"))


def test_calls_are_recorded_for_whoever_listens(server: Server, tokenizer: Any) -> None:
    with over(server, tokenizer) as policy, recording(policy) as recorder:
        generation = ask(policy)
    assert [call.generation for call in recorder.calls] == [generation]


def test_a_conversation_that_a_chat_model_began_is_rendered_as_a_whole(server: Server, tokenizer: Any) -> None:
    said = Generation(text="3 + 5", messages=ASK, prompt_ids=[], completion_ids=[], logprobs=[], finish_reason="stop")
    in_process = TransformersPolicy(server.model, tokenizer, max_new_tokens=6)
    with over(server, tokenizer) as policy:
        generation = ask(policy, after=said)
    assert tokenizer.decode(generation["prompt_ids"]) == "3 5 get 8 : 3 + 5 3 5 get 8 :"
    assert asyncio.run(in_process.generate(ASK, GREEDY, after=said))["prompt_ids"] == generation["prompt_ids"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (httpx.Response(404, text="no such model"), r"refused the request \(404\): no such model"),
        (httpx.Response(200, text="<html>"), "answered something that is no completion"),
        (httpx.Response(200, json={"choices": [{"text": "8"}]}), "return_token_ids"),
    ],
)
def test_a_server_that_does_not_play_along_is_named(tokenizer: Any, answer: httpx.Response, complaint: str) -> None:
    with (
        over(httpx.MockTransport(lambda request: answer), tokenizer) as policy,
        pytest.raises(PolicyError, match=complaint),
    ):
        ask(policy)


def test_a_server_that_is_not_there_is_named(tokenizer: Any) -> None:
    with (
        VLLMPolicy("http://127.0.0.1:9/v1", "small", tokenizer) as policy,
        pytest.raises(PolicyError, match="no answer from"),
    ):
        ask(policy)


def test_a_tokenizer_that_cannot_be_loaded_is_named(tmp_path: Any) -> None:
    with pytest.raises(PolicyError, match="cannot load the tokenizer"):
        VLLMPolicy.from_pretrained("http://server/v1", "small", tokenizer=str(tmp_path))


def test_a_server_can_be_named_with_its_model(tokenizer: Any, tmp_path: Any) -> None:
    tokenizer.save_pretrained(tmp_path)
    policy, _ = named_policy(f"vllm:{tmp_path}@http://server:8000/v1", max_new_tokens=7)
    assert isinstance(policy, VLLMPolicy)
    assert (policy.url, policy.model, policy.max_new_tokens) == ("http://server:8000/v1", str(tmp_path), 7)
    policy.close()


@pytest.mark.parametrize("name", ["vllm:model", "vllm:@http://server/v1", "vllm:model@server:8000"])
def test_a_server_without_model_or_address_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="vllm:MODEL@URL"):
        named_policy(name)
