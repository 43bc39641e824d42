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
        (r"$x = \boxed{3}$ and $y = \boxed{5}$", "3, 5"),
        (r"$x = \boxed{3}$ and $x = \boxed{5}$", "3 and 5"),
        (r"$x_1 = \boxed{3}$ and $x_2 = \boxed{5}$", "3 and 5"),
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


# response, reference, whether it counts: what stands around a number, in a box and in running text
SURROUNDINGS = [
    ("\\boxed{42\\text{ or }42}", "42", True),
    ("\\boxed{42K}", "42", False),
    ("\\boxed{42k}", "42", False),
    ("\\boxed{42\\text{k}}", "42", False),
    ("\\boxed{42M}", "42", False),
    ("\\boxed{42\\text{ bn}}", "42", False),
    ("\\boxed{42e3}", "42", False),
    ("\\boxed{42 \\times 10^3}", "42", False),
    ("\\boxed{42\\%}", "42", False),
    ("\\boxed{42‰}", "42", False),
    ("\\boxed{42^\\circ}", "42", True),
    ("\\boxed{42!}", "42", False),
    ("\\boxed{42'}", "42", False),
    ("\\boxed{\\frac{42}{1}}", "42", False),
    ("\\boxed{42.}", "42", True),
    ("\\boxed{+42}", "42", True),
    ("\\boxed{42 \\text{ apples}}", "42 \\text{ oranges}", False),
    ("\\boxed{x=42}", "42", True),
    ("\\boxed{42=x}", "42", False),
    ("\\boxed{\\text{forty-two}}", "42", True),
    ("\\boxed{42 \\text{ (approximately)}}", "42", True),
    ("\\boxed{\\approx 42}", "42", True),
    ("\\boxed{>42}", "42", False),
    ("\\boxed{\\geq 42}", "42", False),
    ("\\boxed{42, 43}", "42", False),
    ("\\boxed{\\{42\\}}", "42", False),
    ("\\boxed{(42)}", "42", True),
    ("\\boxed{42\\sqrt{1}}", "42", False),
    ("\\boxed{84 \\div 2}", "42", False),
    ("\\boxed{\\text{42 half}}", "42", False),
    ("\\boxed{42 \\text{ per cent}}", "42", False),
    ("\\boxed{42 \\text{ degrees below zero}}", "42", False),
    ("\\boxed{42 \\text{ zillions}}", "42", False),
    ("\\boxed{42 \\text{ in base 8}}", "42", False),
    ("\\boxed{42_{8}}", "42", False),
    ("\\boxed{42 \\text{ times } 2}", "42", False),
    ("\\boxed{42 \\text{ pairs}}", "42", False),
    ("\\boxed{42 \\text{ couples}}", "42", True),
    ("\\boxed{4\\,2}", "42", False),
    ("\\boxed{4{2}}", "42", False),
    ("\\boxed{4 2}", "42", False),
    ("\\boxed{42 \\text{ Mio.}}", "42", False),
    ("\\boxed{42 \\text{ tsd}}", "42", False),
    ("\\boxed{42 \\text{ Hunderttausend}}", "42", False),
    ("\\boxed{42 \\text{ centimillion}}", "42", False),
    ("\\boxed{42\\text{ myriad}}", "42", False),
    ("\\boxed{42\\text{ mille}}", "42", False),
    ("\\boxed{42\\text{ million}}", "42000000", True),
    ("\\boxed{42 \\text{ inverse}}", "42", False),
    ("\\boxed{42\\text{ owed}}", "42", False),
    ("\\boxed{42\\text{ loss}}", "42", False),
    ("\\boxed{\\text{minus } 42}", "42", False),
    ("\\boxed{42\\text{ minus}}", "42", False),
    ("\\boxed{42 \\text{ BC}}", "42", False),
    ("The answer is 42 but I might be wrong.", "42", True),
    ("Answer: 42 (or 43)", "42", False),
    ("The answer is 42/2.", "42", False),
    ("The answer is 42/2.", "21", False),
    ("Answer:42", "42", True),
    ("the answer is -42", "42", False),
    ("The answer is five.", "5", True),
    ("So the answer is $\\frac{1}{2}$ or $0.5$.", "1/2", True),
    ("I think it is 41. Actually no, 42.", "42", True),
    ("The answer: \\(42\\)", "42", True),
    ("**Answer**: 42", "42", True),
    ("**Final answer**\n\n$$42$$", "42", True),
    ("Final Answer: The final answer is $42$. I hope it is correct.", "42", True),
    ("The value of $x$ is 42.", "42", True),
    ("Total = $42", "42", True),
    ("Ответ: 3,5", "3.5", True),
    ("Antwort: 1.234,5", "1234.5", False),
    ("La réponse est 3,5 kg.", "3.5", True),
    ("The answer is 1,000,000", "1000000", True),
    ("It costs $5 each, so 5*8 = $40. The answer is $40.", "40", True),
    ("Answer: 3 hours and 20 minutes", "3", False),
    ("Answer: 5 feet 3 inches", "5", False),
    ("The answer is 42nd.", "42", False),
    ("The answer is 20 minutes past 4.", "4", False),
    ("The probability is 3 in 10", "10", False),
    ("The answer is 3 out of 10.", "3", False),
    ("The answer is one half.", "1/2", True),
    ("x is 3 or x is 4", "3", False),
    ("Therefore, there are 42 students (not 41).", "42", True),
    ("Therefore there are 42 students, not 41.", "42", True),
    ("The answer is A", "A", True),
    ("It is 42 %.", "42", False),
    ("there are 7 days in a week, so 6 weeks is 42 days.", "42", True),
    ("Answer\n42", "42", True),
    ("\\[\n42\n\\]", "42", True),
    ("= 42", "42", True),
    ("42.", "42", True),
]


