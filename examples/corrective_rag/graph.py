"""The graph: retrieve -> grade -> (rewrite -> retrieve -> grade) -> answer, and what each node is paid."""

from collections.abc import Sequence
from typing import Any, TypedDict

from gallery import ask as asking
from langgraph.graph import END, START, StateGraph

from corrective_rag.data import search
from selfcorrect import Policy, Problem
from selfcorrect.agents import PolicyCall


class RagState(TypedDict, total=False):
    question: str
    search: str
    passage: str
    grade: str
    answer: str
    rewrites: int


def build(policy: Policy, *, rewrites: int = 1) -> Any:
    """The compiled graph; a search is rewritten at most `rewrites` times, and only if its passage is not graded yes."""
    ask = asking(policy)

    async def retrieve(state: RagState) -> RagState:
        return {"passage": search(state.get("search", state["question"]))}

    async def grade(state: RagState) -> RagState:
        return {"grade": await ask(f"{state['question']} ; {state['passage']} useful :")}

    async def rewrite(state: RagState) -> RagState:
        written = await ask(f"{state['question']} search :")
        return {"search": written, "rewrites": state.get("rewrites", 0) + 1}

    async def answer(state: RagState) -> RagState:
        return {"answer": await ask(f"{state['question']} ; {state['passage']} answer :")}

    def after_grade(state: RagState) -> str:
        return "answer" if says(state["grade"], "yes") or state.get("rewrites", 0) >= rewrites else "rewrite"

    graph = StateGraph(RagState)
    for name, node in (("retrieve", retrieve), ("grade", grade), ("rewrite", rewrite), ("answer", answer)):
        graph.add_node(name, node)
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "grade")
    graph.add_conditional_edges("grade", after_grade, ["rewrite", "answer"])
    graph.add_edge("rewrite", "retrieve")
    graph.add_edge("answer", END)
    return graph.compile(name="corrective rag")


def says(text: str, word: str) -> bool:
    """Whether the first word of `text` is `word`."""
    return text.split()[:1] == [word]


def question(problem: Problem) -> dict[str, Any]:
    """The graph's input for a problem."""
    return {"question": problem.prompt}


def paid(state: RagState, turns: Sequence[PolicyCall], problem: Problem) -> list[float | None]:
    """Grades for being true, searches for finding the passage, answers for being right."""
    rewards: list[float | None] = []
    found = search(problem.prompt)
    for turn in turns:
        if turn.node == "grade":
            rewards.append(float(says(turn.text, "yes" if found == problem.reference else "no")))
        elif turn.node == "rewrite":
            found = search(turn.text)
            rewards.append(float(found == problem.reference))
        else:
            rewards.append(float(says(turn.text, str(problem.gold))))
    return rewards


def outcome(state: RagState, problem: Problem) -> float:
    """What an episode is worth: whether its answer is right."""
    return float(says(state["answer"], str(problem.gold)))
