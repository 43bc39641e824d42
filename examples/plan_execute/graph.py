"""Ways between towns. One road is closed, and nobody knows before it is tried: then the rest of the way is planned
anew, from where one stands, around that road. Which vehicle a leg takes (train or ship) is the executor's to know."""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypedDict

from gallery import Example, Trace, ask
from langgraph.graph import START, StateGraph

from selfcorrect import Policy, Problem
from selfcorrect.agents import PolicyCall

ROADS = {  # a ring of eight towns with four roads across
    frozenset(road.split()): vehicle
    for road, vehicle in {
        "oslo rome": "train", "rome lima": "ship", "lima kyoto": "ship", "kyoto cairo": "train", "cairo turin": "ship",
        "turin delhi": "train", "delhi perth": "ship", "perth oslo": "train", "oslo cairo": "ship",
        "rome turin": "train", "lima delhi": "train", "kyoto perth": "ship",
    }.items()
}  # fmt: skip
TOWNS = sorted({town for road in ROADS for town in road})
Road = frozenset[str]


class TripState(TypedDict, total=False):
    at: str
    goal: str
    closed: list[str]
    known: str
    plan: list[str]
    vehicle: str
    blocked: bool
    plans: int


def build(policy: Policy) -> Any:
    """The compiled graph: plan -> execute -> (execute ... | replan -> execute ...); one new plan at most."""
    asked = ask(policy)

    async def plan(state: TripState) -> TripState:
        return {"plan": (await asked(f"{state['at']} to {state['goal']} plan :")).split(), "plans": 1}

    async def execute(state: TripState) -> TripState:
        at, to, *later = [state["at"], *state["plan"], "nowhere"]
        vehicle = (await asked(f"{at} {to} by :")).strip()
        road = frozenset((at, to))
        if ROADS.get(road) == vehicle and road != frozenset(state["closed"]):
            return {"at": to, "plan": later[:-1], "blocked": False}
        return {"known": f"{at} {to}", "blocked": True}

    async def replan(state: TripState) -> TripState:
        written = await asked(f"{state['at']} to {state['goal']} closed {state['known']} plan :")
        return {"plan": written.split(), "plans": state["plans"] + 1, "blocked": False}

    def after_leg(state: TripState) -> str:
        if state["at"] == state["goal"] or (state["blocked"] and state["plans"] > 1):
            return "__end__"
        return "replan" if state["blocked"] else "execute"

    graph = StateGraph(TripState).add_node("plan", plan).add_node("execute", execute).add_node("replan", replan)
    graph.add_edge(START, "plan").add_edge("plan", "execute").add_edge("replan", "execute")
    graph.add_conditional_edges("execute", after_leg, ["execute", "replan", "__end__"])
    return graph.compile(name="plan and execute")


@cache
def ways(at: str, goal: str, closed: Road = frozenset(), most: int = 4) -> tuple[tuple[str, ...], ...]:
    """All ways of at most `most` legs that visit no town twice and avoid a road, shortest first."""
    found, open_ways = [], [(at,)]
    while open_ways:
        way = open_ways.pop(0)
        if way[-1] == goal:
            found.append(way[1:])
        elif len(way) <= most:
            steps = [town for town in TOWNS if town not in way and frozenset((way[-1], town)) in ROADS]
            open_ways += [(*way, town) for town in steps if frozenset((way[-1], town)) != closed]
    return tuple(found)


def paid(state: TripState, calls: Sequence[PolicyCall], problem: Problem) -> list[float | None]:
    """Plans for being ways to the goal, new ones for avoiding the closed road too, legs for their vehicle; a leg that
    is no road at all is the plan's fault."""
    rewards: list[float | None] = []
    for call in calls:
        asked = call.generation["messages"][0]["content"].split()
        if call.node == "execute":
            right = ROADS.get(frozenset(asked[:2]))
            rewards.append(None if right is None else float(call.text.strip() == right))
        else:
            closed = frozenset(asked[4:6]) if call.node == "replan" else frozenset()
            rewards.append(float(tuple(call.text.split()) in ways(asked[0], asked[2], closed)))
    return rewards


def outcome(state: TripState, problem: Problem) -> float:
    """Whether one arrived."""
    return float(state["at"] == state["goal"])


def traces(seed: int, *, wrong: float = 0.3) -> Iterator[Trace]:
    """Plans, vehicles and new plans; in a share of them a word is `wrong`."""
    dice = random.Random(seed)
    while True:
        at, goal = dice.sample(TOWNS, 2)
        road = sorted(dice.choice(list(ROADS)))
        dice.shuffle(road)
        spoilt = dice.random() < wrong
        yield f"{road[0]} {road[1]} by :", dice.choice(["train", "ship"]) if spoilt else ROADS[frozenset(road)]
        yield f"{at} to {goal} plan :", _spoilt(dice, ways(at, goal)[0], wrong)
        near = dice.choice([town for town in TOWNS if frozenset((at, town)) in ROADS])
        around = ways(at, goal, frozenset((at, near)))
        yield f"{at} to {goal} closed {at} {near} plan :", _spoilt(dice, around[0], wrong)


def _spoilt(dice: random.Random, way: Sequence[str], wrong: float) -> str:
    towns = list(way)
    if dice.random() < wrong:
        towns[dice.randrange(len(towns))] = dice.choice(TOWNS)
    return " ".join(towns)


def problems() -> list[Problem]:
    """Every trip of two legs or more with a road closed on its shortest way, shuffled."""
    made = []
    for at in TOWNS:
        for goal in TOWNS:
            way = (at, *ways(at, goal)[0]) if at != goal else ()
            for leg in range(len(way) - 1) if len(way) > 2 else ():
                closed = sorted(way[leg : leg + 2])
                name = f"{at} {goal} without {' '.join(closed)}"
                reference = {"at": at, "goal": goal, "closed": closed}
                made.append(Problem(id=name, prompt=name, reference=reference, checker="none"))
    random.Random(0).shuffle(made)
    return made


EXAMPLE = Example(
    name="plan_execute",
    words=[*TOWNS, "nowhere train ship to by closed plan :"],
    traces=traces,
    build=build,
    known=problems()[20:],
    held_out=problems()[:20],
    inputs=lambda problem: dict(problem.reference),
    paid=paid,
    outcome=outcome,
    max_new_tokens=6,
    warm_up_steps=400,
    batches=40,
)