@pytest.mark.parametrize(("response", "reference", "right"), SURROUNDINGS)
def test_what_stands_around_a_number_is_read_with_it(
    guessing: MathChecker, response: str, reference: str, right: bool
) -> None:
    verdict = guessing.check_sync(response, reference)
    assert verdict.correct is right, verdict


# answer, reference, whether it counts, question
COPIES = [
    ("391", "391", True, "Compute $17\\cdot 23$."),
    ("17\\cdot23", "391", False, "Compute $17\\cdot 23$."),
    ("0.75", "\\frac34", False, "Write $0.75$ as a fraction."),
    ("\\frac34", "\\frac34", True, "Write $0.75$ as a fraction."),
    ("0.75", "\\frac34", True, "What is the chance of the two heads?"),
    ("50\\%", "0.5", False, "Write 50% as a decimal."),
    ("\\sqrt{180}", "6\\sqrt5", False, "Simplify $\\sqrt{180}$."),
    ("\\sqrt{9\\cdot 20}", "6\\sqrt5", False, "Simplify $\\sqrt{180}$."),
    ("x^2-5x+6", "(x-2)(x-3)", False, "Factor $x^2-5x+6$."),
    ("x^2-5x+6=0", "x=2,3", False, "Solve $x^2-5x+6=0$"),
    ("2y-4x=2", "y=2x+1", False, "Write $2y-4x=2$ in slope-intercept form."),
    ("2 < x \\le 5", "(2,5]", False, "Write $2 < x \\le 5$ in interval notation."),
    ("1/2+1/3", "5/6", False, "Find 1/2+1/3"),
    ("12:15", "12:15", True, "It is 12:15"),
    ("\\frac{12x}{4}", "3x", False, "Simplify $\\frac{12x}{4}$."),
    ("3x", "3x", True, "Simplify $\\frac{12x}{4}$."),
    ("\\sin^2 x+\\cos^2 x", "1", False, "Simplify $\\sin^2x+\\cos^2x$"),
    ("1-\\cos^2 x", "\\sin^2 x", False, "Simplify $1-\\cos^2 x$"),
    ("\\frac{1}{\\sqrt2}", "\\frac{\\sqrt2}{2}", False, "Rationalize $\\frac{1}{\\sqrt{2}}$"),
    ("3,1,2", "1,2,3", False, "Sort 3, 1, 2"),
    ("2+3i", "2+3i", True, "What is the conjugate of $2-3i$"),
    ("\\frac{3}{1-x}", "\\frac{3}{1-x}", True, "x"),
    ("0.(27)", "\\frac{3}{11}", False, "Write $0.\\overline{27}$ as a fraction."),
    ("0.27\\overline{27}", "\\frac{3}{11}", False, "Write $0.\\overline{27}$ as a fraction."),
    ("0.272727272727", "\\frac{3}{11}", False, "Write $0.\\overline{27}$ as a fraction."),
    ("0.\\overline{27}", "\\frac{3}{11}", True, "Divide 3 by 11."),
    ("0.750", "\\frac34", False, "Write $0.75$ as a fraction."),
    ("45.0\\%", "0.45", False, "Write $45\\%$ as a decimal."),
    ("3.20e4", "32000", False, "Write $3.2\\times 10^4$ in standard form."),
    ("1.5", "3/2", True, "Compute $\\frac34\\cdot 2$."),
    ("0.5", "0.5", True, "If $p=0.5$, what is $1-p$?"),
    ("\\frac{9-x^2}{3-x}", "x+3", False, "Simplify $\\frac{x^2-9}{x-3}$."),
    ("2\\cdot\\frac{x^2-9}{2x-6}", "x+3", False, "Simplify $\\frac{x^2-9}{x-3}$."),
    ("12x^2(4x)^{-1}", "3x", False, "Simplify $\\frac{6x^2}{2x}$."),
    ("\\frac{6x^2}{2x}", "3x", True, "How far is it?"),
    ("\\frac{x+3}{2}", "\\frac12x+\\frac32", True, "How far is it?"),
    ("\\frac{1}{x}", "x^{-1}", True, "How far is it?"),
    ("\\frac{\\sin x}{\\cos x}", "\\tan x", True, "How far is it?"),
]


