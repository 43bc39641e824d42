"""Cases of our own, modelled on the kinds of rows that public graders' test suites hold.

The kinds come from the suites of Math-Verify, the MATH paper's equivalence test, MARIO-EVAL and NeMo-Skills; numbers
and wording are ours. Where our policy differs from a suite on purpose (docs/math-answers.md), the row states ours and
says so.
"""

import pytest

from selfcorrect.rewards.maths import MathChecker

SAME = [
    # layout
    (r"\tfrac{2}{3} + \frac1{85}", r"\dfrac{2}{3} +\! \frac{1}{85}"),
    (r"\left(y-3\right)\left(y+3\right)", "(y-3)(y+3)"),
    (r"4\sqrt{7} + \sqrt9", r"4\sqrt7 + \sqrt{9}"),
    (r"\frac57i", r"\frac{5}{7}i"),
    (r"\frac {3}{8}", "0.375"),
    ("0.7", ".7"),
    ("$18$", r"\( 18 \)"),
    (r"\frac{2}{9}", r"$$\frac{2}{9}$$"),
    ("274", "274\\"),
    # units and money
    (r"35\text{ units}", "35 "),
    ("60", r"\$60"),
    (r"8\text{ some thing}", "8"),
    ("2350.75", "$2,350.75"),
    ("2350.75", "in all it came to 2,350.75m²"),
    # numbers in prose
    ("512", "The number of ways is 512."),
    ("-19", "so x is -19"),
    ("3000", "3 000"),
    ("3000.5", "3000,5"),
    ("64", "Final Answer: The least such $k$ is 64."),
    ("23", "Putting it together: 9 + 14 = 23"),
    # fractions
    ("14/5", r"\frac{14}{5}"),
    ("14/5", r"2\frac{4}{5}"),
    (r"307\frac{1}{4}", "307.25"),
    ("5/2", r"\frac{5}{2}"),
    (r"\frac{1}{7}", r"\left( \frac{1}{7} \right)"),
    # expressions
    ("x^2+6x+9", "x^2 + 6*x + 9"),
    ("x^2+6x+9", "x^2 + 6*x - (-9)"),
    ("(s+4)(s+4)", "(s+4)^2"),
    ("y = x^2-x+4", "4 - x + x^2"),
    (r"\frac{\sqrt{5}}{5}", r"\frac{\sqrt{5}}{5} \approx 0.447"),
    (r"\sec t", r"\frac1{\cos t}"),
    (r"\sin(90^{\circ}-t)", r"\cos(t)"),
    (r"1 - \frac{1}{\mathrm{e}}", r"\frac{e-1}{e}"),
    ("g'", "g'"),
    (r"7\pi", r"7 \cdot \pi"),
    (r"10^{\frac{-3+\sqrt{7}}{4}}", r"10^{\frac{\sqrt{7} - 3}{4}}"),
    # equations and labels
    ("z = 8", "8"),
    ("f(t) = 3t - 1", "3t - 1"),
    ("f(t) = 3t - 1", "y = 3t - 1"),
    ("u = 2, v = 5, w = 7", "2, 5, 7"),
    ("(p,q)=(5,2)", "(5,2)"),
    ("AB=6,CD=7", "6, 7"),
    (r"\frac{MN}{PQ}=\frac{1}{\sqrt{3}}", r"\frac{1}{\sqrt{3}}"),
    ("V_{1}:V_{2}=5:8", "5:8"),
    ("k = 12, n = 4", r"\boxed{k = 12} \quad \text{and} \quad \boxed{n = 4}"),
    (r"x \neq 6", "x != 6"),
    # intervals, sets, lists, points
    ("$[0,4)$", "$[0,4)$"),
    (r"t \in [0.25, \infty)", r"[1/4, \infty)"),
    (r"-3 \le x \le 8", r"x \in [-3,8]"),
    ("x < 1", "-x > -1"),
    (r"(4, 15) \cup (15, 90)", r"x \in \boxed{(4,15) \cup (15,90)}"),
    (r"x \in \boxed{\{-2\} \cup [0,5)}", r"\{-2\} \cup [0,5)"),
    (r"\{2, 5, 11\}", r"\{11,2,5\}"),
    (r"\pm 12", "-12, 12"),
    ("(6, 1), (1, 6)", r"\boxed{(1, 6)}, \boxed{(6, 1)}"),
    ("12, 35, and 90", r"12, 35, \text{ and } 90"),
    (r"(2, \frac{\pi}{3})", r"\left( 2, \frac{\pi}{3} \right)"),
    ("(0;0;5),(0;-3;5)", "(0,-3,5), (0,0,5)"),
    # matrices
    (r"\begin{pmatrix}0&0\\0&7\end{pmatrix}", r"\begin{bmatrix} 0 & 0 \\ 0 & 7 \end{bmatrix}"),
    (r"\begin{pmatrix}\frac{1}{4}\\2\end{pmatrix}", r"\begin{pmatrix}0.25\\2\end{pmatrix}"),
    # per cent
    (r"36\%", "36 percent"),
    (r"36\%", "36"),
    (r"36\%", "0.36"),
    # choices and words
    ("E", r"\mathrm{E}"),
    ("D", r"\textbf{D}"),
    (r"\text{D}", r"\boxed{\text{(D)}}."),
    (r"\text{Olga}", "Olga"),
    # boxes
    (r"11{,}222{,}333", r"\boxed{11,\! 222,\! 333}"),
    ("004", "4"),
    (r"\boxed{5 \text{ and } 9}", r"\boxed{5,9}"),
    ("\\\\frac{3}{4}", r"\frac{3}{4}"),
    ("125.663", r"40\pi"),
]  # fmt: skip

