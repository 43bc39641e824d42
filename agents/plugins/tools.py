"""Tools for a policy that writes text: how they are shown to it, and how its calls are read.

A tokenizer whose chat template knows tools shows them by it, and calls are read in the format of its model family
(TRL's response templates). Any other policy is told of them in plain JSON, and answers in plain JSON.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolMessage
from langchain_core.messages import ToolCall as LangChainCall

from selfcorrect.agents.plugins.chat_model_policy import from_langchain, plain_role, plain_text
from selfcorrect.agents.policies.rendering import ChatTemplate
from selfcorrect.agents.state import FunctionCall, Generation, Message, ToolCall

Tools = Sequence[dict[str, Any]]
_OPENINGS = (
    "<tool_call>",
    "<function=",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<|tool_call_start|>",
    "<|tool_call>",
    "to=functions.",
)
"""With what the families begin a call: in a text that was not read as one, it is a call that went wrong."""
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.DOTALL)
_THOUGHT = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)


@dataclass(frozen=True)
class Said:
    """What a policy's text says.

    Attributes:
        content: the words for the reader.
        reasoning: what was thought before, where the family marks it.
        calls: name and arguments of each tool that is called.
        broken: for each call that cannot be read, its text and what is wrong with it.
    """

    content: str
    reasoning: str = ""
    calls: list[FunctionCall] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)

    def message(self, generation: Generation) -> AIMessage:
        """As a message of LangChain. Ids of calls follow from what was drawn, so that a replay has the same."""
        told = f"{generation['prompt_ids']}{generation['completion_ids']}{generation['messages']}{generation['text']}"
        ids = [hashlib.sha1(f"{told}{number}".encode(errors="surrogatepass")).hexdigest()[:9] for number in range(99)]
        calls = [
            LangChainCall(name=call["name"], args=call["arguments"], id=one, type="tool_call")
            for call, one in zip(self.calls, ids, strict=False)
        ]
        broken = [
            InvalidToolCall(name=None, args=text, id=one, error=error, type="invalid_tool_call")
            for (text, error), one in zip(self.broken, ids[len(calls) :], strict=False)
        ]
        message = AIMessage(self.content, tool_calls=calls, invalid_tool_calls=broken)
        if self.reasoning:
            message.additional_kwargs["reasoning_content"] = self.reasoning
        return message


class ToolFormat(Protocol):
    """How one policy is told of tools, and tells of calls."""

    def shown(self, messages: Sequence[BaseMessage], tools: Tools) -> list[Message]:
        """A conversation, with `tools` if it is shown from its beginning (else they are [])."""
        ...

    def read(self, generation: Generation, tools: Tools) -> Said:
        """What a generation says; never raises for what a policy wrote."""
        ...


def tool_format(policy: Any) -> ToolFormat:
    """The format of `policy`: its chat template's own, where that shows tools, calls and results."""
    from trl.chat_template_utils import supports_tool_calling

    if isinstance(getattr(policy, "template", None), ChatTemplate) and supports_tool_calling(policy.tokenizer):
        return FamilyFormat(policy.tokenizer)
    return PlainFormat()


@dataclass
class FamilyFormat:
    """The format of the chat template of `tokenizer`."""

    tokenizer: Any

    def shown(self, messages: Sequence[BaseMessage], tools: Tools) -> list[Message]:
        shown: list[Message] = []
        for message in messages:
            native = _native(message)
            if shown and native["role"] == shown[-1]["role"] in ("user", "system"):
                shown[-1] = {**shown[-1], "content": f"{shown[-1]['content']}\n\n{native['content']}"}
            else:
                shown.append(native)
        if shown and tools:
            shown[0] = {**shown[0], "tools": list(tools)}
        return shown

    def read(self, generation: Generation, tools: Tools) -> Said:
        if self._parser is None or not generation["completion_ids"]:
            return _read_json(generation["text"])
        from trl.chat_template_utils import parse_response

        parsed = parse_response(
            self._parser, generation["completion_ids"], prefix=generation["prompt_ids"], tools=list(tools)
        )
        calls = [call["function"] for call in parsed.get("tool_calls") or []]
        good = [call for call in calls if isinstance(call.get("name"), str) and isinstance(call.get("arguments"), dict)]
        broken = [
            (json.dumps(call), "a call needs a name and arguments that are a JSON object")
            for call in calls
            if call not in good
        ]
        content = str(parsed.get("content") or "")
        if not calls and any(opening in content for opening in _OPENINGS):
            broken = [(content, "the call cannot be parsed in the model family's format")]
        named = [FunctionCall(name=call["name"], arguments=call["arguments"]) for call in good]
        return Said(content, str(parsed.get("reasoning_content") or ""), named, broken)

    @cached_property
    def _parser(self) -> Any:
        """A tokenizer that reads replies; None for a family that nobody described."""
        if any(getattr(self.tokenizer, name, None) is not None for name in ("response_template", "response_schema")):
            return self.tokenizer
        from trl.chat_template_utils import add_response_schema

        try:
            return add_response_schema(copy.copy(self.tokenizer))
        except ValueError:
            return None


