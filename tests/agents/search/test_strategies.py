"""Every strategy, on policies and verifiers that say what they are told."""

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_policy import ListPolicy, RenewingListPolicy, TreePolicy

from selfcorrect.agents import (
    Beam,
    BestOfN,
    Candidate,
    Majority,
    Mixed,
    SearchModels,
    SequentialRevisions,
    Strategy,
    WeightedBestOfN,
    search,
    search_all,
    search_sync,
    strategy_named,
    stream_candidates,
)
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.search.cached import CachedPolicy
from selfcorrect.agents.state import Message
from selfcorrect.errors import CheckerError, ConfigurationError, GraphError, PolicyError
from selfcorrect.rewards.checker import ScriptedVerifier
from selfcorrect.tasks.problem import Problem

SCORES = ScriptedVerifier({"a": 0.2, "b": 0.9, "c": 0.3, "a again": 0.1, "b again": 0.95, "a again again": 0.6})


def test_majority_takes_the_most_frequent_answer_and_stops_when_it_is_decided() -> None:
    result = search_sync("?", Majority(6), ListPolicy(["b", "a", "b", "b"]))
    # after three, 3 are to come and b leads 2 to 1: one more could decide it, and does: a could only tie, and came
    # later
    assert (result.answer, len(result.candidates), result.stop_reason) == ("b", 4, "settled")
    assert result.tokens == 4 and result.saved_tokens == 2 and result.votes == (("b", 3.0), ("a", 1.0))
    assert len(search_sync("?", Majority(6, early=False), ListPolicy(["b", "a", "b", "b"])).candidates) == 6


def test_best_of_n_takes_the_best_scored_answer() -> None:
    result = search_sync("?", BestOfN(3), ListPolicy(["a", "b", "c"]), SCORES)
    assert (result.answer, result.chosen, result.stop_reason) == ("b", 1, "complete")
    assert [one["score"] for one in result.candidates] == [0.2, 0.9, 0.3]


def test_a_sure_verifier_saves_the_rest() -> None:
    result = search_sync("?", BestOfN(8, sure=0.9, wave=1), ListPolicy(["a", "b", "c"]), SCORES)
    assert (result.answer, result.tokens, result.saved_tokens, result.stop_reason) == ("b", 2, 6, "sure")


def test_distinct_answers_are_paid_for_once_and_end_when_there_is_no_other() -> None:
    answers = ["a", "a", "a", "c", "b"]
    result = search_sync("?", BestOfN(8, distinct=True), RenewingListPolicy(answers), SCORES)
    assert [one["text"] for one in result.candidates] == ["a", "c", "b"]
    assert (result.answer, result.tokens, result.stop_reason, result.saved_tokens) == ("b", 3, "exhausted", 5)
    sure = search_sync("?", BestOfN(8, sure=0.3, distinct=True), RenewingListPolicy(answers), SCORES)
    assert (sure.answer, sure.tokens, sure.stop_reason) == ("c", 2, "sure")


def test_distinct_answers_need_a_policy_that_can_leave_out_what_it_said() -> None:
    with pytest.raises(ConfigurationError, match="without replacement, which a ListPolicy cannot do"):
        search_sync("?", BestOfN(8, distinct=True), ListPolicy(["a"]), SCORES)


def test_a_remembering_policy_draws_without_replacement_once() -> None:
    policy = CachedPolicy(RenewingListPolicy(["a", "c", "b"]))
    for expected in (2, 2):  # the first answer is a plain one, the call that finds nothing left is not remembered
        result = search_sync("?", BestOfN(3, distinct=True), policy, SCORES)
        assert result.answer == "b" and policy.calls == expected + 1
    with pytest.raises(ConfigurationError, match="cannot draw without replacement"):
        search_sync("?", BestOfN(3, distinct=True), CachedPolicy(ListPolicy(["a"])), SCORES)


