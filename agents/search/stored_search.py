"""A search in a store: taken up where it was killed, and gone on with when its budget was raised.

After every round the state is stored before the next one begins: the answers with their tokens, their scores and
verdicts. The round that was being written when the process died is written again, from the same seeds.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from selfcorrect.agents.search.chains import SearchGraph
from selfcorrect.agents.search.state import SearchContext, SearchState
from selfcorrect.agents.search.strategies import (
    BestOfN,
    Majority,
    Mixed,
    SelfJudged,
    SequentialRevisions,
    Strategy,
    WeightedBestOfN,
)
from selfcorrect.agents.solving.checkpoints import Checkpointer, alone, held, keep_latest, naming_the_unstorable, opened
from selfcorrect.errors import GraphError

Event = tuple[str, Any]
"""("custom", candidate) of a graph and the graphs inside it, or ("values", state) of the graph itself."""

_TIDY_EVERY = 8
"""After this many rounds the older checkpoints are forgotten."""

_GO_ON = (Majority, BestOfN, WeightedBestOfN, SequentialRevisions, Mixed, SelfJudged)
"""What can go on from any state that its budget ended: what comes next depends on the answers alone. A beam has thrown
away what it would need, and a plan may have another strategy for another budget."""


async def events(
    graph: SearchGraph, opening: SearchState, context: SearchContext, config: RunnableConfig | None = None
) -> AsyncGenerator[Event]:
    """What happens in a graph that is played from `opening`; in a stored one, before the next thing happens."""
    kept: Any = {} if config is None else {"config": config, "durability": "sync"}
    stream: Any = graph.astream(opening, context=context, stream_mode=["custom", "values"], subgraphs=True, **kept)
    async with aclosing(stream):
        async for path, kind, value in stream:
            if kind == "custom" or not path:
                yield kind, value


@dataclass(frozen=True)
class StoredSearch:
    """A search and the thread of a store in which it is kept.

    Args:
        strategy: what is played.
        checkpointer: see `selfcorrect.agents.solve`.
        thread: the search's name in the store.
    """

    strategy: Strategy
    checkpointer: Checkpointer
    thread: str

    async def events(self, graph: SearchGraph, opening: SearchState, context: SearchContext) -> AsyncGenerator[Event]:
        """The events from where the thread ended; of a finished search only its state.

        Raises:
            GraphError: the thread holds another search or is being played, its budget is larger, or its strategy
                cannot go on with a larger one.
            ConfigurationError: the checkpointer cannot be used.
        """
        asked = asdict(context.sampling) | {"stop": list(context.sampling.stop), "strategy": self.strategy.name}
        async with opened(self.checkpointer) as saver:
            stored = graph.copy(update={"checkpointer": saver})
            with alone(self.checkpointer, self.thread), naming_the_unstorable():
                async with (
                    held(self.checkpointer, saver, self.thread),
                    aclosing(self._played(stored, {**opening, "asked": asked}, context, saver)) as played,
                ):
                    async for event in played:
                        yield event

    async def _played(
        self, graph: SearchGraph, opening: SearchState, context: SearchContext, saver: BaseCheckpointSaver[Any]
    ) -> AsyncGenerator[Event]:
        config: RunnableConfig = {"configurable": {"thread_id": self.thread}}
        saved = await graph.aget_state(config)
        state = cast(SearchState, saved.values if "problem" in saved.values else {})  # else killed before it had begun
        self._refuse_another(opening, state)
        finished = bool(state) and not saved.tasks
        given: Any = self._more(opening, state) if finished else (None if state else opening)
        if finished and given is None:
            yield "values", state
            return
        rounds = 0
        while True:
            async with aclosing(events(graph, given, context, config)) as stream:
                async for kind, value in stream:
                    if kind == "values":
                        state, rounds = value, rounds + 1
                        if rounds % _TIDY_EVERY == 0 and not isinstance(self.checkpointer, BaseCheckpointSaver):
                            await keep_latest(saver, self.thread)
                    yield kind, value
            given = self._more(opening, state)  # a search that was killed ends with the budget that it had before
            if given is None:
                return

    def _more(self, opening: SearchState, state: SearchState) -> dict[str, Any] | None:
        """What lets a finished search go on, if its budget ended it and there is more now; else None."""
        before, now = state.get("budget"), opening.get("budget")
        if state.get("stop_reason") != "budget" or before == now:
            return None
        if not isinstance(self.strategy, _GO_ON):
            raise GraphError(
                f"thread {self.thread!r}: {self.strategy.name} cannot go on with more than the {before} tokens that it "
                "was played with; give another thread_id"
            )
        return {"budget": now, "stop_reason": None, "chosen": None, "notes": []}

    def _refuse_another(self, opening: SearchState, state: SearchState) -> None:
        if not state:
            return
        asked, before = opening["asked"], state.get("asked", {})
        other = [name for name in ("problem", "seed") if state.get(name) != opening.get(name)]
        other += [name for name, value in asked.items() if before.get(name) != value]
        if other:
            raise GraphError(
                f"thread {self.thread!r} holds a search with another {other[0]}; one thread is one search: give "
                "another thread_id=..."
            )
        had, now = state.get("budget"), opening.get("budget")
        if now is not None and (had is None or now < had):
            begun = "without a budget" if had is None else f"with a budget of {had} tokens"
            raise GraphError(
                f"thread {self.thread!r} was begun {begun}; give the same or more, or another thread_id=..."
            )
