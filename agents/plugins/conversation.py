"""A conversation of LangChain played as an episode: whole, step by step, or as one turn without a graph."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

from selfcorrect.agents.critiques import CritiqueMode
from selfcorrect.agents.episodes import Graph, initial_state
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.listening import AnswerStream, IsAnswer
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy, question_and_history
from selfcorrect.agents.plugins.replies import Step, piece, rest_of, steps_of
from selfcorrect.agents.policies.scripted import WindowedPolicy
from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.state import EpisodeState, Generation
from selfcorrect.agents.stopping import Stop
from selfcorrect.errors import PolicyError
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.problem import Problem

# What happens inside one call of `ChatSelfCorrect`: calls that nobody outside should see twice, and tools of an inner
# model.

UNTRACED: RunnableConfig = {"callbacks": []}
"""For the calls inside an episode. Their callbacks would count its tokens twice, and mix the turns into streams of
the reply."""


@contextmanager
def untraced() -> Iterator[None]:
    """Calls inside the block inherit everything but the callbacks."""
    inherited: RunnableConfig = var_child_runnable_config.get() or {}
    token = var_child_runnable_config.set({**inherited, **UNTRACED})
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


@contextmanager
def unstreamed() -> Iterator[None]:
    """Calls inside the block are traced and counted as ever, but their tokens are not told to who streams messages."""
    from langchain_core.tracers._streaming import _StreamingCallbackHandler

    inherited: RunnableConfig = var_child_runnable_config.get() or {}
    manager = inherited.get("callbacks")
    if not isinstance(manager, BaseCallbackManager):
        yield
        return
    quiet = manager.copy()
    for handler in list(quiet.handlers):
        if isinstance(handler, _StreamingCallbackHandler):
            quiet.remove_handler(handler)
    token = var_child_runnable_config.set({**inherited, "callbacks": quiet})
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def model_with_tools(source: Any) -> BaseChatModel:
    """The chat model inside `source` (a policy or graph) that can call tools.

    Raises:
        NotImplementedError: there is none, as LangChain expects to be told.
    """
    model = source.model if isinstance(source, ChatModelPolicy) else None
    if not isinstance(model, BaseChatModel) or type(model).bind_tools is BaseChatModel.bind_tools:
        raise NotImplementedError(
            "tools need ChatSelfCorrect(policy=ChatModelPolicy(model)) with a chat model that can call tools; "
            f"this one has {type(source).__name__}"
        )
    return model


async def ask_with_tools(
    policy: ChatModelPolicy, messages: list[BaseMessage], sampling: Sampling, call: dict[str, Any]
) -> AIMessage:
    """The inner model's answer to `messages`, or its calls of the tools that `bind_tools` put into `call`."""
    options = call.get("tool_options", {})
    model = model_with_tools(policy).bind_tools(call["tools"], tool_choice=call.get("tool_choice"), **options)
    with untraced():
        return await model.ainvoke(messages, **policy.call_options(sampling))


def loop_of_calls(
    policy: Policy,
    *,
    checker: Checker | None,
    prompts: Prompts,
    revisions: int,
    critique: str | CritiqueMode,
    stop: Stop | None,
) -> Graph:
    """The graph that is played for a policy: that of `build_graph`, and nothing of an episode outlives the call."""
    made = build_graph(
        WindowedPolicy(policy), checker=checker, prompts=prompts, revisions=revisions, critique=critique, stop=stop
    )
    # within a node of a graph with a checkpointer, an episode is one call and keeps no checkpoints of its own
    return made.copy(update={"checkpointer": False})


async def played(
    loop: Graph, messages: list[BaseMessage], sampling: Sampling, attempt: Generation | None = None
) -> EpisodeState:
    """The final state of `loop`, played on the conversation; `attempt` is a first answer that is there already."""
    start, context = _start(messages, sampling, attempt)
    return cast(EpisodeState, await loop.ainvoke(start, UNTRACED, context=context))


async def played_in_steps(loop: Graph, messages: list[BaseMessage], sampling: Sampling) -> AsyncGenerator[Step]:
    """The same, told as it happens."""
    start, context = _start(messages, sampling)
    states: Any = loop.astream(start, UNTRACED, context=context, stream_mode="values")
    async with aclosing(states):
        async for step in steps_of(states, judged="judge" in loop.nodes):
            yield step


async def told_as_drawn(
    chunks: AsyncIterator[ChatGenerationChunk], stop: Sequence[str], is_answer: IsAnswer
) -> AsyncGenerator[ChatGenerationChunk]:
    """`chunks`, with the text of the answer piece by piece as it is drawn, and without it where they tell it again."""
    queue: asyncio.Queue[ChatGenerationChunk | None] = asyncio.Queue()
    stream = AnswerStream(stop, is_answer, lambda text: queue.put_nowait(piece(text)))

    async def play() -> None:
        try:
            with stream.listening():
                async for chunk in chunks:
                    queue.put_nowait(rest_of(chunk, stream.told))
        finally:
            queue.put_nowait(None)

    playing = asyncio.create_task(play())
    try:
        while (chunk := await queue.get()) is not None:
            yield chunk
        await playing
    finally:
        playing.cancel()
        await asyncio.wait([playing])


def _start(
    messages: list[BaseMessage], sampling: Sampling, attempt: Generation | None = None
) -> tuple[EpisodeState, EpisodeContext]:
    question, history = question_and_history(messages)
    if not question and attempt is None:
        raise PolicyError(
            "the conversation ends with no message of the user, and a graph has no words to go on with it"
        )
    problem = Problem(id="chat", prompt=question or "(what the conversation asks)", reference=None, checker="none")
    seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    return initial_state(problem, seed, history=history, attempt=attempt), EpisodeContext(sampling)
