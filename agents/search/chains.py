"""The graph of every search that writes whole answers: votes, best of N, revisions, and both.

    attempt -> (score) -> attempt ... -> revise -> (score) -> revise ... -> choose -> END

`score` is there if the choice or the end depends on a verifier, `revise` if the rules have revisions.
"""

from collections.abc import Awaitable, Callable

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from selfcorrect.agents.search.answer_nodes import Choose, Draw, Score
from selfcorrect.agents.search.candidates import SearchContext, SearchState
from selfcorrect.agents.search.players import Players
from selfcorrect.agents.search.rules import ChainRules, affordable

SearchGraph = CompiledStateGraph[SearchState, SearchContext, SearchState, SearchState]


def chain_graph(players: Players, rules: ChainRules, *, name: str, window: int | None = 1) -> SearchGraph:
    """A compiled graph over `SearchState` that plays by `rules`.

    A search that begins with candidates (those by which difficulty was estimated) goes on after them.

    Raises:
        ConfigurationError: the rules need a verifier and there is none.
    """
    verifier = players.need_verifier(name) if rules.needs_verifier else None
    graph = StateGraph(SearchState, context_schema=SearchContext)
    drawing = ["attempt", "revise"] if rules.revisions else ["attempt"]
    go_on, ends = _route(rules), [*drawing, "choose"]
    graph.add_conditional_edges(START, go_on, ends)
    for node in drawing:
        graph.add_node(node, Draw(players, rules, window, tells=verifier is None))
        if verifier is None:
            graph.add_conditional_edges(node, go_on, ends)
        else:
            graph.add_edge(node, "score")
    if verifier is not None:
        graph.add_node("score", Score(players, verifier))
        graph.add_conditional_edges("score", go_on, ends)
    graph.add_node("choose", Choose(rules.pick, rules))
    graph.add_edge("choose", END)
    return graph.compile(name=name).with_config(recursion_limit=3 * rules.planned + 10)


def _route(rules: ChainRules) -> Callable[[SearchState], Awaitable[str]]:
    # asynchronous: LangGraph runs a plain function in a thread, and searches would miss each other's batch
    async def go_on(state: SearchState) -> str:
        drawn = state.get("candidates", [])
        if "stop_reason" in state:
            return "choose"
        count, _ = affordable(state, rules.wanted(drawn), None)
        if rules.wanted(drawn) == 0 or count == 0:
            return "choose"
        return "attempt" if len(drawn) < rules.parallel else "revise"

    return go_on
