"""Tokens of the answer as they are drawn: drafts are kept back, usage is counted once, who hangs up leaves at once."""

import asyncio
from collections.abc import Callable
from operator import itemgetter
from typing import Any, TypedDict

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessageChunk
from langgraph.graph import END, START, MessagesState, StateGraph
from small_models import llama
from typing_policy import family_tokenizer

from selfcorrect.agents.decoding.continuous import ContinuousDecoding
from selfcorrect.agents.decoding.engine import Decoding
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.state import Message
from selfcorrect.agents.stopping import FixedRevisions
from selfcorrect.errors import ConfigurationError, GraphError


def policy(**options: Any) -> TransformersPolicy:
    tokenizer = family_tokenizer("qwen3")
    return TransformersPolicy(llama(len(tokenizer), positions=2048), tokenizer, in_thread=True, **options)


@pytest.mark.parametrize(
    ("revisions", "critique"),
    [
        (0, "instruction"),
        (1, "instruction"),
        (1, "self"),
        pytest.param(2, "self", marks=pytest.mark.slow),
        pytest.param(2, "instruction", marks=pytest.mark.slow),
    ],
)
def test_the_answer_comes_token_by_token_and_the_drafts_not_at_all(revisions: int, critique: str) -> None:
    rule = {"stop_rule": FixedRevisions()} if critique == "self" else {}  # else its own nonsense ends the loop early
    model = ChatSelfCorrect(
        policy=policy(max_new_tokens=40), revisions=revisions, critique=critique, temperature=1.0, seed=3, **rule
    )
    assert model.streams_whole is None
    told_as_asked(model)


def told_as_asked(model: ChatSelfCorrect) -> None:
    """The stream's pieces are the reply's, many, and their sum is it."""
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


class Note(TypedDict, total=False):
    question: str
    draft: str
    text: str


def noted(policy: Any, *, calls: int = 1, again: bool = False) -> Any:
    """A graph whose first node drafts and whose second answers, by `calls` calls."""

    async def ask(words: str, seed: int) -> str:
        sampling = Sampling(temperature=1.0, seed=seed, max_new_tokens=40)
        return str((await policy.generate([Message(role="user", content=words)], sampling))["text"])

    async def draft(state: Note) -> Note:
        return {"draft": await ask(state["question"], 1)}

    async def answer(state: Note) -> Note:
        return {"text": [await ask("once more", 2 + call) for call in range(calls)][-1]}

    graph = StateGraph(Note).add_node("draft", draft).add_node("answer", answer)
    graph.add_edge(START, "draft").add_edge("draft", "answer")
    if again:
        graph.add_conditional_edges("answer", lambda state: END, ["draft", END])
    else:
        graph.add_edge("answer", END)
    return graph.compile()


def over(graph: Any, node: str | None = "answer", answer: Callable[[Any], str] = itemgetter("text")) -> ChatSelfCorrect:
    return ChatSelfCorrect(
        graph=graph, inputs=lambda messages: {"question": str(messages[-1].text)}, answer=answer, answer_node=node
    )


def test_the_answer_of_a_graph_of_ones_own_comes_token_by_token() -> None:
    told_as_asked(over(noted(policy())))


def test_the_last_revision_of_a_built_graph_comes_token_by_token() -> None:
    graph = build_graph(policy(max_new_tokens=40), prompts=PLAIN)
    told_as_asked(ChatSelfCorrect(graph=graph, answer_node="revise", temperature=1.0, seed=3))


def test_what_cannot_be_streamed_by_tokens_says_so_and_comes_whole() -> None:
    model = over(noted(policy()), None)
    assert "which call of the graph draws the answer is not known" in str(model.streams_whole)
    assert len([chunk for chunk in model.stream("hello") if chunk.text]) == 1
    assert "does not tell its tokens" in str(ChatSelfCorrect(policy=ScriptedPolicy(["a", "b"])).streams_whole)


def test_a_node_that_may_draw_drafts_is_refused() -> None:
    with pytest.raises(GraphError, match="no such node. It has: answer, draft"):
        over(noted(policy()), "anwser")
    with pytest.raises(GraphError, match="which can run again"):
        over(noted(policy(), again=True))
    with pytest.raises(ConfigurationError, match="belongs to graph="):
        ChatSelfCorrect(policy=policy(), answer_node="attempt")


def test_an_answer_that_is_not_what_was_streamed_is_an_error() -> None:
    with pytest.raises(GraphError, match="calls the policy again after its first call was streamed"):
        list(over(noted(policy(), calls=2)).stream("hello"))
    with pytest.raises(GraphError, match="answer_node draws as it is"):
        list(over(noted(policy()), answer=lambda state: "other").stream("hello"))


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


@pytest.mark.parametrize("kind", ["generate", "extend"])
@pytest.mark.parametrize(
    ("decoding", "batch", "drawing"), [("dynamic", Decoding, "_draw"), ("static", ContinuousDecoding, "_launch")]
)
def test_who_hangs_up_leaves_the_batch_at_once(
    monkeypatch: pytest.MonkeyPatch, kind: str, decoding: str, batch: type, drawing: str
) -> None:
    model = policy(max_new_tokens=1500, decoding=decoding)
    model._eos_ids = []  # endless, but for the limit
    steps: list[Any] = []
    draw = getattr(batch, drawing)

    def counted(self: Any, *step: int) -> Any:
        steps.append(step)
        return draw(self, *step)

    monkeypatch.setattr(batch, drawing, counted)
    message = [Message(role="user", content="hi")]

    async def hang_up() -> None:
        begun = await model.generate(message, Sampling(seed=0, max_new_tokens=3))

        def call(number: int) -> Any:
            sampling = Sampling(seed=number)
            return model.generate(message, sampling) if kind == "generate" else model.extend(begun, sampling)

        calls = [asyncio.create_task(call(number)) for number in range(4)]
        while len(steps) < 10:
            await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await model.generate(message, Sampling(max_new_tokens=2))

    asyncio.run(hang_up())
    assert len(steps) < 1400
