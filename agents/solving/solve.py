"""Think about one problem for as long as a budget allows: minutes or weeks, through restarts, with a person as judge.

Every turn is stored before the next one begins. Whoever is killed is started again with the same call and goes on from
the last stored turn; the turn that was being written is written again, from the same seed.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph

from selfcorrect.agents.critiques import CritiqueMode, critique_mode
from selfcorrect.agents.episodes import Graph, initial_state, run_blocking
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.policies.scripted import WindowedPolicy
from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.solving.checkpoints import Checkpointer, alone, held, opened, refuse_unstorable
from selfcorrect.agents.solving.stored_episode import EpisodeEvent, Solution, StoredEpisode
from selfcorrect.agents.state import Turn
from selfcorrect.agents.stopping import Budget
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.problem import Problem, as_problem

__all__ = ["OnTurn", "Solution", "policy_loop", "solve", "solve_sync", "stream_turns"]

OnTurn = Callable[[Turn], None]
_NO_END = 1_000_000
"""Revisions of a graph that only its budget or its own stop rule ends."""


def policy_loop(
    policy: Policy,
    *,
    critique: str | CritiqueMode = "self",
    checker: Checker | None = None,
    prompts: Prompts = PLAIN,
) -> Graph:
    """The graph that `solve` makes of a policy: `build_graph` without an end, whose revisions see the problem and the
    last answer.

    What a turn costs therefore does not grow with the number of turns.
    """
    mode = critique_mode(critique)
    return build_graph(
        WindowedPolicy(policy, mode.turns),
        checker=checker,
        prompts=prompts,
        revisions=_NO_END,
        critique=mode,
    )


async def solve(
    problem: Problem | str,
    solver: Policy | Graph,
    *,
    budget: Budget,
    checkpointer: Checkpointer = None,
    thread_id: str | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    reply: Any = None,
    on_turn: OnTurn | None = None,
) -> Solution:
    """Work on `problem` until the loop is satisfied or the budget is used up.

    Args:
        problem: what to solve; a text is shown as it is.
        solver: a policy (see `policy_loop` for its graph), or a graph of `build_graph` or `policy_loop`.
        budget: ends the work after the turn in which it runs out. Calling again with more goes on.
        checkpointer: where every turn is stored: the path of a sqlite file, a "postgresql://" address, or a LangGraph
            saver for asynchronous graphs. None keeps the episode in memory and forgets it at the end. Of a store that
            is given by name, only the latest checkpoint of the thread is kept; a saver keeps its whole history.
        thread_id: the episode's name in the store; None is the problem's id. A call with a known name goes on with that
            episode, and one that is finished is given back without a single generation.
        sampling: how to draw; None is temperature 1. Every turn has its own seed, derived from `seed`.
        reply: what the person said whom an earlier call has asked (see `AskHuman`).
        on_turn: called with each new turn as it is written (and judged, where the graph judges).

    Raises:
        GraphError: the thread belongs to another problem or is being played right now; the state cannot be stored; a
            reply to no question.
        ConfigurationError: the checkpointer cannot be used.
    """
    solution: Solution | None = None
    events = _events(problem, solver, budget, checkpointer, thread_id, sampling, seed, reply)
    async with aclosing(events):
        async for event in events:
            solution = event.solution
            if event.turn is not None and on_turn is not None:
                on_turn(event.turn)
    assert solution is not None
    return solution


def solve_sync(
    problem: Problem | str,
    solver: Policy | Graph,
    *,
    budget: Budget,
    checkpointer: Checkpointer = None,
    thread_id: str | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    reply: Any = None,
    on_turn: OnTurn | None = None,
) -> Solution:
    """`solve` for synchronous code."""
    return run_blocking(
        solve(
            problem,
            solver,
            budget=budget,
            checkpointer=checkpointer,
            thread_id=thread_id,
            sampling=sampling,
            seed=seed,
            reply=reply,
            on_turn=on_turn,
        )
    )


async def stream_turns(
    problem: Problem | str,
    solver: Policy | Graph,
    *,
    budget: Budget,
    checkpointer: Checkpointer = None,
    thread_id: str | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> AsyncIterator[Turn]:
    """The new turns of `solve`, as they are written. Stop reading to cancel: what was told has been stored."""
    events = _events(problem, solver, budget, checkpointer, thread_id, sampling, seed, None)
    async with aclosing(events):
        async for event in events:
            if event.turn is not None:
                yield event.turn


async def _events(
    problem: Problem | str,
    solver: Policy | Graph,
    budget: Budget,
    checkpointer: Checkpointer,
    thread_id: str | None,
    sampling: Sampling | None,
    seed: int,
    reply: Any,
) -> AsyncGenerator[EpisodeEvent]:
    asked = as_problem(problem, "solve")
    thread = asked.id if thread_id is None else thread_id
    start = initial_state(asked, seed)
    async with opened(checkpointer) as saver:
        if checkpointer is not None:
            refuse_unstorable(cast(dict[str, Any], start))
        graph = _graph_of(solver).copy(update={"checkpointer": saver})
        tidy = None if isinstance(checkpointer, BaseCheckpointSaver) else saver
        episode = StoredEpisode(graph, thread, EpisodeContext(sampling or Sampling()), budget, tidy)
        with alone(checkpointer, thread):
            async with (
                held(checkpointer, saver, thread),
                aclosing(episode.run(start, reply, lasting=checkpointer is not None)) as events,
            ):
                async for event in events:
                    yield event


def _graph_of(solver: Policy | Graph) -> Graph:
    return solver if isinstance(solver, CompiledStateGraph) else policy_loop(solver)
