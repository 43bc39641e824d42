"""A bound is no value, unless the question asks for one; a question asserts nothing."""

import pytest

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.maths import MathChecker

OTHER_QUESTION = "How old is Tom?"
LEAST, MOST = "What is the least number of tiles?", "How many books can she buy?"
LOWER = ["at least 56", "no less than 56", "no fewer than 56", "not less than 56", "at the very least 56"]
UPPER = ["at most 56", "no more than 56", "not more than 56", "up to 56", "at the most 56"]
FORMS = ["The answer is {}.", "{}", "**{}**", r"\boxed{{\text{{{}}}}}", "#### {}", "So the answer is {}, clearly."]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bound", LOWER + UPPER)
def test_a_bound_is_no_value(checker: MathChecker, bound: str, form: str) -> None:
    for problem in (None, OTHER_QUESTION):
        assert not checker.check_sync(form.format(bound), "56", problem=problem).correct


@pytest.mark.parametrize(("bounds", "asking", "other"), [(LOWER, LEAST, MOST), (UPPER, MOST, LEAST)])
@pytest.mark.parametrize(
    "form", ["The answer is {} tiles.", "**{}**", r"\boxed{{\text{{{}}}}}", "She wants {} of them."]
)
def test_a_bound_of_the_kind_that_is_asked_for_is_the_answer(
    checker: MathChecker, bounds: list[str], asking: str, other: str, form: str
) -> None:
    for bound in bounds:
        if bound == "up to 56" and form.startswith("She"):
            continue  # "adding up to", "rounded up to": only behind "is" does it bound anything
        response = form.format(bound)
        assert checker.check_sync(response, "56", problem=asking).correct, response
        assert not checker.check_sync(response, "55", problem=asking).correct
        assert not checker.check_sync(response, "56", problem=other).correct, response


@pytest.mark.parametrize(
    "sentence",
    [
        "Therefore at least 56 tiles are needed.",
        "So she can buy at most 56 books.",
        "At least $56$ pies have none of these.",
        "These add up to 56.",
        "It simplifies to about 56.",
        "The minimum is 56.",
        "This has a maximum of 56.",
        r"She needs at least \boxed{56} tiles.",
        "She needs at least 50 tiles. The answer is 56.",
    ],
)
def test_without_the_question_a_sentence_about_something_says_its_value(checker: MathChecker, sentence: str) -> None:
    assert checker.check_sync(sentence, "56").correct


@pytest.mark.parametrize(
    ("question", "response"),
    [
        ("Wie viele Karten braucht er mindestens?", "Die Antwort ist mindestens 56."),
        ("¿Cuál es el número mínimo?", "La respuesta es como mínimo 56."),
        ("Combien en faut-il au moins ?", "La réponse est au moins 56."),
        ("Каково наименьшее число?", "Ответ: не менее 56."),
        ("至少需要多少?", "答案是至少56。"),
        ("最大でいくつですか。", "答えは最大で56です。"),
    ],
)
def test_bounds_in_other_languages(checker: MathChecker, question: str, response: str) -> None:
    assert checker.check_sync(response, "56", problem=question).correct
    assert not checker.check_sync(response, "56", problem="Wie alt ist Tom?").correct


@pytest.mark.parametrize("reference", ["at least 56", "at most 56", "no more than 56", "up to 56", "at least 56 coins"])
def test_a_reference_that_is_a_bound_accepts_itself_and_no_value(checker: MathChecker, reference: str) -> None:
    assert checker.validate_reference(reference) is None
    for problem in (None, OTHER_QUESTION, LEAST, MOST):
        assert checker.check_sync(f"The answer is {reference}.", reference, problem=problem).correct
        assert checker.check_sync(rf"\boxed{{{reference}}}", reference, problem=problem).correct
        assert not checker.check_sync("The answer is 56.", reference, problem=problem).correct


@pytest.mark.parametrize("reference", [r"x \ge 56", r"[56, \infty)", r"x \le 7", "2 < x"])
def test_a_region_accepts_itself(checker: MathChecker, reference: str) -> None:
    assert checker.check_sync(f"The answer is ${reference}$.", reference, problem=LEAST).correct
    assert not checker.check_sync("The answer is at least 56.", reference, problem=OTHER_QUESTION).correct


@pytest.mark.parametrize("word", ["about", "approximately", "roughly", "around", "nearly", r"$\approx$"])
def test_what_is_about_a_value_is_that_value(checker: MathChecker, word: str) -> None:
    """Exercises ask for rounded values, and their answers say so."""
    assert checker.check_sync(f"The answer is {word} 56.", "56", problem=OTHER_QUESTION).correct


@pytest.mark.parametrize("mark", ["unreadable", "guess"])
@pytest.mark.parametrize(
    "question",
    [
        "Is the answer 56?",
        "The answer is 56?",
        "The answer is 56, right?",
        "Do you agree that the answer is $56$?",
        "Could it be 56?",
        "56?",
        "**56**?",
        "**56?**",
        "Is it **56**?",
        "Is the answer **56** or is it not?",
        r"Is the answer \boxed{56}?",
        r"Is \boxed{56} what you get?",
        "The answer is fifty-six?",
        "#### 56?",
        "答案是56吗？",
        "¿La respuesta es 56?",
        "Ответ 56?",
        "I am not sure about any of this.\nSo is it 56?",
    ],
)
def test_a_question_asserts_nothing(question: str, mark: str) -> None:
    with MathChecker(unmarked=mark) as checker:  # type: ignore[arg-type]
        assert not checker.check_sync(question, "56").correct


def test_a_question_leaves_the_statement_before_it(checker: MathChecker) -> None:
    assert checker.check_sync("The answer is 56. Could it be 57?", "56").correct
    assert checker.check_sync(r"The answer is 56. Or is it \boxed{57}?", "57").status is not Status.CORRECT


@pytest.mark.parametrize(
    "response",
    [
        "What is 7 times 8? The answer is 56.",
        "How many are left? 7*8 = 56",
        r"Is it \boxed{56}? Yes.",
        "The answer is 56? Yes, it is.",
        r"\boxed{56} Does that help?",
        r"\boxed{56}. Would you like to see more?",
        "The answer is 56. Do you want more?",
        "**56** Is that clear?",
        "Could the answer be 57? No. The answer is 56.",
        "So what is the answer?\n56",
        "Therefore the answer is 56.\n\nDoes this make sense?",
    ],
)
def test_who_asks_something_else_or_says_yes_gives_the_answer(checker: MathChecker, response: str) -> None:
    with MathChecker(unmarked="guess") as guessing:
        assert guessing.check_sync(response, "56").correct
    if "\n56" not in response:
        assert checker.check_sync(response, "56").correct
