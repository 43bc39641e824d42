"""What must hold for every expression, not only for examples."""

import asyncio
import pickle
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from selfcorrect.rewards.maths import MathChecker
from selfcorrect.rewards.maths.equality import equal
from selfcorrect.rewards.maths.numerals import read_numeral
from selfcorrect.rewards.maths.syntax import Node, parse
from selfcorrect.rewards.maths.text import clean
from selfcorrect.rewards.maths.tokens import NotUnderstood, TooIntricate
from selfcorrect.rewards.maths.values import NoValue, TooCostly, evaluate

with_fixtures = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

whole = st.integers(-10_000, 10_000)
fractions = st.fractions(min_value=-1000, max_value=1000, max_denominator=500)
names = st.sampled_from("xyzn")


def grown(inner: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: (f"({p[0][0]}) + ({p[1][0]})", f"{{{p[1][1]}}} + {{{p[0][1]}}}")),
        pair.map(lambda p: (f"({p[0][0]}) * ({p[1][0]})", rf"\left({p[1][1]}\right)\cdot\left({p[0][1]}\right)")),
        pair.map(lambda p: (f"({p[0][0]}) - ({p[1][0]})", rf"-\left({p[1][1]}\right) + {{{p[0][1]}}}")),
        inner.map(lambda e: (f"({e[0]})^2", rf"\left({e[1]}\right)\left({e[1]}\right)")),
        inner.map(lambda e: (f"({e[0]})/3", rf"\frac{{{e[1]}}}{{3}}")),
        inner.map(lambda e: (f"sqrt(2)*({e[0]})", rf"\frac{{2\left({e[1]}\right)}}{{\sqrt{{2}}}}")),
    )


def tree(text: str) -> Node:
    return parse(clean(text))


atoms = st.one_of(st.integers(0, 99).map(lambda n: (str(n), str(n))), names.map(lambda n: (n, n)))
written_twice = st.recursive(atoms, grown, max_leaves=6)
"""Pairs of texts: one expression, written plainly and in LaTeX, with terms and factors swapped and forms changed."""


@with_fixtures
@given(written_twice)
def test_an_expression_written_in_two_ways_is_one(pair: tuple[str, str]) -> None:
    plain, latex = pair
    try:
        assert equal(tree(plain), tree(latex)) is True
    except TooCostly:
        pass


@with_fixtures
@given(written_twice)
def test_an_expression_plus_one_is_another(pair: tuple[str, str]) -> None:
    plain, latex = pair
    try:
        assert equal(tree(plain), tree(f"{{{latex}}} + 1")) is False
    except TooCostly:
        pass


@with_fixtures
@given(written_twice, written_twice)
def test_equality_is_symmetric(first: tuple[str, str], second: tuple[str, str]) -> None:
    left, right = tree(first[0]), tree(second[1])
    try:
        assert equal(left, right) == equal(right, left)
    except TooCostly:
        pass


@with_fixtures
@given(fractions)
@example(Fraction(0))
@example(Fraction(-1, 3))
def test_every_way_of_writing_a_fraction_is_that_fraction(value: Fraction) -> None:
    top, bottom = value.numerator, value.denominator
    ways = [
        f"{top}/{bottom}",
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"{'-' if top < 0 else ''}\dfrac{{{abs(top)}}}{{{bottom}}}".replace("d", "", 1),
    ]
    if bottom > 1 and abs(top) > bottom:
        sign = "-" if top < 0 else ""
        ways += [
            rf"{sign}{abs(top) // bottom} {abs(top) % bottom}/{bottom}",
            rf"{sign}{abs(top) // bottom}\frac{{{abs(top) % bottom}}}{{{bottom}}}",
        ]
    for way in ways:
        numeral = read_numeral(way)
        assert numeral is not None, way
        assert numeral.value == value


@with_fixtures
@given(st.decimals(min_value=-(10**6), max_value=10**6, allow_nan=False, places=4))
def test_decimals_are_read_exactly(value: object) -> None:
    numeral = read_numeral(f"{value:f}")
    assert numeral is not None
    assert numeral.value == Fraction(str(value))


@with_fixtures
@given(whole, whole)
def test_numbers_are_correct_exactly_when_they_are_equal_and_in_both_directions(
    checker: MathChecker, first: int, second: int
) -> None:
    there = checker.check_sync(rf"\boxed{{{first}}}", str(second)).correct
    back = checker.check_sync(rf"\boxed{{{second}}}", str(first)).correct
    assert there == back == (first == second)


@with_fixtures
@given(written_twice)
def test_checking_agrees_in_both_directions_for_expressions_with_variables(
    checker: MathChecker, pair: tuple[str, str]
) -> None:
    plain, latex = pair
    if not any(name in plain for name in "xyzn"):
        return
    assert checker.check_sync(rf"\boxed{{{latex}}}", plain).correct
    assert checker.check_sync(rf"\boxed{{{plain}}}", latex).correct


