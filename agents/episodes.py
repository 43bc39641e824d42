"""Play a graph on many problems at once."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from typing import Any, TypeVar, cast

from langgraph.graph.state import CompiledStateGraph

from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.policy import Sampling, derive_seed
from selfcorrect.agents.state import EpisodeState, Generation, Message, Turn
from selfcorrect.errors import GraphError, SelfCorrectError, UnreadablePromptError
from selfcorrect.tasks.problem import Problem

OnEpisode = Callable[[EpisodeState], None]
OnUnreadable = Callable[[Problem, UnreadablePromptError], None]
Graph = CompiledStateGraph[Any, Any, Any, Any]
Result = TypeVar("Result")

_COLLECT_AFTER = 100_000
"""New container objects between two looks of Python's garbage collector while episodes are played; its default is
700."""


NODE_THREADS = 128
"""Synchronous nodes that run at a time."""


def initial_state(
    problem: Problem, seed: int, *, history: Sequence[Message] = (), attempt: Generation | None = None
) -> EpisodeState:
    """The state in which an episode begins.

    Args:
        problem: what to solve.
        seed: the episode's own seed.
        history: a conversation that came before the problem.
        attempt: the first answer, if it is there already and is only to be judged and revised.
    """
    state = EpisodeState(problem=problem.model_dump(), seed=seed, turns=[])
    if history:
        state["history"] = list(history)
    if attempt is not None:
        state["turns"] = [Turn(role="attempt", generation=attempt, verdict=None)]
    return state


async def play(
    graph: Graph,
    problems: Sequence[Problem],
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    concurrency: int | None = None,
    on_episode: OnEpisode | None = None,
    on_unreadable: OnUnreadable | None = None,
) -> list[EpisodeState]:
    """Play one episode for each of `problems` (a problem may be listed several times); final states in the same order.

    Args:
        graph: a graph of `build_graph`, or any other over `EpisodeState` whose context is `EpisodeContext`.
        sampling: how to draw; None is temperature 1. Its own seed is not used:
        seed: episode i is played with the i-th child of `seed`, so that problem listed twice is drawn twice.
        seeds: one for each episode, in the place of those children.
        concurrency: at most this many episodes at a time; None plays all at once, which lets the policy batch them
            best.
        on_episode: called with each final state as soon as its episode ends.
        on_unreadable: called with each problem that the policy cannot be shown (it is too long for its context); its
            episode is left out of what is returned. None raises the error.

    Raises:
        SelfCorrectError: of the kind that an episode raised, with the problem's id; the other episodes are cancelled.
        GraphError: an episode raised anything else, which is its cause.
    """
    context = EpisodeContext(sampling or Sampling())
    gate = asyncio.Semaphore(concurrency) if concurrency is not None else None

    own = [derive_seed(seed, index) for index in range(len(problems))] if seeds is None else seeds

    async def one(problem: Problem, own_seed: int) -> EpisodeState | None:
        try:
            async with gate or nullcontext():
                return await _episode(graph, problem, own_seed, context, on_episode)
        except UnreadablePromptError as error:
            if on_unreadable is None:
                raise
            on_unreadable(problem, error)
            return None

    with rare_garbage_collection():
        played = await _all_or_first_error([one(*each) for each in zip(problems, own, strict=True)])
    return [state for state in played if state is not None]


def play_sync(
    graph: Graph,
    problems: Sequence[Problem],
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    concurrency: int | None = None,
    on_episode: OnEpisode | None = None,
) -> list[EpisodeState]:
    """`play` for synchronous code. Inside a running event loop (a notebook) it runs in a thread of its own."""
    return run_blocking(
        play(graph, problems, sampling=sampling, seed=seed, concurrency=concurrency, on_episode=on_episode)
    )


def run_blocking(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run `coroutine` to its end, whether or not the calling thread already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_with_threads(coroutine))
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="selfcorrect-episodes") as thread:
        return thread.submit(copy_context().run, asyncio.run, _with_threads(coroutine)).result()


async def _with_threads(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """`coroutine` on a loop of ours, whose executor has a thread for each of many synchronous nodes; asyncio's own has
    a few more than there are processors."""
    threads = ThreadPoolExecutor(NODE_THREADS, thread_name_prefix="selfcorrect-node")
    asyncio.get_running_loop().set_default_executor(threads)
    return await coroutine


async def _episode(
    graph: Graph, problem: Problem, seed: int, context: EpisodeContext, on_episode: OnEpisode | None
) -> EpisodeState:
    try:
        state = cast(EpisodeState, await graph.ainvoke(initial_state(problem, seed), context=context))
    except SelfCorrectError as error:
        raise type(error)(f"problem {problem.id!r}: {error}") from error
    except Exception as error:
        raise GraphError(f"problem {problem.id!r}: {type(error).__name__} while playing: {error}") from error
    if on_episode is not None:
        on_episode(state)
    return state


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Let Python look for reference cycles rarely: LangGraph makes many objects but no cycles, and searching among the
    millions of objects that torch and transformers keep alive takes up to half of the time of playing."""
    thresholds = gc.get_threshold()
    if not 0 < thresholds[0] < _COLLECT_AFTER:  # already rare (another `play` is on), or off
        yield
        return
    gc.set_threshold(_COLLECT_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


async def _all_or_first_error(episodes: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    tasks = [asyncio.ensure_future(episode) for episode in episodes]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