class PlainFormat:
    """Tools, calls and results as plain JSON in the text."""

    def shown(self, messages: Sequence[BaseMessage], tools: Tools) -> list[Message]:
        shown = from_langchain(messages)
        return with_instruction(shown, tools_instruction(tools)) if tools else shown

    def read(self, generation: Generation, tools: Tools) -> Said:
        return _read_json(generation["text"])


def tools_instruction(tools: Tools) -> str:
    """The words that tell of tools where no template does."""
    functions = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    return (
        f"You may call these tools:\n{functions}\n"
        'To call one, answer with nothing but a JSON object: {"name": NAME, "arguments": {ARGUMENT: VALUE}}'
    )


def with_instruction(messages: Sequence[Message], instruction: str) -> list[Message]:
    """`messages` with `instruction` at the end of their first system message, which is made if there is none."""
    if messages and messages[0]["role"] == "system":
        first: Message = {**messages[0], "content": f"{messages[0]['content']}\n\n{instruction}"}
        return [first, *messages[1:]]
    tools = messages[0].get("tools") if messages else None
    made = Message(role="system", content=instruction)
    if not tools:
        return [made, *messages]
    moved: Message = {**messages[0]}
    del moved["tools"]
    return [{**made, "tools": tools}, moved, *messages[1:]]


def _native(message: BaseMessage) -> Message:
    if isinstance(message, ToolMessage):
        result = Message(role="tool", content=plain_text(message), tool_call_id=message.tool_call_id)
        return {**result, "name": message.name} if message.name else result
    native = Message(role=plain_role(message), content=plain_text(message))
    if isinstance(message, AIMessage) and message.tool_calls:
        native["tool_calls"] = [
            ToolCall(
                id=str(call["id"] or ""),
                type="function",
                function=FunctionCall(name=call["name"], arguments=call["args"]),
            )
            for call in message.tool_calls
        ]
    return native


# Calls and answers in plain JSON.


def json_in(text: str) -> str:
    """`text` without a thought before it and a fence around it: where it is JSON, that JSON."""
    rest = _THOUGHT.sub("", text, count=1)
    fenced = _FENCE.match(rest)
    return (fenced[1] if fenced else rest).strip()


def _read_json(text: str) -> Said:
    thought = _THOUGHT.match(text)
    reasoning = thought[1].strip() if thought else ""
    body = json_in(text)
    if not body.startswith(("{", "[", "<tool_call>")):
        return Said(text[thought.end() :] if thought else text, reasoning)
    calls: list[FunctionCall] = []
    try:
        values = list(_json_values(body))
    except (ValueError, RecursionError) as error:
        looks_like_one = "<tool_call>" in body or '"name"' in body
        return Said(body, reasoning, broken=[(body, f"the call is no valid JSON: {error}")] if looks_like_one else [])
    broken = []
    for value in values:
        call = _call(value)
        if call is not None:
            calls.append(call)
        elif body.startswith("<tool_call>") or (isinstance(value, dict) and "name" in value and "arguments" in value):
            broken.append((json.dumps(value), "a call needs a name and arguments that are a JSON object"))
    if body.startswith("<tool_call>") and not calls and not broken:
        broken.append((body, "the call is empty"))
    return Said("" if calls else body, reasoning, calls, broken)


def _json_values(body: str) -> Iterator[Any]:
    """The JSON values in `body`, one after the other, those of a list each by itself."""
    rest = re.sub(r"</?tool_call>", " ", body).strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        yield from value if isinstance(value, list) else [value]
        rest = rest[end:].lstrip(" \n\r\t,;")


def _call(value: Any) -> FunctionCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    return FunctionCall(name=value["name"], arguments=arguments) if isinstance(arguments, dict) else None
