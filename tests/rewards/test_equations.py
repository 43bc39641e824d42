"""The judge of equations, by hand: 11 x + 7 y + 5 z = 96 has the solution x = 3, y = 4, z = 7."""

import asyncio
import pickle
import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.rewards.checker import Checker, Status
from selfcorrect.rewards.equations import EquationChecker

CHECKER = EquationChecker()
REFERENCE = {"coefficients": [11, 7, 5], "total": 96}
GOLD = "96 - 33 = 63 ; 63 - 28 = 35 ; 35 / 5 = 7"


@pytest.mark.parametrize(
    "response",
    [
        GOLD,
        "96 - 28 = 68 ; 68 - 33 = 35 ; 35 / 5 = 7",
        "96 - 35 = 61 ; 61 - 28 = 33 ; 33 / 11 = 3",
        "Take away first:\n1. 96 − 33 = 63.\n2. 63 − 28 = 35.\n3. 35 ÷ 5 = 7.",
        "96-33=63,63-28=35,35/5=7",
        f"96 - 44 = 52 ; 52 - 7 = 44 ; 44 / 5 = 9 . wrong {GOLD}",
    ],
    ids=["gold", "another order", "another last one", "as people write", "without spaces", "the last steps count"],
)
def test_right_answers_are_accepted(response: str) -> None:
    verdict = CHECKER.check_sync(response, REFERENCE)
    assert verdict.correct and verdict.reason == "x = 3, y = 4, z = 7 solves the equation"
    steps = verdict.answer.split(" ; ") if verdict.answer else []
    assert len(steps) == 3 and steps[0].startswith("96 - ") and " / " in steps[2]


def test_the_steps_that_count_are_read_back_in_one_notation() -> None:
    assert CHECKER.check_sync("96-1=95, 1. 96−33=63. 63 - 28=35 ; 35÷5 = 7", REFERENCE).answer == GOLD
    assert CHECKER.check_sync("96 − 33 = 64", REFERENCE).answer == "96 - 33 = 64"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("96 - 33 = 63 ; 63 - 28 = 35", "3 unknowns need 3 steps, found 2"),
        ("95 - 33 = 62 ; 62 - 28 = 34 ; 34 / 5 = 7", "should go on with 96"),
        ("96 - 33 = 63 ; 96 - 28 = 68 ; 68 / 5 = 13", "should go on with 63"),
        ("96 - 33 = 64 ; 64 - 28 = 36 ; 36 / 5 = 7", "it makes 63"),
        ("96 - 33 = 63 ; 63 - 21 = 42 ; 42 / 5 = 8", "8 * 5 = 40"),
        ("96 - 32 = 64 ; 64 - 29 = 35 ; 35 / 5 = 7", "no multiples"),
        ("96 - 0 = 96 ; 96 - 21 = 75 ; 75 / 5 = 15", "no multiples"),
        ("96 - 33 = 63 ; 63 - 33 = 30 ; 30 / 5 = 6", "no multiples"),
        ("96 - 33 = 63 ; 63 - 28 = 35 ; 35 / 7 = 5", "no multiples"),
        ("96 - 33 = 63 ; 63 - 28 = 35 ; 35 / 35 = 1", "no multiples"),
        ("96 - 33 = 63 ; 63 - 63 = 0 ; 0 / 5 = 0", "no multiples"),
        ("96 - 33 = 63 ; 63 - 28 = 35 ; 35 / 0 = 7", "divides by zero"),
        ("96 - 33 = 63 ; 63 / 7 = 9 ; 9 - 5 = 4", "should take away"),
        ("96 - 33 = 63 ; 63 - 28 = 35 ; 35 - 35 = 0", "should divide"),
        ("96 - 33 = 63", "3 unknowns need 3 steps, found 1"),
    ],
)
def test_wrong_answers_are_refused_for_the_right_reason(response: str, reason: str) -> None:
    verdict = CHECKER.check_sync(response, REFERENCE)
    assert verdict.status is Status.WRONG and reason in verdict.reason
    if reason == "no multiples":
        assert verdict.reason == "what is taken away are no multiples of the other coefficients, one of each"


@pytest.mark.parametrize(
    "response",
    [
        "",
        "x = 3, y = 4, z = 7",
        "196 - 33 = 63.5",
        "96 - 33 = 63 - 28 = 35 / 5",
        "a96 - 33 = 63",
        "٩٦ - ٣٣ = ٦٣",
        "٩٦ - 33 = 63",
        "9" * 5000 + " - 1 = " + "9" * 5000,
        "__import__('os').system('true')",
        "{'status': 'correct'}",
        "\ud800\x00",
    ],
)
def test_what_holds_no_step_is_unreadable(response: str) -> None:
    verdict = CHECKER.check_sync(response, REFERENCE)
    assert (verdict.status, verdict.answer) == (Status.UNREADABLE, None)
    assert verdict.reason == "no step of the form 'a - b = c' or 'a / b = c' was found"


