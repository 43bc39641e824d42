"""The judge of Countdown, by hand, by brute force and by property: no rule of it can be lost unseen."""

import asyncio
import pickle
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from selfcorrect.rewards.checker import Checker, Status
from selfcorrect.rewards.countdown import CountdownChecker

CHECKER = CountdownChecker()
REFERENCE = {"numbers": [3, 5, 7], "target": 56}
GOLD = "3 + 5 = 8 ; 8 * 7 = 56"
OPERATORS = "+-*/"

Step = tuple[Fraction, str, Fraction, Fraction]


def judged(response: str, numbers: Sequence[int], target: int) -> tuple[Status, str | None, str]:
    verdict = CHECKER.check_sync(response, {"numbers": numbers, "target": target})
    return verdict.status, verdict.answer, verdict.reason


# By hand.


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (GOLD, GOLD),
        ("5+3=8,7*8=56", "5 + 3 = 8 ; 7 * 8 = 56"),
        ("3 + 5 = 8 ; 8 x 7 = 56", "3 + 5 = 8 ; 8 x 7 = 56"),
        ("3 + 5 = 8\n8 × 7\n= 56", "3 + 5 = 8 ; 8 × 7 = 56"),
        ("first (3 + 5 = 8), then (8 * 7 = 56)!", GOLD),
        (f"3 * 5 = 15 ; 15 + 7 = 22 . wrong {GOLD}", GOLD),
        ("9 + 9 = 1 ; " * 9 + GOLD, GOLD),
    ],
    ids=["gold", "no spaces", "an x", "a sign of its own", "in words", "the last steps count", "however many"],
)
def test_right_answers_are_accepted_and_read_back(response: str, answer: str) -> None:
    assert judged(response, [3, 5, 7], 56) == (Status.CORRECT, answer, "the steps reach 56")


def test_values_between_may_be_fractions_and_zero() -> None:
    assert judged("7 / 2 = 7/2 ; 7/2 * 4 = 14", [2, 4, 7], 14)[0] is Status.CORRECT
    assert judged("7 ÷ 2 = 14/4 ; 14/4 - 3 = 1/2 ; 1/2 * 6 = 3", [2, 3, 6, 7], 3)[0] is Status.CORRECT
    assert judged("3 - 3 = 0 ; 0 / 7 = 0", [3, 3, 7], 0)[0] is Status.CORRECT
    assert judged("7 / 3 = 2 ; 2 * 4 = 8", [3, 4, 7], 8)[2] == "'7 / 3 = 2' is false: it makes 7/3"


@pytest.mark.parametrize(
    ("response", "numbers", "target", "reason"),
    [
        ("3 + 5 = 8", [3, 5, 7], 8, "3 numbers need 2 steps, found 1"),
        ("3 + 5 = 8 ; 8 * 7 = 56", [3, 5, 7, 9], 56, "4 numbers need 3 steps, found 2"),
        ("5 + 5 = 10 ; 10 + 7 = 17", [3, 5, 7], 17, "in '5 + 5 = 10', 5 is not available"),
        ("3 + 5 = 8 ; 3 + 7 = 10", [3, 5, 7], 10, "in '3 + 7 = 10', 3 is not available"),
        ("3 + 5 = 8 ; 8 * 8 = 64", [3, 5, 7], 64, "in '8 * 8 = 64', 8 is not available"),
        ("3 + 5 = 8 ; 7 * 7 = 49", [3, 5, 7], 49, "in '7 * 7 = 49', 7 is not available"),
        ("9 + 5 = 14 ; 14 * 7 = 98", [3, 5, 7], 98, "in '9 + 5 = 14', 9 is not available"),
        ("3 + 5 = 9 ; 9 * 7 = 63", [3, 5, 7], 63, "'3 + 5 = 9' is false: it makes 8"),
        ("3 + 5 = 8 ; 8 * 7 = 57", [3, 5, 7], 57, "'8 * 7 = 57' is false: it makes 56"),
        ("3 - 5 = 2 ; 2 * 7 = 14", [3, 5, 7], 14, "'3 - 5 = 2' is false: it makes -2"),
        ("3 - 3 = 0 ; 7 / 0 = 7", [3, 3, 7], 7, "'7 / 0 = 7' divides by zero"),
        ("3 - 3 = 0 ; 7 ÷ 0 = 0", [3, 3, 7], 0, "'7 ÷ 0 = 0' divides by zero"),
        ("3/0 + 5 = 8 ; 8 * 7 = 56", [3, 5, 7], 56, "'3/0 + 5 = 8' divides by zero"),
        ("3 + 5/0 = 8 ; 8 * 7 = 56", [3, 5, 7], 56, "'3 + 5/0 = 8' divides by zero"),
        ("3 + 5 = 8/0 ; 8 * 7 = 56", [3, 5, 7], 56, "'3 + 5 = 8/0' divides by zero"),
        ("3 * 5 = 15 ; 15 + 7 = 22", [3, 5, 7], 56, "the steps reach 22, not 56"),
        (f"{GOLD} ; no : 3 * 5 = 15 ; 15 + 7 = 22", [3, 5, 7], 56, "the steps reach 22, not 56"),
        (f"{GOLD} ; 56 + 0 = 56", [3, 5, 7], 56, "in '8 * 7 = 56', 8 is not available"),
    ],
)
def test_wrong_answers_are_refused_for_the_right_reason(
    response: str, numbers: list[int], target: int, reason: str
) -> None:
    status, answer, told = judged(response, numbers, target)
    assert (status, told) == (Status.WRONG, reason) and answer is not None


