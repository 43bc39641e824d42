"""What can be known of a graph before it is played: that it can be, and the names of its nodes."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from selfcorrect.errors import GraphError


@dataclass(frozen=True, slots=True)
class PlayableGraph:
    """A graph as training plays it, and the nodes it and its subgraphs have; None if they cannot be listed."""

    graph: Any
    nodes: frozenset[str] | None


def playable(graph: Any) -> PlayableGraph:
    """`graph` without checkpointer and cache, and its nodes.

    A cache would hand the same text to all episodes of a problem; a checkpointer would want a thread for each and keep it.

    Raises:
        GraphError: it is not a compiled graph.
    """
    if not hasattr(graph, "ainvoke"):
        hint = "call .compile() on it first" if hasattr(graph, "compile") else "give a compiled LangGraph graph"
        raise GraphError(f"a {type(graph).__name__} cannot be played; {hint}")
    if not hasattr(graph, "get_subgraphs"):
        return PlayableGraph(graph, None)
    graph = graph.copy({"checkpointer": None, "cache": None})
    # Tasks of LangGraph's functional style are nodes that nobody can list.
    listed = hasattr(graph, "builder")
    return PlayableGraph(graph, frozenset(_names(graph)) if listed else None)


def _names(graph: Any) -> Iterable[str]:
    yield from graph.nodes
    for _, inner in graph.get_subgraphs(recurse=True):
        yield from inner.nodes


def checked_names(names: Iterable[str], known: PlayableGraph, argument: str) -> frozenset[str]:
    """`names` if the graph has nodes of these names.

    Raises:
        GraphError: there are no names, or one is not a node's; it tells the nearest right one.
    """
    asked = [names] if isinstance(names, str) else list(names)
    if not asked:
        raise GraphError(f"{argument} names no node: nothing would learn; leave it out to train all")
    if known.nodes is None:
        return frozenset(asked)
    real = sorted(name for name in known.nodes if not name.startswith("__"))
    for name in asked:
        if name not in real:
            near = difflib.get_close_matches(str(name), real, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise GraphError(
                f"{argument} names {name!r}, but the graph has no such node{meant} It has: {', '.join(real)}"
            )
    return frozenset(asked)
