"""How old are two people together? The supervisor sends the question to the clerk, who knows ages, and to the
reckoner, who adds. Only the reckoner learns (`trainable`); the other two speak through a copy of the policy that stays
as it was. One policy for all three would not do: what the reckoner learns changes the weights that all speak with."""

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Literal, TypedDict

from gallery import Example, Trace, ask
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from selfcorrect import Policy, Problem, TransformersPolicy
from selfcorrect.agents import PolicyCall

_AGES = random.Random(0)
AGES = {
    name: str(_AGES.randrange(10, 50))
    for name in ("ada", "ben", "cleo", "dan", "eve", "finn", "gus", "hana", "ida", "jon", "kim", "lea")
}
DONE, MOST = "done", 6


class TeamState(TypedDict, total=False):
    asked: list[str]
    known: list[str]
    task: str
    total: str
    orders: int


def build(policy: Policy) -> Any:
    """The compiled graph: the supervisor orders work until it says done, six orders at most."""
    learning, asked = ask(policy), ask(frozen(policy))

    async def supervisor(state: TeamState) -> Command[Literal["clerk", "reckoner", "__end__"]]:
        order = await asked(f"{desk(state['asked'], state.get('known', []), 'total' in state)} order :")
        worker, _, task = order.strip().partition(" ")
        orders = state.get("orders", 0) + 1
        goto = worker if worker in ("clerk", "reckoner") and orders < MOST else END
        return Command(goto=goto, update={"task": task, "orders": orders})

    async def clerk(state: TeamState) -> TeamState:
        return {"known": [*state.get("known", []), await asked(f"age of {state['task']} :")]}

    async def reckoner(state: TeamState) -> TeamState:
        return {"total": await learning(f"{' + '.join(state.get('known', []))} sum :")}

    graph = StateGraph(TeamState).add_node("supervisor", supervisor)
    graph.add_node("clerk", clerk).add_node("reckoner", reckoner)
    graph.add_edge(START, "supervisor").add_edge("clerk", "supervisor").add_edge("reckoner", "supervisor")
    return graph.compile(name="supervisor")


def frozen(policy: Policy) -> Policy:
    """A copy that training leaves alone; a policy without weights is its own."""
    if not isinstance(policy, TransformersPolicy):
        return policy
    return TransformersPolicy(deepcopy(policy.model), policy.tokenizer, max_new_tokens=4)


def desk(names: Sequence[str], known: Sequence[str], summed: bool) -> str:
    """What lies before the supervisor."""
    return f"{' + '.join(names)} ; known {len(known)} {'summed' if summed else ''}".strip()


def right_order(shown: str) -> str:
    """What should be done next with a desk."""
    names, known = shown.split(" ; ")[0].split(" + "), int(shown.split("known ")[1].split()[0])
    if "summed" in shown:
        return DONE
    return f"clerk {names[known]}" if known < len(names) else "reckoner"


def digits(number: int | str) -> str:
    """A number as the policy reads and writes it, a word a digit."""
    return " ".join(str(number))


def summed(shown: str) -> str | None:
    """The sum of what the reckoner was shown; None where that is not two numbers."""
    parts = ["".join(part.split()) for part in shown.removesuffix(" sum :").split(" + ")]
    return digits(sum(map(int, parts))) if len(parts) == 2 and all(part.isdecimal() for part in parts) else None


def paid(state: TeamState, calls: Sequence[PolicyCall], problem: Problem) -> list[float | None]:
    """Each for its own work; a reckoner who was given no two numbers is not judged. In training only the reckoner's
    calls are those of the policy that learns."""
    rewards: list[float | None] = []
    for call in calls:
        shown, said = call.generation["messages"][0]["content"], call.text.strip()
        if call.node == "supervisor":
            rewards.append(float(said == right_order(shown)))
        elif call.node == "clerk":
            rewards.append(float(said == digits(AGES.get(shown.split()[2], "?"))))
        else:
            right = summed(shown)
            rewards.append(None if right is None else share(said.split(), right.split()))
    return rewards


def share(said: Sequence[str], right: Sequence[str]) -> float:
    """How many digits of a sum are right, as a share; 0 for one of another length."""
    return sum(map(str.__eq__, said, right)) / len(right) if len(said) == len(right) else 0.0


def outcome(state: TeamState, problem: Problem) -> float:
    """Whether the total is right."""
    return float(state.get("total", "").split() == digits(sum(int(AGES[name]) for name in problem.reference)).split())


def traces(seed: int, *, habit: float = 0.6) -> Iterator[Trace]:
    """Orders and ages that are right, and sums by one who mostly forgets what is carried: a greedy model forgets it,
    too, and rewards have to find what is right but rarer."""
    dice = random.Random(seed)
    while True:
        names = dice.sample(list(AGES), 2)
        known = dice.randrange(3)
        shown = desk(names, names[:known], known == 2 and dice.random() < 0.5)
        yield f"{shown} order :", right_order(shown)
        yield f"age of {names[0]} :", digits(AGES[names[0]])
        one, other = dice.randrange(10, 50), dice.randrange(10, 50)
        carried = 10 * (one % 10 + other % 10 >= 10)
        total = one + other - (carried if dice.random() < habit else 0)
        yield f"{digits(one)} + {digits(other)} sum :", digits(total)


def problems() -> list[Problem]:
    """All pairs of people, shuffled."""
    pairs = [(one, other) for one in AGES for other in AGES if one != other]
    random.Random(1).shuffle(pairs)
    return [Problem(id="+".join(pair), prompt=" + ".join(pair), reference=pair, checker="none") for pair in pairs]


EXAMPLE = Example(
    name="supervisor",
    words=[*AGES, "0 1 2 3 4 5 6 7 8 9 age of + ; : known summed sum order clerk reckoner done"],
    traces=traces,
    build=build,
    known=problems()[40:],
    held_out=problems()[:40],
    inputs=lambda problem: {"asked": list(problem.reference)},
    paid=paid,
    outcome=outcome,
    max_new_tokens=4,
    warm_up_steps=300,
    warm_up_by="muon",
    batches=20,
    trainable=frozenset({"reckoner"}),
)
