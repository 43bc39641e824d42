"""The correction loop as a LangGraph graph, readable top to bottom.

    attempt -> (judge) -> (critique) -> revise -> (judge) -> (critique) -> revise ... -> END

`judge` is there if a checker is given, `critique` if the policy judges itself. Draw it:
`print(build_graph(policy).get_graph().draw_mermaid())`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from selfcorrect.agents.critiques import CritiqueMode, critique_mode
from selfcorrect.agents.nodes import Attempt, EpisodeContext, Judge, Node
from selfcorrect.agents.policy import Policy, derive_seed
from selfcorrect.agents.prompts import SCORE_MATH, Prompts
from selfcorrect.agents.state import EpisodeState, Turn
from selfcorrect.agents.stopping import CheckerVerdict, FixedRevisions, OwnVerdict, Stop, UpTo, until
from selfcorrect.errors import GraphError
from selfcorrect.rewards.checker import Checker

CorrectionGraph = CompiledStateGraph[EpisodeState, EpisodeContext, EpisodeState, EpisodeState]


def build_graph(
    policy: Policy,
    *,
    checker: Checker | None = None,
    prompts: Prompts = SCORE_MATH,
    revisions: int = 1,
    fewest_revisions: int | None = None,
    critique: str | CritiqueMode = "instruction",
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
        fewest_revisions: every episode draws how many it may have from this to `revisions`, by its seed: for training
            over many turns. None is `revisions`.
        critique: how a revision is asked for: a name in `CRITIQUES` ("instruction", "self", "feedback"), a user's own
            `package.module:Name`, or a `CritiqueMode`.
        stop: when to end before all revisions are used. None is the natural rule of the critique mode:
            `FixedRevisions`, `OwnVerdict` and `CheckerVerdict`, in that order.
        checkpointer: LangGraph's, for applications that stop and go on; training and evaluation want none.

    The nodes are asynchronous: run the graph by `play`, `play_sync` or `await graph.ainvoke(...)`.

    Raises:
        GraphError: the arguments contradict each other.
        ConfigurationError: there is no such critique mode.
    """
    mode = critique_mode(critique)
    _refuse_contradictions(checker, revisions, fewest_revisions, mode, stop)
    stop = mode.stop(prompts) if stop is None else OwnVerdict(prompts) if stop == OwnVerdict() else stop
    rule = UpTo(revisions, stop, fewest_revisions)
    *between, (answers, revise) = mode.steps(policy, prompts)
    next_up = between[0][0] if between else answers
    never_early = isinstance(stop, FixedRevisions) and fewest_revisions is None

    graph = StateGraph(EpisodeState, context_schema=EpisodeContext)
    graph.add_edge(START, "attempt")
    attempt = Attempt(policy, prompts)
    if checker is None:
        _add(graph, "attempt", until(attempt, rule), next_up if never_early and revisions > 0 else _end_or(next_up))
        _add(graph, answers, until(revise, rule), END if revisions == 1 else _end_or(next_up))
    else:
        _add(graph, "attempt", attempt, "judge")
        _add(graph, answers, revise, "judge")
        _add(graph, "judge", until(Judge(checker), rule), _end_or(next_up))
    for (name, node), (then, _) in pairwise([*between, (answers, revise)]):
        _add(graph, name, until(node, rule), then if never_early else _end_or(then))
    most = (max(len(between), 1) + 2) * (revisions + 1) + 1  # each answer, its judgement, what is between; the entry
    return graph.compile(checkpointer, name=mode.setting).with_config(recursion_limit=most)


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


def _refuse_contradictions(
    checker: Checker | None, revisions: int, fewest: int | None, mode: CritiqueMode, stop: Stop | None
) -> None:
    if revisions < 0:
        raise GraphError(f"revisions must be 0 or more, got {revisions}")
    if fewest is not None and not 0 <= fewest < revisions:
        raise GraphError(f"fewest_revisions must be from 0 to below revisions, which is {revisions}; got {fewest}")
    if mode.needs_checker and checker is None:
        raise GraphError(f"{mode.setting} passes on what a checker found: give build_graph a checker=...")
    if isinstance(stop, OwnVerdict) and not mode.judges_itself:
        raise GraphError("OwnVerdict reads the policy's own critique: it needs critique='self'")
    if isinstance(stop, CheckerVerdict) and not mode.needs_checker:
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
