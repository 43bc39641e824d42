"""From one number to another in at most three moves: + 1, + 3, double, or less 2, between 0 and 12.

`expand` asks the policy for two different moves from the leaf that looks best, `rate` asks it whether the goal can
still be reached from where they lead, and the ratings are handed up the tree (Zhou et al., Language Agent Tree Search,
arXiv 2310.04406; UCT of Kocsis and Szepesvári, 2006). The search ends at the goal, or after four expansions."""

import math
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypedDict

from gallery import Example, Trace, ask
from langgraph.graph import START, StateGraph

from selfcorrect import Policy, Problem
from selfcorrect.agents import PolicyCall

TOP, DEPTH, BUDGET, WIDTH = 12, 3, 4, 2
MOVES = {"+1": lambda n: n + 1, "+3": lambda n: n + 3, "double": lambda n: 2 * n, "less2": lambda n: n - 2}


class Place(TypedDict):
    """A node of the tree: a number, the moves left, the place it was reached from, and what its visits rated."""

    at: int
    left: int
    parent: int
    visits: int
    value: float


class TreeState(TypedDict, total=False):
    goal: int
    tree: list[Place]
    fresh: list[int]
    grown: int
    found: bool


def place(at: int, left: int, parent: int) -> Place:
    return {"at": at, "left": left, "parent": parent, "visits": 0, "value": 0.0}


def build(policy: Policy) -> Any:
    """The compiled graph: expand -> rate -> (expand -> rate ...), until the goal is found or the budget is spent."""
    asked = ask(policy)

    async def expand(state: TreeState) -> TreeState:
        tree = list(state["tree"])
        leaf = best_leaf(tree)
        fresh = []
        for _ in range(WIDTH):
            tried = [tree[number]["at"] for number in fresh]
            move = (await asked(f"{shown(tree[leaf], state['goal'])} tried {' '.join(map(str, tried))} move :")).strip()
            at = moved(tree[leaf]["at"], move)
            if at is not None:
                tree.append(place(at, tree[leaf]["left"] - 1, leaf))
                fresh.append(len(tree) - 1)
        tree[leaf] = {**tree[leaf], "visits": tree[leaf]["visits"] + 1}
        found = any(tree[number]["at"] == state["goal"] for number in fresh)
        return {"tree": tree, "fresh": fresh, "grown": state.get("grown", 0) + 1, "found": found}

    async def rate(state: TreeState) -> TreeState:
        tree = [dict(one) for one in state["tree"]]
        for number in state["fresh"]:
            value = float((await asked(f"{shown(tree[number], state['goal'])} reachable :")).split() == ["yes"])
            while number >= 0:  # handed up to the root
                tree[number]["visits"] += 1
                tree[number]["value"] += value
                number = tree[number]["parent"]
        return {"tree": tree}

    def after_expand(state: TreeState) -> str:
        return "__end__" if state["found"] else "rate"

    def after_rate(state: TreeState) -> str:
        return "__end__" if state["grown"] >= BUDGET or best_leaf(state["tree"]) < 0 else "expand"

    graph = StateGraph(TreeState).add_node("expand", expand).add_node("rate", rate)
    graph.add_edge(START, "expand").add_conditional_edges("expand", after_expand, ["rate", "__end__"])
    return graph.add_conditional_edges("rate", after_rate, ["expand", "__end__"]).compile(name="tree search")


def shown(one: Place, goal: int) -> str:
    return f"{one['at']} to {goal} left {one['left']}"


def moved(at: int, move: str) -> int | None:
    """Where a move leads; None if it is none, or leads outside."""
    to = MOVES[move](at) if move in MOVES else -1
    return to if 0 <= to <= TOP else None


@cache
def reachable(at: int, goal: int, left: int) -> bool:
    """Whether the goal can be reached in `left` moves, by trying all."""
    if at == goal:
        return True
    steps = [moved(at, move) for move in MOVES] if left else []
    return any(reachable(to, goal, left - 1) for to in steps if to is not None)


def best_leaf(tree: Sequence[Place]) -> int:
    """The place to grow: of those with moves left and no children, the one of the largest UCT; -1 if there is none."""
    inner = {one["parent"] for one in tree}
    leaves = [number for number, one in enumerate(tree) if number not in inner and one["left"] > 0]

    def uct(number: int) -> float:
        one, visits = tree[number], max(1, tree[number]["visits"])
        above = max(1, tree[one["parent"]]["visits"]) if one["parent"] >= 0 else 1
        return one["value"] / visits + math.sqrt(math.log(above + 1) / visits)

    return max(leaves, key=uct, default=-1)


def paid(state: TreeState, calls: Sequence[PolicyCall], problem: Problem) -> list[float | None]:
    """Moves for keeping the goal in reach, and for not being made twice; ratings for being true."""
    rewards: list[float | None] = []
    for call in calls:
        asked = call.generation["messages"][0]["content"].split()
        at, goal, left = int(asked[0]), int(asked[2]), int(asked[4])
        if call.node == "rate":
            rewards.append(float(call.text.split() == ["yes" if reachable(at, goal, left) else "no"]))
        else:
            to = moved(at, call.text.strip())
            new = to is not None and str(to) not in asked[asked.index("tried") + 1 : -2]
            rewards.append(float(new and to is not None and reachable(to, goal, left - 1)))
    return rewards


def outcome(state: TreeState, problem: Problem) -> float:
    """Whether the goal was found."""
    return float(state["found"])


def traces(seed: int, *, wrong: float = 0.3) -> Iterator[Trace]:
    """Moves of which some lead to the goal, and ratings of which a share is `wrong`."""
    dice = random.Random(seed)
    while True:
        at, goal, left = dice.randrange(TOP + 1), dice.randrange(TOP + 1), dice.randrange(DEPTH)
        one = place(at, left, -1)
        yield f"{shown(one, goal)} reachable :", "yes" if reachable(at, goal, left) != (dice.random() < wrong) else "no"
        legal = [move for move in MOVES if moved(at, move) is not None]
        good = [move for move in legal if reachable(moved(at, move) or 0, goal, left)]
        move = dice.choice(good or legal) if dice.random() > wrong else dice.choice(list(MOVES))
        tried = dice.choice(["", f"{moved(at, dice.choice(legal))} "])
        yield f"{at} to {goal} left {left + 1} tried {tried}move :", move


def problems() -> list[Problem]:
    """All pairs that need two or three moves, shuffled."""
    pairs = [(at, to) for at in range(TOP + 1) for to in range(TOP + 1) if reachable(at, to, 3) > reachable(at, to, 1)]
    random.Random(0).shuffle(pairs)
    return [Problem(id=f"{at}-{to}", prompt=f"{at} to {to}", reference=(at, to), checker="none") for at, to in pairs]


EXAMPLE = Example(
    name="tree_search",
    words=[*map(str, range(TOP + 1)), *MOVES, "to left tried move reachable yes no :"],
    traces=traces,
    build=build,
    known=problems()[20:],
    held_out=problems()[:20],
    inputs=lambda problem: {"goal": problem.reference[1], "tree": [place(problem.reference[0], DEPTH, -1)]},
    paid=paid,
    outcome=outcome,
    max_new_tokens=2,
    warm_up_steps=600,
    batches=20,
)
