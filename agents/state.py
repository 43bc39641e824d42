"""What flows through an episode: plain data only, so that any LangGraph checkpointer can store it.

An episode is one play of a graph on one problem. It is a list of turns; every turn holds what the policy generated, as
text and as the exact token ids that were sampled.
"""

import operator
import time
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.tasks.problem import Problem

_EPOCH = time.time() - time.monotonic()


def now() -> float:
    """Seconds since the epoch, by a clock that never jumps while this process runs: corrections of the system's clock
    neither end an episode nor lengthen it."""
    return _EPOCH + time.monotonic()


Role = Literal["attempt", "critique", "revise"]
FinishReason = Literal["stop", "length"]


class FunctionCall(TypedDict):
    """What a called tool is told."""

    name: str
    arguments: dict[str, Any]


class ToolCall(TypedDict):
    """A tool that an assistant's message calls, in the shape that chat templates expect."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(TypedDict):
    """One chat message.

    Keys:
        role: "system", "user", "assistant", or "tool" for the result of a call.
        content: the text.
        tools: the functions that may be called, as OpenAI writes them; on the first message of a conversation only.
        tool_calls: the calls that an assistant's message makes.
        tool_call_id, name: which call a tool's message answers, and of which tool.
    """

    role: str
    content: str
    tools: NotRequired[list[dict[str, Any]]]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


class Usage(TypedDict):
    """What one call cost, as a remote model reported it; in tokens."""

    input_tokens: int
    output_tokens: int


class Generation(TypedDict):
    """What a policy returned for one call.

    Keys:
        text: the completion, decoded, without the stop token.
        messages: the whole conversation the policy saw, oldest first, without this completion.
        prompt_ids: the token ids the policy saw, exactly; [] if the policy has no token ids (remote, scripted).
        completion_ids: the token ids it sampled, exactly, the stop token included; [] if unknown.
        logprobs: log-probability of each of `completion_ids` under the policy at the sampling temperature (at 1 when
            greedy), before any top-p cut; same length as `completion_ids`, or [] if unknown.
        finish_reason: "stop", or "length" when the token limit cut it off.
        usage: only where the policy has no token ids of its own but was told how many there were.
        stop_text: which of `Sampling.stop` ended it; not there if the policy ended it by itself or was cut off.
    """

    text: str
    messages: list[Message]
    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason
    usage: NotRequired[Usage]
    stop_text: NotRequired[str]


class VerdictRecord(TypedDict):
    """A `Verdict` as plain data."""

    status: str
    answer: str | None
    reason: str
    seconds: float
    fraction: NotRequired[float | None]


class Turn(TypedDict):
    """One step of an episode. Attempts and revisions answer the problem; critiques judge the previous answer."""

    role: Role
    generation: Generation
    verdict: VerdictRecord | None


class EpisodeState(TypedDict, total=False):
    """The state of the graphs that `build_graph` makes.

    Keys:
        problem: a `Problem` as plain data (`problem.model_dump()`).
        history: a conversation that came before the problem, oldest message first.
        seed: the episode's random seed; each call's seed is derived from it, so an episode can be replayed.
        turns: the turns so far, appended by the nodes.
        started: when the attempt began, in seconds since the epoch.
        stop_reason: why the episode ended: "revisions", "accepted", "verified", "budget".
    """

    problem: dict[str, Any]
    history: list[Message]
    seed: int
    turns: Annotated[list[Turn], operator.add]
    started: float
    stop_reason: str


def problem_of(state: EpisodeState) -> Problem:
    """The problem of an episode, as the validated object."""
    return Problem.model_validate(state["problem"])


def verdict_record(verdict: Verdict) -> VerdictRecord:
    record = VerdictRecord(
        status=verdict.status.value, answer=verdict.answer, reason=verdict.reason, seconds=verdict.seconds
    )
    return record if verdict.fraction is None else {**record, "fraction": verdict.fraction}


def verdict_of(turn: Turn) -> Verdict | None:
    """The verdict of a turn, or None if nobody judged it."""
    record = turn["verdict"]
    if record is None:
        return None
    told = record["answer"], record["reason"], record["seconds"], record.get("fraction")
    return Verdict(Status(record["status"]), *told)


def answers(state: EpisodeState) -> list[Turn]:
    """The turns that answer the problem (attempt and revisions), oldest first."""
    return [turn for turn in state.get("turns", []) if turn["role"] != "critique"]


def answer_text(turn: Turn) -> str:
    """The answer of a turn as its judge read it, or the whole text if nobody read one: what "unchanged" compares."""
    verdict = turn["verdict"]
    read = None if verdict is None else verdict["answer"]
    return turn["generation"]["text"].strip() if read is None else read


def usage_of(generation: Generation) -> Usage | None:
    """The tokens that a call read and wrote, counted or reported; None if nobody knows."""
    if generation["completion_ids"]:
        return Usage(input_tokens=len(generation["prompt_ids"]), output_tokens=len(generation["completion_ids"]))
    return generation.get("usage")


def tokens_of(generation: Generation) -> int:
    """Generated tokens: counted, or as the policy reports them; in words where nobody knows."""
    usage = usage_of(generation)
    return len(generation["text"].split()) if usage is None else usage["output_tokens"]
