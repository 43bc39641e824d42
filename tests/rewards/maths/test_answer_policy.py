"""docs/math-answers.md as examples: for each topic, answers that count and answers that do not."""

from typing import Any

import pytest

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.maths import EquivalenceRules, MathChecker

# reference: (answers that count, answers that do not)
POLICY: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "numbers": {
        "42": (
            ["42", "42.0", "+42", "042", "4.2e1", r"4.2 \times 10^{1}", "$42$"],
            ["-42", "4 2", "420", "42.001", "41.999", "4.2"],
        ),
        "-7": (["-7", "- 7", "−7"], ["7", "(7)"]),
        "1234567": (
            ["1,234,567", r"1{,}234{,}567", r"1,\!234,\!567", "1 234 567", "1234567.0"],
            ["1,234,56", "1.234.567"],
        ),
        "0.5": (["1/2", ".5", "0.50", "50%", r"\frac12", "½", r"\frac{1}{2}"], ["0.52", "0.6", "5", "-.5"]),
    },
    "fractions and mixed numbers": {
        "1/2": (
            ["0.5", r"\frac{1}{2}", r"\dfrac12", "(1/2)", r"\left(\frac{1}{2}\right)"],
            ["1/3", "2", "-1/2", r"\frac{2}{1}"],
        ),
        "9/4": (
            ["2 1/4", r"2\frac{1}{4}", r"2 \frac14", "2.25", r"\frac94"],
            ["21/4", r"\frac{21}{4}", "2/4", "2 3/4"],
        ),
        "-9/4": (["-2 1/4", r"-2\frac{1}{4}", "-2.25"], ["2 1/4", "-7/4"]),
        "1/3": ([r"0.\overline{3}", "0.(3)", r"\frac{1}{3}", "0.333333333333"], ["0.33", "0.3333", "0.34"]),
    },
    "scientific notation": {
        "3.7e-4": (
            ["0.00037", r"3.7 \times 10^{-4}", r"3.7 \cdot 10^{-4}", "3.7*10^-4", "3.7x10^(-4)", "3.7E-4"],
            ["3.7e4", "0.0037", "3.7", "0"],
        ),
        "3 \\times 10^8": (["300000000", "3e8", "300,000,000"], ["3e7", "3", "30"]),
    },
    "rounding": {
        "3.14": ([r"\pi", "3.1416", "3.14159", "22/7"], ["3.1", "3.15", "3.2", "3"]),
        "125.663": ([r"40\pi"], [r"41\pi", "125.7", "125"]),
        "0.67": (["2/3", r"\frac23", "0.67", "0.6700", "67%"], ["0.66", "0.68", "0.7", "3/4", "0.674"]),
        "33.3": ([r"\frac{100}{3}", r"33\frac13"], ["33", "34", "33.34"]),
        "0.5": (["1/2"], ["13/25", "0.52"]),
        "(0.577, 0.577, 0.577)": (
            [r"\left(\frac{1}{\sqrt3}, \frac{1}{\sqrt3}, \frac{1}{\sqrt3}\right)"],
            [r"(\frac{1}{\sqrt2}, \frac{1}{\sqrt3}, \frac{1}{\sqrt3})"],
        ),
        r"\pi": (["3.14159265358979", r"\pi"], ["3.14", "3.14159", "22/7"]),
        r"\sqrt{2}": (["1.41421356237", r"\sqrt 2", r"2^{1/2}", r"\frac{2}{\sqrt{2}}"], ["1.414", "1.41421"]),
        "6.6e-34": ([r"6.6 \times 10^{-34}", "6.6e-34"], ["0.0", "0", "2e-20", "6.7e-34", "6.6e-33"]),
    },
    "per cent": {
        r"12\%": (
            [r"12\%", "12 percent", "0.12", "12", r"12 \text{ percent}", "3/25"],
            ["1.2", "120", r"12^\circ", "12 ft", r"0.12\%", "1200%"],
        ),
        "12": (["12", "12.0"], [r"12\%", "12 percent", "0.12"]),
        "0.12": ([r"12\%"], [r"0.12\%", "12"]),
    },
    "units": {
        "3 m": (
            ["3 m", "3", r"3 \text{ m}", r"3\,\text{meters}", r"3\ \mathrm{m}", "3 metres"],
            ["3 km", "300 cm", "3 m^2", r"3 \text{ s}", "3 mm"],
        ),
        "12 cm^2": (
            [r"12\text{ cm}^2", r"12 \text{ square centimeters}", "12 sq. cm", "12", "12 cm²"],
            ["12 cm", "12 cm^3"],
        ),
        "25": (
            [r"\$25", "$25", "25 dollars", "25 apples", r"25^\circ", "25 km/h", r"25\text{ cm}"],
            [r"\$26", "25 or 26 apples", "25 million", "25 dozen", "25 squared", "25 thousand", "25 hundred"],
        ),
        r"\$25": (["25", "25 dollars", r"\$25.00", "25 USD"], ["25 euros", "€25", "25 cents"]),
        "5 apples": (["5", "5 apples", "5 Apples"], ["5 oranges", "6 apples"]),
        "5 million": (["5,000,000", "5e6", "5 million"], ["5", "5 billion"]),
        r"90^\circ": ([r"90^\circ", "90", "90 degrees", r"\frac{\pi}{2}", "90°"], [r"\pi", "90 radians", "0.5"]),
        r"20^\circ\text{C}": ([r"20^\circ C", "20"], [r"20^\circ F"]),
    },
    "bases": {
        "34_8": (
            ["34_8", "34_{8}", "(34)_8", r"34_{\text{eight}}", "34 base 8"],
            ["34", "28", "34_9", "11100_2", "34_{16}"],
        ),
        "28": (["28", "28_{10}"], ["34_8", "11100_2", "28_{16}"]),
        "1A_{16}": (["1A_{16}", "1a_{16}"], ["26", "1A_{15}"]),
    },
    "worked out": {
        "391": (
            ["391", "17*23 = 391", r"17 \cdot 23 = 391"],
            ["17*23", r"17 \times 23", "(17)(23)", "390+1", "782/2", "17*23 = 392"],
        ),
        "7": (
            ["7", "84/12 = 7", "3 + 4 = 7", "x = 7"],
            ["84/12", r"\frac{84}{12}", "3+4", "14/2", "3=7", "x+y=7", "7=x+y"],
        ),
        "1024": (["1024"], ["2^{10}", "4*256", "2^9"]),
        "10": (["10"], [r"\binom{5}{2}", r"{5 \choose 2}", r"\binom{5}{3} + 1"]),
        "-1": (["-1"], [r"e^{i\pi}", "i^2", "1", "e^{i}"]),
        "3": (["3"], [r"\log_2 8", r"|-3|", r"\lfloor 3.5 \rfloor", r"3+0\sqrt2", "3^1", r"\sum_{k=1}^{3} 1"]),
        "-2/3": (
            ["-2/3", "2/(-3)", "(-2)/3", "-(2/3)", r"-\frac{2}{3}", r"\frac{-2}{3}", r"\frac{2}{-3}"],
            ["2/3", "-4/6", "(-2)/(-3)"],
        ),
        "1/2": (["0.5"], [r"\sin 30^\circ", r"\sin\frac{\pi}{6}", r"\sin 30", "1 - 1/2", "2/4"]),
    },
    "expressions": {
        "x^2+1": (
            ["1+x^2", "x^2 + 1", r"x\cdot x+1", r"\frac{x^4-1}{x^2-1}", "x²+1", "f(x) = x^2+1", "y=x^2+1"],
            ["x^2", "t^2+1", "x^2-1", "(x+i)(x-i)", "x^2+1=0", "x^{2+1}"],
        ),
        "(x-1)(x+2)": (["(x+2)(x-1)", "-(1-x)(x+2)"], ["x^2-x-2", "x^2+x-2", "1(x^2+x-2)"]),
        "x^2-5x+6": (["6-5x+x^2", r"x^2 - 5\cdot x + 6"], ["(x-2)(x-3)", "x(x-5)+6"]),
        r"\frac{\sqrt{3}}{3}": (
            [r"\frac{1}{\sqrt{3}}", r"\sqrt{1/3}", r"3^{-1/2}"],
            [r"\tan 30^\circ", r"\sqrt{3}", r"-\frac{1}{\sqrt 3}"],
        ),
        r"6\sqrt{5}": (
            [r"6\sqrt5", r"6\sqrt(5)", "6 sqrt(5)", r"\sqrt{180}", "6√5"],
            ["6", r"5\sqrt{6}", r"6\sqrt[3]{5}"],
        ),
        r"\sin^2 x": ([r"1-\cos^2 x", r"(\sin x)^2", r"\sin(x)^2"], [r"\sin x^2", r"\cos^2 x"]),
        "2i": (["2i", "2I", "i*2"], ["2", "-2i"]),
        r"\sqrt[3]{-8}": (["-2"], ["2"]),
        r"\ln 8": ([r"3 \ln 2", r"\ln(2)+\ln(4)"], [r"\ln 2^2", r"\log_{10} 8"]),
        r"3^{100}": (["3^{100}", "9^{50}"], ["3^{99}", "9^{51}"]),
        r"\frac{n(n+1)}{2}": (["n(n+1)/2", r"\frac12 n(n+1)"], [r"\frac{n^2+n}{2}", r"\frac{n(n-1)}{2}"]),
        "f'(2)": (["f'(2)"], ["f(2)", "f''(2)"]),
        "2^{10000}": (["2^{10000}", "4^{5000}"], ["2^{10001}", "1"]),
    },
    "equations": {
        "4": (
            ["4", "x = 4", "x=4", "n = 4", r"x = 2 + 2 = 4"],
            ["x^2 = 16", "2x = 8", "x + y = 4", "4 = x + y", "x = 5", "5 = 4"],
        ),
        "x=4": (["4", "x = 4", "x=4.0"], ["y = 4", "x^2 = 16", "2x = 8", "5", "x = 5"]),
        "y=2x+1": (
            ["2x+1", "y = 1 + 2x", "y - 2x = 1", "f(x) = 2x + 1", "2y = 4x + 2"],
            ["y = 2x", "x = 2y + 1", "y = 2x + 1 + z"],
        ),
        "2x+y=5": (
            ["y = 5 - 2x", "4x + 2y = 10", "2x + y - 5 = 0", "5 = 2x + y"],
            ["5", "2x + y = 6", "2x - y = 5", "2x+y", "0 = 0"],
        ),
        "AB = 4": (["4", "AB = 4"], ["5", "AB = 5", "AC = 4"]),
    },
    "tuples, sets, lists and intervals": {
        "(3, 4)": (
            ["(3,4)", r"\left(3, 4\right)", "x = 3, y = 4", "y = 4, x = 3", r"\begin{pmatrix} 3 \\ 4 \end{pmatrix}",
             "(x, y) = (3, 4)"],
            [r"\{3,4\}", "3,4", "[3,4]", "(4,3)", "(3,4]", "(3,4,5)", "7", "x = 4, y = 3"],
        ),
        r"\{3, 4\}": (
            [r"\{4, 3\}", "{3, 4}", r"\{3,4,4\}", "x = 3 or x = 4"],
            ["(3,4)", "3,4", r"\{3\}", r"\{3,4,5\}", "3"],
        ),
        r"\{8\}": ([r"\{8\}"], ["8", "(8)"]),
        "8": (["8", "(8)"], [r"\{8\}", "8, 8", "(8, 8)"]),
        "1,3": (["1, 3", "1 and 3"], ["1.3", "13", "3,1"]),
        "2, 3": (["2, 3", "2 and 3", "2,3"], ["3, 2", "2", "2, 3, 4", r"\{2, 3\}", "(2,3)", "2, 2, 3"]),
        "x = 2 or x = 3": (
            ["3, 2", "x = 3, x = 2", "x=2,3", r"\{2, 3\}", "2 or 3", "x = 3 or x = 2", r"x \in \{3, 2\}"],
            ["2", "2, 4", "y = 2 or y = 3"],
        ),
        r"1 \pm \sqrt{2}": (
            [r"1-\sqrt2, 1+\sqrt2", r"1\pm\sqrt{2}", r"\{1+\sqrt{2}, 1-\sqrt{2}\}"],
            [r"1+\sqrt{2}", r"\pm\sqrt{2}"],
        ),
        "a=5,b=6": (["a=5, b=6", "b=6, a=5", "5, 6", "(5, 6)"], ["6,5", "a=6, b=5", "(6,5)", "a=5"]),
        "(1,2),(3,4)": (["(3,4),(1,2)", "(1,2) and (3,4)", r"\{(1,2),(3,4)\}"], ["(2,1),(3,4)", "(1,2)"]),
        "(2,5]": (
            ["(2,5]", r"2 < x \le 5", r"x \in (2, 5]", "5 >= x > 2", "(2.0, 5]"],
            ["[2,5]", "(2,5)", "[2,5)", r"2 \le x \le 5", "(2,5"],
        ),
        r"(-\infty,-2)\cup(3,\infty)": (
            [r"x<-2 \text{ or } x>3", r"(3,\infty)\cup(-\infty,-2)", r"x \in (-\infty, -2) \cup (3, +\infty)"],
            [r"(-\infty,-2]\cup(3,\infty)", r"(-\infty,3)\cup(-2,\infty)", "x > 3"],
        ),
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}": (
            [r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]"],
            [r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", "1,2,3,4", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"],
        ),
        r"\emptyset": ([r"\emptyset", r"\varnothing"], ["0", r"\{0\}"]),
    },
    "times and ratios": {
        "12:15": (["12:15", "12 : 15"], ["4/5", "4:5", "0.8", "12", "12:51"]),
        "4/5": (["4/5"], ["12:15", "4:5"]),
        "2:3:5": (["2:3:5"], ["2:3", "4:6:10", "5:3:2"]),
        "3:15 pm": (["3:15 PM", "3:15 p.m."], ["3:15 am", "3:16 pm", "315"]),
    },
    "choices": {
        "B": (
            ["B", "(B)", r"\text{B}", r"\text{(B)}", "b", "B.", "B) 42", "(B) Paris", "Option B", r"\mathbf{B}",
             r"\textbf{(B)}"],
            ["C", "A", "AB", "BB", "A, B", "(C) B"],
        ),
        "(C)": (["C", "(C)", "c", r"\text{(C)}"], ["D", "(D)", "(C) or (D)"]),
        "42": (["(B) 42", "B) 42"], ["B", "(B) 43"]),
    },
    "words": {
        "Monday": (
            ["Monday", "monday", r"\text{Monday}", "MONDAY", "Monday."],
            ["Tuesday", "Monday or Tuesday", "not Monday", "Mon", "day"],
        ),
        "no solution": (
            ["No solution", r"\text{no solution}", r"\text{No Solution}."],
            ["solution", "0", r"\emptyset"],
        ),
        "Yes": (["yes", r"\text{Yes}"], ["no", "true", "yes and no"]),
        "even": (["even", r"\textbf{even}"], ["odd", "evens", "eevn"]),
    },
}  # fmt: skip