@pytest.mark.parametrize(
    ("answer", "reference", "correct"),
    [
        (r"{(0)(0)} + {x + 0}", "((0) + (x)) + ((0)^2)", True),  # neither is combined, however 0 is written
        (r"4 + x + 3", "x + 7", False),
        (r"2^2 + x + 3", "x + 7", False),
        (r"2 \cdot 2 + x + 3", "x + 7", False),
        (r"2^3 + x", "x + 8", True),  # two terms, that are not alike
        (r"x + 2^{1/2} + 3", r"x + 3 + \sqrt{2}", True),
        (r"x + \sqrt{2} + \sqrt{3}", r"\sqrt{3} + x + \sqrt{2}", True),
    ],
)
def test_numbers_are_alike_however_they_are_written(answer: str, reference: str, correct: bool) -> None:
    assert MathChecker().check_sync(rf"\boxed{{{answer}}}", reference).correct is correct


@with_fixtures
@given(st.lists(whole, min_size=2, max_size=5), st.sampled_from([("(", ")"), (r"\{", r"\}"), ("", "")]))
def test_order_matters_in_tuples_and_lists_and_not_in_sets(
    checker: MathChecker, items: list[int], brackets: tuple[str, str]
) -> None:
    written, turned = (brackets[0] + ", ".join(map(str, order)) + brackets[1] for order in (items, items[::-1]))
    expected = items == items[::-1] or brackets[0] == r"\{"
    assert checker.check_sync(rf"\boxed{{{turned}}}", written).correct == expected


@with_fixtures
@given(st.text(max_size=300))
@example("\ud800")
@example("\x00")
def test_any_text_is_survived_as_response_and_as_reference(checker: MathChecker, text: str) -> None:
    first = checker.check_sync(text, "42")
    again = checker.check_sync(text, "42")
    assert (first.status, first.answer, first.reason) == (again.status, again.answer, again.reason)
    assert checker.check_sync("42", text).status.value in ("correct", "wrong", "unreadable", "unjudged")


@with_fixtures
@given(st.text(alphabet="0123456789+-*/^!(){}[]|\\.,= xyπ√abcdefrstin_%", max_size=60))
def test_the_parser_understands_a_text_or_says_that_it_does_not(text: str) -> None:
    try:
        understood = parse(text)
    except (NotUnderstood, TooIntricate):
        return
    try:
        evaluate(understood)
    except (NoValue, TooCostly):
        pass


@with_fixtures
@given(st.text(alphabet="0123456789+-*/^(){}\\.,= xyabc_%'\"$", min_size=1, max_size=40))
def test_a_reference_that_passes_validation_accepts_itself(checker: MathChecker, text: str) -> None:
    if checker.validate_reference(text) is None:
        assert checker.check_sync(rf"\boxed{{{text.strip().rstrip(chr(92))}}}", text).correct


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "   ",
        "$$",
        r"\frac{1}{",
        "(1, 2",
        "1)",
        "x" * 500,
        "because it depends on how many people there are in the room",
        None,
        [1],
        {"a": 1},
        True,
        r"\qwertz{3}{4}",
        "3 +",
        "= =",
    ],
)
def test_references_that_are_no_answers_are_refused_with_a_reason(checker: MathChecker, reference: object) -> None:
    reason = checker.validate_reference(reference)
    assert reason
    assert checker.check_sync("42", reference).status.value in ("unjudged", "wrong")


@pytest.mark.parametrize(
    ("reference", "response"), [(42, "42"), (0.5, r"\boxed{\frac12}"), (-3, "x = -3"), (1e-05, "0.00001")]
)
def test_numbers_as_json_has_them_are_references_too(checker: MathChecker, reference: float, response: str) -> None:
    assert checker.validate_reference(reference) is None
    assert checker.check_sync(response, reference).correct


def test_a_worked_solution_is_a_reference_by_its_marked_answer(checker: MathChecker) -> None:
    assert checker.check_sync("24", r"Since $4! = 24$, the answer is $\boxed{24}$.").correct
    assert checker.check_sync("72", "Natalia sold 48/2 = 24 clips.\n#### 72").correct


@pytest.mark.slow
def test_async_and_pickled_checkers_say_the_same(checker: MathChecker) -> None:
    cases = [(r"\boxed{1}", r"\int_0^1 2x dx"), (r"\boxed{2}", r"\int_0^1 2x dx"), ("42", "42"), ("41", "42")]
    with pickle.loads(pickle.dumps(MathChecker(workers=1, deadline=20.0))) as copy:

        async def all_at_once() -> list[bool]:
            return [verdict.correct for verdict in await asyncio.gather(*(copy.check(*case) for case in cases))]

        assert (
            asyncio.run(all_at_once())
            == [checker.check_sync(*case).correct for case in cases]
            == [True, False, True, False]
        )
