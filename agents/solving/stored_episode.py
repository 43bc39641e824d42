"""One episode in a store: taken up where it ended, played as far as its budget allows, told turn by turn; and
a person as its judge."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command, interrupt

from selfcorrect.agents.episodes import Graph
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.plugins.replies import answer_of
from selfcorrect.agents.solving.checkpoints import keep_latest, naming_the_unstorable
from selfcorrect.agents.state import EpisodeState, Turn
from selfcorrect.agents.stopping import Budget
from selfcorrect.errors import CheckerError, GraphError
from selfcorrect.rewards.checker import Status, Verdict

# A person: the graph stops, waits however long it takes, and goes on with what the person said.


class Question(TypedDict):
    """What the person is asked; the value of LangGraph's interrupt."""

    ask: str
    answer: str
    reference: Any


def is_question(asked: Any) -> bool:
    """Whether the value of an interrupt is one of ours."""
    return isinstance(asked, dict) and set(asked) == set(Question.__annotations__)


@dataclass(frozen=True)
class AskHuman:
    """A checker that asks a person, by LangGraph's `interrupt`. The graph needs a checkpointer.

    The reply that resumes the graph is "correct", or says what is wrong in any words, or is a dict with `status` and
    `reason`.

    Args:
        ask: the words of the question.
    """

    ask: str = "Is this answer right? Say 'correct', or what is wrong with it."

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """The person's verdict on `response`."""
        return verdict_from(interrupt(Question(ask=self.ask, answer=response, reference=reference)))

    def check_sync(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """The same, within a synchronous node."""
        return verdict_from(interrupt(Question(ask=self.ask, answer=response, reference=reference)))

    def validate_reference(self, reference: Any) -> str | None:
        """None: a person can judge against anything."""
        return None


def verdict_from(reply: Any) -> Verdict:
    """What a person said, as a verdict.

    Raises:
        CheckerError: the reply is neither text nor a dict with a known status.
    """
    if isinstance(reply, dict) and reply.get("status") in set(Status):
        return Verdict(Status(reply["status"]), reply.get("answer"), str(reply.get("reason", "")))
    if not isinstance(reply, str) or not reply.strip():
        known = ", ".join(Status)
        raise CheckerError(f"a person's verdict is a text or a dict with status ({known}) and reason, got {reply!r}")
    said = reply.strip()
    if said.lower().rstrip(".!") in ("correct", "right", "yes"):
        return Verdict(Status.CORRECT, reason=said)
    return Verdict(Status.WRONG, reason=said)


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
class EpisodeEvent:
    """A turn that was written, or (turn None) the end of the call."""

    turn: Turn | None = None
    solution: Solution | None = None


class StoredEpisode:
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

    async def run(self, start: EpisodeState, reply: Any, *, lasting: bool) -> AsyncGenerator[EpisodeEvent]:
        saved = await self._graph.aget_state(self._config)
        state = cast(EpisodeState, saved.values if "problem" in saved.values else {})  # else killed before it had begun
        asked = [one.value for one in saved.interrupts]
        self._refuse_other_problem(start, state)
        if reply is not None and not asked:
            raise GraphError(
                f"thread {self._thread!r} waits for no reply; give reply=... only after a Solution with a question"
            )
        if reply is not None and is_question(asked[0]):
            verdict_from(reply)  # an unreadable reply would be stored with the resumed state, for ever
        told = len(state.get("turns", [])) - self._unsettled(state)
        finished = (
            bool(state) and not saved.tasks
        )  # not `next`, which leaves out a task whose result is stored but not applied
        if finished or (asked and reply is None) or (not asked and await self._budget_used(state)):
            yield EpisodeEvent(solution=self._solution(state, asked))
            return
        given: Any = Command(resume=reply) if asked else (None if state else start)
        async with aclosing(self._states(given)) as states:
            async for state in states:
                for turn in state["turns"][told : len(state["turns"]) - self._unsettled(state)]:
                    told += 1
                    yield EpisodeEvent(turn=turn)
                    if self._tidy is not None and told % _TIDY_EVERY == 0:
                        await keep_latest(self._tidy, self._thread)
                if await self._budget_used(state):
                    break
        asked = [one.value for one in (await self._graph.aget_state(self._config)).interrupts]
        if asked and not lasting:
            raise GraphError(
                "the graph asks a person and has to wait: give solve a checkpointer=..., such as the path of a file"
            )
        yield EpisodeEvent(solution=self._solution(state, asked))

    async def _states(self, given: Any) -> AsyncGenerator[EpisodeState]:
        # "sync": a turn is on the disk before the next one begins
        stream: Any = self._graph.astream(
            given, self._config, context=self._context, stream_mode="values", durability="sync"
        )
        async with aclosing(stream):
            with naming_the_unstorable():
                async for state in stream:
                    if state.get("turns") and "__interrupt__" not in state:
                        yield state

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
                    f"thread {self._thread!r} holds an episode with another {name} ({_short(saved.get(name))}); one "
                    "thread is one episode: give another thread_id=..."
                )


def _short(value: Any) -> str:
    shown = value["prompt"] if isinstance(value, dict) and "prompt" in value else value
    text = repr(shown)
    return text if len(text) <= 80 else f"{text[:77]}..."
