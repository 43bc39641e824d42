"""LangChain's messages as ours, and back. Policies read text: what is no text is told, never dropped."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from selfcorrect.agents.state import Message
from selfcorrect.errors import PolicyError

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "user"}
_NAMED_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_KINDS = {"user": HumanMessage, "assistant": AIMessage, "system": SystemMessage}
_TEXT_BLOCKS = {"text", "input_text", "output_text"}
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
        role, text = plain_role(message), _text(message)
        if joined and joined[-1]["role"] == role:
            joined[-1] = Message(role=role, content=f"{joined[-1]['content']}\n\n{text}")
        else:
            joined.append(Message(role=role, content=text))
    return joined


def question_and_history(messages: Sequence[BaseMessage]) -> tuple[str, list[Message]]:
    """The last message, if it is the user's (or a tool's result), and what came before it.

    A conversation that ends otherwise has no question at its end: "" and all of it.

    Raises:
        PolicyError: there is no message, or the user's last one is blank.
    """
    plain = from_langchain(messages)
    if not plain:
        raise PolicyError("the conversation is empty; give at least one message of the user")
    *history, last = plain
    if last["role"] != "user":
        return "", plain
    if not last["content"].strip():
        raise PolicyError("the last message of the user is blank")
    return last["content"], history


def plain_role(message: BaseMessage) -> str:
    kind = message.type.removesuffix("MessageChunk").lower()
    """system, user or assistant; a tool's result is the user's.

    Raises:
        PolicyError: it has another role.
    """
    role = _NAMED_ROLES.get(message.role) if isinstance(message, ChatMessage) else _ROLES.get(kind)
    if role is None:
        named = message.role if isinstance(message, ChatMessage) else message.type
        raise PolicyError(f"a message has the role {named!r}; policies know system, user, assistant and tool")
    return role


def _text(message: BaseMessage) -> str:
    text = plain_text(message)
    if isinstance(message, ToolMessage):
        return f"Result of {message.name or 'the tool'}: {text}"
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = [f"Call of {call['name']} with {call['args']}" for call in message.tool_calls]
        return "\n".join([text, *calls] if text else calls)
    return text


def plain_text(message: BaseMessage) -> str:
    """The words of a message: its text, or that of its content blocks together.

    Raises:
        PolicyError: a block holds something that a policy cannot be shown, such as an image.
    """
    content = message.content
    return content if isinstance(content, str) else "".join(map(_block_text, content))


def _block_text(block: str | dict[str, Any]) -> str:
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if kind in _TEXT_BLOCKS and isinstance(block.get("text"), str):
        return str(block["text"])
    if kind in _TEXT_BLOCKS:
        raise PolicyError(f"a message holds a block of type {kind!r} without a text")
    if kind in _SILENT_BLOCKS:
        return ""
    raise PolicyError(f"a message holds a block of type {kind!r}; policies read text only")