def test_weighted_best_of_n_sums_equal_answers() -> None:
    verifier = ScriptedVerifier({"a": 0.5, "b": 0.8})
    result = search_sync("?", WeightedBestOfN(3, early=False), ListPolicy(["a", "b", "a"]), verifier)
    assert result.answer == "a" and result.votes == (("a", 1.0), ("b", 0.8))


def test_revise_picks_from_the_chain() -> None:
    for pick, answer in [("last", "a again again"), ("verifier", "a again again"), ("majority", "a")]:
        result = search_sync("?", SequentialRevisions(2, pick=pick), ListPolicy(["a"]), SCORES)  # type: ignore[arg-type]
        assert result.answer == answer
        assert [one["revision"] for one in result.candidates] == [0, 1, 2][: len(result.candidates)]


def test_mixed_revises_parallel_chains_and_picks_from_all_answers() -> None:
    result = search_sync("?", Mixed(2, 1), ListPolicy(["a", "b"]), SCORES)
    assert [one["text"] for one in result.candidates] == ["a", "b", "a again", "b again"]
    assert [(one["chain"], one["revision"]) for one in result.candidates] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert result.answer == "b again" and result.tokens == 6


TREE = {
    "": ["x", "y"],
    "x": ["1", "2"],
    "y": ["3", "4"],
    "x ; 1": ["p", "q"], "x ; 2": ["p", "q"], "y ; 3": ["p", "q"], "y ; 4": ["p", "q"],
}  # fmt: skip
LEAVES = [f"{two} ; {last}" for two in ("x ; 1", "x ; 2", "y ; 3", "y ; 4") for last in "pq"]


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=14, max_size=14))
def test_a_beam_that_covers_the_tree_finds_what_exhaustive_search_finds(numbers: list[float]) -> None:
    texts = ["x", "y", "x ; 1", "x ; 2", "y ; 3", "y ; 4", *LEAVES]
    scores = dict(zip(texts, numbers, strict=True))
    result = search_sync("?", Beam(width=4, expand=2), TreePolicy(TREE), ScriptedVerifier(scores))
    assert {one["text"] for one in result.candidates} == set(LEAVES)
    assert scores[result.answer] == max(scores[leaf] for leaf in LEAVES)


def test_a_narrow_beam_keeps_the_best_beginning() -> None:
    scores = dict.fromkeys(["x", "y", "x ; 1", "x ; 2", *LEAVES], 0.0) | {
        "x": 0.9,
        "x ; 2": 0.8,
        "x ; 2 ; q": 0.7,
        "y ; 3 ; p": 1.0,
    }
    policy = TreePolicy(TREE)
    result = search_sync("?", Beam(width=1, expand=2), policy, ScriptedVerifier(scores))
    assert result.answer == "x ; 2 ; q"  # the better answer under y is out of its sight
    assert result.tokens == policy.steps == 6


def test_lookahead_sees_past_a_step_that_looks_bad() -> None:
    scores = {"x ; 1": 0.1, "y ; 3": 0.9, "y ; 3 ; p": 0.9, "y ; 4 ; p": 0.8, "x": 1.0, "y": 0.0}
    scores |= dict.fromkeys([leaf for leaf in LEAVES if leaf not in scores], 0.0)
    result = search_sync("?", Beam(width=1, expand=2, lookahead=1), TreePolicy(TREE), ScriptedVerifier(scores))
    assert result.answer.startswith("y ; 3")


def test_a_beam_gives_up_answers_with_too_many_steps_and_says_so() -> None:
    scores = ScriptedVerifier(lambda prompt, text: 0.5)
    result = search_sync("?", Beam(width=2, expand=1, max_steps=2), TreePolicy(TREE), scores)
    assert result.chosen is None and result.answer == "" and "given up after 2 steps" in result.notes[0]


