"""The shipped example: retrieval that is graded, whose search is rewritten, and answered from."""

import asyncio
from pathlib import Path

import pytest
from corrective_rag.data import passages, questions, search, split, vocabulary
from corrective_rag.graph import build, outcome, paid, question
from gallery import EOS, tokenizer, untrained
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.recording import PolicyCall, recording
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.own_graph import train
from selfcorrect.training.ppo.batching import rows_of
from selfcorrect.training.ppo.config import TurnPPOConfig


@given(st.text())
def test_no_text_is_an_operator_of_the_index(words: str) -> None:
    assert search(words) in {*passages(), "nothing"}


def test_the_words_of_a_passage_find_it_and_those_of_a_question_may_not() -> None:
    assert all(search(" ".join(problem.reference.split()[:2])) == problem.reference for problem in questions())
    found = [search(problem.prompt) == problem.reference for problem in questions()]
    assert 0 < sum(found) < len(found)


def test_no_held_out_question_is_trained_on() -> None:
    known, held_out = split()
    assert len(known) == len(held_out) == 120
    assert not {problem.id for problem in known} & {problem.id for problem in held_out}


def missed() -> Problem:
    """A question whose own words find another passage."""
    return next(problem for problem in questions() if search(problem.prompt) != problem.reference)


@pytest.mark.parametrize(
    ("said", "per_node", "one"),
    [
        (["no", "{words}", "yes", "{gold}"], [1, 1, 1, 1], 1),
        (["no", "{words}", "no", "{gold}"], [1, 1, 0, 1], 1),
        (["no", "zzz", "no", "soup-less"], [1, 0, 1, 0], 0),
        (["yes", "{gold}"], [0, 1], 1),
    ],
)
def test_each_node_is_paid_for_its_own_work(said: list[str], per_node: list[float], one: float) -> None:
    problem = missed()
    words = " ".join(problem.reference.split()[:2])
    outputs = iter([text.format(words=words, gold=problem.gold) for text in said])
    graph = build(ScriptedPolicy(lambda conversation: next(outputs)))
    with recording() as recorder:
        state = asyncio.run(graph.ainvoke(question(problem)))
    calls = recorder.calls
    assert paid(state, calls, problem) == per_node
    assert outcome(state, problem) == one


def test_it_trains_token_for_token(tmp_path: Path) -> None:
    policy = untrained(tokenizer(vocabulary()), hidden=16, layers=1, max_new_tokens=2)
    before = [weight.clone() for weight in policy.model.parameters()]
    episodes: list[list[PolicyCall]] = []

    def watched(state: dict[str, str], calls: list[PolicyCall], problem: Problem) -> list[float | None]:
        episodes.append(calls)
        # a random model is rarely right: what it is paid here only has to differ between episodes
        return [float(sum(call.generation["completion_ids"])) / 100 for call in calls]

    settings = TurnPPOConfig(output_dir=tmp_path, steps=2, problems_per_step=2, episodes_per_problem=4)
    trained = train(
        build(policy), split()[0], policy=policy, reward_fn=watched, inputs=question, config=settings, kl=0.0
    )
    assert len(episodes) == 16
    for calls in episodes:
        rows = rows_of(calls)
        spans = {
            span.call: (row.ids[: span.start], row.ids[span.start : span.stop]) for row in rows for span in row.spans
        }
        sampled = [(call.generation["prompt_ids"], call.generation["completion_ids"]) for call in calls]
        assert [spans[number] for number in range(len(calls))] == sampled
        for call in calls:
            assert policy.tokenizer.decode(call.generation["completion_ids"]).removesuffix(EOS).strip() == call.text
    assert all(step["ratio_deviation"] < 1e-4 for step in trained.steps)
    assert any(not old.equal(new) for old, new in zip(before, policy.model.parameters(), strict=True))
