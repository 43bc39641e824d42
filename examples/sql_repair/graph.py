"""The graph: write -> run -> check -> (rewrite -> run -> check ...) -> END. It is plain LangGraph; training is not
mentioned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from gallery import ask
from langgraph.graph import END, START, StateGraph

from selfcorrect import Policy, Problem
from selfcorrect.agents import PolicyCall
from sql_repair.checker import SqlChecker
from sql_repair.sandbox import Outcome

_SHOWN_VALUES = 4


class QueryState(TypedDict, total=False):
    question: str
    schema: str
    database: int
    sql: str
    outcome: str
    remark: str
    rewrites: int


@dataclass(frozen=True)
class Nodes:
    """The nodes, around one policy and a way to run queries."""

    policy: Policy
    checker: SqlChecker

    async def write(self, state: QueryState) -> QueryState:
        return {"sql": await self._ask(f"{state['question']} :"), "rewrites": 0}

    async def run(self, state: QueryState) -> QueryState:
        return {"outcome": in_words(self.checker.outcome(state["sql"], state["schema"], state["database"]))}

    async def check(self, state: QueryState) -> QueryState:
        return {"remark": await self._ask(f"{_seen(state)} check")}

    async def rewrite(self, state: QueryState) -> QueryState:
        return {"sql": await self._ask(f"{_seen(state)} again :"), "rewrites": state["rewrites"] + 1}

    async def _ask(self, text: str) -> str:
        return str(await ask(self.policy)(text))


def in_words(outcome: Outcome) -> str:
    """What the policy is shown of a result."""
    if outcome.error:
        return "error"
    values = [str(value) for row in outcome.rows for value in row if value is not None]
    if not values:
        return "nothing"
    return " ".join([*values[:_SHOWN_VALUES], *(["more"] if len(values) > _SHOWN_VALUES else [])])


def _seen(state: QueryState) -> str:
    return f"{state['question']} : {state['sql']} ; {state['outcome']}"


def build(policy: Policy, *, rewrites: int = 1) -> Any:
    """The compiled graph; a query is written again at most `rewrites` times, and only if the policy calls it wrong."""
    nodes = Nodes(policy, SqlChecker())
    graph = StateGraph(QueryState)
    graph.add_node("write", nodes.write)
    graph.add_node("run", nodes.run)
    graph.add_node("check", nodes.check)
    graph.add_node("rewrite", nodes.rewrite)
    graph.add_edge(START, "write")
    graph.add_edge("write", "run")
    graph.add_edge("run", "check")
    graph.add_edge("rewrite", "run")

    def done(state: QueryState) -> str:
        return "rewrite" if "wrong" in state["remark"].split() and state["rewrites"] < rewrites else END

    graph.add_conditional_edges("check", done, ["rewrite", END])
    return graph.compile(name="sql repair")


def question(problem: Problem) -> dict[str, Any]:
    """The graph's input for a problem."""
    asked = problem.reference
    return {"question": problem.prompt, "schema": asked["schema"], "database": asked["database"]}


@dataclass(frozen=True)
class Paid:
    """The reward function: queries for being right, remarks for being true."""

    checker: SqlChecker

    def __call__(self, state: QueryState, turns: Sequence[PolicyCall], problem: Problem) -> list[float | None]:
        rewards: list[float | None] = []
        right = False
        for turn in turns:
            if turn.node == "check":
                words = turn.text.split()
                rewards.append(float(words == ["right" if right else "wrong"]))
            else:
                right = self.checker.check_sync(turn.text, problem.reference).correct
                rewards.append(float(right))
        return rewards


def outcome(state: QueryState, problem: Problem) -> float:
    """What an episode is worth: whether its last query is right."""
    return float(SqlChecker().check_sync(state["sql"], problem.reference).correct)