CASES = [
    (reference, answer, right)
    for topic in POLICY.values()
    for reference, (good, bad) in topic.items()
    for answers, right in ((good, True), (bad, False))
    for answer in answers
]


@pytest.mark.parametrize(("reference", "answer", "right"), CASES)
def test_the_policy_decides_as_documented(checker: MathChecker, reference: str, answer: str, right: bool) -> None:
    verdict = checker.check_sync(rf"Thus the answer is \boxed{{{answer}}}.", reference)
    assert verdict.status is (Status.CORRECT if right else Status.WRONG), verdict


@pytest.mark.parametrize("reference", sorted({reference for reference, _, _ in CASES}))
def test_every_reference_is_valid_and_accepts_itself(checker: MathChecker, reference: str) -> None:
    assert checker.validate_reference(reference) is None
    assert checker.check_sync(rf"\boxed{{{reference}}}", reference).correct


def test_lists_may_be_unordered_when_the_data_set_says_so() -> None:
    with MathChecker(policy=EquivalenceRules(ordered_lists=False)) as lenient:
        assert lenient.check_sync(r"\boxed{3, 2}", "2, 3").correct
        assert not lenient.check_sync(r"\boxed{3, 3}", "2, 3").correct


LENIENT: dict[str, tuple[list[str], list[str]]] = {
    "1024": (["1024", "2^{10}"], ["4*256", "2^9"]),
    "10": ([r"\binom{5}{2}", r"{5 \choose 2}"], [r"\binom{5}{3} + 1", "20/2"]),
    "-1": ([r"e^{i\pi}", "i^2"], ["e^{i}"]),
    "1/2": ([r"\sin 30^\circ", r"\sin\frac{\pi}{6}", r"\cos(60^\circ)", "2/4"], [r"\sin 30", "1 - 1/2"]),
    "x^2+1": (["(x+i)(x-i)"], ["(x+i)(x+i)"]),
    "(x-1)(x+2)": (["x^2+x-2"], ["x^2-x-2"]),
    r"\frac{n(n+1)}{2}": ([r"\frac{n^2+n}{2}"], [r"\frac{n^2-n}{2}"]),
}


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [(r, a, right) for r, lists in LENIENT.items() for right in (True, False) for a in lists[not right]],
)
def test_the_lenient_rules_look_at_values(lenient: MathChecker, reference: str, answer: str, right: bool) -> None:
    assert lenient.check_sync(rf"\boxed{{{answer}}}", reference).correct is right


def test_any_form_may_count() -> None:
    with MathChecker(policy=EquivalenceRules(form="any")) as checker:
        assert checker.check_sync(r"\boxed{17*23}", "391").correct
        assert checker.check_sync(r"\boxed{84/12}", "7").correct
        assert not checker.check_sync(r"\boxed{17*24}", "391").correct


def test_rounding_is_a_setting() -> None:
    exact, loose = EquivalenceRules(rounding=None), EquivalenceRules(rounding=1, decimal_digits=3)
    with MathChecker(policy=exact) as checker:
        assert not checker.check_sync(r"\boxed{2/3}", "0.67").correct
        assert checker.check_sync(r"\boxed{67/100}", "0.67").correct
    with MathChecker(policy=loose) as checker:
        assert checker.check_sync(r"\boxed{13/25}", "0.5").correct
        assert checker.check_sync(r"\boxed{0.333}", "1/3").correct
        assert not checker.check_sync(r"\boxed{0.33}", "1/3").correct


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "nice"}, "form must be one of"),
        ({"rounding": 0}, "rounding"),
        ({"decimal_digits": 0}, "decimal_digits"),
    ],
)
def test_rules_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EquivalenceRules(**options)
