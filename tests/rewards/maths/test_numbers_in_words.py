"""Numbers in words: what they are worth, and that a statement in words counts as one in digits does."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.rewards.maths import MathChecker
from selfcorrect.rewards.maths.finding.extraction import find_answer
from selfcorrect.rewards.maths.finding.number_words import RUN, number_in_words

BELOW_20 = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
ONES = [*BELOW_20.split(), "seventeen", "eighteen", "nineteen"]
TENS = ["", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spelled(number: int, link: str = " and ") -> str:
    """A whole number below a billion in words, in the plainest way."""
    for power, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= power:
            rest = number % power
            tail = f"{link if rest < 100 else ' '}{spelled(rest, link)}" if rest else ""
            return f"{spelled(number // power, link)} {name}{tail}"
    if number < 20:
        return ONES[number]
    return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")


@given(st.integers(0, 10**9 - 1), st.sampled_from([" and ", " "]), st.booleans())
def test_every_number_that_is_spelled_is_read(number: int, link: str, capitals: bool) -> None:
    words = spelled(number, link)
    read = number_in_words(words.capitalize() if capitals else words.replace("-", " "))
    assert read is not None and read.value == number
    below = number_in_words(f"minus {words}")
    assert below is not None and below.value == -number
    assert RUN.fullmatch(words)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("zero", 0),
        ("twelve hundred", 1200),
        ("a hundred", 100),
        ("one million, two hundred thousand and five", 1_200_005),
        ("negative twenty-three", -23),
        ("one half", Fraction(1, 2)),
        ("half", Fraction(1, 2)),
        ("a third", Fraction(1, 3)),
        ("two-thirds", Fraction(2, 3)),
        ("minus three quarters", Fraction(-3, 4)),
        ("two and a half", Fraction(5, 2)),
        ("three over four", Fraction(3, 4)),
        ("two point zero five", Fraction(205, 100)),
        ("half a dozen", 6),
        ("half a million", 500_000),
        ("two dozen", 24),
        ("zwei", 2),
        ("deux", 2),
        ("два", 2),
        ("二", 2),
    ],
)
def test_numbers_in_words_have_their_value(words: str, value: Fraction) -> None:
    read = number_in_words(words)
    assert read is not None and read.value == value


@pytest.mark.parametrize(
    "words",
    ["", "a", "and", "hundred", "third", "nineteen ninety-nine", "two and five", "two thousand million", "two or three",
     "one thousand one million", "two and three halves", "two times six", "one over zero", "twenty eleven", "once"],
)  # fmt: skip
def test_what_is_no_single_number_has_no_value(words: str) -> None:
    assert number_in_words(words) is None


STATEMENTS = [
    "The answer is {}.",
    "So the answer is {}",
    "the answer is only {}.",
    "The final answer is **{}**.",
    "Answer: {}",
    "**Answer:** {}",
    "#### {}",
    "<answer>{}</answer>",
    "The answer is that x is {}.",
    "The answer is x = {}.",
    "The result is {}, because the rest is gone.",
    "The answer is not one but {}.",
]
CONCLUSIONS = ["Therefore there are {}.", "So she has {}.", "Hence it is {}.", "In total, {}."]
"""Ways to state an answer, and to end with one."""
WORKING = ["<<6+5=11>>11 ", "6 + 5 = 11. ", "First $6 + 5 = 11$.\n", "She has 11 apples.\n"]
MARKED = ["The answer is 11. No: ", "**11** of them. "]
"""What comes before, and names 11."""
SAID = [w + s for w in WORKING for s in STATEMENTS + CONCLUSIONS] + [w + s for w in MARKED for s in STATEMENTS]
NUMBERS = {
    "two": "2",
    "zero": "0",
    "twenty-three": "23",
    "minus four": "-4",
    "two hundred and five": "205",
    "one half": "1/2",
    "two and a half": "5/2",
    "a dozen": "12",
    "fifty percent": "50%",
}
UNITS = ["apples", "dollars", "people", "square metres", "kilometres per hour", "apples left", "dollars in total"]


@pytest.mark.parametrize("phrase", SAID)
def test_a_statement_in_words_counts_before_digits_that_were_on_the_way(checker: MathChecker, phrase: str) -> None:
    for words, value in NUMBERS.items():
        assert not checker.check_sync(phrase.format(words), "11").correct, words
        assert checker.check_sync(phrase.format(words), value).correct, words
    assert checker.check_sync(phrase.format("eleven"), "11").correct


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("statement", ["The answer is {}.", "Answer: {}", "So she has {}.", "#### {}"])
def test_a_number_in_words_may_have_a_unit(checker: MathChecker, statement: str, unit: str) -> None:
    said = "<<6+5=11>>11 " + statement.format(f"twenty-three {unit}")
    assert checker.check_sync(said, "23").correct
    assert not checker.check_sync(said, "11").correct
    assert not checker.check_sync(statement.format("twenty-three dollars"), "23 euros").correct


@pytest.mark.parametrize(
    "statement",
    ["The answer is two or eleven.", "The answer is eleven, maybe two.", "The answer is more than eleven.",
     "The answer is between two and eleven.", "The answer is two times eleven.", "The answer is eleven squared.",
     "The answer is minus eleven.", "The answer is two dollars and eleven cents.", "The answer is eleven out of two.",
     "The answer is eleven dozen.", "The answer is eleven hundred.", "The answer is twice eleven.",
     "Die Antwort ist zwei.", "La réponse est deux.", "La respuesta es dos.", "Ответ: два.", "答案是二。"],
)  # fmt: skip
def test_words_that_say_another_value_are_wrong(checker: MathChecker, statement: str) -> None:
    assert not checker.check_sync(f"<<6+5=11>>11 {statement}", "11").correct


@pytest.mark.parametrize(
    "remark",
    ["The answer is correct.", "The answer is one of these.", "The answer is one that can be checked.",
     "The answer is not two.", "The answer is in part two.", "The two of them have enough.", "That was step two.",
     "The answer is due.", "The **two** friends count them all."],
)  # fmt: skip
def test_number_words_that_state_nothing_leave_the_answer_as_it_was(checker: MathChecker, remark: str) -> None:
    assert checker.check_sync(f"6 + 5 = 11, so there are 11. {remark}", "11").correct, find_answer(remark)


def test_a_number_that_the_question_spells_out_is_no_answer_to_it(checker: MathChecker) -> None:
    question = "Write two hundred and five as a number."
    assert not checker.check_sync("The answer is two hundred and five.", "205", problem=question).correct
    assert checker.check_sync("The answer is 205.", "205", problem=question).correct
    assert checker.check_sync("The answer is two hundred and five.", "205", problem="How many are there?").correct
    assert checker.check_sync("The answer is two.", "2", problem="How many are left of two?").correct


MIXED = "one two and a half of the point over minus dozen apples third"


@given(st.lists(st.sampled_from(MIXED.split()), max_size=12))
def test_no_mixture_of_such_words_breaks_the_reader(words: list[str]) -> None:
    text = " ".join(words)
    assert find_answer(f"The answer is {text}.") is not None
    read = number_in_words(text)
    assert read is None or RUN.fullmatch(text)