DIFFERENT = [
    (r"\tfrac{2}{3} + \frac1{85}", r"\frac{2}{3} + 3/4"),
    ("9, 5, -1", "5, 9, -1"),
    ("9, 5, 1", "5, 13, 1"),
    ("0.3, 5, 1", "5, .3, 1"),
    (r"35\text{ units}", "350 "),
    ("4x - 3y + 9z + 2 = 0", "x + y - z + 1 = 0"),
    ("8", "8.001"),
    ("x^2+6x+9", "x^3+6x+9"),
    ("even", r"\text{evenn}"),
    ("E", r"\mathrm{E}*2"),
    (r"\sqrt{31},-\sqrt{43}", r"\sqrt{31}"),
    ("[-4,1]", "(-4,1)"),
    ("[3, 4)", "[x, y)"),
    (r"\pm 700", "700"),
    ("11:00", "2:00"),
    (r"\frac{1}{2^{88}}", r"\frac{1}{2^{87}}"),
    ("n=3, 4, 5", "n=1, 2, 3"),
    ("(0, 2)", "(0, 2.5)"),
    (r"F_n = \sum_{k=0}^{n-1} F_k", r"F_n = \sum_{k=0}^{n-2} F_k"),
    ("32,349", "32"),
    # on purpose unlike some suite
    ("15", r"15\%"),  # a per cent sign divides
    ("10", "(9+1)"),  # arithmetic not carried out
    ("1", r"\frac3{3}"),
    ("x = 11", "x = 5+5+1 = 7 = 11"),  # a false chain
    ("x < 1", "-2x > -2"),  # an inequality not solved
    ("(2,6)", r"\{2,6\}"),  # brackets mean something
    (r"\frac{8}{3}", "2.6667"),  # an exact reference is not rounded
    ("2, 7, 5", "2, 5, 7"),  # bare lists are ordered
]


@pytest.mark.parametrize(("reference", "response"), SAME)
def test_rows_that_say_the_same(checker: MathChecker, reference: str, response: str) -> None:
    assert checker.validate_reference(reference) is None
    verdict = checker.check_sync(response, reference)
    assert verdict.correct, verdict


@pytest.mark.parametrize(("reference", "response"), DIFFERENT)
def test_rows_that_say_different_things(checker: MathChecker, reference: str, response: str) -> None:
    assert checker.validate_reference(reference) is None
    verdict = checker.check_sync(response, reference)
    assert not verdict.correct, verdict
    assert verdict.score == 0.0


# reference, response, and whether the lenient rules and the strict ones take it
FORMS_THAT_GRADERS_FORGIVE = [
    ("1,-2", r"They are \boxed{-2} and \boxed{1}.", True, False),
    ("-12;-11;-10", r"\boxed{\{-12, -10, -11\}}", True, False),
    (r"\{1, 2\}", r"\boxed{2, 1}", True, False),
    ("1,22", r"\boxed{1.22}", True, False),
    (r"1 \le |z| \le \frac{3}{2}", r"\boxed{z \in [-\frac32,-1] \cup [1,\frac32]}", True, True),
    ("1,-2", r"\boxed{-2, 1}", False, False),
    ("4, 3", r"We get $a = \boxed{3}$ and $b = \boxed{4}$.", False, False),
    ("4, 3", r"We get $a = \boxed{4}$ and $b = \boxed{3}$.", True, True),
    ("(1, 2)", r"\boxed{\{1, 2\}}", False, False),
    ("391", r"\boxed{17\cdot 23}", False, False),
]


@pytest.mark.parametrize(("reference", "response", "by_lenient", "by_strict"), FORMS_THAT_GRADERS_FORGIVE)
def test_the_lenient_rules_forgive_forms_where_public_graders_do(
    checker: MathChecker, lenient: MathChecker, reference: str, response: str, by_lenient: bool, by_strict: bool
) -> None:
    assert lenient.check_sync(response, reference).correct is by_lenient
    assert checker.check_sync(response, reference).correct is by_strict
