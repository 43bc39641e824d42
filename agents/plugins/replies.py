"""Episodes as replies of a chat model: whole, or step by step."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from selfcorrect.agents.state import EpisodeState, Generation, Role, Turn, Usage, VerdictRecord, answers, usage_of
from selfcorrect.errors import ConfigurationError, GraphError


class ShownTurn(TypedDict):
    """A turn as replies carry it: without token ids and without the conversation before it."""

    role: Role
    text: str
    verdict: VerdictRecord | None
    finish_reason: str
    usage: NotRequired[Usage]


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in an episode: a turn was written, or (turn None) it is over."""

    state: EpisodeState
    turn: Turn | None = None


async def steps_of(states: AsyncIterator[EpisodeState], *, judged: bool) -> AsyncIterator[Step]:
    """The steps in a stream of an episode's states. A turn that will be `judged` is told with its verdict."""
    told, state = 0, EpisodeState()
    async for state in states:
        turns = state.get("turns", [])
        unsettled = judged and bool(turns) and turns[-1]["role"] != "critique" and turns[-1]["verdict"] is None
        for turn in turns[told : len(turns) - unsettled]:
            told += 1
            yield Step(state, turn)
    for turn in state.get("turns", [])[told:]:
        yield Step(state, turn)
    yield Step(state)


def answer_of(state: EpisodeState) -> str:
    """The last answer.

    Raises:
        GraphError: the graph wrote none.
    """
    written = answers(state)
    if not written:
        raise GraphError(
            "the graph's final state has no turns, so no answer can be read from it; a graph over another state than "
            "EpisodeState needs inputs=... and answer=..."
        )
    return written[-1]["generation"]["text"]


def shown_turn(turn: Turn) -> ShownTurn:
    generation = turn["generation"]
    shown = ShownTurn(
        role=turn["role"], text=generation["text"], verdict=turn["verdict"], finish_reason=generation["finish_reason"]
    )
    usage = usage_of(generation)
    if usage is not None:
        shown["usage"] = usage
    return shown


def reply(state: Any, model: str, *, answer: str | None = None) -> AIMessage:
    """The final state of an episode as a chat model's reply; `answer` overrides what is read from its turns."""
    turns: list[Turn] = state.get("turns", []) if isinstance(state, dict) and answer is None else []
    last = answers(state)[-1] if turns else None
    return AIMessage(
        content=answer_of(state) if answer is None else answer,
        usage_metadata=total_usage(turns),
        response_metadata={
            "model_name": model,
            "turns": [shown_turn(turn) for turn in turns],
            "stop_reason": state.get("stop_reason", "") if turns else "",
            "finish_reason": last["generation"]["finish_reason"] if last else "stop",
        },
    )


def reply_of_call(message: AIMessage, generation: Generation, model: str) -> AIMessage:
    """A single call's `message` with all that a reply carries."""
    turn = Turn(role="attempt", generation=generation, verdict=None)
    whole = reply(EpisodeState(turns=[turn]), model)
    message.usage_metadata = whole.usage_metadata
    message.response_metadata = {**whole.response_metadata, **message.response_metadata}
    if message.tool_calls:
        message.response_metadata["finish_reason"] = "tool_calls"
    return message


def with_logprobs(message: AIMessage, drawn: Generation, tokenizer: Any) -> AIMessage:
    """`message`, with each token of the answer and its log-probability, as OpenAI tells them.

    Args:
        tokenizer: of the policy that drew; None tells the log-probabilities without texts.

    Raises:
        ConfigurationError: the log-probabilities are not known.
    """
    if not drawn["logprobs"]:
        raise ConfigurationError("this model's log-probabilities are not known; leave logprobs out")
    told = []
    for token, logprob in zip(drawn["completion_ids"], drawn["logprobs"], strict=True):
        text = _text_of(token, tokenizer)
        told.append({"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []})
    message.response_metadata["logprobs"] = {"content": told}
    return message


def _text_of(token: int, tokenizer: Any) -> str:
    if tokenizer is None:
        return ""
    return str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def total_usage(turns: list[Turn]) -> UsageMetadata | None:
    """The tokens of all turns together; None if some turn's are not known."""
    usages = [usage_of(turn["generation"]) for turn in turns]
    known = [usage for usage in usages if usage is not None]
    if not known or len(known) < len(usages):
        return None
    read = sum(usage["input_tokens"] for usage in known)
    written = sum(usage["output_tokens"] for usage in known)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)


def turn_chunk(turn: Turn) -> ChatGenerationChunk:
    """A chunk without content that tells of a turn; in the sum of the chunks, `turns` is the list of all."""
    return ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata={"turns": [shown_turn(turn)]}))


def closing_chunk(message: AIMessage, *, with_turns: bool) -> ChatGenerationChunk:
    """The last chunk, with the whole reply. Chunks cannot be taken back, and only the last answer is the reply."""
    metadata = {name: value for name, value in message.response_metadata.items() if with_turns or name != "turns"}
    chunk = AIMessageChunk(
        content=message.content,
        tool_call_chunks=[
            {
                "name": call["name"],
                "args": json.dumps(call["args"]),
                "id": call["id"],
                "index": index,
                "type": "tool_call_chunk",
            }
            for index, call in enumerate(message.tool_calls)
        ],
        usage_metadata=message.usage_metadata,
        response_metadata=metadata,
        chunk_position="last",
    )
    return ChatGenerationChunk(message=chunk)


def piece(text: str) -> ChatGenerationChunk:
    """A chunk with a piece of the answer."""
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


def rest_of(closing: ChatGenerationChunk, told: str) -> ChatGenerationChunk:
    """A chunk as it is; the last one without what pieces have told of its content.

    Raises:
        GraphError: the answer is another text than that of the call that was told.
    """
    message = closing.message
    content = message.content
    last = isinstance(message, AIMessageChunk) and message.chunk_position == "last"
    if not last or not told:
        return closing
    if not isinstance(content, str) or not content.startswith(told):
        raise GraphError(
            f"{told[:80]!r} was streamed as the beginning of the answer, which then was {str(content)[:80]!r}: "
            "answer=... must give the text that answer_node draws as it is; leave answer_node out to stream it whole"
        )
    left = content[len(told) :]
    return ChatGenerationChunk(message=message.model_copy(update={"content": left}))
