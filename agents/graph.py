"""The correction loop as a LangGraph graph, readable top to bottom.

    attempt -> (judge) -> (critique) -> revise -> (judge) -> (critique) -> revise ... -> END

`judge` is there if a checker is given, `critique` if the policy judges itself. Draw it:
`print(build_graph(policy).get_graph().draw_mermaid())`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from selfcorrect.agents.nodes import Attempt, Critique, EpisodeContext, Judge, Node, Revise, ReviseWithFeedback
from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import SCORE_MATH, Prompts
from selfcorrect.agents.seeding import derive_seed
from selfcorrect.agents.state import EpisodeState, Turn
from selfcorrect.agents.stopping import CheckerVerdict, FixedRevisions, OwnVerdict, Stop, UpTo, until
from selfcorrect.errors import GraphError
from selfcorrect.rewards.checker import Checker

CritiqueMode = Literal["instruction", "self", "feedback"]
_SETTING = {
    "instruction": "intrinsic correction",
    "self": "correction after own critique",
    "feedback": "correction with checker feedback",
}
"""Names of the graphs: reports carry them, so that feedback is never taken for self-correction."""

CorrectionGraph = CompiledStateGraph[EpisodeState, EpisodeContext, EpisodeState, EpisodeState]


def build_graph(
    policy: Policy,
    *,
    checker: Checker | None = None,
    prompts: Prompts = SCORE_MATH,
    revisions: int = 1,
    critique: CritiqueMode = "instruction",
    stop: Stop | None = None,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> CorrectionGraph:
    """A compiled graph that attempts a problem and revises the answer up to `revisions` times.

    Args:
        policy: writes every turn.
        checker: judges every answer as soon as it is written. Without one nothing is judged while playing. Except with
            critique "feedback" and the rule `CheckerVerdict`, its verdicts are recorded and change nothing.
        prompts: the words of the loop.
        revisions: at most this many revisions, 0 or more.
        critique: "instruction": a fixed message asks for another answer (SCoRe, intrinsic self-correction); "self": the
            policy first writes a verdict on its own answer (PAG); "feedback": the checker's finding is part of the
            message, which is another setting than the other two and should be reported as such.
        stop: when to end before all revisions are used. None is the natural rule of the critique mode:
            `FixedRevisions`, `OwnVerdict` and `CheckerVerdict`, in the order above.
        checkpointer: LangGraph's, for applications that stop and go on; training and evaluation want none.

    The nodes are asynchronous: run the graph by `play`, `play_sync` or `await graph.ainvoke(...)`.

    Raises:
        GraphError: the arguments contradict each other.
    """
    _refuse_contradictions(checker, revisions, critique, stop)
    stop = _rule_for(critique, stop, prompts)
    rule = UpTo(revisions, stop)
    next_up = "critique" if critique == "self" else "revise"
    never_early = isinstance(stop, FixedRevisions)

    graph = StateGraph(EpisodeState, context_schema=EpisodeContext)
    graph.add_edge(START, "attempt")
    attempt = Attempt(policy, prompts)
    revise = ReviseWithFeedback(policy, prompts) if critique == "feedback" else Revise(policy, prompts)
    if checker is None:
        _add(graph, "attempt", until(attempt, rule), next_up if never_early and revisions > 0 else _end_or(next_up))
        _add(graph, "revise", until(revise, rule), END if revisions == 1 else _end_or(next_up))
    else:
        _add(graph, "attempt", attempt, "judge")
        _add(graph, "revise", revise, "judge")
        _add(graph, "judge", until(Judge(checker), rule), _end_or(next_up))
    if critique == "self":
        _add(graph, "critique", until(Critique(policy, prompts), rule), "revise" if never_early else _end_or("revise"))
    return graph.compile(checkpointer, name=_SETTING[critique]).with_config(recursion_limit=_most_steps(revisions))


Route = tuple[Callable[[EpisodeState], Awaitable[str]], list[str]]


def _end_or(node: str) -> Route:
    """The way out if the episode has a stop reason, else to `node`."""

    # LangGraph runs a plain function in a thread: episodes would come back one by one, and their next turns miss each
    # other's batch.
    async def end_or_go_on(state: EpisodeState) -> str:
        return END if state.get("stop_reason") else node

    return end_or_go_on, [node, END]


def _add(graph: StateGraph[Any, Any, Any, Any], name: str, node: Node, then: str | Route) -> None:
    graph.add_node(name, node)
    if isinstance(then, str):
        graph.add_edge(name, then)
    else:
        graph.add_conditional_edges(name, *then)


def _most_steps(revisions: int) -> int:
    """LangGraph steps of the longest episode: at most three nodes for each answer, and the entry."""
    return 3 * (revisions + 1) + 1


def _rule_for(critique: CritiqueMode, stop: Stop | None, prompts: Prompts) -> Stop:
    """The stop rule, completed: the critique mode's own one if none is given, and the words an `OwnVerdict` looks
    for."""
    if stop == OwnVerdict() or (stop is None and critique == "self"):
        return OwnVerdict(prompts)
    if stop is None:
        return CheckerVerdict() if critique == "feedback" else FixedRevisions()
    return stop


def _refuse_contradictions(checker: Checker | None, revisions: int, critique: CritiqueMode, stop: Stop | None) -> None:
    if revisions < 0:
        raise GraphError(f"revisions must be 0 or more, got {revisions}")
    if critique not in ("instruction", "self", "feedback"):
        raise GraphError(f"critique must be 'instruction', 'self' or 'feedback', got {critique!r}")
    if critique == "feedback" and checker is None:
        raise GraphError("critique='feedback' passes on what a checker found: give build_graph a checker=...")
    if isinstance(stop, OwnVerdict) and critique != "self":
        raise GraphError("OwnVerdict reads the policy's own critique: it needs critique='self'")
    if isinstance(stop, CheckerVerdict) and critique != "feedback":
        raise GraphError("CheckerVerdict would let the checker steer an intrinsic loop: it needs critique='feedback'")


# A second draw, as a graph: the baseline that tells correction from luck.

SAMPLE_AGAIN = "sampling again"
"""The graph's name: reports carry it."""


@dataclass(frozen=True)
class AttemptAnew:
    """Node: show the problem as if for the first time, and take the answer for a revision. The earlier answers are
    not shown."""

    policy: Policy
    prompts: Prompts

    async def __call__(self, state: EpisodeState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        turns = state["turns"]
        fresh: EpisodeState = {**state, "turns": []}
        if "seed" in state:  # the first attempt drew with this one
            fresh["seed"] = derive_seed(state["seed"], len(turns))
        update = await Attempt(self.policy, self.prompts)(fresh, runtime)
        (drawn,) = update["turns"]
        return {"turns": [Turn(role="revise", generation=drawn["generation"], verdict=None)]}


def build_sample_again(policy: Policy, *, prompts: Prompts = SCORE_MATH) -> CorrectionGraph:
    """A graph that attempts a problem twice, the second time without knowing of the first.

    What a revision gains over this is correction; what it does not is a second draw. Greedily both attempts are the
    same.
    """
    graph = StateGraph(EpisodeState, context_schema=EpisodeContext)
    graph.add_node("attempt", Attempt(policy, prompts))
    graph.add_node("attempt anew", AttemptAnew(policy, prompts))
    graph.add_edge(START, "attempt")
    graph.add_edge("attempt", "attempt anew")
    graph.add_edge("attempt anew", END)
    return graph.compile(name=SAMPLE_AGAIN)
