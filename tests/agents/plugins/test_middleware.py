"""`create_agent` with our middleware: final answers are corrected, tool calls are not, in both worlds."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from scripted_chat_model import ScriptedChatModel

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy
from selfcorrect.agents.plugins.middleware import SelfCorrectMiddleware
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.errors import GraphError
from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.tasks.problem import Problem


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def careless(messages: list[BaseMessage], tools: list[dict[str, Any]]) -> str | AIMessage:
    """Calls the tool, misreads its result, finds the mistake when asked to check."""
    last = str(messages[-1].text)
    if last == PLAIN.critique:
        return "4 was the result. The answer is wrong" if messages[-2].text == "It is 5." else "The answer is correct"
    if last == PLAIN.revise:
        return "It is 4."
    if not any(message.type == "tool" or "Result of add" in str(message.text) for message in messages):
        return AIMessage("", tool_calls=[{"name": "add", "args": {"a": 2, "b": 2}, "id": "1", "type": "tool_call"}])
    return "It is 5."


def invoke(agent: Any, config: Any = None) -> Any:
    return agent.invoke({"messages": [HumanMessage("What is 2 + 2?")]}, config)


def ainvoke(agent: Any, config: Any = None) -> Any:
    return asyncio.run(agent.ainvoke({"messages": [HumanMessage("What is 2 + 2?")]}, config))


both = pytest.mark.parametrize("call", [invoke, ainvoke])


@both
def test_an_agent_checks_and_revises_its_final_answer(call: Callable[..., Any]) -> None:
    agent = create_agent(ScriptedChatModel(script=careless), [add], middleware=[SelfCorrectMiddleware()])
    messages = call(agent)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[2].content == "4"
    assert messages[-1].text == "It is 4."
    assert [turn["text"] for turn in messages[-1].response_metadata["turns"]] == [
        "It is 5.", "4 was the result. The answer is wrong", "It is 4.",
    ]  # fmt: skip


@both
def test_without_the_middleware_the_same_agent_is_wrong(call: Callable[..., Any]) -> None:
    assert call(create_agent(ScriptedChatModel(script=careless), [add]))["messages"][-1].text == "It is 5."


@both
def test_a_trained_policy_can_write_the_revisions(call: Callable[..., Any]) -> None:
    middleware = SelfCorrectMiddleware(ScriptedPolicy(lambda conversation: "It is four."), critique="instruction")
    agent = create_agent(
        ScriptedChatModel(script=careless), [add], middleware=[middleware], checkpointer=InMemorySaver()
    )
    assert call(agent, {"configurable": {"thread_id": "t"}})["messages"][-1].text == "It is four."


def test_a_checker_gives_the_feedback() -> None:
    def problem_of(conversation: Any) -> Problem:
        return Problem(id="p", prompt="3 5 get 8", reference={"numbers": [3, 5], "target": 8}, checker="countdown")

    def answer(messages: list[BaseMessage], tools: Any) -> str:
        return "3 + 5 = 8" if "found" in messages[-1].text else "5 - 3 = 2"

    middleware = SelfCorrectMiddleware(critique="feedback", checker=CountdownChecker(), problem_of=problem_of)
    message = invoke(create_agent(ScriptedChatModel(script=answer), [], middleware=[middleware]))["messages"][-1]
    assert message.text == "3 + 5 = 8"
    assert [turn["verdict"]["status"] for turn in message.response_metadata["turns"]] == ["wrong", "correct"]


@both
def test_the_chat_model_itself_drives_an_agent_with_tools(call: Callable[..., Any]) -> None:
    model = ChatSelfCorrect(policy=ChatModelPolicy(ScriptedChatModel(script=careless)), critique="self")
    messages = call(create_agent(model, [add]))["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].text == "It is 4."


def test_a_checker_without_a_reference_is_refused() -> None:
    with pytest.raises(GraphError, match="give problem_of"):
        SelfCorrectMiddleware(critique="feedback", checker=CountdownChecker())


def test_contradicting_settings_are_told_when_the_middleware_is_made() -> None:
    with pytest.raises(GraphError, match="give build_graph a checker"):
        SelfCorrectMiddleware(critique="feedback")


def test_a_stream_of_messages_shows_the_corrected_answer_once_and_no_draft() -> None:
    agent = create_agent(ScriptedChatModel(script=careless), [add], middleware=[SelfCorrectMiddleware()])

    async def streamed() -> list[str]:
        given: Any = {"messages": [HumanMessage("What is 2 + 2?")]}
        shown = [chunk async for chunk, _ in agent.astream(given, stream_mode="messages")]
        return [str(chunk.text) for chunk in shown if chunk.type.startswith(("ai", "AI")) and chunk.text]

    assert asyncio.run(streamed()) == ["It is 4."]
