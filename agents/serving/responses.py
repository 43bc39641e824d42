"""What OpenAI's clients expect back, as plain dicts. Turns before the answer travel as `reasoning_content`."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata

from selfcorrect.agents.plugins.replies import ShownTurn

_HEADINGS = {"attempt": "Attempt", "critique": "Critique", "revise": "Revision"}


def completion(model: str, replies: Sequence[AIMessage]) -> dict[str, Any]:
    """A `chat.completion`; every choice also holds its `turns` and `stop_reason`, which other servers do not have."""
    usages = [reply.usage_metadata for reply in replies]
    return {
        "id": new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [_choice(index, reply) for index, reply in enumerate(replies)],
        "usage": None if None in usages else _usage_sum([usage for usage in usages if usage is not None]),
    }


def _choice(index: int, reply: AIMessage) -> dict[str, Any]:
    metadata = reply.response_metadata
    thoughts = "".join(thought_text(turn) for turn in before_answer(metadata["turns"]))
    return {
        "index": index,
        "message": {
            "role": "assistant",
            "content": str(reply.text) or (None if reply.tool_calls else ""),
            "reasoning_content": thoughts or None,
            **({"tool_calls": sent_calls(reply)} if reply.tool_calls else {}),
        },
        "finish_reason": metadata["finish_reason"],
        "logprobs": metadata.get("logprobs"),
        "turns": metadata["turns"],
        "stop_reason": metadata["stop_reason"],
    }


def sent_calls(reply: AIMessage) -> list[dict[str, Any]]:
    """A reply's calls of tools as OpenAI's clients read them."""
    return [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["args"], ensure_ascii=False)},
        }
        for call in reply.tool_calls
    ]


def text_completion(model: str, replies: Sequence[AIMessage]) -> dict[str, Any]:
    """A `text_completion`."""
    whole = completion(model, replies)
    choices = [
        {"index": choice["index"], "text": choice["message"]["content"] or "", "logprobs": None}
        | {"finish_reason": choice["finish_reason"], "turns": choice["turns"]}
        for choice in whole["choices"]
    ]
    return {**whole, "id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "choices": choices}


def response_object(model: str, reply: AIMessage) -> dict[str, Any]:
    """A `response`: the answer as a message, the calls of tools as items of their own."""
    output: list[dict[str, Any]] = [
        {"type": "function_call", "id": f"fc_{call['id']}", "call_id": call["id"], "status": "completed"}
        | call["function"]
        for call in sent_calls(reply)
    ]
    if str(reply.text) or not output:
        said = {"type": "output_text", "text": str(reply.text), "annotations": [], "logprobs": []}
        message = {"type": "message", "id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "status": "completed"}
        output.insert(0, {**message, "content": [said]})
    usage = reply.usage_metadata
    cut = reply.response_metadata["finish_reason"] == "length"
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "turns": reply.response_metadata["turns"],
        "usage": None
        if usage is None
        else {
            "input_tokens": usage["input_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["output_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def before_answer(turns: Sequence[ShownTurn]) -> list[ShownTurn]:
    """All turns but the answer, which is the last that is no critique."""
    places = [place for place, turn in enumerate(turns) if turn["role"] != "critique"]
    return [turn for place, turn in enumerate(turns) if place != (places[-1] if places else -1)]


def thought_text(turn: ShownTurn) -> str:
    """A turn in front of the answer, as text."""
    return f"{_HEADINGS[turn['role']]}:\n{turn['text']}\n\n"


@dataclass
class ChunkWriter:
    """The `chat.completion.chunk`s of one stream, in order."""

    model: str
    id: str = field(default_factory=lambda: new_id())
    created: int = field(default_factory=lambda: int(time.time()))
    _held: list[ShownTurn] = field(default_factory=list)
    _begun: bool = False

    def opening(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""})

    def turn(self, turn: ShownTurn) -> Iterator[dict[str, Any]]:
        """A turn was written. It is told when the next answer shows that it is not the reply."""
        if turn["role"] == "revise":
            yield from self._tell_held()
        self._held.append(turn)

    def piece(self, content: str) -> Iterator[dict[str, Any]]:
        """A piece of the answer: every turn before it is told by now."""
        yield from self._tell_held()
        self._begun = True
        yield self._chunk({"content": content})

    def closing(self, reply: AIMessageChunk, finish_reason: str) -> Iterator[dict[str, Any]]:
        """The end of the reply: what is still to be told before it, what is left of its text, its calls."""
        self._held = [] if self._begun else before_answer(self._held)
        yield from self._tell_held()
        if str(reply.text) or not self._begun:
            yield self._chunk({"content": str(reply.text)})
        if reply.tool_calls:
            yield self._chunk({"tool_calls": [{"index": i, **call} for i, call in enumerate(sent_calls(reply))]})
        yield self._chunk({}, finish_reason)

    def usage(self, usage: UsageMetadata | None) -> dict[str, Any]:
        return {**self._chunk({}), "choices": [], "usage": None if usage is None else _usage_sum([usage])}

    def _tell_held(self) -> Iterator[dict[str, Any]]:
        for turn in self._held:
            yield self._chunk({"reasoning_content": thought_text(turn)})
        self._held = []

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}],
        }


def error_body(
    message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _usage_sum(usages: Sequence[UsageMetadata]) -> dict[str, int]:
    return {
        "prompt_tokens": sum(usage["input_tokens"] for usage in usages),
        "completion_tokens": sum(usage["output_tokens"] for usage in usages),
        "total_tokens": sum(usage["total_tokens"] for usage in usages),
    }
