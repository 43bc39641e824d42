"""A number from 0 to 15 is to be found in four tries. The environment says only low or high; what earlier tries taught
must be written into the memory, since the next try sees nothing else."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from gallery import Example, Trace, ask
from langgraph.graph import START, StateGraph

from selfcorrect import Policy, Problem
from selfcorrect.agents import PolicyCall

TOP, TRIES = 15, 4


class TrialState(TypedDict, total=False):
    hidden: int
    memory: str
    guess: str
    told: str
    tries: int


def build(policy: Policy) -> Any:
    """The compiled graph: act -> (reflect -> act ...) until the number is found or the tries are used up."""
    asked = ask(policy)

    async def act(state: TrialState) -> TrialState:
        guess = await asked(f"{state['memory']} guess :")
        return {"guess": guess, "told": told(guess, state["hidden"]), "tries": state.get("tries", 0) + 1}

    async def reflect(state: TrialState) -> TrialState:
        return {"memory": await asked(f"{state['memory']} guess : {state['guess']} {state['told']} memory :")}

    def after_act(state: TrialState) -> str:
        return "__end__" if state["told"] == "found" or state["tries"] >= TRIES else "reflect"

    graph = StateGraph(TrialState).add_node("act", act).add_node("reflect", reflect)
    graph.add_edge(START, "act").add_conditional_edges("act", after_act, ["reflect", "__end__"])
    return graph.add_edge("reflect", "act").compile(name="reflexion")


def number(text: str) -> int | None:
    """The one number that `text` is."""
    return int(text) if text in map(str, range(TOP + 1)) else None


def told(guess: str, hidden: int) -> str:
    """What the environment says of a guess."""
    value = number(guess.strip())
    if value is None:
        return "error"
    return "found" if value == hidden else "low" if value < hidden else "high"


def span(memory: str) -> tuple[int, int] | None:
    """The numbers that a memory leaves, both ends included; None if it is none."""
    ends = [number(word) for word in memory.split()]
    if len(ends) != 2 or ends[0] is None or ends[1] is None or ends[0] > ends[1]:
        return None
    return ends[0], ends[1]


def narrowed(memory: str, guess: str, heard: str) -> str:
    """What the memory should be after a guess."""
    left, value = span(memory), number(guess.strip())
    if left is None or value is None or heard == "error":
        return memory
    low, high = (max(left[0], value + 1), left[1]) if heard == "low" else (left[0], min(left[1], value - 1))
    return f"{low} {high}" if low <= high else memory


def paid(state: TrialState, calls: Sequence[PolicyCall], problem: Problem) -> list[float | None]:
    """Guesses for the share of the remembered numbers that they rule out, or 1 for the hidden one; memories for being
    what follows from the guess and what was told. Where the memory was lost before, nothing follows from it."""
    memory, rewards, guess = f"0 {TOP}", [], ""
    for call in calls:
        if call.node == "act":
            guess = call.text
            rewards.append(ruled_out(memory, guess, problem.reference))
        else:
            right = narrowed(memory, guess, told(guess, problem.reference)).split()
            rewards.append(None if span(memory) is None else float(call.text.split() == right))
            memory = call.text
    return rewards


def ruled_out(memory: str, guess: str, hidden: int) -> float | None:
    """Which share of what the memory leaves a guess rules out; None where there is no memory to go by."""
    left, heard = span(memory), told(guess, hidden)
    if heard == "found":
        return 1.0
    if left is None:
        return None
    low, high = (int(end) for end in narrowed(memory, guess, heard).split())
    return 1.0 - (high - low + 1) / (left[1] - left[0] + 1)


def outcome(state: TrialState, problem: Problem) -> float:
    """Whether the number was found."""
    return float(state["told"] == "found")


def traces(seed: int, *, wrong: float = 0.3) -> Iterator[Trace]:
    """Guesses anywhere, not only inside what the memory leaves, and memories of which a share is `wrong`."""
    dice = random.Random(seed)
    while True:
        low = dice.randrange(TOP + 1)
        high, value, heard = dice.randint(low, TOP), dice.randint(0, TOP), dice.choice(["low", "high"])
        memory = f"{low} {high}"
        yield f"{memory} guess :", str(value if dice.random() < wrong else dice.randint(low, high))
        value = dice.randint(low, high)
        noted = narrowed(memory, str(value), heard)
        if dice.random() < wrong:
            noted = f"{dice.randint(0, TOP)} {dice.randint(0, TOP)}"
        yield f"{memory} guess : {value} {heard} memory :", noted


HIDDEN = [Problem(id=f"number-{n}", prompt="find the number", reference=n, checker="none") for n in range(TOP + 1)]
EXAMPLE = Example(
    name="reflexion",
    words=[*map(str, range(TOP + 1)), "guess memory low high error :"],
    traces=traces,
    build=build,
    known=HIDDEN,
    held_out=HIDDEN,
    inputs=lambda problem: {"hidden": problem.reference, "memory": f"0 {TOP}"},
    paid=paid,
    outcome=outcome,
    max_new_tokens=3,
    warm_up_steps=600,
    batches=40,
)
