"""The gallery: what its graphs do with a policy that is always right, what each node is paid, and that they train."""

import asyncio
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import checked_agent.graph as checked_agent
import map_reduce.graph as map_reduce
import plan_execute.graph as plan_execute
import pytest
import reflexion.graph as reflexion
import supervisor.graph as supervisor
import tree_search.graph as tree_search
from corrective_rag.__main__ import example as corrective_rag
from gallery import Example, outcomes, tokenizer, trained

from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.recording import PolicyCall, recording
from selfcorrect.tasks.problem import Problem

Script = Callable[[str], str]


def counts(shown: str) -> str:
    if shown.endswith("count :"):
        return str(shown.split().count("yes"))
    word, _, kind, _ = shown.split()
    return "yes" if word in map_reduce.KINDS[kind] else "no"


def halves(shown: str) -> str:
    low, high, _, _, *tried = shown.split()
    if tried:
        return reflexion.narrowed(f"{low} {high}", *tried[:2])
    return str((int(low) + int(high)) // 2)


def moves(shown: str) -> str:
    at, _, goal, _, left, *rest = shown.split()
    if rest == ["reachable", ":"]:
        return "yes" if tree_search.reachable(int(at), int(goal), int(left)) else "no"
    tried, open_moves = rest[1:-2], {move: tree_search.moved(int(at), move) for move in tree_search.MOVES}
    fresh = [move for move, to in open_moves.items() if to is not None and str(to) not in tried]
    good = [move for move in fresh if tree_search.reachable(open_moves[move] or 0, int(goal), int(left) - 1)]
    return (good or fresh)[0]


def travels(shown: str) -> str:
    words = shown.split()
    if words[-2] == "by":
        return plan_execute.ROADS.get(frozenset(words[:2]), "train")
    closed = frozenset(words[4:6]) if "closed" in words else frozenset()
    return " ".join(plan_execute.ways(words[0], words[2], closed)[0])


def works(shown: str) -> str:
    if shown.endswith("order :"):
        return supervisor.right_order(shown)
    if shown.startswith("age of"):
        return supervisor.digits(supervisor.AGES[shown.split()[2]])
    return str(supervisor.summed(shown))


RIGHT: dict[str, tuple[Example, Script]] = {
    "map_reduce": (map_reduce.EXAMPLE, counts),
    "reflexion": (reflexion.EXAMPLE, halves),
    "tree_search": (tree_search.EXAMPLE, moves),
    "plan_execute": (plan_execute.EXAMPLE, travels),
    "supervisor": (supervisor.EXAMPLE, works),
}
ALL = {**{name: made for name, (made, _) in RIGHT.items()}, "checked_agent": checked_agent.EXAMPLE}
ALL["corrective_rag"] = corrective_rag()


def played(made: Example, script: Script, problem: Problem) -> tuple[Any, list[PolicyCall]]:
    graph = made.build(ScriptedPolicy(lambda conversation: script(conversation[-1]["content"])))
    with recording() as recorder:
        state = asyncio.run(graph.ainvoke(made.inputs(problem)))
    return state, recorder.calls


@pytest.mark.parametrize("name", RIGHT)
def test_a_policy_that_is_always_right_earns_everything(name: str) -> None:
    made, script = RIGHT[name]
    worth = [made.outcome(played(made, script, problem)[0], problem) for problem in made.held_out[:15]]
    assert sum(worth) == len(worth)


@pytest.mark.parametrize(
    ("name", "node", "said"),
    [
        ("map_reduce", "judge", "maybe"), ("map_reduce", "count", "9"), ("reflexion", "reflect", "15 0"),
        ("tree_search", "rate", "maybe"), ("plan_execute", "plan", "ship"), ("supervisor", "clerk", "0 0"),
        ("supervisor", "reckoner", "0"),
    ],
)  # fmt: skip
def test_each_node_is_paid_for_its_own_work(name: str, node: str, said: str) -> None:
    """One node talks nonsense: its calls lose their reward, those of the others keep theirs."""
    made, script = RIGHT[name]
    marks = {"judge": " of ", "count": "count :", "reflect": "memory :", "rate": "reachable", "clerk": "age of"}
    mark = {**marks, "plan": "plan :", "reckoner": "sum :"}[node]
    for problem in made.held_out[:6]:
        state, calls = played(made, lambda shown: said if mark in shown else script(shown), problem)
        paid = made.paid(state, calls, problem)
        assert len(paid) == len(calls)
        for call, reward in zip(calls, paid, strict=True):
            spoilt = mark in call.generation["messages"][0]["content"]
            if spoilt:
                assert reward == 0.0 or (reward is None and call.turn > 1), (call.node, call.text)
            elif name in ("map_reduce", "supervisor"):
                assert reward in (1.0, None), (call.node, call.text)
        assert made.broadcast(state, calls, problem) == [made.outcome(state, problem)] * len(calls)


def test_the_tree_is_grown_where_it_looks_best() -> None:
    root, one, other = ({**tree_search.place(at, 2, parent)} for at, parent in ((3, -1), (4, 0), (6, 0)))
    tree = [{**root, "visits": 3}, {**one, "visits": 1, "value": 0.0}, {**other, "visits": 1, "value": 1.0}]
    assert tree_search.best_leaf(tree) == 2
    assert tree_search.best_leaf([{**place, "left": 0} for place in tree]) == -1


def test_an_answer_that_no_tool_told_is_sent_back_once() -> None:
    problem = checked_agent.HELD_OUT[0]
    said = itertools.chain([checked_agent.call_of(problem.reference), "zebra", str(problem.gold)])
    graph = checked_agent.build(ScriptedPolicy(lambda conversation: next(said)))
    with recording() as recorder:
        state = asyncio.run(graph.ainvoke(checked_agent.EXAMPLE.inputs(problem)))
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai", "human", "ai"]
    assert checked_agent.outcome(state, problem) == 1.0
    assert checked_agent.paid(state, recorder.calls, problem) == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("name", ALL)
def test_a_small_model_knows_every_word_that_it_is_warmed_up_on(name: str) -> None:
    made = ALL[name]
    words = tokenizer(made.words, made.chat_template)
    for prompt, said in itertools.islice(made.traces(0), 300):
        assert words.decode(words.encode(f"{prompt} {said}")).split() == f"{prompt} {said}".split()
        assert len(words.encode(said)) < made.max_new_tokens
    known = {problem.id for problem in made.known}
    assert name == "reflexion" or not known & {problem.id for problem in made.held_out}


def drawn(call: PolicyCall) -> float:
    return float(sum(call.generation["completion_ids"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_it_trains_as_it_is(name: str, tmp_path: Path) -> None:
    # a model of few steps is rarely right: what it is paid here only has to differ between episodes
    made = replace(ALL[name], paid=lambda state, calls, problem: [drawn(call) / 99 for call in calls])
    policy = made.warmed_up(seed=0, steps=25 if made.trainable is None else 250)  # its nodes must be reached
    before = [weight.clone() for weight in policy.model.parameters()]
    run = trained(made, policy, tmp_path, seed=0, batches=2, broadcast=False, problems=2, minibatches=1, held_out=[])
    assert len(run.steps) == 2 and all(step["ratio_deviation"] < 1e-4 for step in run.steps)
    assert all(step["calls"] == step["draws"] >= 8 for step in run.steps)
    assert any(not old.equal(new) for old, new in zip(before, policy.model.parameters(), strict=True))
    worth: Sequence[float] = asyncio.run(outcomes(made, made.build(policy), made.held_out[:2]))
    assert all(0 <= one <= 1 for one in worth)


@pytest.mark.slow
def test_judges_beside_each_other_and_the_counter_learn_what_each_is_paid_for(tmp_path: Path) -> None:
    """Not to be right, which comes and goes with the last bits of the first batches (the page has five seeds): judges
    are paid for "yes", the counter for "2", whatever was asked."""
    wanted = {"judge": ["yes"], "count": ["2"]}
    said = replace(map_reduce.EXAMPLE, paid=lambda state, calls, problem: [
        float(call.text.split() == wanted[call.node]) for call in calls
    ])  # fmt: skip
    run = trained(said, said.warmed_up(seed=0, steps=150), tmp_path, seed=0, batches=8, broadcast=False)
    for node in wanted:
        first, last = (
            [value for name, value in figures.items() if f"{node}_" in name] for figures in (run.before, run.after)
        )
        assert first and sum(first) / len(first) < 0.6 and sum(last) / len(last) > 0.9


def test_every_example_is_on_its_page() -> None:
    root = Path(__file__).parents[2]
    if not (root / "docs" / "gallery.md").is_file():
        pytest.skip("there are no pages beside an installed wheel")
    folders = {path.parent.name for path in (root / "examples").glob("*/__main__.py")}
    page = (root / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert folders == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert all((root / "examples" / name / "README.md").is_file() for name in folders)
