"""One episode of a graph of a user's own: people's replies, a store of its own, a deadline, threads that its nodes
start, and what may go wrong."""

import asyncio
import copy
import inspect
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _worker as _executors_work
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from threading import Lock, Thread
from typing import Any, Literal

from selfcorrect.agents.recording import Recorder, is_recording
from selfcorrect.agents.tracing import episode_metadata
from selfcorrect.errors import ConfigurationError, GraphError
from selfcorrect.tasks.problem import Problem

Replies = Callable[[Any, Problem], Any | Awaitable[Any]]
"""From the value of an `interrupt` and the problem to what the person says; plain or async."""
OnEpisodeError = Literal["raise", "drop", "pay"]


@dataclass(frozen=True)
class EpisodeRules:
    """How episodes of a graph are played, and what becomes of those that fail.

    An episode fails when a node raises, the recursion limit or the time is used up, a prompt fills the context, or no
    policy was called.

    Args:
        on_episode_error: "raise" ends everything; "drop" leaves the episode out and counts it; "pay" keeps its calls
            and pays the last of them `error_reward`. Where every episode of a batch fails, the first error is raised.
        error_reward: only with "pay".
        timeout: seconds that an episode may take; None is no limit.
        replies: answers the graph's `interrupt`s; None refuses graphs that ask.
        config: the graph's run config: its configurable values, tags, a recursion limit.

    Raises:
        ConfigurationError: the arguments contradict each other.
    """

    on_episode_error: OnEpisodeError = "drop"
    error_reward: float | None = None
    timeout: float | None = None
    replies: Replies | None = None
    config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.on_episode_error not in ("raise", "drop", "pay"):
            raise ConfigurationError(f"on_episode_error is 'raise', 'drop' or 'pay', got {self.on_episode_error!r}")
        if (self.on_episode_error == "pay") != (self.error_reward is not None):
            raise ConfigurationError("error_reward=... and on_episode_error='pay' belong together")
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigurationError(f"timeout must be above 0 seconds, got {self.timeout}")


async def final_state(
    graph: Any, given: Any, problem: Problem, recorder: Recorder, rules: EpisodeRules, *, context: Any
) -> Any:
    """The state in which an episode of `graph` ends.

    Args:
        graph: compiled, without a checkpointer; its store is left as it is.
        given: its input.
        recorder: of the episode.

    Raises:
        TimeoutError: the episode took longer than the rules allow.
        ConfigurationError: a node asks a person, and nobody replies.
    """
    graph = with_own_store(graph)
    async with asyncio.timeout(rules.timeout):
        if rules.replies is None:
            state = await graph.ainvoke(given, _config(rules, problem), context=context)
            asked = _asked(state)
            if asked:
                raise ConfigurationError(
                    f"problem {problem.id}: the graph asks a person ({str(asked[0].value)[:200]!r}) and nobody is "
                    "there; give replies=..., a function from what is asked and the problem to what the person says"
                )
            return state
        return await _with_replies(graph, given, problem, recorder, rules, context)


async def _with_replies(
    graph: Any, given: Any, problem: Problem, recorder: Recorder, rules: EpisodeRules, context: Any
) -> Any:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command

    graph = graph.copy({"checkpointer": InMemorySaver()})
    config = _config(rules, problem)
    config["configurable"] = {**config.get("configurable", {}), "thread_id": secrets.token_hex(8)}
    replies = rules.replies
    assert replies is not None
    state = await graph.ainvoke(given, config, context=context, durability="exit")
    while asked := _asked(state):
        said = {one.id: await _reply(replies, one.value, problem) for one in asked}
        waiting = await graph.aget_state(config, subgraphs=True)
        recorder.forget_tasks(_interrupted(waiting))  # they run again from their beginning
        state = await graph.ainvoke(Command(resume=said), config, context=context, durability="exit")
    return state


def _config(rules: EpisodeRules, problem: Problem) -> dict[str, Any]:
    """The run config of one episode; traces are found again by its problem, batch and seed."""
    given = dict(rules.config or {})
    return {**given, "metadata": {**given.get("metadata", {}), "problem": problem.id, **episode_metadata()}}


async def _reply(replies: Replies, asked: Any, problem: Problem) -> Any:
    said = replies(asked, problem)
    return await said if inspect.isawaitable(said) else said


def _asked(state: Any) -> list[Any]:
    """The interrupts that wait for a reply."""
    return list(state.get("__interrupt__", ())) if isinstance(state, dict) else []


def _interrupted(snapshot: Any) -> set[str]:
    """The ids of the tasks that wait for a reply, those of subgraphs too."""
    ids: set[str] = set()
    for task in snapshot.tasks:
        inner = _interrupted(task.state) if hasattr(task.state, "tasks") else set()
        ids |= inner or ({task.id} if task.interrupts else set())
    return ids


def with_own_store(graph: Any) -> Any:
    """`graph` with a copy of its store, so that episodes neither meet in it nor write into the user's.

    Raises:
        GraphError: the store is none that lives in memory.
    """
    store = getattr(graph, "store", None)
    if store is None:
        return graph
    from langgraph.store.memory import InMemoryStore

    if not isinstance(store, InMemoryStore):
        raise GraphError(
            f"the graph's store is a {type(store).__name__}, and every training episode needs a copy of its own: "
            "compile the graph that is trained with an InMemoryStore that holds what episodes should find"
        )
    own = copy.copy(store)
    own._data = defaultdict(dict, {place: dict(items) for place, items in store._data.items()})
    vectors = {place: {key: dict(paths) for key, paths in keys.items()} for place, keys in store._vectors.items()}
    own._vectors = defaultdict(lambda: defaultdict(dict))
    for place, keys in vectors.items():
        own._vectors[place].update(keys)
    return graph.copy({"store": own})


# Threads and executors that the nodes start.


@contextmanager
def threads_that_record() -> Iterator[None]:
    """Inside the block, threads and executors that an episode's nodes start see the episode, as asyncio.to_thread's do.

    Python hands a thread no context of its own accord before 3.14; only what is started where calls are recorded is
    changed.
    """
    with _patching:
        _Patched.count += 1
        if _Patched.count == 1:
            ThreadPoolExecutor.submit = _submit_with_context  # type: ignore[method-assign, assignment]
            Thread.start = _start_with_context  # type: ignore[method-assign]
    try:
        yield
    finally:
        with _patching:
            _Patched.count -= 1
            if _Patched.count == 0:
                ThreadPoolExecutor.submit, Thread.start = _submit, _start  # type: ignore[method-assign]


class _Patched:
    """How many blocks of `threads_that_record` are open."""

    count = 0


_patching = Lock()
_submit, _start = ThreadPoolExecutor.submit, Thread.start


def _submit_with_context(self: ThreadPoolExecutor, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    run = partial(copy_context().run, function) if is_recording() else function
    return _submit(self, run, *args, **kwargs)


def _start_with_context(self: Thread) -> None:
    # an executor's thread outlives the episode that started it; its work brings a context of its own
    executors = getattr(self, "_target", None) is _executors_work
    if is_recording() and not executors:
        self.run = partial(copy_context().run, self.run)  # type: ignore[method-assign]
    if executors:
        Context().run(_start, self)
    else:
        _start(self)
