"""Search by the policy's own verdicts, on a policy that says what it is told and on the embedded one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_policy import generation

from selfcorrect.agents import (
    ComputeOptimal,
    SearchModels,
    SearchPlan,
    SearchResult,
    SelfJudged,
    build_graph,
    search_sync,
    strategy_named,
)
from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.rendering import conversation_after
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN, PLAIN
from selfcorrect.agents.search.strategies import sized
from selfcorrect.agents.state import Generation, Message, answers
from selfcorrect.errors import ConfigurationError, UnreadablePromptError
from selfcorrect.tasks.problem import Problem

SHORT = replace(PLAIN, says_wrong="wrong", says_right="right")
WRONG, RIGHT = "it is wrong", "it is right"


class ChainPolicy:
    """Chain c writes `chains[c]`: an answer, a verdict, an answer, a verdict ... Every text costs as many tokens as it
    has words. `asked` are the conversations it was shown."""

    def __init__(self, chains: Sequence[Sequence[str]], lost: Mapping[int, int] | None = None) -> None:
        self.chains, self.lost = chains, lost or {}
        self.begun = 0
        self.asked: list[list[Message]] = []
        self._chain_of: dict[str, int] = {}

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        conversation = list(conversation_after(after, messages))
        said = [message["content"] for message in conversation if message["role"] == "assistant"]
        self.asked.append(conversation)
        if not said:
            chain, self.begun = self.begun, self.begun + 1
            self._chain_of[self.chains[chain][0].split()[0]] = chain
        else:
            chain = self._chain_of[said[0].split()[0]]
        if self.lost.get(chain) == len(said):
            raise UnreadablePromptError("the context is full")
        words, limit = self.chains[chain][len(said)].split(), sampling.max_new_tokens
        cut_off = limit is not None and len(words) > limit
        kept = words[:limit]
        return generation(" ".join(kept), len(kept), conversation, cut_off=cut_off)


def played(strategy: str, chains: Sequence[Sequence[str]], budget: int | None = None) -> SearchResult:
    return search_sync("?", strategy_named(strategy), ChainPolicy(chains), budget=budget, prompts=SHORT)


def test_a_chain_is_revised_until_the_policy_calls_its_answer_right() -> None:
    policy = ChainPolicy([["a", WRONG, "a b", WRONG, "c", RIGHT, "never"]])
    result = search_sync("?", SelfJudged(1, 5), policy, prompts=SHORT)
    assert [(one["text"], one["called_right"]) for one in result.candidates] == [
        ("a", False),
        ("a b", False),
        ("c", True),
    ]
    assert result.answer == "c" and result.stop_reason == "sure"
    assert result.tokens == (1 + 3) + (2 + 3) + (1 + 3), "verdicts are generated, and counted"
    last = [message["content"] for message in policy.asked[-1]]
    assert last == [
        "?",
        "a",
        SHORT.critique,
        WRONG,
        SHORT.revise,
        "a b",
        SHORT.critique,
        WRONG,
        SHORT.revise,
        "c",
        SHORT.critique,
    ]


def test_the_search_ends_at_the_first_answer_that_is_called_right() -> None:
    chains = [["a", WRONG, "b", WRONG], ["c", RIGHT], ["d", RIGHT], ["e", RIGHT]]
    result = played("self_judged:4x1", chains)
    assert [(one["chain"], one["revision"]) for one in result.candidates] == [(0, 0), (0, 1), (1, 0)]
    assert (result.answer, result.chosen, result.stop_reason) == ("c", 2, "sure")
    assert result.saved_tokens == 3 * 4, "two chains of 1.5 answers of four tokens each were left"


def test_several_answers_may_have_to_agree() -> None:
    chains = [["a", RIGHT], ["b", RIGHT], ["z", WRONG], ["b", RIGHT], ["b", RIGHT]]
    result = played("self_judged:5x0:agree=2", chains)
    assert (result.answer, len(result.candidates), result.stop_reason) == ("b", 4, "sure")
    assert len(played("self_judged:5x0:agree=0", chains).candidates) == 5


def test_answers_called_wrong_have_no_vote_where_one_was_called_right() -> None:
    chains = [["a", WRONG], ["a", WRONG], ["a", WRONG], ["b", RIGHT]]
    assert played("self_judged:4x0:agree=0", chains).answer == "b"


def test_where_none_is_called_right_the_last_of_each_chain_has_a_vote() -> None:
    chains = [["x", WRONG, "a", WRONG], ["x2", WRONG, "x", WRONG], ["x3", WRONG, "a", WRONG]]
    result = played("self_judged:3x1", chains)
    assert (result.answer, result.stop_reason) == ("a", "complete")
    assert any("called none of its answers right" in note for note in result.notes)


def test_a_verdict_that_says_neither_ends_its_chain_and_calls_nothing_right() -> None:
    result = played("self_judged:2x3", [["a", "hard to say", "never"], ["b", RIGHT]])
    assert [(one["text"], one["called_right"]) for one in result.candidates] == [("a", None), ("b", True)]
    assert result.answer == "b"


def test_chains_side_by_side_share_their_rounds() -> None:
    chains = [["a", WRONG, "b", WRONG], ["c", WRONG, "d", RIGHT], ["e", RIGHT]]
    result = played("self_judged:3x1:wave=2", chains)
    assert [(one["chain"], one["revision"]) for one in result.candidates] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert result.answer == "d"


def test_a_chain_that_cannot_be_read_again_ends() -> None:
    chains = [["a", WRONG, "never"], ["b", "never"], ["c", RIGHT]]
    result = search_sync("?", SelfJudged(3, 2), ChainPolicy(chains, lost={0: 2, 1: 1}), prompts=SHORT)
    assert [(one["text"], one["called_right"]) for one in result.candidates] == [
        ("a", False),
        ("", None),
        ("b", None),
        ("c", True),
    ]
    assert result.answer == "c" and result.tokens == 4 + 1 + 4


def _drawn(result: SearchResult) -> list[tuple[int, int, str, bool | None]]:
    return sorted((one["chain"], one["revision"], one["text"], one["called_right"]) for one in result.candidates)


def test_an_empty_answer_is_judged_and_revised_like_any_other() -> None:
    result = search_sync("?", SelfJudged(1, 3), ScriptedPolicy(["", WRONG, "b", RIGHT]), prompts=SHORT)
    assert [(one["text"], one["called_right"]) for one in result.candidates] == [("", False), ("b", True)]
    assert (result.answer, result.stop_reason) == ("b", "sure")


verdicts = st.sampled_from([WRONG, RIGHT, "hard to say"])


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.tuples(st.integers(1, 5), verdicts), min_size=4, max_size=4), min_size=4, max_size=4),
    st.integers(1, 60),
    st.integers(0, 2),
    st.integers(1, 3),
)
def test_a_budget_is_never_exceeded_and_every_token_is_counted(
    drawn: list[list[tuple[int, str]]], budget: int, agree: int, wave: int
) -> None:
    chains = [
        [text for length, verdict in chain for text in (" ".join([f"w{number}"] * length), verdict)]
        for number, chain in enumerate(drawn)
    ]
    result = search_sync("?", SelfJudged(4, 3, agree, wave), ChainPolicy(chains), budget=budget, prompts=SHORT)
    assert result.tokens == sum(one["tokens"] for one in result.candidates) <= budget
    right = [one["text"] for one in result.candidates if one["called_right"] and one["key"] is not None]
    assert not right or result.answer in right
    for chain in range(4):
        own = [one for one in result.candidates if one["chain"] == chain]
        assert [one["revision"] for one in own] == list(range(len(own)))
        assert all(one["called_right"] is False for one in own[:-1]), "only a wrong answer is revised"
    if result.stop_reason == "complete":
        unlimited = search_sync("?", SelfJudged(4, 3, agree, wave), ChainPolicy(chains), prompts=SHORT)
        assert _drawn(result) == _drawn(unlimited), "in whatever order"


def test_the_end_of_the_budget_is_told() -> None:
    chains = [["a", WRONG, "b", WRONG, "c", WRONG], ["d", RIGHT]]
    assert played("self_judged:2x2", chains, budget=8).stop_reason == "budget"
    assert played("self_judged:1x2", chains, budget=12).stop_reason == "complete"


@pytest.mark.parametrize("given", [SelfJudged(), SelfJudged(8, 2, 0, 4), SelfJudged(3, 5, agree=2)])
def test_names_lead_back_to_it(given: SelfJudged) -> None:
    assert strategy_named(given.name) == given


def test_families_by_the_size_of_the_budget() -> None:
    assert sized("self_judged", 1) is None, "an answer and a verdict are more than one answer"
    assert sized("self_judged", 16) == SelfJudged(16, 0), "answers that are judged, and none revised"
    assert sized("self_judged:revisions=8:agree=2", 16) == SelfJudged(16, 8, agree=2)
    assert sized("self_judged:revisions=0", 16) == SelfJudged(16, 0)
    with pytest.raises(ConfigurationError, match="0 or more"):
        sized("self_judged:revisions=-1", 16)


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        (SelfJudged(0, 1), "parallel must be 1 or more"),
        (SelfJudged(2, -1), "revisions must be 0 or more"),
        (SelfJudged(2, 1, agree=3), "3 cannot agree"),
        (SelfJudged(2, 1, wave=0), "wave must be 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(strategy: SelfJudged, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        search_sync("?", strategy, ChainPolicy([["a", RIGHT]]))


def plan_of(strategy: str) -> SearchPlan:
    """One bin would need no estimate: two, of the same strategy."""
    budgets = [{"answers": 20, "tokens": 100, "strategies": [strategy, strategy]}]
    fields = {"task": "t", "policy": "p", "measure": "agreement", "samples": 2, "edges": [0.5], "answer_tokens": 1.0}
    return SearchPlan.model_validate({**fields, "budgets": budgets})


def test_a_plan_goes_on_with_the_answers_by_which_it_estimated() -> None:
    chains = [["a", WRONG, "b", RIGHT], ["c", WRONG, "d", WRONG]]
    result = search_sync("?", ComputeOptimal(plan_of("self_judged:2x1:agree=0")), ChainPolicy(chains), prompts=SHORT)
    assert [(one["text"], one["called_right"]) for one in result.candidates] == [
        ("a", False),
        ("c", False),
        ("b", True),
        ("d", False),
    ]
    assert (result.answer, result.tokens) == ("b", 16)
    with pytest.raises(ConfigurationError, match="fewer parallel chains"):
        ComputeOptimal(plan_of("self_judged:1x1")).graph(SearchModels(ChainPolicy(chains)))


@pytest.mark.slow
def test_one_chain_is_the_loop_with_the_policys_own_critique() -> None:
    """Greedily a search by one chain plays the very episode that the graph of critique "self" plays."""
    embedded = TransformersPolicy.from_pretrained(embedded_folder("embedded-looks"))
    greedy = Sampling(temperature=0, max_new_tokens=40)
    problems = [
        Problem(id=text, prompt=text, reference="", checker="countdown")
        for text in ("3 5 7 9 get 56 :", "2 3 4 6 get 24 :")
    ]
    graph = build_graph(embedded, prompts=COUNTDOWN, revisions=3, critique="self")
    for problem, episode in zip(problems, play_sync(graph, problems, sampling=greedy), strict=True):
        result = search_sync(problem, SelfJudged(1, 3), embedded, prompts=COUNTDOWN, sampling=greedy)
        assert [one["text"] for one in result.candidates] == [turn["generation"]["text"] for turn in answers(episode)]
