"""Which episodes become what is learnt: against brute force over small, made-up episodes."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.agents.state import EpisodeState, Generation, Turn, VerdictRecord
from selfcorrect.training.arms.supervised.examples import (
    Example,
    correct_answers,
    corrections,
    cut_off,
    distinct,
    pairs,
    rationalised,
    unsolved,
)

STATUSES = ["correct", "wrong", "unreadable", "unjudged"]
answer = st.tuples(st.sampled_from(STATUSES), st.sampled_from(["stop", "length"]), st.integers(0, 3))
Answer = tuple[str, str, int]


def turn(role: str, prompt_ids: list[int], answer: Answer) -> Turn:
    status, finish, text = answer
    generation = Generation(
        text=f"text {text}",
        messages=[],
        prompt_ids=prompt_ids,
        completion_ids=[100 + text, 1],
        logprobs=[-1.0, -1.0],
        finish_reason=finish,  # type: ignore[typeddict-item]
    )
    verdict = VerdictRecord(status=status, answer=None, reason="", seconds=0.0)
    return Turn(role=role, generation=generation, verdict=verdict)  # type: ignore[typeddict-item]


def episode(problem: int, *given: Answer) -> EpisodeState:
    """An episode with one or two answers; the second is shown the first, then token 211."""
    turns = [turn("attempt", [problem], given[0])]
    if len(given) > 1:
        turns.append(turn("revise", [problem, 100 + given[0][2], 1, 211], given[1]))
    return EpisodeState(problem={"id": f"p{problem}"}, turns=turns)


def correct(answer: Answer) -> bool:
    return answer[0] == "correct"


def incorrect(answer: Answer) -> bool:
    return answer[0] in ("wrong", "unreadable")


def learnable(answer: Answer) -> bool:
    return answer[0] == "correct" and answer[1] == "stop"


def ids_of(examples: list[Example]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(example.context_ids, example.answer_ids) for example in examples]


@given(st.lists(st.tuples(st.integers(0, 2), answer)))
def test_star_keeps_the_right_first_answers_that_ended_by_themselves(rows: list[tuple[int, Answer]]) -> None:
    examples = correct_answers(episode(problem, first) for problem, first in rows)
    assert ids_of(examples) == [((problem,), (100 + first[2], 1)) for problem, first in rows if learnable(first)]
    assert {example.kind for example in examples} <= {"correct"}


@given(st.lists(st.tuples(st.integers(0, 2), answer)))
def test_right_answers_that_the_token_limit_ended_are_counted(rows: list[tuple[int, Answer]]) -> None:
    given = [row[1] for row in rows]
    lost = sum(correct(answer) and not learnable(answer) for answer in given)
    assert cut_off(episode(*row) for row in rows) == Counter(right_but_cut_off=lost)


@given(st.lists(st.tuples(st.integers(0, 2), answer, answer)), st.booleans())
def test_multi_turn_star_keeps_mended_answers_and_kept_ones_only_if_told(
    rows: list[tuple[int, Answer, Answer]], keep_correct: bool
) -> None:
    examples = corrections((episode(*row) for row in rows), keep_correct=keep_correct)
    expected = [
        ((problem, 100 + first[2], 1, 211), (100 + second[2], 1), incorrect(first))
        for problem, first, second in rows
        if learnable(second) and (incorrect(first) or (keep_correct and correct(first)))
    ]
    assert [
        (*ids, example.kind == "incorrect to correct") for ids, example in zip(ids_of(examples), examples, strict=True)
    ] == expected


@given(st.lists(st.tuples(st.integers(0, 3), answer)), st.booleans(), st.integers(0, 99))
def test_every_first_sample_is_paired_with_one_other_right_sample_of_its_problem(
    rows: list[tuple[int, Answer]], keep_correct: bool, seed: int
) -> None:
    states = [episode(*row) for row in rows]
    found = pairs(states, shown_again, random.Random(seed), keep_correct=keep_correct)

    def partners(number: int) -> set[tuple[int, ...]]:
        problem = rows[number][0]
        others = [row for other, row in enumerate(rows) if other != number and row[0] == problem]
        return {(100 + second[2], 1) for _, second in others if learnable(second)}

    firsts = [
        number
        for number, (_, first) in enumerate(rows)
        if (incorrect(first) or (keep_correct and correct(first))) and partners(number)
    ]
    contexts = Counter((rows[number][0], 100 + rows[number][1][2], 1, 211) for number in firsts)
    assert Counter(example.context_ids for example in found) == contexts
    allowed: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for number in firsts:
        allowed.setdefault((rows[number][0], 100 + rows[number][1][2], 1, 211), set()).update(partners(number))
    assert all(example.answer_ids in allowed[example.context_ids] for example in found)
    assert found == pairs(states, shown_again, random.Random(seed), keep_correct=keep_correct)


def shown_again(first: Generation) -> list[int]:
    return [*first["prompt_ids"], *first["completion_ids"], 211]


def test_a_right_sample_is_never_paired_with_itself() -> None:
    alone = [episode(0, ("correct", "stop", 0)), episode(0, ("wrong", "stop", 1))]
    found = pairs(alone, shown_again, random.Random(0), keep_correct=True)
    assert [example.kind for example in found] == ["incorrect to correct"]


@given(st.lists(st.tuples(st.integers(0, 3), answer)))
def test_a_problem_is_unsolved_if_all_its_samples_are_judged_and_none_is_right(rows: list[tuple[int, Answer]]) -> None:
    expected = {
        f"p{problem}"
        for problem in {problem for problem, _ in rows}
        if all(incorrect(first) for asked, first in rows if asked == problem)
    }
    assert unsolved(episode(*row) for row in rows) == expected


def test_a_rationalised_answer_is_learnt_without_the_hint() -> None:
    with_hint = episode(7, ("correct", "stop", 2))
    with_hint["turns"][0]["generation"]["prompt_ids"] = [7, 55, 55]
    (example,) = rationalised([with_hint, episode(8, ("wrong", "stop", 2))], {"p7": [7], "p8": [8]})
    assert example.context_ids == (7,) and example.answer_ids == (102, 1) and example.kind == "rationalised"


@given(st.lists(st.tuples(st.integers(0, 2), answer)))
def test_an_example_counts_once_however_often_it_was_sampled(rows: list[tuple[int, Answer]]) -> None:
    examples = correct_answers(episode(*row) for row in rows)
    kept = distinct(examples)
    assert ids_of(kept) == list(dict.fromkeys(ids_of(examples)))


@pytest.mark.parametrize("first", ["some text", None])
def test_an_example_survives_its_file(first: str | None) -> None:
    example = Example("p", "incorrect to correct", (1, 2), (3,), first, "answer")
    assert Example.of_row(example.as_row()) == example
