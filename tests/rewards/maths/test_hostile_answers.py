"""Answers that want to run code, to exhaust the judge, or to win by a grader's known mistakes."""

import ast
from pathlib import Path

import pytest

from selfcorrect.rewards import maths
from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.maths import MathChecker

PAYLOADS = [
    "__import__('os').system('touch {target}')",
    "exec(\"open('{target}','w')\")",
    'eval(\'open("{target}", "w")\')',
    "open('{target}','w').close()",
    "(lambda: open('{target}','w'))()",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "sympify(\"__import__('pathlib').Path('{target}').touch()\")",
    "Symbol('x').__class__.__init__.__globals__['__builtins__']['open']('{target}','w')",
    "f\"{{__import__('pathlib').Path('{target}').touch()}}\"",
    "\\text{{__import__('pathlib').Path('{target}').touch()}}",
    "x\\n__import__('pathlib').Path('{target}').touch()",
    "1; __import__('pathlib').Path('{target}').touch()",
    "$__import__('pathlib').Path('{target}').touch()$",
    "\\frac{{__import__('pathlib').Path('{target}').touch()}}{{2}}",
    "\\input{{{target}}}",
    "\\write18{{touch {target}}}",
    "`touch {target}`",
    "$(touch {target})",
    "{{{{7*7}}}}",
    "%s%n{{0.__class__}}",
]


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("reference", ["42", "x^2+1", r"\int_0^1 f(x) dx"])
def test_no_answer_is_ever_run(checker: MathChecker, tmp_path: Path, payload: str, reference: str) -> None:
    target = tmp_path / "run"
    for form in ("{}", r"\boxed{{{}}}", "The answer is {}", r"$\operatorname{{{}}}$", r"\boxed{{\int {} dx}}"):
        response = form.format(payload.format(target=target))
        assert not checker.check_sync(response, reference).correct
    assert not target.exists()


