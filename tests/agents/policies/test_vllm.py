"""The policy behind a server, against a server that speaks vLLM's protocol and holds a small model."""

import asyncio
from typing import Any

import httpx
import pytest
import torch
from fake_vllm import FakeVLLM
from small_models import WORDS, llama, problem, texts, word_tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerFast

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.loading import named_policy
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policies.rendering import PlainTemplate
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.vllm import VLLMPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.recording import recording
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError, PolicyError, UnreadablePromptError
from selfcorrect.rewards.countdown import CountdownChecker

ASK = [Message(role="user", content="3 5 get 8 :")]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(WORDS, pad_token="<pad>")


@pytest.fixture
def server(tokenizer: PreTrainedTokenizerFast) -> FakeVLLM:
    return FakeVLLM(llama(len(tokenizer)), tokenizer)


def over(server: httpx.BaseTransport, tokenizer: Any, **options: Any) -> VLLMPolicy:
    return VLLMPolicy("http://server/v1/", "small", tokenizer, transport=server, max_new_tokens=6, **options)


def ask(policy: VLLMPolicy, sampling: Sampling = GREEDY, after: Generation | None = None) -> Generation:
    return asyncio.run(policy.generate(ASK, sampling, after=after))


def test_episodes_are_token_for_token_those_of_the_same_model_in_process(server: FakeVLLM, tokenizer: Any) -> None:
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


def test_what_is_drawn_how_is_the_servers_to_know(server: FakeVLLM, tokenizer: Any) -> None:
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
    server: FakeVLLM, tokenizer: Any, temperature: float, processed: bool, recorded: int
) -> None:
    with over(server, tokenizer, processed_logprobs=processed) as policy:
        generation = ask(policy, Sampling(temperature=temperature, max_new_tokens=2))
    assert len(generation["logprobs"]) == recorded


def test_answers_are_streamed_token_by_token_and_are_the_same(server: FakeVLLM, tokenizer: Any) -> None:
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


def test_calls_are_recorded_for_whoever_listens(server: FakeVLLM, tokenizer: Any) -> None:
    with over(server, tokenizer) as policy, recording(policy) as recorder:
        generation = ask(policy)
    assert [call.generation for call in recorder.calls] == [generation]


def test_a_conversation_that_a_chat_model_began_is_rendered_as_a_whole(server: FakeVLLM, tokenizer: Any) -> None:
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


def lengthened(server: FakeVLLM, room: int) -> FakeVLLM:
    return FakeVLLM(server.model, server.tokenizer, [{"id": "small", "root": "folder", "max_model_len": room}])


def test_an_answer_ends_where_the_servers_context_does(server: FakeVLLM, tokenizer: Any) -> None:
    with over(lengthened(server, 8), tokenizer) as policy:
        prompt = policy.count_tokens(ASK)
        assert len(ask(policy)["completion_ids"]) == 8 - prompt  # of the 6 that it may have


def test_a_prompt_that_is_too_long_for_the_server_is_refused_as_one_for_a_model_here_would_be(
    server: FakeVLLM, tokenizer: Any
) -> None:
    full = lengthened(server, 5)
    with (
        over(full, tokenizer) as policy,
        pytest.raises(UnreadablePromptError, match="prompt has 5 token ids, but the model's context holds 5"),
    ):
        ask(policy)
    assert full.asked == []


def test_problems_that_are_too_long_for_the_server_are_left_out_of_an_evaluation(
    server: FakeVLLM, tokenizer: Any
) -> None:
    with over(lengthened(server, 14), tokenizer) as policy:
        graph = build_graph(policy, prompts=COUNTDOWN, revisions=0)
        gold: dict[str, object] = {"numbers": [3, 5], "target": 8}
        problems = [
            problem("3 5 get 8", id="short", reference=gold),
            problem("1 2 3 4 5 6 7 8 9 10 11 12 13 14 get 8", id="long", reference=gold),
        ]
        report, _ = evaluate(graph, problems, CountdownChecker())
    assert report.left_out == ["long"]


def test_the_length_can_be_told_where_the_server_does_not_say(server: FakeVLLM, tokenizer: Any) -> None:
    with over(server, tokenizer, max_model_length=7) as policy:
        assert len(ask(policy)["completion_ids"]) == 2


def test_a_turn_that_another_token_ends_has_no_end_mark_in_its_text_nor_twice_before_the_next(
    server: FakeVLLM, tokenizer: Any
) -> None:
    """As of models whose generation_config names more ends than the tokenizer does."""
    first = int(server.model(torch.tensor([PlainTemplate(tokenizer).first(ASK)])).logits[0, -1].argmax())
    ending = FakeVLLM(server.model, tokenizer, ends=[first])
    with over(ending, tokenizer) as policy:
        generation = ask(policy)
        later = ask(policy, after=generation)
    assert (generation["text"], generation["completion_ids"]) == ("", [first])
    assert generation["finish_reason"] == "stop"
    said = [*generation["prompt_ids"], first]
    assert later["prompt_ids"][: len(said)] == said
    assert later["prompt_ids"][len(said)] != tokenizer.eos_token_id, "the turn was ended twice"
    assert first in ending.asked[1]["stop_token_ids"]