def test_a_number_that_is_given_twice_may_be_used_twice_and_no_more() -> None:
    assert judged("5 + 5 = 10 ; 10 * 7 = 70", [5, 5, 7], 70)[0] is Status.CORRECT
    assert judged("5 + 5 = 10 ; 10 * 5 = 50", [5, 5, 7], 50)[2] == "in '10 * 5 = 50', 5 is not available"


@pytest.mark.parametrize(
    "response",
    [
        "",
        "56",
        "(3 + 5) * 7 = 56",
        "a3 + 5 = 8",
        "1.3 + 5 = 6.3",
        "3 + 5 = 8.0",
        "3 + 5 = 8a",
        "3 + 5 == 8",
        "3 + 5",
        "3 ^ 5 = 243",
        "1234567890 + 1 = 1234567891",
        "1234567893 + 5 = 8",
        "0.3 + 5 = 8",
        "__import__('os').system('true')",
        "\ud800\x00",
    ],
)
def test_what_holds_no_step_is_unreadable(response: str) -> None:
    no_step = (Status.UNREADABLE, None, "no step of the form 'a + b = c' was found")
    assert judged(response, [3, 5, 7], 56) == no_step


def test_numbers_have_nine_digits_at_most() -> None:
    assert judged("999999998 + 1 = 999999999", [999_999_998, 1], 999_999_999)[0] is Status.CORRECT
    assert judged("1 / 999999999 = 1/999999999", [1, 999_999_999], 1)[2] == "the steps reach 1/999999999, not 1"


def test_the_last_twenty_thousand_characters_are_read() -> None:
    assert judged(GOLD + " " * (20_000 - len(GOLD)), [3, 5, 7], 56)[0] is Status.CORRECT
    assert judged("." * 99_999 + " " + GOLD, [3, 5, 7], 56)[0] is Status.CORRECT
    # the first step has begun before them, and is no longer one
    assert judged(GOLD + " " * (20_001 - len(GOLD)), [3, 5, 7], 56)[2] == "3 numbers need 2 steps, found 1"


# By brute force.


def reachable(values: Sequence[Fraction]) -> Iterator[tuple[tuple[Step, ...], Fraction]]:
    """Every way to bring `values` down to one, and the value it ends with; written from the rules of the game alone."""
    if len(values) == 1:
        yield (), values[0]
        return
    for i, j in product(range(len(values)), repeat=2):
        if i == j:
            continue
        left, right = values[i], values[j]
        rest = [value for at, value in enumerate(values) if at not in (i, j)]
        results = {"+": left + right, "-": left - right, "*": left * right} | ({"/": left / right} if right else {})
        for operator, result in results.items():
            for steps, end in reachable([*rest, result]):
                yield ((left, operator, right, result), *steps), end


def written(steps: Sequence[Step]) -> str:
    return " ; ".join(f"{left} {operator} {right} = {result}" for left, operator, right, result in steps)


def can_be_written(steps: Sequence[Step]) -> bool:
    return all(value >= 0 for left, _, right, result in steps for value in (left, right, result))


@pytest.mark.parametrize("numbers", [(2, 3), (3, 3), (4, 2), (1, 0), (5, 1)])
def test_of_all_steps_with_small_numbers_exactly_the_true_ones_are_accepted(numbers: tuple[int, int]) -> None:
    right = {written(steps): end for steps, end in reachable([Fraction(n) for n in numbers]) if can_be_written(steps)}
    for left, operator, other, result in product(range(7), OPERATORS, range(7), range(9)):
        step = f"{left} {operator} {other} = {result}"
        for target in (result, result + 1):
            expected = step in right and right[step] == target
            assert (judged(step, numbers, target)[0] is Status.CORRECT) == expected, (step, numbers, target)


