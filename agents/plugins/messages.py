"""LangChain's messages as ours, and back. Policies read text: what is no text is told, never dropped."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from selfcorrect.agents.state import Message
from selfcorrect.errors import PolicyError

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "user"}
_NAMED_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_KINDS = {"user": HumanMessage, "assistant": AIMessage, "system": SystemMessage}
_SILENT_BLOCKS = {"reasoning", "thinking", "redacted_thinking", "tool_use", "tool_call", "function_call"}
"""Blocks of a model's own answers that hold no text for the reader; tool calls are read from the message instead."""


def to_langchain(messages: Sequence[Message]) -> list[BaseMessage]:
    """Our messages as LangChain's."""
    return [_KINDS[message["role"]](content=message["content"]) for message in messages]


def from_langchain(messages: Sequence[BaseMessage]) -> list[Message]:
    """LangChain's messages as ours: neighbours of one role joined, tool calls and their results written out as text.

    Raises:
        PolicyError: a message holds something that a policy cannot be shown, such as an image.
    """
    joined: list[Message] = []
    for message in messages:
        role, text = _role(message), _text(message)
        if joined and joined[-1]["role"] == role:
            joined[-1] = Message(role=role, content=f"{joined[-1]['content']}\n\n{text}")
        else:
            joined.append(Message(role=role, content=text))
    return joined


def question_and_history(messages: Sequence[BaseMessage]) -> tuple[str, list[Message]]:
    """The last message, which must be the user's (or a tool's result), and what came before it.

    Raises:
        PolicyError: there is no question at the end.
    """
    plain = from_langchain(messages)
    if not plain:
        raise PolicyError("the conversation is empty; give at least one message of the user")
    *history, last = plain
    if last["role"] != "user":
        raise PolicyError(
            f"the conversation ends with a message of the {last['role']}; the last one must be the user's"
        )
    if not last["content"].strip():
        raise PolicyError("the last message of the user is blank")
    return last["content"], history


def _role(message: BaseMessage) -> str:
    kind = message.type.removesuffix("MessageChunk").lower()
    role = _NAMED_ROLES.get(message.role) if isinstance(message, ChatMessage) else _ROLES.get(kind)
    if role is None:
        named = message.role if isinstance(message, ChatMessage) else message.type
        raise PolicyError(f"a message has the role {named!r}; policies know system, user, assistant and tool")
    return role


def _text(message: BaseMessage) -> str:
    text = _content_text(message.content)
    if isinstance(message, ToolMessage):
        return f"Result of {message.name or 'the tool'}: {text}"
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = [f"Call of {call['name']} with {call['args']}" for call in message.tool_calls]
        return "\n".join([text, *calls] if text else calls)
    return text


def _content_text(content: str | list[Any]) -> str:
    if isinstance(content, str):
        return content
    return "".join(map(_block_text, content))


def _block_text(block: str | dict[str, Any]) -> str:
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if kind == "text":
        return str(block["text"])
    if kind in _SILENT_BLOCKS:
        return ""
    raise PolicyError(f"a message holds a block of type {kind!r}; policies read text only")