@settings(max_examples=30)
@given(
    st.integers(1, 40),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.sampled_from(
        [
            "majority:7",
            "best_of_n:5",
            "best_of_n:9:sure=0.9",
            "weighted:6",
            "revise:3",
            "mixed:2x2",
            "mixed:3x1:pick=majority",
        ]
    ),
)
def test_no_strategy_exceeds_its_budget_and_all_tokens_are_counted(budget: int, lengths: list[int], name: str) -> None:
    policy = ListPolicy([" ".join(["w"] * length) for length in lengths])
    scores = ScriptedVerifier(lambda prompt, text: 0.5)
    result = search_sync("?", strategy_named(name), policy, scores, budget, sampling=Sampling(max_new_tokens=8))
    assert result.tokens <= budget and result.tokens == sum(one["tokens"] for one in result.candidates)
    assert result.tokens + result.saved_tokens <= budget


@given(st.integers(1, 12))
@settings(max_examples=12)
def test_a_beam_does_not_exceed_its_budget_either(budget: int) -> None:
    policy = TreePolicy(TREE)
    result = search_sync(
        "?", Beam(2, 2), policy, ScriptedVerifier(lambda prompt, text: 0.5), budget, sampling=Sampling(max_new_tokens=1)
    )
    assert result.tokens == policy.steps <= budget
    assert result.stop_reason == ("complete" if policy.steps == 12 else "budget")


def test_a_budget_smaller_than_one_answer_is_told() -> None:
    result = search_sync("?", Majority(3), ListPolicy(["one two three"]), budget=2)
    assert (result.answer, result.stop_reason, result.tokens) == ("", "budget", 2)
    assert any("budget of 2 tokens ended before one answer" in note for note in result.notes)
    with pytest.raises(ConfigurationError, match="budget must be 1 or more"):
        search_sync("?", Majority(3), ListPolicy(["a"]), budget=0)


def test_all_unreadable_is_told_and_answers_nothing() -> None:
    problem = Problem(id="p", prompt="3 5 7 get 56 :", reference=None, checker="countdown")
    result = search_sync(problem, BestOfN(3), ListPolicy(["no idea"]), ScriptedVerifier({}))
    assert (result.answer, result.chosen) == ("", None)
    assert "none of the 3 answers is complete and can be read" in result.notes[0]


def test_scores_that_are_no_numbers_abstain_and_the_majority_decides() -> None:
    nan = ScriptedVerifier(lambda prompt, text: math.nan)
    result = search_sync("?", BestOfN(3), ListPolicy(["a", "b", "b"]), nan)
    assert result.answer == "b" and "the majority decided" in result.notes[0]
    one = ScriptedVerifier(lambda prompt, text: 0.1 if text == "a" else math.nan)
    assert search_sync("?", BestOfN(3), ListPolicy(["a", "b", "b"]), one).answer == "a"


def test_scores_out_of_range_and_too_few_scores_are_errors() -> None:
    with pytest.raises(GraphError, match=r"with 3.5; scores are in \[0, 1\]"):
        search_sync("?", BestOfN(2), ListPolicy(["a"]), ScriptedVerifier(lambda prompt, text: 3.5))

    class Mute:
        async def scores(self, prompt: str, responses: Sequence[str]) -> list[float | None]:
            return []

    with pytest.raises(GraphError, match="gave 0 scores for 1 answers"):
        search_sync("?", BestOfN(2), ListPolicy(["a"]), Mute())


def test_what_a_strategy_lacks_is_told() -> None:
    with pytest.raises(ConfigurationError, match="--verifier"):
        search_sync("?", BestOfN(2), ListPolicy(["a"]))
    with pytest.raises(ConfigurationError, match="empty beam"):
        search_sync("?", Beam(width=0), TreePolicy(TREE), SCORES)
    with pytest.raises(ConfigurationError, match="cannot .it has no `extend`."):
        search_sync("?", Beam(), ScriptedPolicy(["a"]), SCORES)

    class WholeAnswers:
        async def scores(self, prompt: str, responses: Sequence[str]) -> list[float | None]:
            return [0.5] * len(responses)

    with pytest.raises(ConfigurationError, match="no StepVerifier"):
        search_sync("?", Beam(), TreePolicy(TREE), WholeAnswers())


