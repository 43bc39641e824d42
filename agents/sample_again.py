"""A second draw, as a graph: the baseline that tells correction from luck."""

from dataclasses import dataclass
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.agents.nodes import Attempt, EpisodeContext
from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import SCORE_MATH, Prompts
from selfcorrect.agents.seeding import derive_seed
from selfcorrect.agents.state import EpisodeState, Turn

SAMPLE_AGAIN = "sampling again"
"""The graph's name: reports carry it."""


@dataclass(frozen=True)
class AttemptAnew:
    """Node: show the problem as if for the first time, and take the answer for a revision. The earlier answers are not shown."""

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

    What a revision gains over this is correction; what it does not is a second draw. Greedily both attempts are the same.
    """
    graph = StateGraph(EpisodeState, context_schema=EpisodeContext)
    graph.add_node("attempt", Attempt(policy, prompts))
    graph.add_node("attempt anew", AttemptAnew(policy, prompts))
    graph.add_edge(START, "attempt")
    graph.add_edge("attempt", "attempt anew")
    graph.add_edge("attempt anew", END)
    return graph.compile(name=SAMPLE_AGAIN)
