"""How many of these words are animals? Each word is judged by a call of its own (`Send`), the answers are counted."""

import random
from collections.abc import Iterator, Sequence
from operator import add
from typing import Annotated, Any, TypedDict

from gallery import Example, Trace, ask
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from selfcorrect import Policy, Problem
from selfcorrect.agents import PolicyCall

KINDS = {
    "animals": ("cat", "dog", "horse", "goat", "owl", "fox", "bear", "hen"),
    "food": ("soup", "rice", "bread", "fish", "cake", "bean", "egg", "plum"),
    "cities": ("oslo", "rome", "lima", "kyoto", "cairo", "turin", "delhi", "perth"),
}
ALL = [word for words in KINDS.values() for word in words]


class ListState(TypedDict, total=False):
    kind: str
    words: list[str]
    word: str
    said: Annotated[list[str], add]
    count: str


def build(policy: Policy) -> Any:
    """The compiled graph: judge each word in parallel, then count."""
    asked = ask(policy)

    async def judge(state: ListState) -> ListState:
        return {"said": [await asked(f"{state['word']} of {state['kind']} :")]}

    async def count(state: ListState) -> ListState:
        return {"count": await asked(f"{' '.join(state['said'])} count :")}

    def to_judges(state: ListState) -> list[Send]:
        return [Send("judge", {"word": word, "kind": state["kind"]}) for word in state["words"]]

    graph = StateGraph(ListState).add_node("judge", judge).add_node("count", count)
    graph.add_conditional_edges(START, to_judges, ["judge"])
    return graph.add_edge("judge", "count").add_edge("count", END).compile(name="map-reduce")


def truth(problem: Problem) -> list[str]:
    """What the judges should say, word by word."""
    kind, words = problem.reference["kind"], problem.reference["words"]
    return ["yes" if word in KINDS[kind] else "no" for word in words]


def paid(state: ListState, calls: Sequence[PolicyCall], problem: Problem) -> list[float | None]:
    """Judges for being right about their word, the counter for counting what they said, right or wrong."""
    wanted, said = iter(truth(problem)), [call.text.split() for call in calls if call.node == "judge"]
    return [
        float(call.text.split() == [next(wanted) if call.node == "judge" else str(said.count(["yes"]))])
        for call in calls
    ]


def outcome(state: ListState, problem: Problem) -> float:
    """Whether the count is that of the animals."""
    return float(state["count"].split() == [str(truth(problem).count("yes"))])


def problems(count: int, seed: int) -> list[Problem]:
    """Lists of five words, each with a kind to count."""
    dice, made = random.Random(seed), {}
    while len(made) < count:
        kind, words = dice.choice(list(KINDS)), dice.sample(ALL, 5)
        prompt = f"{kind} : {' '.join(words)}"
        reference = {"kind": kind, "words": words}
        made[prompt] = Problem(id=prompt, prompt=prompt, reference=reference, checker="none")
    return list(made.values())


def traces(seed: int, *, wrong: float = 0.25) -> Iterator[Trace]:
    """What judges and the counter are shown and say; a share of it is `wrong`."""
    dice = random.Random(seed)
    while True:
        kind, word, spoilt = dice.choice(list(KINDS)), dice.choice(ALL), dice.random() < wrong
        said = [dice.choice(["yes", "no"]) for _ in range(5)]
        count = dice.randrange(6) if spoilt else said.count("yes")
        yield f"{' '.join(said)} count :", str(count)
        yield f"{word} of {kind} :", "yes" if (word in KINDS[kind]) != spoilt else "no"


EXAMPLE = Example(
    name="map_reduce",
    words=[*ALL, *KINDS, "0 1 2 3 4 5 yes no of count :"],
    traces=traces,
    build=build,
    known=problems(600, seed=0),
    held_out=problems(800, seed=1)[600:],
    inputs=lambda problem: dict(problem.reference),
    paid=paid,
    outcome=outcome,
    max_new_tokens=2,
    warm_up_steps=300,
    batches=40,
)
