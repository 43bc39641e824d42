"""One thread of a store is one episode: within this process nobody else may play it meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager

from selfcorrect.agents.checkpoints import Checkpointer
from selfcorrect.errors import GraphError

_played: set[tuple[str, str]] = set()
"""The threads that are played in this process right now, by store and name."""


@contextmanager
def alone(checkpointer: Checkpointer, thread: str) -> Iterator[None]:
    """Hold `thread` of that store. An episode without a store is alone anyway.

    Raises:
        GraphError: somebody holds it already.
    """
    if checkpointer is None:
        yield
        return
    store = str(checkpointer) if not hasattr(checkpointer, "serde") else f"saver {id(checkpointer)}"
    if (store, thread) in _played:
        raise GraphError(f"thread {thread!r} is being played already; give every episode a thread_id of its own")
    _played.add((store, thread))
    try:
        yield
    finally:
        _played.discard((store, thread))