@pytest.mark.parametrize(("answer", "reference", "right", "question"), COPIES)
def test_what_the_question_says_is_no_answer_to_it(
    checker: MathChecker, answer: str, reference: str, right: bool, question: str
) -> None:
    verdict = checker.check_sync(rf"\boxed{{{answer}}}", reference, problem=question)
    assert verdict.correct is right, verdict


PARTS = r"(a) \boxed{3} (b) \boxed{5}"


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        (PARTS, True),
        (r"(b) \boxed{5} (a) \boxed{3}", True),
        (r"Part (a): $\boxed{3}$. Part (b): $\boxed{5}$", True),
        (r"**(a)** \boxed{3}, **(b)** \boxed{5}", True),
        (r"(i) \boxed{3} and (ii) \boxed{5}", True),
        (r"\boxed{3} and \boxed{5}", True),
        (r"(a) \boxed{5} (b) \boxed{3}", False),
        (r"(b) \boxed{3} and (a) \boxed{5}", False),
        (r"part a: \boxed{5}, part b: \boxed{3}", False),
        (r"\boxed{5} and \boxed{3}", False),
        (r"(a) \boxed{3}", False),
    ],
)
def test_answers_to_parts_belong_to_their_parts(checker: MathChecker, response: str, correct: bool) -> None:
    assert checker.check_sync(response, PARTS).correct is correct


@pytest.mark.parametrize(
    "denial",
    [
        "The answer is anything but 56",
        "The answer is no longer 56.",
        "I doubt that the answer is 56.",
        "I don't think the answer is 56",
        "I do not believe that the final answer is 56.",
        "It is unlikely that the answer is 56.",
        "It doesn't look like 56.",
        "By no means is the answer 56.",
    ],
)
def test_who_doubts_an_answer_does_not_give_it(checker: MathChecker, denial: str) -> None:
    assert not checker.check_sync(denial, "56").correct


@pytest.mark.parametrize(
    "statement",
    [
        "No doubt the answer is 56.",
        "There is no doubt that the answer is 56.",
        "Without a doubt, the answer is 56.",
        "I don't know why, but the answer is 56.",
        "I don't think we need more steps. The answer is 56.",
        "It doesn't look like much, but it is 56.",
        "The answer is nothing but 56",
    ],
)
def test_who_doubts_something_else_gives_it(checker: MathChecker, statement: str) -> None:
    assert checker.check_sync(statement, "56").correct
