"""Any LangChain chat model as a policy: correction loops, checkers and metrics before any training; and
LangChain's messages as ours."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import Runnable

from selfcorrect.agents.policies.rendering import conversation_after
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import call_site
from selfcorrect.agents.state import Generation, Message, Usage
from selfcorrect.agents.tracing import begin_span
from selfcorrect.errors import ConfigurationError, PolicyError

# Messages, and back. Policies read text: what is no text is told, never dropped.

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


CallOptions = Callable[[Sampling], dict[str, Any]]
_CUT_OFF = {"length", "max_tokens", "MAX_TOKENS"}
"""How providers say that the token limit ended an answer."""


def standard_options(sampling: Sampling) -> dict[str, Any]:
    """The call options that most providers know. The seed is left out, as many refuse it."""
    options: dict[str, Any] = {"temperature": sampling.temperature}
    if sampling.top_p < 1:
        options["top_p"] = sampling.top_p
    if sampling.max_new_tokens is not None:
        options["max_tokens"] = sampling.max_new_tokens
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    return options


CONCURRENCY = 32
"""Requests that a chat model is sent at a time, where nobody says otherwise."""


class ChatModelPolicy:
    """Writes turns with a LangChain chat model. For inference and evaluation: there are no token ids to train on.

    Args:
        model: a chat model (or one with retries or fallbacks around it), or a name like "openai:gpt-5-mini" for
            LangChain's `init_chat_model`, which needs the extra `langchain` and the provider's own package.
        concurrency: at most so many requests at a time; the others wait. Providers turn away who asks more at once than
            they allow.
        call_options: what of a `Sampling` is passed with each call, under the provider's names. `lambda sampling: {}`
            leaves everything as the model was made, for models that refuse a temperature.
        **model_options: passed to `init_chat_model`; only with a name.

    Raises:
        PolicyError: the named model cannot be had.
        ConfigurationError: options are given with a model that is made already, or concurrency is below 1.
    """

    def __init__(
        self,
        model: Runnable[LanguageModelInput, AIMessage] | str,
        *,
        concurrency: int = CONCURRENCY,
        call_options: CallOptions = standard_options,
        **model_options: Any,
    ) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"concurrency is at least 1, got {concurrency}")
        if model_options and not isinstance(model, str):
            unknown = ", ".join(model_options)
            raise ConfigurationError(
                f"{unknown}: set these on the chat model itself; they are only for names of models"
            )
        self.model = named_chat_model(model, **model_options) if isinstance(model, str) else model
        self.call_options = call_options
        self.concurrency = concurrency
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The model's next message. What the provider's client raises is passed on as it is."""
        conversation = conversation_after(after, messages)
        span = begin_span(self, sampling, call_site().node)
        generation = generation_of(await self.ask(self.model, conversation, sampling), conversation)
        if span is not None:
            span.end(generation)
        return generation

    async def ask(
        self, model: Runnable[LanguageModelInput, AIMessage], messages: Sequence[Message], sampling: Sampling
    ) -> AIMessage:
        """One call of `model`, which may be this policy's model with tools bound."""
        gate = self._gates.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.concurrency))
        async with gate:
            return await model.ainvoke(to_langchain(messages), **self.call_options(sampling))


def generation_of(message: AIMessage, conversation: list[Message]) -> Generation:
    """A chat model's answer to `conversation` as a generation without token ids."""
    said = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    generation = Generation(
        text=str(message.text),
        messages=conversation,
        prompt_ids=[],
        completion_ids=[],
        logprobs=[],
        finish_reason="length" if said in _CUT_OFF else "stop",
    )
    usage = message.usage_metadata
    if usage is not None:
        generation["usage"] = Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
    return generation


def named_chat_model(name: str, **options: Any) -> BaseChatModel:
    """The chat model that `init_chat_model` makes of "provider:model".

    Raises:
        PolicyError: a package or a key is missing, or nothing has that name.
    """
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        from selfcorrect.distribution import install_command

        raise PolicyError(f"{name!r} names a LangChain model: {install_command('langchain')}") from error
    try:
        made: BaseChatModel = init_chat_model(name, **options)
    except Exception as error:  # every provider has exceptions of its own for a missing key
        raise PolicyError(f"cannot make the chat model {name!r}: {type(error).__name__}: {error}") from error
    return made