def test_errors_of_a_verifier_carry_the_problem() -> None:
    with pytest.raises(CheckerError, match="search-.*holds no score for 'z'"):
        search_sync("?", BestOfN(2), ListPolicy(["z"]), SCORES)


def test_candidates_stream_with_their_scores() -> None:
    async def read() -> list[Candidate]:
        return [one async for one in stream_candidates("?", BestOfN(2), ListPolicy(["a", "b"]), SCORES)]

    assert [(one["text"], one["score"]) for one in asyncio.run(read())] == [("a", 0.2), ("b", 0.9)]
    seen: list[str] = []
    result = asyncio.run(search("?", Majority(3), ListPolicy(["a"]), on_candidate=lambda one: seen.append(one["text"])))
    assert seen == ["a", "a"] and result.stop_reason == "settled"


def test_many_problems_at_once_come_back_in_order() -> None:
    problems = [Problem(id=f"p{n}", prompt=f"{n}", reference=None, checker="none") for n in range(5)]
    told: list[str] = []
    policy = ScriptedPolicy(lambda messages: f"answer {messages[0]['content']}")
    results = asyncio.run(search_all(problems, Majority(3), policy, on_result=lambda one: told.append(one.problem_id)))
    assert [one.answer for one in results] == [f"answer {n}" for n in range(5)] and len(told) == 5


@pytest.mark.parametrize(
    "strategy",
    [
        Majority(3),
        BestOfN(5, sure=0.5),
        BestOfN(5, sure=0.5, wave=2),
        BestOfN(5, distinct=True),
        BestOfN(5, sure=0.9, wave=2, distinct=True),
        WeightedBestOfN(2),
        Beam(2, 3, lookahead=1),
        Mixed(2, 3, "majority"),
        SequentialRevisions(2),
    ],
)
def test_names_lead_back_to_their_strategies(strategy: Strategy) -> None:
    assert strategy_named(strategy.name) == strategy


@pytest.mark.parametrize(
    "name",
    [
        "best",
        "best_of_n:3:distinct=yes",
        "majority:x",
        "beam:4",
        "mixed:2x2:pick=worst",
        "majority:3:sure=1",
        "best_of_n:3:sure=high",
    ],
)
def test_names_of_nothing_are_told(name: str) -> None:
    with pytest.raises(ConfigurationError, match="strategy"):
        strategy_named(name)


def test_a_strategy_is_a_graph_that_can_be_drawn() -> None:
    drawn = Mixed(2, 1).graph(SearchModels(ListPolicy(["a"]), SCORES)).get_graph().draw_mermaid()
    assert all(node in drawn for node in ("attempt", "revise", "score", "choose"))


def test_an_answer_that_cannot_be_read_again_ends_its_chain() -> None:
    from small_models import WORDS, llama, word_tokenizer

    from selfcorrect.agents.policies.transformers import TransformersPolicy

    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    policy = TransformersPolicy(llama(len(tokenizer), positions=20), tokenizer)
    result = search_sync(
        "1 2 3 get 6 :", SequentialRevisions(9), policy, prompts=COUNTDOWN, sampling=Sampling(max_new_tokens=6)
    )
    assert len(result.candidates) == 10 and result.candidates[-1]["tokens"] == 0


def test_a_policy_that_fails_for_another_reason_ends_the_search() -> None:
    """A server that is gone must not look like a chain that has come to its end."""

    def gone_after_the_first(messages: Sequence[Message]) -> str:
        if len(messages) > 1:
            raise PolicyError("no answer from the server")
        return "4 + 4 = 8"

    with pytest.raises(PolicyError, match="no answer from the server"):
        search_sync("1 2 get 3 :", SequentialRevisions(2), ScriptedPolicy(gone_after_the_first), prompts=COUNTDOWN)