def test_a_stream_does_not_show_the_token_that_ended_it(server: FakeVLLM, tokenizer: Any) -> None:
    first = int(server.model(torch.tensor([PlainTemplate(tokenizer).first(ASK)])).logits[0, -1].argmax())
    with over(FakeVLLM(server.model, tokenizer, ends=[first]), tokenizer) as policy:
        chunks = list(ChatSelfCorrect(policy=policy, revisions=0, prompts=COUNTDOWN).stream(ASK[0]["content"]))
    assert "".join(str(chunk.text) for chunk in chunks) == ""


def test_the_generation_configs_ends_are_sent_along(server: FakeVLLM, tokenizer: Any, tmp_path: Any) -> None:
    tokenizer.save_pretrained(tmp_path)
    GenerationConfig(eos_token_id=[7, 9]).save_pretrained(tmp_path)
    with VLLMPolicy.from_pretrained("http://server/v1", "small", tokenizer=str(tmp_path), transport=server) as policy:
        ask(policy, Sampling(temperature=0.0, max_new_tokens=1))
    assert server.asked[0]["stop_token_ids"] == sorted({tokenizer.eos_token_id, 7, 9})


def test_the_tokenizer_is_that_of_the_model_behind_an_alias(server: FakeVLLM, tokenizer: Any, tmp_path: Any) -> None:
    tokenizer.save_pretrained(tmp_path)
    served = FakeVLLM(server.model, tokenizer, [{"id": "alias", "root": str(tmp_path), "max_model_len": 50}])
    with VLLMPolicy.from_pretrained("http://server/v1", "alias", transport=served, max_new_tokens=2) as policy:
        ask(policy)
    assert served.asked[0]["model"] == "alias"
    assert policy.tokenizer.get_vocab() == tokenizer.get_vocab()


def test_a_model_that_the_server_does_not_serve_is_named_with_those_that_it_does(
    server: FakeVLLM, tokenizer: Any
) -> None:
    served = FakeVLLM(server.model, tokenizer, [{"id": "large"}, {"id": "larger"}])
    with over(served, tokenizer) as policy, pytest.raises(PolicyError, match="serves large, larger, and no .*'small'"):
        ask(policy)


@pytest.mark.parametrize(("given", "sent"), [("secret", "Bearer secret"), (None, "Bearer of the shell")])
def test_a_key_goes_with_every_request(
    server: FakeVLLM, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, given: str | None, sent: str
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "of the shell")
    with over(server, tokenizer, api_key=given) as policy:
        ask(policy)
    assert server.keys == {sent}


OLLAMA = {"text": "8", "finish_reason": "stop"}
WITHOUT_LOGPROBS = {"text": "8", "token_ids": [3], "logprobs": None, "finish_reason": "stop"}
SGLANG = {"text": "8", "logprobs": {"token_logprobs": [-0.5], "tokens": ["8"]}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("choice", "lacking"),
    [
        (OLLAMA, "no token ids and no log-probabilities"),
        (WITHOUT_LOGPROBS, "no log-probabilities"),
        (SGLANG, "no token ids of"),
        ({**WITHOUT_LOGPROBS, "logprobs": {"token_logprobs": [None]}}, "no log-probabilities"),
        ({**WITHOUT_LOGPROBS, "logprobs": {"token_logprobs": []}}, "no log-probability for each token id"),
    ],
)
def test_servers_that_lack_what_training_needs_are_told_so_and_where_to_go(
    tokenizer: Any, choice: dict[str, Any], lacking: str
) -> None:
    answer = httpx.Response(200, json={"choices": [choice]})
    with (
        over(httpx.MockTransport(lambda request: answer), tokenizer) as policy,
        pytest.raises(PolicyError, match=f"{lacking}.*for evaluation: --model openai:NAME"),
    ):
        ask(policy)


def test_a_server_can_be_named_with_its_model(tokenizer: Any, tmp_path: Any) -> None:
    tokenizer.save_pretrained(tmp_path)
    policy, _ = named_policy(f"vllm:{tmp_path}@http://server:8000/v1", max_new_tokens=7)
    assert isinstance(policy, VLLMPolicy)
    assert (policy.url, policy.model, policy.max_new_tokens) == ("http://server:8000/v1", str(tmp_path), 7)
    policy.close()


def test_a_name_can_tell_tokenizer_length_and_more_of_the_server(tokenizer: Any, tmp_path: Any) -> None:
    tokenizer.save_pretrained(tmp_path)
    more = f"tokenizer={tmp_path}&max_model_length=9&processed_logprobs=true&concurrency=3"
    policy, _ = named_policy(f"vllm:alias@http://server:8000/v1?{more}")
    assert isinstance(policy, VLLMPolicy)
    assert (policy.url, policy.model) == ("http://server:8000/v1", "alias")
    assert policy._server.context == 9 and policy._processed
    policy.close()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("max_length=9", "no option 'max_length'; it has tokenizer, max_model_length, "),
        ("max_model_length=long", "max_model_length is a whole number, got 'long'"),
        ("processed_logprobs=maybe", "processed_logprobs is true or false, got 'maybe'"),
    ],
)
def test_options_of_a_name_that_are_none_are_refused(more: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        named_policy(f"vllm:alias@http://server:8000/v1?{more}")


@pytest.mark.parametrize("name", ["vllm:model", "vllm:@http://server/v1", "vllm:model@server:8000"])
def test_a_server_without_model_or_address_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="vllm:MODEL@URL"):
        named_policy(name)
