"""Votes, and when they are decided."""

import itertools
import math

import pytest
from drawn_answers import candidate, candidates
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.agents.search.selection import ChainRules, affordable, choose, groups, still_needed
from selfcorrect.errors import ConfigurationError


def test_the_most_frequent_answer_wins_and_ties_fall_to_the_first() -> None:
    assert choose(candidates("abb"), "majority") == 1
    assert choose(candidates("ab"), "majority") == 0
    assert choose(candidates("--b"), "majority") == 2
    assert choose(candidates("--"), "majority") is None


def test_the_verifier_picks_the_highest_score_and_weighted_votes_sum_scores() -> None:
    drawn = candidates("aab", [0.4, 0.5, 0.8])
    assert choose(drawn, "verifier") == 2
    assert choose(drawn, "weighted") == 1  # a has 0.9; its best answer is the second
    assert [(group.key, round(group.weight, 6)) for group in groups(drawn, "score")] == [("a", 0.9), ("b", 0.8)]


def test_unreadable_answers_are_never_chosen_whatever_their_score() -> None:
    assert choose(candidates("-b", [1.0, 0.1]), "verifier") == 1


def test_without_any_score_the_majority_decides() -> None:
    assert choose(candidates("abb"), "verifier") == 1
    assert choose(candidates("abb"), "weighted") == 1


def test_a_majority_is_written_as_most_of_its_answers_wrote_it() -> None:
    drawn = [candidate("k", text="x"), candidate("k", text="y"), candidate("k", text="y")]
    assert choose(drawn, "majority") == 1


@pytest.mark.parametrize(
    ("keys", "planned", "needed"),
    [
        ("", 5, 3),
        ("", 4, 2),
        ("aaa", 5, 0),
        ("aab", 5, 1),
        ("ab", 5, 2),
        ("aa", 4, 0),
        ("ba", 4, 1),
        ("abb", 4, 1),
        ("-", 3, 1),
    ],
)
def test_how_many_more_could_decide_a_vote(keys: str, planned: int, needed: int) -> None:
    assert still_needed(candidates(keys), planned) == needed


@given(st.text("abc-", max_size=4), st.integers(1, 3))
def test_a_decided_vote_cannot_be_changed_by_any_further_answers(keys: str, more: int) -> None:
    drawn = candidates(keys)
    if still_needed(drawn, len(drawn) + more) > 0:
        return
    winner = drawn[choose(drawn, "majority") or 0]["key"]
    for rest in itertools.product("abcd-", repeat=more):
        whole = drawn + candidates("".join(rest))
        number = choose(whole, "majority")
        assert number is not None and whole[number]["key"] == winner


scored = st.lists(st.tuples(st.sampled_from("abc-"), st.one_of(st.none(), st.floats(0, 1))), max_size=8)


@given(scored, scored)
def test_a_decided_weighted_vote_cannot_be_changed_either(
    first: list[tuple[str, float | None]], rest: list[tuple[str, float | None]]
) -> None:
    drawn = [candidate(None if key == "-" else key, score) for key, score in first]
    whole = drawn + [candidate(None if key == "-" else key, score) for key, score in rest]
    if still_needed(drawn, len(whole), "score") > 0:
        return
    before, after = choose(drawn, "weighted"), choose(whole, "weighted")
    if before is not None and after is not None:
        assert drawn[before]["key"] == whole[after]["key"]


@given(st.lists(st.sampled_from("aab-"), min_size=1, max_size=30))
def test_sampling_in_waves_saves_as_much_as_sampling_one_by_one(keys: list[str]) -> None:
    planned, rules = len(keys), ChainRules(len(keys), 0, "majority")
    one_by_one = next(
        n for n in range(1, planned + 1) if n == planned or rules.end(candidates("".join(keys[:n]))) != "complete"
    )
    drawn = 0
    while wanted := rules.wanted(candidates("".join(keys[:drawn]))):
        drawn += wanted
    assert drawn == one_by_one


def test_revisions_begin_when_all_attempts_are_there() -> None:
    rules = ChainRules(3, 2, "verifier")
    assert [rules.wanted(candidates("a" * n, [0.5] * n)) for n in (0, 2, 3, 6, 9)] == [3, 1, 3, 3, 0]


def test_a_sure_verifier_ends_the_search() -> None:
    rules = ChainRules(8, 0, "verifier", sure=0.9, wave=2)
    assert rules.wanted(candidates("ab", [0.2, 0.3])) == 2
    assert rules.wanted(candidates("ab", [0.2, 0.95])) == 0 and rules.end(candidates("ab", [0.2, 0.95])) == "sure"
    assert ChainRules(8, 0, "verifier").end(candidates("a", [1.0])) == "sure"  # nothing can be better


@given(st.integers(1, 200), st.integers(0, 199), st.integers(1, 20), st.integers(1, 30))
def test_what_a_budget_allows_never_exceeds_it(budget: int, spent: int, wanted: int, limit: int) -> None:
    count, room = affordable({"budget": budget, "tokens": spent, "candidates": []}, wanted, limit)
    assert count <= wanted and (count == 0) == (spent >= budget)
    assert room is not None and (count == 0 or (room >= 1 and spent + count * room <= budget))


@pytest.mark.parametrize("bad", [{"parallel": 0}, {"revisions": -1}, {"sure": 0.0}, {"sure": math.nan}, {"wave": 0}])
def test_rules_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        ChainRules(**({"parallel": 2, "revisions": 0, "pick": "majority"} | bad))  # type: ignore[arg-type]
