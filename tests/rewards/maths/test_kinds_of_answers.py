"""Whole kinds of answers as properties: what a number's surroundings say is never dropped, whatever the number."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.maths import EquivalenceRules, MathChecker
from selfcorrect.rewards.maths.numerals import read_numeral
from selfcorrect.rewards.maths.text import clean, plain_signs
from selfcorrect.rewards.maths.units import SCALES, split_unit

CHECKER = MathChecker(workers=1, deadline=20.0, unmarked="guess")
NUMBERS = st.integers(2, 9999)
SCRIPT_ZEROS = [0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50, 0xFF10, 0x1D7CE]
STATING = [
    "The answer is {}.",
    "**{}**",
    "答案是{}。",
    "答えは{}です。",
    "답은 {}입니다.",
    "Ответ: {}",
    "Die Antwort ist {}.",
    "La respuesta es {}.",
    "La réponse est {}.",
]
stating = st.sampled_from(STATING)


def verdict(response: str, reference: str, **options: Any) -> Status:
    return CHECKER.check_sync(response, reference, **options).status


def in_script(number: int, zero: int) -> str:
    return "".join(chr(zero + int(digit)) for digit in str(number))


@given(NUMBERS, st.sampled_from(SCRIPT_ZEROS), stating)
def test_digits_of_every_script_are_read(number: int, zero: int, template: str) -> None:
    assert verdict(template.format(in_script(number, zero)), str(number)) is Status.CORRECT


@given(st.integers(10, 9999), st.sampled_from(SCRIPT_ZEROS), st.data())
def test_a_number_in_two_scripts_is_refused(number: int, zero: int, data: st.DataObject) -> None:
    digits = list(str(number))
    cut = data.draw(st.integers(1, len(digits) - 1))
    mixed = "".join(digits[:cut]) + "".join(chr(zero + int(digit)) for digit in digits[cut:])
    assert not set("0123456789") & set(plain_signs(mixed))
    for response in (rf"\boxed{{{mixed}}}", f"The answer is {mixed}."):
        assert verdict(response, str(number)) is not Status.CORRECT


@given(st.integers(1, 20))
def test_circled_digits_are_refused(number: int) -> None:
    assert verdict(rf"\boxed{{{chr(0x245F + number)}}}", str(number)) is Status.WRONG


@given(NUMBERS, st.sampled_from(sorted(SCALES)), stating)
def test_a_scale_word_multiplies_and_is_never_dropped(number: int, word: str, template: str) -> None:
    written = f"{number} {word}"
    assert verdict(template.format(written), str(number)) is not Status.CORRECT
    read = read_numeral(clean(rf"{number} \text{{ {word}}}"))
    assert read is not None
    assert read.value == number * SCALES[word]


CHANGING = [
    "squared",
    "cubed",
    "halved",
    "doubled",
    "tripled",
    "factorial",
    "in octal",
    "hex",
    "below zero",
    "or 41",
    "alternatively fortyone",
    "oder 41",
    "ou 41",
    "или 41",
    "quintillion",
    "quadrillion",
    "zillion",
    "gajillion",
    "sextillion",
    "twofold",
    "tenfold",
    "seventeen",
    "minus one",
    "percent",
    "kilo",
    "googol",
    "in reverse",
    "points off",
    "to the fourth",
    "to the fifth power",
]


@given(NUMBERS, st.sampled_from(CHANGING))
def test_what_changes_a_number_is_read_or_refused(number: int, words: str) -> None:
    for response in (
        rf"\boxed{{{number} \text{{ {words}}}}}",
        f"The answer is {number} {words}.",
        f"**{number} {words}**",
    ):
        assert verdict(response, str(number)) is not Status.CORRECT


@given(
    NUMBERS,
    st.sampled_from(
        ["apples", "manzanas", "яблок", "Äpfel", "個", "개", "students", "marbles", "cm", "km/h", "square feet"]
    ),
)
def test_what_is_counted_or_measured_may_be_said(number: int, words: str) -> None:
    assert split_unit(clean(rf"{number}\text{{ {words}}}"))[1]
    for response in (rf"\boxed{{{number}\text{{ {words}}}}}", f"The answer is {number} {words}."):
        assert verdict(response, str(number)) is Status.CORRECT


@given(st.integers(1, 60), st.integers(2, 60))
def test_signs_of_a_fraction_stand_anywhere(top: int, bottom: int) -> None:
    lowest = EquivalenceRules(form="worked out")
    with MathChecker(workers=1, policy=lowest) as checker:
        for written in (
            f"{top}/(-{bottom})",
            f"(-{top})/{bottom}",
            f"-({top}/{bottom})",
            rf"-\frac{{{top}}}{{{bottom}}}",
            rf"\frac{{{top}}}{{-{bottom}}}",
        ):
            read = checker.check_sync(rf"\boxed{{{written}}}", f"-{top}/{bottom}")
            assert read.correct, (written, read)
            assert not checker.check_sync(rf"\boxed{{{written}}}", f"{top}/{bottom}").correct


@given(NUMBERS, NUMBERS)
def test_a_denied_number_is_no_answer(number: int, other: int) -> None:
    for sentence in (
        "The answer is not {}.",
        "答案不是{}。",
        "答えは{}ではありません。",
        "Ответ не {}.",
        "Die Antwort ist nicht {}.",
        "La respuesta no es {}.",
    ):
        assert verdict(sentence.format(number), str(number)) is not Status.CORRECT
    if number != other:
        assert verdict(f"The answer is not {number} but {other}.", str(other)) is Status.CORRECT
        assert verdict(f"The answer is not {number} but {other}.", str(number)) is Status.WRONG
        for instead in (
            f"not {number}; it's {other}.",
            f"not {number}. It is {other}.",
            f"not {number}, it's {other}.",
        ):
            assert verdict(f"The answer is {instead}", str(other)) is Status.CORRECT
            assert verdict(f"The answer is {instead}", str(number)) is not Status.CORRECT


@given(
    NUMBERS,
    NUMBERS,
    st.sampled_from(
        [
            "The final answer is correct.",
            "I hope my answer is helpful.",
            "So the answer is right.",
            "My answer is verified above.",
            "The answer is verified by step 2.",
        ]
    ),
)
def test_a_statement_without_a_value_does_not_overrule_one(first: int, second: int, remark: str) -> None:
    reference = str(first * second)
    assert verdict(f"{first} * {second} = {reference}. {remark}", reference) is Status.CORRECT
    assert verdict(rf"So \boxed{{{reference}}}. {remark}", reference) is Status.CORRECT


@given(NUMBERS)
def test_a_thinking_section_that_never_ends_is_no_answer_in_training(number: int) -> None:
    with MathChecker(workers=1) as training:
        for opened in (
            *("<think>", "<thinking>", "<|begin_of_thought|>", "[THINK]", "<think>a</think><think>"),
            *("<reflection>", "<seed:think>", "<|think|>", "<|channel|>analysis<|message|>"),
        ):
            assert training.check_sync(rf"{opened}So \boxed{{{number}}}", str(number)).status is Status.UNREADABLE
        for shut in ("<think>no</think>", "<|think|>no<|/think|>", "<|channel|>analysis no<|channel|>final<|message|>"):
            assert training.check_sync(rf"{shut}\boxed{{{number}}}", str(number)).correct


@given(NUMBERS)
def test_an_empty_last_box_is_no_answer_in_training(number: int) -> None:
    with MathChecker(workers=1) as training:
        for empty in (r"\boxed{}", r"\boxed{ }", r"\boxed{", r"\boxed{\text{}}", r"\boxed{$$}"):
            assert training.check_sync(rf"\boxed{{{number}}}. So {empty}", str(number)).status is Status.UNREADABLE
    assert verdict(rf"\boxed{{{number}}}. So \boxed{{}}", str(number)) is Status.CORRECT


@given(NUMBERS, st.integers(10, 99))
def test_what_nothing_marks_is_a_guess_only_where_guessing_is_allowed(number: int, other: int) -> None:
    response = f"There were {other} of them at first. Somebody counted {number} later on."
    with MathChecker(workers=1) as training:
        assert training.check_sync(response, str(number)).status is Status.UNREADABLE
    assert verdict(response, str(number)) is Status.CORRECT


FORMULAS = st.recursive(
    st.one_of(st.integers(2, 30).map(str), st.sampled_from(["x", "y"])),
    lambda inner: st.tuples(inner, inner, st.sampled_from(["({0})+({1})", r"({0})\cdot({1})", "({0})-({1})"])).map(
        lambda t: t[2].format(t[0], t[1])
    ),
    max_leaves=5,
)


@given(FORMULAS)
@settings(max_examples=60)
def test_a_formula_of_the_question_counts_if_the_reference_is_written_so(formula: str) -> None:
    question = f"Simplify ${formula}$."
    assert verdict(rf"\boxed{{{formula}}}", formula, problem=question) is Status.CORRECT


DISGUISES = (
    *("{0}", r"({0})\cdot 1^2", "-(-({0}))", "({0})^1", "({0})+0", r"\frac{{{0}}}{{1}}", r"({0})\%\cdot 100"),
    *(r"\sqrt{{({0})^2}}", r"\left|{0}\right|", "(({0})^{{1/3}})^3", "1/({0})^{{-1}}"),
)
EXERCISES = [
    (r"\sqrt{242}", r"11\sqrt{2}", "242^{1/2}"),
    (r"\frac{3}{\sqrt{27}}", r"\frac{\sqrt{3}}{3}", r"3\cdot 27^{-1/2}"),
    ("(3x-8)+(5x+7)", "8x-1", r"(3x-8)+(5x+7)\cdot 1^2"),
    (r"\frac{x^3}{x}", "x^2", "x^3x^{-1}"),
    (r"\frac{57}{160}", "0.35625", r"-\frac{57}{-160}"),
    (r"0.\overline{54}", r"\frac{6}{11}", r"-(-0.\overline{54})"),
]


@pytest.mark.parametrize(("exercise", "result", "respelled"), EXERCISES)
def test_an_exercise_in_another_spelling_is_not_its_result(exercise: str, result: str, respelled: str) -> None:
    question = f"Simplify ${exercise}$."
    assert verdict(rf"\boxed{{{result}}}", result, problem=question) is Status.CORRECT
    for answer in (respelled, *(disguise.format(exercise) for disguise in DISGUISES)):
        assert verdict(rf"\boxed{{{answer}}}", result, problem=question) is Status.WRONG, answer


def test_what_is_asked_for_in_another_spelling_counts() -> None:
    for question, result in (
        (r"Write $\sqrt{x}$ as a power of $x$.", "x^{1/2}"),
        ("Write $x^{-3}$ without negative exponents.", r"\frac{1}{x^3}"),
        ("Compute $2^{-1}$.", "0.5"),
    ):
        assert verdict(rf"\boxed{{{result}}}", result, problem=question) is Status.CORRECT
    assert verdict(r"\boxed{\frac12}", "0.5", problem="Compute $2^{-1}$.") is Status.CORRECT
    assert verdict(r"\boxed{1/x^3}", r"\frac{1}{x^3}", problem="Write $x^{-3}$ without negative exponents.") is (
        Status.CORRECT
    )


@given(st.integers(2, 60), st.integers(2, 60))
def test_disguises_of_an_exercise_are_not_its_result(a: int, b: int) -> None:
    exercise = rf"{a}\cdot {b}"
    for answer in (
        exercise,
        f"{b}\\cdot {a}",
        rf"{exercise}+0\sqrt2",
        rf"|{exercise}|",
        rf"{a}^1\cdot {b}",
        rf"\lfloor {exercise}\rfloor",
        rf"\sum_{{k=1}}^{{{b}}} {a}",
        rf"\gcd({a * b},{a * b})",
        rf"\log_2 2^{{{a * b}}}",
        rf"{a}\cdot {b}\cdot e^0",
        rf"\text{{lcm}}({a},{b})",
    ):
        assert verdict(rf"\boxed{{{answer}}}", str(a * b)) is Status.WRONG, answer
    assert verdict(rf"\boxed{{{exercise} = {a * b}}}", str(a * b)) is Status.CORRECT


@given(st.integers(2, 60), st.integers(2, 60), st.sampled_from([r"\pi", r"\sqrt{2}", "e"]))
def test_a_coefficient_that_is_not_worked_out_is_no_result(a: int, b: int, constant: str) -> None:
    for answer in (rf"{a * b}{constant}/{b}", rf"\frac{{{a * b}{constant}}}{{{b}}}", rf"{b}\cdot {a}{constant}"):
        assert verdict(rf"\boxed{{{answer}}}", f"{a}{constant}") is Status.WRONG, answer
    assert verdict(rf"\boxed{{\frac{{{a * b + 1}{constant}}}{{{b}}}}}", rf"\frac{{{a * b + 1}}}{{{b}}}{constant}") is (
        Status.CORRECT
    )


@given(st.integers(2, 60), st.integers(2, 60))
def test_like_terms_are_wanted_combined(a: int, b: int) -> None:
    total = f"{a + b}x"
    for answer in (f"{a}x+{b}x", f"{b}x+{a}x", f"x+{a + b - 1}x", f"{a + b + 1}x-x"):
        assert verdict(rf"\boxed{{{answer}}}", total) is Status.WRONG, answer
        assert verdict(rf"\boxed{{{answer}}}", total, problem=f"Combine like terms: {a}x+{b}x") is Status.WRONG
    assert verdict(rf"\boxed{{{total}}}", total, problem=f"Combine like terms: {a}x+{b}x") is Status.CORRECT
    assert verdict(rf"\boxed{{{b}+{a}x+x^2}}", f"x^2+{a}x+{b}") is Status.CORRECT


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_factored_and_multiplied_out_are_forms_of_their_own(a: int, b: int) -> None:
    out = f"x^2+({a + b})x+({a * b})" if a + b and a * b else f"x^2+{a + b}x+{a * b}"
    product = f"(x+({a}))(x+({b}))"
    if 0 in (a, b, a + b):
        return
    assert verdict(rf"\boxed{{{product}}}", out) is Status.WRONG
    assert verdict(rf"\boxed{{{out}}}", product) is Status.WRONG
    assert verdict(rf"\boxed{{(x+({b}))(x+({a}))}}", product, problem=f"Factor ${out}$.") is Status.CORRECT
    assert verdict(rf"\boxed{{{out}}}", product, problem=f"Factor ${out}$.") is Status.WRONG
    assert verdict(rf"\boxed{{{product}}}", out, problem=f"Expand ${product}$.") is Status.WRONG
    assert (
        verdict(rf"\boxed{{{product}}}", out, problem="Find the monic quadratic with the two roots of before.")
        is Status.CORRECT
    )


@given(st.integers(1, 99))
def test_a_question_for_a_percentage_is_answered_with_or_without_the_sign(share: int) -> None:
    question = "40 of the students dance. What percentage of the students is that?"
    for written in (f"{share}", rf"{share}\%", f"{share} percent"):
        assert verdict(rf"\boxed{{{written}}}", str(share), problem=question) is Status.CORRECT
    assert verdict(rf"\boxed{{{share}\%}}", str(share), problem="How many students dance?") is Status.WRONG


REFERENCES: dict[str, tuple[list[str], list[str]]] = {
    "9 (apples)": (["9", "9 apples"], ["8", "9 pears"]),
    "9 (in cm)": (["9", "9 cm"], ["9 km"]),
    r"The area is \boxed{42}, which is \textbf{(B)}.": (["42", "B", "(B)"], ["41", "C"]),
    r"(a) \boxed{3}, (b) \boxed{5}": (["3, 5", "3 and 5"], ["3", "5", "15", "5, 3", "5 and 3"]),
    r"(\boxed{3}, \boxed{4})": (["(3, 4)"], ["(4, 3)", "3"]),
    r"x \ne 2": ([r"x \neq 2", r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\setminus\{2\}"], ["2", "x = 2", r"x \ne 3"]),
    r"x \ne 1, 3": (
        [r"x \ne 1 \text{ and } x \ne 3", r"(-\infty,1)\cup(1,3)\cup(3,\infty)", r"\mathbb{R} \setminus \{3, 1\}"],
        [r"x \ne 1"],
    ),
    r"\mathbb{R}": (
        [r"(-\infty, \infty)", "all real numbers", r"x \in \mathbb{R}", r"\text{all reals}"],
        ["R^2", r"(0, \infty)"],
    ),
    r"3 \pmod 7": (["3", r"x \equiv 3 \pmod{7}", r"3 \pmod{7}"], ["4", r"3 \pmod 8"]),
    r"x^2/2 + C": (["x^2/2 + C", r"\frac{x^2}{2} + 15 + C", "C + x^2/2"], ["x^2/2", "x^2/2 + 5", "x^2 + C", "C"]),
    r"(a+b)^2=a^2+2ab+b^2": (["(a+b)^2 = a^2 + b^2 + 2ab"], ["(a+b)^2=(a+b)^2", "0=0", "(a-b)^2=a^2-2ab+b^2"]),
    r"\begin{cases} x & x \ge 0 \\ -x & x < 0 \end{cases}": (
        [r"\begin{cases} -x, & \text{if } x < 0 \\ x, & \text{if } x \ge 0 \end{cases}"],
        ["x", r"\begin{cases} -x & x \ge 0 \\ x & x < 0 \end{cases}"],
    ),
    r"\cos^2 x+\sin^2 x=1": ([r"\sin^2 x+\cos^2 x = 1", r"1 = \sin^2 x+\cos^2 x"], ["1 = 1", "0 = 0", "1"]),
    r"5 \pmod 7": ([r"5 \mod 7", r"5 \mod{7}"], [r"5 \mod 8"]),
    r"-42": ([r"\text{minus 42}", r"\text{negative 42}", "minus 42"], [r"\text{minus 41}", "42"]),
    "(-3, 3)": (["|x| < 3", "3 > |x|", r"|y| < 3"], [r"|x| \le 3", "|x| > 3", "|x| < 4", "|x - 1| < 3"]),
    r"|x| \ge 3": ([r"(-\infty,-3] \cup [3,\infty)", r"x \le -3 \text{ or } x \ge 3"], [r"x \ge 3", r"|y| \ge 3", "3"]),
    r"[-2,-1) \cup (1,2]": ([r"1 < |x| \le 2", r"2 \ge |x| > 1"], [r"1 \le |x| \le 2", r"1 < x \le 2"]),
    r"\begin{cases} x = 1 \\ y = 2 \end{cases}": (["x = 1, y = 2", "(1, 2)"], ["x = 2, y = 1"]),
}


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [(r, a, right) for r, lists in REFERENCES.items() for right in (True, False) for a in lists[not right]],
)
def test_references_of_many_kinds(reference: str, answer: str, right: bool) -> None:
    assert CHECKER.validate_reference(reference) is None
    assert (verdict(rf"\boxed{{{answer}}}", reference) is Status.CORRECT) is right


def test_phrasings_without_a_box_are_within_the_target() -> None:
    """benchmarks/math_phrasings.py, one round: at most 1 % of the wrong ones pass, at most 8 % of the right fail."""
    path = Path(__file__).parents[3] / "benchmarks" / "math_phrasings.py"
    if not path.exists():
        pytest.skip("benchmarks/ is not installed")
    spec = importlib.util.spec_from_file_location("math_phrasings", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    wrong, right = ([one for one in module.phrasings(1, 7) if one.right is side] for side in (False, True))
    assert len(wrong) > 1500
    passed = [one for one in wrong if verdict(one.response, one.reference) is Status.CORRECT]
    failed = [one for one in right if verdict(one.response, one.reference) is not Status.CORRECT]
    assert len(passed) <= 0.01 * len(wrong), passed[:10]
    assert len(failed) <= 0.08 * len(right), failed[:10]
