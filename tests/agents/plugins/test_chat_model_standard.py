"""The public test suites that LangChain gives to everyone who writes a chat model."""

from collections.abc import Sequence
from typing import Any, ClassVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from scripted_chat_model import ScriptedChatModel
from small_models import WORDS, word_tokenizer

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.state import Message


def greet(conversation: Sequence[Message]) -> str:
    return f"answer {sum(message['role'] == 'assistant' for message in conversation)}"


POLICY = ScriptedPolicy(greet, tokenizer=word_tokenizer(WORDS, pad_token="<pad>"))
KNOWN = {"temperature": 0, "max_tokens": 100, "timeout": 60, "stop": []}
"""The suite's usual settings without `api_key` and `max_retries`: there is no server, and unknown settings are
refused."""


VALUES: dict[str, object] = {"integer": 3, "number": 3.0, "string": "你好啊集团 株式会社"}


def call_a_tool(messages: list[BaseMessage], tools: list[dict[str, Any]]) -> str | AIMessage:
    """An obedient model: calls the tool it is given with values of the right types, and talks where there is none to
    call."""
    if not tools or not isinstance(messages[-1], HumanMessage):
        return "hello"
    function = tools[0]["function"]
    arguments = {
        name: VALUES[kind.get("type", "string")] for name, kind in function["parameters"]["properties"].items()
    }
    return AIMessage("", tool_calls=[{"name": function["name"], "args": arguments, "id": "1", "type": "tool_call"}])


class Suite:
    """What both suites are told of our chat model."""

    has_tool_choice = False
    standard_chat_model_params = KNOWN
    chat_model_class: type[BaseChatModel] = ChatSelfCorrect


class TestUnitOfAPolicy(Suite, ChatModelUnitTests):
    has_tool_calling = has_structured_output = False
    chat_model_params: ClassVar[dict[str, Any]] = {"policy": POLICY}


class TestIntegrationOfAPolicy(Suite, ChatModelIntegrationTests):
    has_tool_calling = has_structured_output = False
    chat_model_params: ClassVar[dict[str, Any]] = {"policy": POLICY}


class TestIntegrationOfOneCall(Suite, ChatModelIntegrationTests):
    has_tool_calling = has_structured_output = False
    chat_model_params: ClassVar[dict[str, Any]] = {"policy": POLICY, "revisions": 0}


class TestIntegrationOfAGraph(Suite, ChatModelIntegrationTests):
    has_tool_calling = has_structured_output = False
    chat_model_params: ClassVar[dict[str, Any]] = {"graph": build_graph(POLICY, critique="self")}


class TestUnitAroundAModelWithTools(Suite, ChatModelUnitTests):
    has_tool_calling = has_structured_output = True
    chat_model_params: ClassVar[dict[str, Any]] = {"policy": ChatModelPolicy(ScriptedChatModel(script=call_a_tool))}


class TestIntegrationAroundAModelWithTools(Suite, ChatModelIntegrationTests):
    has_tool_calling = has_structured_output = True
    chat_model_params: ClassVar[dict[str, Any]] = {"policy": ChatModelPolicy(ScriptedChatModel(script=call_a_tool))}