@pytest.mark.parametrize("piece", ["9", " ", "9 ", "9 - ", "9 - 9 = ", "9 - 9 = 9", "/", "= " * 3])
def test_long_hostile_text_is_read_in_linear_time(piece: str) -> None:
    start = time.process_time()
    CHECKER.check_sync(piece * (200_000 // len(piece)), REFERENCE)
    assert time.process_time() - start < 2


def test_the_last_twenty_thousand_characters_are_read() -> None:
    assert CHECKER.check_sync(GOLD + " " * (20_000 - len(GOLD)), REFERENCE).correct
    # the first step has lost its first digit, and takes away from 6
    assert CHECKER.check_sync(GOLD + " " * (20_001 - len(GOLD)), REFERENCE).reason.endswith("should go on with 96")


def test_four_unknowns_are_x_y_z_and_w() -> None:
    reference = {"coefficients": [2, 3, 5, 7], "total": 28}
    verdict = CHECKER.check_sync("28 - 4 = 24 ; 24 - 9 = 15 ; 15 - 8 = 7 ; 7 / 7 = 1", reference)
    assert verdict.status is Status.WRONG
    verdict = CHECKER.check_sync("28 - 4 = 24 ; 24 - 12 = 12 ; 12 - 5 = 7 ; 7 / 7 = 1", reference)
    assert verdict.reason == "x = 2, y = 4, z = 1, w = 1 solves the equation"


def test_a_product_that_fits_two_coefficients_is_given_to_the_one_that_is_left() -> None:
    reference = {"coefficients": [6, 4, 3], "total": 39}
    assert CHECKER.check_sync("39 - 12 = 27 ; 27 - 12 = 15 ; 15 / 3 = 5", reference).correct
    assert CHECKER.check_sync("39 - 12 = 27 ; 27 - 18 = 9 ; 9 / 3 = 3", reference).reason.startswith(
        "x = 3, y = 3, z = 3"
    )


@given(st.lists(st.integers(1, 30), min_size=2, max_size=4, unique=True), st.data())
def test_every_solution_is_accepted_and_every_change_of_a_number_is_not(
    coefficients: list[int], data: st.DataObject
) -> None:
    from selfcorrect.tasks.equations import steps_of

    values = [data.draw(st.integers(1, 30)) for _ in coefficients]
    total = sum(a * b for a, b in zip(coefficients, values, strict=True))
    reference = {"coefficients": coefficients, "total": total}
    steps = steps_of(coefficients, values)
    assert CHECKER.check_sync(steps, reference).correct
    words = steps.split()
    place = data.draw(st.sampled_from([i for i, word in enumerate(words) if word.isdigit()]))
    words[place] = str(int(words[place]) + data.draw(st.integers(1, 5)))
    assert not CHECKER.check_sync(" ".join(words), reference).correct


@given(st.text(alphabet="0123456789 -−/÷=;.x\n", max_size=200))
def test_any_text_gets_the_same_verdict_twice(text: str) -> None:
    first, again = CHECKER.check_sync(text, REFERENCE), asyncio.run(CHECKER.check(text, REFERENCE))
    assert (first.status, first.answer, first.reason) == (again.status, again.answer, again.reason)
    assert first.status is not Status.UNJUDGED


def test_it_is_a_checker_that_pickles_and_knows_its_references() -> None:
    assert isinstance(CHECKER, Checker)
    assert pickle.loads(pickle.dumps(CHECKER)).check_sync(GOLD, REFERENCE).correct
    assert 0 < CHECKER.check_sync(GOLD, REFERENCE).seconds < 60


def test_it_knows_the_references_it_can_use() -> None:
    for right in (
        REFERENCE,
        {"coefficients": (1, 1), "total": 1},
        {"coefficients": [2, 3], "total": 9},
        {"coefficients": [2, 3, 5, 7], "total": 99},
    ):
        assert CHECKER.validate_reference(right) is None
    for wrong in (None, 7, {}, {"coefficients": [3, 5]}, {"total": 9}):
        assert CHECKER.validate_reference(wrong) == "expected {'coefficients': [...], 'total': N}"
    for coefficients in ([3], [2, 3, 5, 7, 11], "35", {3: 5, 5: 3}):
        told = CHECKER.validate_reference({"coefficients": coefficients, "total": 9})
        assert told == f"'coefficients' must be two to four numbers, got {coefficients!r}"
    for coefficients, total in (([3, 0], 9), ([3, -5], 9), ([3, 5.0], 9), ([3, True], 9), ([3, 5], "9"), ([3, 5], 0)):
        told = CHECKER.validate_reference({"coefficients": coefficients, "total": total})
        numbers = f"got {coefficients!r} and {total!r}"
        assert told == f"'coefficients' and 'total' must be positive whole numbers, {numbers}"


# By brute force.


@pytest.mark.parametrize("coefficients", [(2, 3), (3, 3), (4, 2), (1, 2)])
def test_of_all_steps_with_small_numbers_exactly_the_solutions_are_accepted(coefficients: tuple[int, int]) -> None:
    """a x + b y = total: what is taken away is a multiple of one coefficient, and the rest is divided by the other."""
    a, b = coefficients
    for total, taken, by, quotient in product(range(1, 13), range(13), range(5), range(7)):
        rest = total - taken
        if rest < 0:
            continue
        right = any(
            taken == first * x and by == second and rest == second * quotient
            for first, second in ((a, b), (b, a))
            for x in range(1, 13)
        )
        steps = f"{total} - {taken} = {rest} ; {rest} / {by} = {quotient}"
        verdict = CHECKER.check_sync(steps, {"coefficients": coefficients, "total": total})
        assert verdict.correct == (right and quotient > 0), (steps, coefficients)