def test_nothing_in_the_folder_calls_eval_or_a_string_accepting_parser_of_sympy() -> None:
    forbidden = {
        "eval",
        "exec",
        "compile",
        "sympify",
        "parse_expr",
        "S",
        "simplify",
        "parse_latex",
        "literal_eval",
        "__import__",
    }
    for path in Path(maths.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in forbidden, f"{path.name}:{node.lineno}"


COSTLY = [
    "9^{9^{9}}",
    "9^{9^{9^{9}}}",
    "10^{10^{10}}",
    "2^{99999999999}",
    "(1+10^{-9})^{10^{18}}",
    "100000!",
    "(10!)!",
    "3!!!!!!",
    r"\binom{10^9}{5 \cdot 10^8}",
    r"\sqrt[99999]{2}",
    r"\exp(\exp(\exp(\exp(9))))",
    r"\sin(10^{400})",
    r"e^{e^{e^{e^{e}}}}",
    r"\cosh(10^6)",
    "((((((((9^9)^9)^9)^9)^9)^9)^9)^9)^9",
    r"\lfloor 9^{9^9} \rfloor",
    r"\tan(9^{99})",
    r"\gcd(9^{9999}, 6^{9999})",
]


@pytest.mark.parametrize("answer", COSTLY)
def test_numbers_too_large_to_compute_are_wrong_by_bounds_and_need_no_worker(answer: str) -> None:
    with MathChecker(workers=1) as checker:
        for reference in ("42", "x^2+1", r"\sqrt{2}"):
            verdict = checker.check_sync(rf"\boxed{{{answer}}}", reference)
            assert verdict.status is Status.WRONG, verdict
        assert checker.worker_pids == []


LONG = [
    "(" * 100 + "1" + ")" * 100,
    "{" * 100 + "1" + "}" * 100,
    "-" * 300 + "1",
    r"\frac{1}{" * 60 + "1" + "}" * 60,
    r"\sqrt" * 70 + "2",
    "sin " * 90 + "x",
    "x^" * 150 + "x",
    "|" * 200,
    "1+" * 180 + "1",
    "x" * 390,
    "9" * 390,
    "0." + "3" * 390,
    "9" * 100_000,
    "1/" * 150 + "1",
    ",".join("1" * 199),
    "(1,2)," * 60,
    " or ".join("1" * 90),
    r"\cup".join(["(1,2)"] * 40),
    "=".join("1" * 190),
    "<".join("x" * 190),
    "1:" * 190,
    "!" * 390,
    "1" + "!" * 390,
    r"\text{" * 70,
    '"' * 400,
    r"\pm" * 130,
    r"\left(" * 60,
    "$" * 1000,
    "\\" * 1000,
    "{,}" * 130,
    " " * 390 + "1",
    r"\boxed{" * 1000,
    r"\boxed{1}" * 3000,
    "answer is " * 2000,
    "answer " * 3000,
    "$x$ " * 5000,
    "1 " * 10_000,
    "1,1" * 6000,
    "(1," * 6000,
    "or " * 6000 + "1",
]


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_long_and_deep_texts_are_judged_and_never_raise(checker: MathChecker, text: str) -> None:
    for response in (text, rf"\boxed{{{text}}}", f"The answer is {text}", f"${text}$"):
        for reference in ("42", "x^2+1", "(3, 4)", r"\{1, 2\}", "Monday", "B"):
            verdict = checker.check_sync(response, reference)
            assert verdict.status in (Status.WRONG, Status.UNREADABLE), verdict


@pytest.mark.slow
def test_an_answer_that_keeps_math_verify_busy_is_wrong_because_too_costly_and_the_pool_goes_on() -> None:
    with MathChecker(workers=1, deadline=4.0) as checker:
        easy = r"\boxed{\int_0^1 x^2 dx}", r"\int_0^1 t^2 dt"
        assert checker.check_sync(*easy).correct
        verdict = checker.check_sync(r"\boxed{\sum_{k=1}^{10} (k^{10^7})!}", r"\sum_{k=1}^{10} k^2")
        assert verdict.status is Status.WRONG
        assert verdict.reason.startswith("too costly")
        assert verdict.score == 0.0
        assert checker.check_sync(*easy).correct


# reference, answer that some grader was seen to accept
KNOWN_FALSE_POSITIVES = [
    ("6.6e-34", "0.0"),
    ("6.6e-34", "2e-20"),
    (r"\frac{1}{3^{80}}", r"\frac{1}{3^{79}}"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    (r"\frac{1}{100!}", "0"),
    (r"e^{-5000}", "0"),
    ("7", "x+y=7"),
    ("7", "3=7"),
    ("9", "z^2=9"),
    ("3 m", r"3 \text{ km}"),
    ("34", "34_8"),
    ("34_8", "34"),
    (r"\int_0^1 34 dx", r"\int_0^1 34_8 dx"),
    ("f'(x)", "f(x)"),
    (r"\int_0^1 f'(x) dx", r"\int_0^1 f(x) dx"),
    ("12", r"12\%"),
    (r"\int_0^1 12 dx", r"12\%"),
    ("4/5", "12:15"),
    ("12:15", "4/5"),
    ("(3,4)", r"\{3,4\}"),
    ("(3,4)", "3,4"),
    (r"\{8\}", "8"),
    ("8", r"\{8\}"),
    ("1,2,3", "3,2,1"),
    ("a=5,b=6", "6,5"),
    ("6", r"6\sqrt(5)"),
    (r"\int_0^1 2x dx", "1_8"),
    (r"\int_0^1 2x dx", r"1 \ldots"),
    (r"\int_0^1 2x dx", "0=1"),
    (r"\int_0^1 2x dx", r"\{1\}"),
    ("1, 2, 3, \\ldots", "1, 2, 3"),
    ("640320^3+744", r"e^{\pi\sqrt{163}}"),
    ("x", "y"),
    (r"\sqrt{x^2}", "x"),
    ("391", "17*23"),
    ("2, 3", "3, 2"),
    (r"17 \text{ cm}", r"17 \text{ cm}^2"),
    ("5", "5 or 6"),
    ("no", "on"),
    ("5", r"5 \text{ million}"),
]


@pytest.mark.parametrize(("reference", "answer"), KNOWN_FALSE_POSITIVES)
def test_mistakes_that_graders_are_known_for_are_not_made(checker: MathChecker, reference: str, answer: str) -> None:
    verdict = checker.check_sync(rf"\boxed{{{answer}}}", reference)
    assert verdict.status is Status.WRONG, verdict


KNOWN_FALSE_NEGATIVES = [
    ("3.7e-4", "It is 3.7e-4"),
    ("9/4", "2 1/4"),
    ("-7", "- 7"),
    ("25", r"It costs \$25"),
    ("-1", r"\boxed{e^{i\pi}}"),
    ("10", r"\boxed{\binom{5}{2}}"),
    ("10", r"\boxed{{5 \choose 2}}"),
    ("1/2", r"\boxed{\sin 30^\circ}"),
    (r"90^\circ", r"\boxed{\frac{\pi}{2}}"),
    ("3i", r"\boxed{3I}"),
    ("42", r"\boxed{41}, no, wait: \boxed{42}"),
    (r"\sqrt{11}", "sqrt(11)"),
    ("x^3+2", "x^3+2"),
    ("(2,5]", "(2,5]"),
    ("even", "even"),
    (r"\sum_{k=1}^n k", r"\boxed{\frac{n(n+1)}{2}}"),
    (r"\int_0^1 2x dx", r"\boxed{1}"),
    (r"\lim_{x \to 0} \frac{\sin x}{x}", r"\boxed{1}"),
]


@pytest.mark.parametrize(("reference", "response"), KNOWN_FALSE_NEGATIVES)
def test_right_answers_that_graders_are_known_to_miss_are_found(
    lenient: MathChecker, reference: str, response: str
) -> None:
    verdict = lenient.check_sync(response, reference)
    assert verdict.correct, verdict


@pytest.mark.parametrize("answer", [r"\sin(1,2)", r"\abs(3,4)", r"\ln(1,2,3)", r"\floor(1,2)"])
def test_functions_of_too_many_arguments_are_wrong_and_do_not_raise(checker: MathChecker, answer: str) -> None:
    assert checker.check_sync(rf"\boxed{{{answer}}}", "3").status is Status.WRONG