@pytest.mark.parametrize("numbers", [(2, 3, 4), (3, 3, 1), (6, 0, 2)])
def test_every_way_to_the_target_is_accepted_and_leads_nowhere_else(numbers: tuple[int, int, int]) -> None:
    for steps, end in reachable([Fraction(n) for n in numbers]):
        if can_be_written(steps) and end.denominator == 1:
            assert judged(written(steps), numbers, int(end))[0] is Status.CORRECT
            assert judged(written(steps), numbers, int(end) + 1)[0] is Status.WRONG


# By property.


@st.composite
def solved(draw: st.DrawFn) -> tuple[list[int], list[Step]]:
    """Numbers, and steps that use each of them once and end at a whole number."""
    numbers = draw(st.lists(st.integers(1, 12), min_size=2, max_size=5))
    values = [Fraction(n) for n in numbers]
    steps: list[Step] = []
    while len(values) > 1:
        left = values.pop(draw(st.integers(0, len(values) - 1)))
        right = values.pop(draw(st.integers(0, len(values) - 1)))
        results = {"+": left + right, "*": left * right}
        if left >= right:
            results["-"] = left - right
        if right:
            results["/"] = left / right
        operator = draw(st.sampled_from(sorted(results)))
        steps.append((left, operator, right, results[operator]))
        values.append(results[operator])
    assume(steps[-1][3].denominator == 1)
    return numbers, steps


@given(solved(), st.data())
def test_a_solution_is_accepted_until_anything_of_it_is_changed(
    made: tuple[list[int], list[Step]], data: st.DataObject
) -> None:
    numbers, steps = made
    target = int(steps[-1][3])
    assert judged(written(steps), numbers, target)[0] is Status.CORRECT
    assert judged(written(steps), numbers, target + 1)[0] is Status.WRONG
    assert judged(written(steps[1:]), numbers, target)[0] is not Status.CORRECT  # a step too few
    other = list(numbers)
    other[data.draw(st.integers(0, len(numbers) - 1))] += 13  # now a number is used that is not given
    assert judged(written(steps), other, target)[0] is Status.WRONG
    at = data.draw(st.integers(0, len(steps) - 1))
    left, operator, right, result = steps[at]
    false = [*steps[:at], (left, operator, right, result + 1), *steps[at + 1 :]]
    assert judged(written(false), numbers, target)[0] is Status.WRONG


@given(solved(), st.data())
def test_the_order_in_which_numbers_are_given_does_not_matter(
    made: tuple[list[int], list[Step]], data: st.DataObject
) -> None:
    numbers, steps = made
    target = int(steps[-1][3])
    shuffled = data.draw(st.permutations(numbers))
    assert judged(written(steps), shuffled, target) == judged(written(steps), numbers, target)


@given(st.text(alphabet="0123456789 +-*/x×÷=;.\n", max_size=200))
def test_any_text_gets_the_same_verdict_twice(text: str) -> None:
    first, again = CHECKER.check_sync(text, REFERENCE), asyncio.run(CHECKER.check(text, REFERENCE))
    assert (first.status, first.answer, first.reason) == (again.status, again.answer, again.reason)
    assert first.status is not Status.UNJUDGED and (first.answer is None) == (first.status is Status.UNREADABLE)


# As a checker.


def test_it_is_a_checker_that_pickles_and_takes_its_time() -> None:
    assert isinstance(CHECKER, Checker)
    verdict = pickle.loads(pickle.dumps(CHECKER)).check_sync(GOLD, REFERENCE, problem="3 5 7 get 56 :")
    assert verdict.correct and 0 < verdict.seconds < 60


def test_it_knows_the_references_it_can_use() -> None:
    for right in (REFERENCE, {"numbers": (0, 1), "target": -1}, REFERENCE | {"note": "more is no harm"}):
        assert CHECKER.validate_reference(right) is None
    expected = "expected {'numbers': [...], 'target': N}"
    for wrong in (None, 7, [3, 5], {}, {"numbers": [3, 5]}, {"target": 5}):
        assert CHECKER.validate_reference(wrong) == expected
    for numbers in ([3], [], "35", [3, -1], [3, 5.0], [3, True], {3: 5, 4: 6}):
        told = CHECKER.validate_reference({"numbers": numbers, "target": 5})
        assert told == f"'numbers' must be two or more whole numbers, got {numbers!r}"
    for target in ("5", 5.0, None, True):
        told = CHECKER.validate_reference({"numbers": [3, 5], "target": target})
        assert told == f"'target' must be a whole number, got {target!r}"
