"""What votes count as the same answer."""

import asyncio
from collections.abc import Callable

import pytest

from selfcorrect.agents.search.state import answer_key, shown_to_verifier, strictly_counted_as
from selfcorrect.rewards.answer_keys import countdown_expression
from selfcorrect.rewards.checkers import CHECKERS, KeyedChecker, known_checker
from selfcorrect.tasks.problem import Problem


def problem(prompt: str, checker: str = "countdown") -> Problem:
    return Problem(id="p", prompt=prompt, reference=None, checker=checker)


def strictly(asked: Problem) -> Callable[[str], str | None]:
    return lambda response: asyncio.run(strictly_counted_as(asked, response))


THREE = problem("3 5 7 get 56 :")


def test_countdown_answers_vote_by_their_last_equation() -> None:
    key = answer_key(THREE)
    assert (
        key("3 + 5 = 8 ; 8 * 7 = 56") == key("5 + 3 = 8 ; 7 * 8 = 56") == key("9 - 1 = 8 ; 7 * 8 = 56") == "7 * 8 = 56"
    )
    assert key("8 - 7 = 1 ; 57 - 1 = 56") == "57 - 1 = 56"
    assert key("8 * 7 = 56") is None  # two steps are needed
    assert key("no") is None


def test_of_a_revised_answer_the_last_steps_count() -> None:
    assert answer_key(THREE)("8 * 7 = 55 wrong 3 + 5 = 8 ; 8 * 7 = 56") == "7 * 8 = 56"
    assert shown_to_verifier(THREE, "8 * 7 = 55 wrong 3 + 5 = 8 ; 8 * 7 = 56") == "3 + 5 = 8 ; 8 * 7 = 56"
    key = strictly(THREE)
    assert key("8 * 7 = 55 wrong 3 + 5 = 8 ; 8 * 7 = 56") == key("3 + 5 = 8 ; 8 * 7 = 56") == "3 + 5 = 8 ; 7 * 8 = 56"
    assert key("8 * 7 = 56") is None, "two steps are needed"


def test_expressions_keep_all_equations_apart_and_forget_their_order() -> None:
    key = strictly(problem("1 2 3 4 get 10 :"))
    assert key("1 + 2 = 3 ; 4 + 3 = 7 ; 7 + 3 = 10") == key("3 + 4 = 7 ; 2 + 1 = 3 ; 3 + 7 = 10")
    assert key("1 + 2 = 3 ; 4 + 3 = 7 ; 7 + 3 = 10") != key("1 + 2 = 3 ; 4 + 4 = 7 ; 7 + 3 = 10")
    assert countdown_expression("7 - 3 = 4") != countdown_expression("3 - 7 = 4")


def test_countdown_in_words_needs_as_many_steps() -> None:
    words = problem("Using the numbers 3 5 7, each exactly once, and + - * /, reach 56. Write every step")
    assert answer_key(words)("8 * 7 = 56") is None and answer_key(words)("3 + 5 = 8 ; 8 * 7 = 56") == "7 * 8 = 56"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (r"so \boxed{12}", "The answer is 12.", True),
        (r"\boxed{\frac{1}{2}}", r"\boxed{ \frac{1}{2} }", True),
        (r"\boxed{12}", r"\boxed{13}", False),
    ],
)
def test_mathematics_votes_by_what_the_checker_would_read(one: str, other: str, equal: bool) -> None:
    key = answer_key(problem("?", "math"))
    assert (key(one) == key(other)) is equal


def test_equations_vote_by_the_values_of_their_unknowns() -> None:
    key = answer_key(problem("11 x + 7 y + 5 z = 96 :", "equations"))
    assert key("96 - 33 = 63 ; 63 - 28 = 35 ; 35 / 5 = 7") == key("96 - 28 = 68 ; 68 - 33 = 35 ; 35 / 5 = 7")
    assert key("35 / 5 = 7") is None


def test_programs_and_other_texts_vote_as_they_are() -> None:
    assert answer_key(problem("?", "code"))("```python\nx = 1\n```") == "x = 1"
    assert answer_key(problem("?", "none"))(" yes ") == "yes" and answer_key(problem("?", "none"))("  ") is None


@pytest.mark.parametrize("name", CHECKERS)
def test_every_checker_of_the_registry_brings_its_own_key(name: str) -> None:
    assert isinstance(known_checker(name), KeyedChecker)
