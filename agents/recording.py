"""How policy calls become known to whoever trains: a recorder in a context variable, which LangGraph hands to its nodes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation


@dataclass(frozen=True, slots=True)
class PolicyCall:
    """One call of a trainable policy: its node ("" outside a graph), what was drawn, and how.

    `path` is LangGraph's checkpoint namespace: it tells parallel branches and subgraphs apart.
    """

    node: str
    path: str
    generation: Generation
    sampling: Sampling


@dataclass(slots=True)
class Recorder:
    """The calls of one episode, in the order in which they returned."""

    calls: list[PolicyCall] = field(default_factory=list)


_recorder: ContextVar[Recorder | None] = ContextVar("selfcorrect_recorder", default=None)


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record every trainable policy call made inside the block, also from the nodes of a graph invoked in it."""
    recorder = Recorder()
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


def record(generation: Generation, sampling: Sampling) -> None:
    """Called by a trainable policy after every generation; does nothing when nobody records."""
    recorder = _recorder.get()
    if recorder is None:
        return
    node, path = _place_in_graph()
    recorder.calls.append(PolicyCall(node, path, generation, sampling))


def _place_in_graph() -> tuple[str, str]:
    """Name and namespace of the LangGraph node this code runs in, or ("", "")."""
    from langchain_core.runnables.config import var_child_runnable_config

    config = var_child_runnable_config.get() or {}
    metadata = config.get("metadata") or {}
    return str(metadata.get("langgraph_node", "")), str(metadata.get("langgraph_checkpoint_ns", ""))
