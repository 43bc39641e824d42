"""A small graph of a user's own for the tests: write a word, check it, perhaps write it again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.agents.state import Message
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.config import TurnPPOConfig


class Draft(TypedDict, total=False):
    """The user's own state: no key of ours."""

    question: str
    draft: str
    remark: str


@dataclass
class Words:
    """The user's nodes. Like in an application, they ask for greedy answers."""

    policy: Any
    critic: Any

    async def write(self, state: Draft) -> Draft:
        return {"draft": await self._ask(self.policy, state["question"])}

    async def check(self, state: Draft) -> Draft:
        return {"remark": await self._ask(self.critic, f"{state['question']} :")}

    async def rewrite(self, state: Draft) -> Draft:
        return {"draft": await self._ask(self.policy, f"{state['question']} = =")}

    async def _ask(self, policy: Any, text: str) -> str:
        return str((await policy.generate([Message(role="user", content=text)], GREEDY))["text"])


def graph_of(policy: Any, critic: Any = None) -> Any:
    words = Words(policy, critic or policy)
    graph = StateGraph(Draft)
    graph.add_node("write", words.write).add_node("check", words.check).add_node("rewrite", words.rewrite)
    graph.add_edge(START, "write").add_edge("write", "check").add_edge("check", "rewrite").add_edge("rewrite", END)
    return graph.compile()


def policy_from(folder: Path) -> TransformersPolicy:
    return TransformersPolicy.from_pretrained(str(folder), max_new_tokens=3)


def problems(count: int) -> list[Problem]:
    return [Problem(id=f"p{n}", prompt=f"{n} {n + 1}", reference=None, checker="none") for n in range(1, count + 1)]


def question(problem: Problem) -> dict[str, Any]:
    return {"question": problem.prompt}


def likes_plus(state: Draft, turns: list[PolicyCall]) -> list[float | None]:
    """Pays every call for beginning with an even number or a plus: something a random policy sometimes does."""
    return [float(even_or_plus(turn.text)) for turn in turns]


def even_or_plus(text: str) -> bool:
    word = (text.split() or [""])[0]
    return word == "+" or (word.isdigit() and int(word) % 2 == 0)


def config(out: Path, **changes: Any) -> TurnPPOConfig:
    settings = {
        "output_dir": out,
        "steps": 2,
        "problems_per_step": 2,
        "episodes_per_problem": 4,
        "learning_rate": 1e-2,
    }
    return TurnPPOConfig(**(settings | changes))


SAMPLED = Sampling(temperature=1.0)
