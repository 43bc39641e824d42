"""Think about one problem for as long as a budget allows: minutes or weeks, through restarts, with a person as judge.

Every turn is stored before the next one begins. Whoever is killed is started again with the same call and goes on from the last
stored turn; the turn that was being written is written again, from the same seed.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from selfcorrect.agents.chat_replies import answer_of
from selfcorrect.agents.checkpoints import Checkpointer, keep_latest, opened, refuse_unstorable
from selfcorrect.agents.episodes import Graph, opening, run_blocking
from selfcorrect.agents.graph import CritiqueMode, build_graph
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.person import Question, is_question, verdict_from
from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.state import EpisodeState, Turn
from selfcorrect.agents.stopping import Budget
from selfcorrect.agents.windowed_policy import WindowedPolicy
from selfcorrect.errors import ConfigurationError, GraphError
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.problem import Problem

OnTurn = Callable[[Turn], None]
_NO_END = 1_000_000
"""Revisions of a graph that only its budget or its own stop rule ends."""
_EXCHANGES = {"instruction": 1, "feedback": 1, "self": 2}
"""How many exchanges a revision sees: the answer, and with critique "self" the critique of it."""


_TIDY_EVERY = 8
"""After this many turns the older checkpoints are forgotten."""


@dataclass(frozen=True)
class Solution:
    """What came of a call of `solve`.

    Attributes:
        answer: the last answer; "" if there is none yet.
        turns: every turn of the episode, those of earlier calls too.
        stop_reason: "budget", "accepted", "verified", "revisions" or, while a person is asked, "waiting".
        question: what a person is asked; None if nobody is.
        thread_id: under which the episode is stored.
    """

    answer: str
    turns: list[Turn]
    stop_reason: str
    question: Question | None
    thread_id: str


@dataclass(frozen=True)
class _Event:
    """A turn that was written, or (turn None) the end of the call."""

    turn: Turn | None = None
    solution: Solution | None = None


def policy_loop(
    policy: Policy,
    *,
    critique: CritiqueMode = "self",
    checker: Checker | None = None,
    prompts: Prompts = PLAIN,
) -> Graph:
    """The graph that `solve` makes of a policy: `build_graph` without an end, whose revisions see the problem and the last answer.

    What a turn costs therefore does not grow with the number of turns.
    """
    return build_graph(
        WindowedPolicy(policy, _EXCHANGES[critique]), checker=checker, prompts=prompts, revisions=_NO_END, critique=critique
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
        checkpointer: where every turn is stored: the path of a sqlite file, a "postgresql://" address, or a LangGraph saver for
            asynchronous graphs. None keeps the episode in memory and forgets it at the end. Of a store that is given by name,
            only the latest checkpoint of the thread is kept; a saver keeps its whole history.
        thread_id: the episode's name in the store; None is the problem's id. A call with a known name goes on with that episode, and
            one that is finished is given back without a single generation.
        sampling: how to draw; None is temperature 1. Every turn has its own seed, derived from `seed`.
        reply: what the person said whom an earlier call has asked (see `AskPerson`).
        on_turn: called with each new turn as it is written (and judged, where the graph judges).

    Raises:
        GraphError: the thread belongs to another problem or is being played right now; the state cannot be stored; a reply to no
            question.
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
) -> AsyncGenerator[_Event]:
    asked = _as_problem(problem)
    thread = asked.id if thread_id is None else thread_id
    start = opening(asked, seed)
    async with opened(checkpointer) as saver:
        if checkpointer is not None:
            refuse_unstorable(cast(dict[str, Any], start))
        graph = _graph_of(solver).copy(update={"checkpointer": saver})
        with _alone(checkpointer, thread):
            tidy = None if isinstance(checkpointer, BaseCheckpointSaver) else saver
            episode = _Episode(graph, thread, EpisodeContext(sampling or Sampling()), budget, tidy)
            async with aclosing(episode.run(start, reply, lasting=checkpointer is not None)) as events:
                async for event in events:
                    yield event


class _Episode:
    """One episode in a store."""

    def __init__(
        self,
        graph: Graph,
        thread: str,
        context: EpisodeContext,
        budget: Budget,
        tidy: BaseCheckpointSaver[Any] | None,
    ) -> None:
        self._graph, self._thread, self._context, self._budget = graph, thread, context, budget
        self._tidy = tidy  # the store in which only the latest checkpoint is kept
        self._config: RunnableConfig = {"configurable": {"thread_id": thread}}
        self._judges = "judge" in graph.nodes

    async def run(self, start: EpisodeState, reply: Any, *, lasting: bool) -> AsyncGenerator[_Event]:
        saved = await self._graph.aget_state(self._config)
        state = cast(EpisodeState, saved.values if "problem" in saved.values else {})  # else killed before it had begun
        asked = [one.value for one in saved.interrupts]
        self._refuse_other_problem(start, state)
        if reply is not None and not asked:
            raise GraphError(f"thread {self._thread!r} waits for no reply; give reply=... only after a Solution with a question")
        if reply is not None and is_question(asked[0]):
            verdict_from(reply)  # an unreadable reply would be stored with the resumed state, for ever
        told = len(state.get("turns", [])) - self._unsettled(state)
        finished = bool(state) and not saved.tasks  # not `next`, which leaves out a task whose result is stored but not applied
        if finished or (asked and reply is None) or (not asked and await self._budget_used(state)):
            yield _Event(solution=self._solution(state, asked))
            return
        given: Any = Command(resume=reply) if asked else (None if state else start)
        async with aclosing(self._states(given)) as states:
            async for state in states:
                for turn in state["turns"][told : len(state["turns"]) - self._unsettled(state)]:
                    told += 1
                    yield _Event(turn=turn)
                    if self._tidy is not None and told % _TIDY_EVERY == 0:
                        await keep_latest(self._tidy, self._thread)
                if await self._budget_used(state):
                    break
        asked = [one.value for one in (await self._graph.aget_state(self._config)).interrupts]
        if asked and not lasting:
            raise GraphError("the graph asks a person and has to wait: give solve a checkpointer=..., such as the path of a file")
        yield _Event(solution=self._solution(state, asked))

    async def _states(self, given: Any) -> AsyncGenerator[EpisodeState]:
        # "sync": a turn is on the disk before the next one begins
        stream: Any = self._graph.astream(
            given, self._config, context=self._context, stream_mode="values", durability="sync"
        )
        async with aclosing(stream):
            try:
                async for state in stream:
                    if state.get("turns") and "__interrupt__" not in state:
                        yield state
            except TypeError as error:
                if "serializable" not in str(error):
                    raise
                raise GraphError(
                    f"a node of the graph wrote something that the checkpointer cannot store ({error}); keep plain data in the state "
                    "(numbers, texts, lists, dicts), not tensors or models"
                ) from error

    async def _budget_used(self, state: EpisodeState) -> bool:
        if not state.get("turns") or self._unsettled(state):
            return False
        return await self._budget.reason(state) is not None

    def _unsettled(self, state: EpisodeState) -> bool:
        """Whether the last turn is an answer that will be judged and has not been."""
        turns = state.get("turns", [])
        return self._judges and bool(turns) and turns[-1]["role"] != "critique" and turns[-1]["verdict"] is None

    def _solution(self, state: EpisodeState, asked: list[Any]) -> Solution:
        turns = state.get("turns", [])
        reason = "waiting" if asked else state.get("stop_reason", "budget")
        answer = answer_of(state) if turns else ""
        return Solution(answer, turns, reason, asked[0] if asked else None, self._thread)

    def _refuse_other_problem(self, start: EpisodeState, saved: EpisodeState) -> None:
        for name in ("problem", "seed"):
            if saved and saved.get(name) != start.get(name):
                raise GraphError(
                    f"thread {self._thread!r} holds an episode with another {name} ({_short(saved.get(name))}); one thread is one "
                    "episode: give another thread_id=..."
                )


def _as_problem(problem: Problem | str) -> Problem:
    if isinstance(problem, Problem):
        return problem
    if not problem.strip():
        raise ConfigurationError("the problem is blank")
    name = hashlib.blake2b(problem.encode(), digest_size=8).hexdigest()
    return Problem(id=f"solve-{name}", prompt=problem, reference=None, checker="none")


def _graph_of(solver: Policy | Graph) -> Graph:
    return solver if isinstance(solver, CompiledStateGraph) else policy_loop(solver)


_played: set[tuple[str, str]] = set()
"""The threads that are played in this process right now, by store and name."""


@contextmanager
def _alone(checkpointer: Checkpointer, thread: str) -> Iterator[None]:
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


def _short(value: Any) -> str:
    shown = value["prompt"] if isinstance(value, dict) and "prompt" in value else value
    text = repr(shown)
    return text if len(text) <= 80 else f"{text[:77]}..."
