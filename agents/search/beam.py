"""Search over steps: the graph of beam search and of lookahead search (Snell et al., arXiv 2408.03314, section 5.2).

    expand -> (look_ahead) -> score -> prune -> expand ... -> choose -> END

Finished answers leave the beam and take no place in it; equal beginnings are kept once.
"""

from langgraph.graph import END, START, StateGraph

from selfcorrect.agents.policy import ContinuingPolicy
from selfcorrect.agents.search.answer_nodes import Choose, Score
from selfcorrect.agents.search.beam_nodes import BeamRules, Expand, LookAhead, Prune, ScoreSteps
from selfcorrect.agents.search.candidates import SearchContext, SearchState
from selfcorrect.agents.search.chains import SearchGraph
from selfcorrect.agents.search.players import Players
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.verifier import StepVerifier


def beam_graph(players: Players, rules: BeamRules, *, name: str) -> SearchGraph:
    """A compiled graph over `SearchState` that searches by `rules`.

    Raises:
        ConfigurationError: the verifier does not score steps, or the policy cannot go on with an unfinished answer.
    """
    verifier = players.step_verifier or players.need_verifier(name)
    if not isinstance(verifier, StepVerifier):
        raise ConfigurationError(
            f"{name} scores unfinished answers: a {type(verifier).__name__} cannot (it is no StepVerifier); give step_verifier=... "
            "(--step-verifier DIR)"
        )
    policy = players.policy
    if not isinstance(policy, ContinuingPolicy):
        raise ConfigurationError(
            f"{name} goes on with unfinished answers, which a {type(policy).__name__} cannot (it has no `extend`); use a "
            "TransformersPolicy"
        )
    graph = StateGraph(SearchState, context_schema=SearchContext)
    graph.add_node("expand", Expand(players, policy, rules))
    graph.add_node("score", ScoreSteps(verifier))
    last = None if players.verifier in (None, verifier) else players.verifier
    """Who scores the finished answers, if that is somebody else."""
    graph.add_node("prune", Prune(players, rules, scores_answers=last is None))
    graph.add_node("choose", Choose(rules.pick))
    graph.add_edge(START, "expand")
    if rules.lookahead:
        graph.add_node("look_ahead", LookAhead(policy, rules))
        graph.add_edge("expand", "look_ahead")
        graph.add_edge("look_ahead", "score")
    else:
        graph.add_edge("expand", "score")
    graph.add_edge("score", "prune")
    graph.add_conditional_edges(
        "prune", _go_on, {"expand": "expand", "end": "choose" if last is None else "score_answers"}
    )
    if last is not None:
        graph.add_node("score_answers", Score(players, last))
        graph.add_edge("score_answers", "choose")
    graph.add_edge("choose", END)
    return graph.compile(name=name).with_config(recursion_limit=5 * rules.max_steps + 10)


async def _go_on(state: SearchState) -> str:
    return "end" if not state["beams"] or "stop_reason" in state else "expand"
