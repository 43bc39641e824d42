"""Tokens of the answer as they are drawn: drafts are kept back, usage is counted once, who hangs up leaves at once."""

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessageChunk
from langgraph.graph import END, START, MessagesState, StateGraph
from small_models import llama
from typing_policy import family_tokenizer

from selfcorrect.agents.decoding.engine import Decoding
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Message


def policy(**options: Any) -> TransformersPolicy:
    tokenizer = family_tokenizer("qwen3")
    return TransformersPolicy(llama(len(tokenizer), positions=2048), tokenizer, in_thread=True, **options)


@pytest.mark.parametrize("revisions", [0, 1])
def test_the_answer_comes_token_by_token_and_the_drafts_not_at_all(revisions: int) -> None:
    model = ChatSelfCorrect(policy=policy(max_new_tokens=40), revisions=revisions, temperature=1.0, seed=3)
    chunks = list(model.stream("hello"))
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert len(texts) > 10
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    asked = model.invoke("hello")
    assert isinstance(whole, AIMessageChunk)
    assert whole.text == asked.text
    assert whole.response_metadata == asked.response_metadata
    assert whole.usage_metadata == asked.usage_metadata


def test_a_stop_text_is_never_told() -> None:
    model = ChatSelfCorrect(policy=policy(max_new_tokens=60), revisions=0, temperature=1.0, seed=3)
    whole = str(model.invoke("hello").text)
    stop = whole[20:23]
    told = [chunk.text for chunk in model.stream("hello", stop=[stop])]
    assert "".join(told) == model.invoke("hello", stop=[stop]).text
    assert stop not in "".join(told)


def test_langgraph_streams_the_final_tokens_once_and_counts_usage_once() -> None:
    model = ChatSelfCorrect(policy=policy(max_new_tokens=30), revisions=1, temperature=1.0, seed=3)

    async def answer(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END)
    counter = UsageMetadataCallbackHandler()

    async def streamed() -> str:
        text = ""
        given: Any = {"messages": [("user", "hello")]}
        config: Any = {"callbacks": [counter]}
        async for chunk, _ in graph.compile().astream(given, config, stream_mode="messages"):
            text += chunk.text  # type: ignore[union-attr]
        return text

    text = asyncio.run(streamed())
    asked = model.invoke("hello")
    assert text == asked.text
    assert counter.usage_metadata["selfcorrect"] == asked.usage_metadata


def test_who_hangs_up_leaves_the_batch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = policy(max_new_tokens=1500)
    model._eos_ids = []  # endless, but for the limit
    steps: list[int] = []
    draw = Decoding._draw

    def counted(self: Decoding, step: int) -> Any:
        steps.append(step)
        return draw(self, step)

    monkeypatch.setattr(Decoding, "_draw", counted)
    message = [Message(role="user", content="hi")]

    async def hang_up() -> None:
        calls = [asyncio.create_task(model.generate(message, Sampling(seed=number))) for number in range(4)]
        while len(steps) < 5:
            await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await model.generate(message, Sampling(max_new_tokens=2))

    asyncio.run(hang_up())
    assert len(steps) < 1400
