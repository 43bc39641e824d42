"""What `ChatSelfCorrect` promises beyond LangChain's suites: turns, usage, history, tools, errors, places to plug it
in."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from scripted_chat_model import USAGE, ScriptedChatModel
from small_models import CHAT_TEMPLATE, CHAT_WORDS, WORDS, llama, word_tokenizer

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.recording import recording
from selfcorrect.agents.state import Message
from selfcorrect.errors import ConfigurationError, GraphError, PolicyError
from selfcorrect.rewards.countdown import CountdownChecker


def repeat(conversation: Sequence[Message]) -> str:
    return "|".join(f"{message['role']}:{message['content']}" for message in conversation)


def chat(script: Any, **settings: Any) -> ChatSelfCorrect:
    return ChatSelfCorrect(policy=ScriptedPolicy(script), **settings)


def test_the_reply_is_the_last_answer_and_carries_every_turn() -> None:
    reply = chat(["first", "The answer is wrong", "second"], critique="self").invoke("2 + 2?")
    assert reply.text == "second"
    turns = reply.response_metadata["turns"]
    assert [(turn["role"], turn["text"]) for turn in turns] == [
        ("attempt", "first"), ("critique", "The answer is wrong"), ("revise", "second"),
    ]  # fmt: skip


def test_an_accepted_answer_is_the_reply_though_a_critique_came_after_it() -> None:
    reply = chat(["first", "The answer is correct"], critique="self").invoke("2 + 2?")
    assert reply.text == "first"
    assert reply.response_metadata["stop_reason"] == "accepted"


def test_usage_is_the_sum_over_the_turns() -> None:
    # prompts of 1 and 1 + (1 + EOS) + 1 = 4 words, completions of a word and EOS each
    policy = ScriptedPolicy(["1", "2"], tokenizer=word_tokenizer(WORDS, pad_token="<pad>"))
    prompts = PLAIN.__class__(
        attempt="{problem}", revise="again", critique="check", feedback="{reason}", says_wrong="w", says_right="r"
    )
    reply = ChatSelfCorrect(policy=policy, prompts=prompts).invoke("get")
    assert reply.usage_metadata == {"input_tokens": 1 + 4, "output_tokens": 2 + 2, "total_tokens": 9}


def test_usage_that_nobody_knows_is_not_made_up() -> None:
    assert chat(["a", "b"]).invoke("2 + 2?").usage_metadata is None


def test_usage_of_an_inner_chat_model_is_counted_once() -> None:
    counter = UsageMetadataCallbackHandler()
    model = ChatSelfCorrect(policy=ChatModelPolicy(ScriptedChatModel(script=lambda messages, tools: "four")))
    model.invoke("2 + 2?", config={"callbacks": [counter]})
    assert counter.usage_metadata["selfcorrect"]["total_tokens"] == 2 * USAGE["total_tokens"]


def test_earlier_messages_are_shown_before_the_problem() -> None:
    talk = [SystemMessage("be brief"), HumanMessage("hello"), AIMessage("hi"), HumanMessage("2 + 2?")]
    assert chat(repeat, revisions=0).invoke(talk).text == "system:be brief|user:hello|assistant:hi|user:2 + 2?"
    turns = chat(repeat).invoke(talk).response_metadata["turns"]
    assert turns[0]["text"] == "system:be brief|user:hello|assistant:hi|user:2 + 2?"
    assert turns[1]["text"].endswith(f"assistant:{turns[0]['text']}|user:{PLAIN.revise}")


def test_the_sum_of_the_streamed_chunks_is_the_reply() -> None:
    model = chat(["a", "b"])
    chunks = list(model.stream("2 + 2?"))
    assert [chunk.text for chunk in chunks] == ["", "", "b"]
    whole = chunks[0] + chunks[1] + chunks[2]
    assert isinstance(whole, AIMessageChunk)
    assert whole.response_metadata == model.invoke("2 + 2?").response_metadata


def test_turns_are_streamed_while_the_episode_goes_on() -> None:
    async def watch() -> list[str]:
        gate = asyncio.Event()

        class Waiting(ScriptedPolicy):
            async def generate(self, messages: Any, sampling: Any, *, after: Any = None) -> Any:
                if after is not None:
                    await gate.wait()  # opened only by the consumer, once it has seen the first turn
                return await super().generate(messages, sampling, after=after)

        seen = []
        async for chunk in ChatSelfCorrect(policy=Waiting(["a", "b"])).astream("2 + 2?"):
            seen.append(chunk.text)
            gate.set()
        return seen

    assert asyncio.run(asyncio.wait_for(watch(), 20)) == ["", "", "b"]


def test_a_batch_of_synchronous_calls_is_decoded_together() -> None:
    policy = TransformersPolicy(llama(len(WORDS) + 3), word_tokenizer(WORDS, pad_token="<pad>"), max_new_tokens=4)
    sizes: list[int] = []
    decode_all = policy._decode_all

    def spy(requests: Any) -> Any:
        sizes.append(len(requests))
        return decode_all(requests)

    policy._decode_all = spy  # type: ignore[method-assign]
    ChatSelfCorrect(policy=policy, revisions=0).batch([f"{number} get 1" for number in range(12)])
    assert sizes == [12]


def test_a_first_answer_without_token_ids_is_rendered_for_a_local_model() -> None:
    tokenizer = word_tokenizer(CHAT_WORDS, eos="<|im_end|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    policy = TransformersPolicy(llama(len(CHAT_WORDS) + 3), tokenizer, max_new_tokens=2)
    from selfcorrect.agents.policies.scripted import WindowedPolicy
    from selfcorrect.agents.policy import GREEDY
    from selfcorrect.agents.state import Generation

    told = Generation(
        text="5 + "
        "6", messages=[Message(role="user", content="1 "
        "get")], prompt_ids=[], completion_ids=[], logprobs=[], finish_reason="stop"
    )  # fmt: skip
    again = Message(role="user", content="again")
    written = asyncio.run(WindowedPolicy(policy).generate([again], GREEDY, after=told))
    assert "1 get" in tokenizer.decode(written["prompt_ids"]) and "5 + 6" in tokenizer.decode(written["prompt_ids"])


def test_a_checker_judges_the_answers_in_the_reply() -> None:
    model = ChatSelfCorrect(
        graph=build_graph(ScriptedPolicy(["3 + 5 = 8"]), checker=CountdownChecker(), revisions=0),
        inputs=lambda messages: {
            "problem": {
                "id": "p",
                "prompt": str(messages[-1].text),
                "reference": {"numbers": [3, 5], "target": 8},
                "checker": "countdown",
            },
            "turns": [],
        },
        answer=lambda state: state["turns"][-1]["verdict"]["status"],
    )
    assert model.invoke("3 5 get 8").text == "correct"


# --- in graphs and agents
# ------------------------------------------------------------------------------------------------


class Talk(TypedDict):
    messages: Annotated[list[BaseMessage], add_messages]


def talk_graph(model: ChatSelfCorrect, **options: Any) -> Any:
    async def answer(state: Talk) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(Talk)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(**options)


def test_policy_calls_within_a_users_graph_are_recorded_under_the_users_node() -> None:
    graph = talk_graph(chat(["a"], revisions=0))
    with recording() as recorder:
        asyncio.run(graph.ainvoke({"messages": [HumanMessage("2 + 2?")]}))
    assert [(call.node, call.generation["text"]) for call in recorder.calls] == [("answer", "a")]


def test_it_works_in_a_graph_with_a_checkpointer_call_after_call() -> None:
    graph = talk_graph(chat(["a", "b", "c", "d"]), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}

    async def twice() -> list[str]:
        await graph.ainvoke({"messages": [HumanMessage("2 + 2?")]}, config)
        state = await graph.ainvoke({"messages": [HumanMessage("sure?")]}, config)
        return [message.text for message in state["messages"]]

    # the second call's conversation holds one earlier answer, so the script goes on with its second output
    assert asyncio.run(twice()) == ["2 + 2?", "b", "sure?", "c"]


def test_the_loop_is_a_subgraph_of_a_bigger_graph() -> None:
    from selfcorrect.agents.episodes import initial_state
    from selfcorrect.agents.state import EpisodeState
    from selfcorrect.tasks.problem import Problem

    class Bigger(EpisodeState, total=False):
        report: str

    def report(state: Bigger) -> dict[str, str]:
        return {"report": f"answered {state['turns'][-1]['generation']['text']}"}

    graph = StateGraph(Bigger)
    graph.add_node("solve", build_graph(ScriptedPolicy(["a", "b"])))
    graph.add_node("report", report)
    graph.add_edge(START, "solve")
    graph.add_edge("solve", "report")
    problem = Problem(id="p", prompt="2 + 2?", reference=None, checker="none")
    state = asyncio.run(graph.compile().ainvoke(initial_state(problem, 0)))
    assert state["report"] == "answered b"


def test_as_a_tool_it_answers_and_hands_over_its_turns() -> None:
    tool = chat(["a", "b"]).as_tool()
    call = {"name": tool.name, "args": {"problem": "2 + 2?"}, "id": "1", "type": "tool_call"}
    for message in [tool.invoke(call), asyncio.run(tool.ainvoke(call))]:
        assert isinstance(message, ToolMessage)
        assert message.content == "b"
        assert [turn["text"] for turn in message.artifact] == ["a", "b"]


# --- bad input
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "either policy=... or graph="),
        ({"policy": ScriptedPolicy([]), "graph": build_graph(ScriptedPolicy([]))}, "either policy=... or graph="),
        ({"graph": build_graph(ScriptedPolicy([])), "revisions": 2}, "revisions: a graph has these already"),
        ({"policy": ScriptedPolicy([]), "inputs": dict}, "belong together"),
    ],
)
def test_contradicting_settings_are_told_when_the_model_is_made(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ChatSelfCorrect(**settings)


def test_feedback_without_a_checker_is_told_when_the_model_is_made() -> None:
    with pytest.raises(GraphError, match="give build_graph a checker"):
        chat([], critique="feedback")


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="temprature"):
        chat([], temprature=1.0)


def test_a_misspelt_call_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not know the call option top_q"):
        chat(["a"]).invoke("2 + 2?", top_q=1)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "empty"),
        ([HumanMessage("  ")], "blank"),
        ([HumanMessage([{"type": "image_url", "image_url": {"url": "data:,"}}])], "block of type 'image_url'"),
    ],
)
def test_a_conversation_without_a_readable_question_is_refused(messages: list[BaseMessage], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        chat(["a", "b"]).invoke(messages)


def test_tools_on_a_graph_are_refused() -> None:
    model = ChatSelfCorrect(graph=build_graph(ScriptedPolicy(["a"]), revisions=0))
    with pytest.raises(NotImplementedError, match="CompiledStateGraph"):
        model.bind_tools([repeat])


def test_a_graph_over_another_state_says_what_it_needs() -> None:
    graph = StateGraph(Talk)
    graph.add_node("answer", lambda state: {"messages": [AIMessage("4")]})
    graph.add_edge(START, "answer")
    with pytest.raises(GraphError, match="needs inputs=... and answer="):
        ChatSelfCorrect(graph=graph.compile()).invoke("2 + 2?")


def test_a_call_that_takes_too_long_is_a_timeout() -> None:
    class Endless(ScriptedPolicy):
        async def generate(self, *arguments: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        ChatSelfCorrect(policy=Endless([]), timeout=0.05).invoke("2 + 2?")
