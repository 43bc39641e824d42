"""One call of a policy with all that a LangChain conversation holds: tools, a format of the answer, recorded ids.

A reply carries the token ids that it was drawn as (`response_metadata["drawn"]`). Where the conversation goes on from
it unchanged, the next prompt is those ids with the new messages' appended, never rendered again; wherever it was
changed or cut meanwhile, it is shown afresh.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, InvalidToolCall, ToolMessage

from selfcorrect.agents.plugins.chat_model_policy import plain_text
from selfcorrect.agents.plugins.conversation import untraced
from selfcorrect.agents.plugins.structured import ResponseFormat, response_format
from selfcorrect.agents.plugins.tools import PlainFormat, ToolFormat, json_in, tool_format, with_instruction
from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError, PolicyError

_FORCED = {"any", "required", True}


@dataclass(frozen=True)
class Wanted:
    """What a call wants beside an answer.

    Attributes:
        tools: that may be called, as OpenAI writes them.
        tool_choice: None or "auto" leaves it to the policy, "none" hides the tools, "any" asks for some call, a name
            for a call of that tool.
        format: that the answer must have.
        constrained: whether what is drawn follows the format's schema, or that of the calls of tools if one has to be
            made.
    """

    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | None = None
    format: ResponseFormat | None = None
    constrained: bool = False

    @classmethod
    def of_call(cls, options: Mapping[str, Any], *, constrained: bool) -> "Wanted":
        """What the options of a call say.

        Raises:
            ConfigurationError: they ask for what cannot be.
        """
        tools, choice = tuple(options.get("tools") or ()), _choice(options.get("tool_choice"))
        if choice not in (None, "auto", "none", "any"):
            tools = tuple(tool for tool in tools if _name(tool) == choice)
            if not tools:
                raise ConfigurationError(f"tool_choice names {choice!r}, which is none of the tools of the call")
        wanted = response_format(options.get("response_format"))
        shown = () if choice == "none" else tools
        made = cls(shown, choice, wanted)
        return replace(made, constrained=constrained and (made.must_call or wanted is not None))

    @property
    def must_call(self) -> bool:
        """Whether the reply has to be a call of a tool. Unless `constrained`, a policy may still write none, and the
        reply says so."""
        return bool(self.tools) and self.tool_choice not in (None, "auto", "none")

    @property
    def json_schema(self) -> str | None:
        """By which the reply is drawn; None is freely."""
        if not self.constrained:
            return None
        if self.must_call:
            calls = [_call_schema(tool) for tool in self.tools]
            return json.dumps(calls[0] if len(calls) == 1 else {"anyOf": calls})
        return None if self.format is None else self.format.constraint

    @property
    def plain(self) -> bool:
        """Whether nothing but an answer is wanted."""
        return not self.tools and self.format is None


async def ask(
    policy: Policy, prompts: Prompts, messages: Sequence[BaseMessage], sampling: Sampling, wanted: Wanted
) -> tuple[AIMessage, Generation]:
    """The policy's next message in the conversation, and what was drawn for it.

    Calls that cannot be read and answers that have not the format they should are messages that say so
    (`invalid_tool_calls`, `response_metadata["format_error"]`).

    Raises:
        PolicyError: the conversation cannot be shown.
    """
    if not messages:
        raise PolicyError("the conversation is empty; give at least one message of the user")
    if isinstance(messages[-1], HumanMessage) and not plain_text(messages[-1]).strip():
        raise PolicyError("the last message of the user is blank")
    form = tool_format(policy) if wanted.tools or _holds_calls(messages) else PlainFormat()
    if wanted.constrained:
        sampling = replace(sampling, json_schema=wanted.json_schema)
    shown, after = _shown(form, prompts, messages, wanted)
    with untraced():
        generation = await policy.generate(shown, sampling, after=after)
    message = _message(form, generation, wanted)
    if generation["completion_ids"]:
        message.response_metadata["drawn"] = {
            "prompt_ids": generation["prompt_ids"],
            "completion_ids": generation["completion_ids"],
            "text": generation["text"],
            "seen": _digest(messages, prompts, wanted, message),
        }
    return message, generation


def _message(form: ToolFormat, generation: Generation, wanted: Wanted) -> AIMessage:
    if wanted.plain:
        return AIMessage(generation["text"])
    reader = PlainFormat() if wanted.constrained and wanted.must_call else form  # a schema's calls are plain JSON
    said = reader.read(generation, wanted.tools) if wanted.tools else None
    message = AIMessage(generation["text"]) if said is None else said.message(generation)
    if message.tool_calls:
        return message
    if wanted.must_call and not message.invalid_tool_calls:
        missing = "a call of a tool was asked for, and the reply holds none"
        message.invalid_tool_calls = [
            InvalidToolCall(name=None, args=generation["text"], id=None, error=missing, type="invalid_tool_call")
        ]
    return formatted(message, wanted)


def formatted(message: AIMessage, wanted: Wanted) -> AIMessage:
    """`message`, whose content is the wanted JSON alone, or that says what is wrong with it."""
    if wanted.format is not None and not message.tool_calls:
        wrong = wanted.format.problem_with(str(message.text))
        if wrong is None:
            message.content = json_in(str(message.text))
        else:
            message.response_metadata["format_error"] = wrong
    return message


# What the policy is shown: what is new after a reply of its own, or all of the conversation.


def _shown(
    form: ToolFormat, prompts: Prompts, messages: Sequence[BaseMessage], wanted: Wanted
) -> tuple[list[Message], Generation | None]:
    for place in range(len(messages) - 1, -1, -1):
        reply = messages[place]
        if not isinstance(reply, AIMessage):
            continue
        drawn = reply.response_metadata.get("drawn")
        new = messages[place + 1 :]
        if not new or not drawn or drawn.get("seen") != _digest(messages[:place], prompts, wanted, reply):
            break
        earlier = _rendered(form, prompts, messages[:place], wanted)
        after = Generation(
            text=drawn["text"],
            messages=earlier,
            prompt_ids=list(drawn["prompt_ids"]),
            completion_ids=list(drawn["completion_ids"]),
            logprobs=[],
            finish_reason="stop",
        )
        return form.shown(_attempted(new, prompts), ()), after
    return _rendered(form, prompts, messages, wanted), None


def _rendered(form: ToolFormat, prompts: Prompts, messages: Sequence[BaseMessage], wanted: Wanted) -> list[Message]:
    shown = form.shown(_attempted(messages, prompts), wanted.tools)
    if prompts.system and not any(message["role"] == "system" for message in shown):
        shown = with_instruction(shown, prompts.system)
    return shown if wanted.format is None else with_instruction(shown, wanted.format.instruction)


def _attempted(messages: Sequence[BaseMessage], prompts: Prompts) -> list[BaseMessage]:
    """`messages`, the user's last one in the words by which the prompts ask; with nothing but answers of the model and
    results of tools after it."""
    if prompts.attempt == "{problem}":
        return list(messages)
    last = max((place for place, message in enumerate(messages) if isinstance(message, HumanMessage)), default=None)
    if last is None:
        return list(messages)
    first = last
    while first and isinstance(messages[first - 1], HumanMessage):  # neighbours are one question
        first -= 1
    question = "\n\n".join(plain_text(message) for message in messages[first : last + 1])
    asked = HumanMessage(prompts.attempt.replace("{problem}", question))
    return [*messages[:first], asked, *messages[last + 1 :]]


def _digest(messages: Sequence[BaseMessage], prompts: Prompts, wanted: Wanted, reply: AIMessage) -> str:
    """Equal for equal conversations with equal replies, however they were stored meanwhile."""
    told = [_told(message) for message in (*messages, reply)]
    schema = None if wanted.format is None else wanted.format.schema
    text = json.dumps([told, prompts.attempt, prompts.system, wanted.tools, schema], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _told(message: BaseMessage) -> list[Any]:
    calls = [[call["name"], call["args"]] for call in message.tool_calls] if isinstance(message, AIMessage) else []
    of = message.name if isinstance(message, ToolMessage) else None
    return [message.type.removesuffix("MessageChunk").lower(), plain_text(message), calls, of]


def _holds_calls(messages: Sequence[BaseMessage]) -> bool:
    return any(isinstance(message, ToolMessage) or getattr(message, "tool_calls", None) for message in messages)


def _choice(asked: Any) -> str | None:
    """A tool_choice in any of its spellings: "auto", "none", "any", or a tool's name; None if nothing was said."""
    if isinstance(asked, dict):
        return str((asked.get("function") or asked).get("name", "any"))
    if asked in _FORCED:
        return "any"
    return None if asked is None or asked is False else str(asked)


def _call_schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a call of `tool`, as plain JSON."""
    arguments = tool.get("function", tool).get("parameters") or {"type": "object"}
    return {
        "type": "object",
        "properties": {"name": {"const": _name(tool)}, "arguments": arguments},
        "required": ["name", "arguments"],
    }


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool.get("function", tool).get("name", ""))
