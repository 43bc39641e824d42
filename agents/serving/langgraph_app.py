"""The graph that `langgraph dev` serves (see langgraph.json): a conversation whose replies have been revised.

Environment: SELFCORRECT_MODEL is "embedded" (default), a model folder, a Hugging Face id, or "provider:model" of
    LangChain.
SELFCORRECT_REVISIONS (default 1) and SELFCORRECT_CRITIQUE ("instruction", "self"; default "instruction") set the loop.
"""

import asyncio
import os
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime

from selfcorrect.agents.critiques import CRITIQUES
from selfcorrect.agents.episodes import Graph
from selfcorrect.agents.loading import named_policy
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policy import Sampling
from selfcorrect.errors import ConfigurationError


def conversation_graph(model: ChatSelfCorrect) -> Graph:
    """A graph over messages, as chat front ends expect it: its node "answer" adds the model's reply.

    A run's context, {"sampling": {"temperature": 0.7, ...}}, says how to draw; without one the model's settings do.
    """
    # LangGraph looks for graphs in its nodes, and for such as keep no checkpoints of their own in vain
    shown_in_studio = model.graph_played.copy({"checkpointer": None})

    async def answer(state: MessagesState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        _ = shown_in_studio
        options = {} if runtime.context is None else _call_options(runtime.context.sampling)
        return {"messages": [await model.ainvoke(state["messages"], **options)]}

    graph = StateGraph(MessagesState, context_schema=EpisodeContext)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(name="selfcorrect")


def _call_options(sampling: Sampling) -> dict[str, Any]:
    """A sampling as options of a chat model's call."""
    given = {"max_tokens": sampling.max_new_tokens, "seed": sampling.seed, "stop": list(sampling.stop) or None}
    named = {name: value for name, value in given.items() if value is not None}
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, **named}


def model_from(environment: Mapping[str, str]) -> ChatSelfCorrect:
    """The chat model that the variables describe.

    Raises:
        ConfigurationError: a variable holds what it cannot.
        PolicyError: the model cannot be loaded.
    """
    name = environment.get("SELFCORRECT_MODEL", "embedded")
    revisions, critique = (
        environment.get("SELFCORRECT_REVISIONS", "1"),
        environment.get("SELFCORRECT_CRITIQUE", "instruction"),
    )
    if not revisions.isdigit():
        raise ConfigurationError(f"SELFCORRECT_REVISIONS must be a whole number, 0 or more, got {revisions!r}")
    if CRITIQUES.find(critique).needs_checker:
        raise ConfigurationError(
            f"SELFCORRECT_CRITIQUE: nothing judges the answers of a conversation, so it cannot be {critique!r}"
        )
    policy, prompts = named_policy(name, in_thread=True)
    return ChatSelfCorrect(policy=policy, prompts=prompts, revisions=int(revisions), critique=critique, model=name)


async def graph() -> Graph:
    """What langgraph.json names. The server calls it for every run; the model is loaded by the first, off the event
    loop."""
    return await asyncio.to_thread(_graph_of_environment)


_loading = threading.Lock()


def _graph_of_environment() -> Graph:
    with _loading:
        return _loaded()


@cache
def _loaded() -> Graph:
    return conversation_graph(model_from(os.environ))
