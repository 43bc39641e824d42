import pytest

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.maths import MathChecker
from selfcorrect.rewards.maths.finding.extraction import find_answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"So the sum is \boxed{42}.", "42"),
        (r"First \boxed{41}. Wait, I made a mistake. \boxed{42}", "42"),
        (r"\boxed{41}. No: the answer is 42.", "42"),
        (r"The answer is 41, so \boxed{42}", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}} is the set.", r"\{1, 2\}"),
        (r"\boxed 7", "7"),
        (r"I will write my answer in \boxed{}. It is \boxed{5}. (See \boxed{}.)", "5"),
        ("The answer is 41.\nThe answer is 42.", "42"),
        ("Final Answer: 42", "42"),
        ("**Answer:** $x^2 + 1$", "$x^2 + 1$"),
        ("The final answer is $\\frac{3}{4}$. I hope it is correct.", "$\\frac{3}{4}$"),
        ("The answer to the question is 12 apples.", "12 apples"),
        ("Natalia sold 48/2 = 24 clips.\n#### 72", "72"),
        ("<answer>42</answer>", "42"),
        ("<think>the answer is 41</think>It is 42", "42"),
        (r"<think>\boxed{41} or so</think>\boxed{42}", "42"),
        ("So 41, wait, 42", "42"),
        ("3 plus 4 makes 7, and 7 times 2 is 14.", "14"),
        ("We get $x = 3$, hence $y = 5$.", "y = 5"),
        ("It costs $1,234.50 in all.", "$1,234.50"),
        ("1/2", "1/2"),
        ("(3, 4)", "(3, 4)"),
        ("x = 4", "x = 4"),
        ("The points are (1, 2) and then (3, 4).", "(3, 4)"),
        (r"The answer is $\frac{1}{2}$, because half of it is left.", r"$\frac{1}{2}$"),
        (r"$x = \boxed{3}$ and $y = \boxed{5}$", "3 and 5"),
        (r"\boxed{3} \text{ and } \boxed{5}", "3 and 5"),
    ],
)
def test_the_last_answer_that_is_stated_counts(response: str, answer: str) -> None:
    assert find_answer(response).text == answer


@pytest.mark.parametrize(
    "response",
    [
        "",
        "   \n",
        "I do not know.",
        r"The result is \boxed{\frac{1}{2",
        r"\boxed{}",
        "No idea at all, sorry about that, really.",
    ],
)
def test_a_response_without_an_answer_is_unreadable(checker: MathChecker, response: str) -> None:
    verdict = checker.check_sync(response, "42")
    assert verdict.status is Status.UNREADABLE
    assert verdict.answer is None
    assert verdict.score == 0.0


def test_a_box_that_is_cut_off_is_not_replaced_by_an_earlier_one(checker: MathChecker) -> None:
    assert checker.check_sync(r"\boxed{42} or rather \boxed{43", "42").status is Status.UNREADABLE


@pytest.mark.parametrize(
    "response",
    [
        "17 or 18",
        "The answer is 17 or 18.",
        r"\boxed{17 \text{ or } 18}",
        r"\boxed{17} or \boxed{18}",
        r"\boxed{17} or 18",
        r"\boxed{17} (or maybe 18)",
        r"The answer is 17. Or maybe 18.",
        "It is 17, or maybe 18",
        "It is 18, perhaps 17",
        r"\boxed{17, 18}",
        r"\boxed{\{17, 18\}}",
        r"\boxed{17 and 18}",
        r"\boxed{17/18}",
        r"\boxed{17 \pm 0, 18}",
    ],
)
@pytest.mark.parametrize("reference", ["17", "18"])
def test_a_hedge_is_wrong_whichever_half_is_right(checker: MathChecker, response: str, reference: str) -> None:
    assert checker.check_sync(response, reference).status is Status.WRONG


@pytest.mark.parametrize(
    "response",
    ["(A) or (B)", r"\boxed{A, B}", r"\boxed{(A) (B) (C) (D)}", "A and B", r"\boxed{A/B}", "The answer is A or B."],
)
@pytest.mark.parametrize("reference", ["A", "B"])
def test_two_choices_are_no_choice(checker: MathChecker, response: str, reference: str) -> None:
    assert not checker.check_sync(response, reference).correct


def test_alternatives_that_are_one_value_are_no_hedge(checker: MathChecker) -> None:
    assert checker.check_sync(r"\boxed{1/2 \text{ or } 0.5}", "1/2").correct


def test_a_verdict_shows_the_answer_it_judged_and_a_reason(checker: MathChecker) -> None:
    verdict = checker.check_sync(r"Hence \boxed{3 \text{ km}}.", "3 m")
    assert verdict.answer == r"3 \text{ km}"
    assert verdict.reason == "its unit is km, the reference's m"
