"""What the user of `solve` asked: a Countdown problem, an equation, or anything else."""

import re
from typing import TYPE_CHECKING

from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.problem import Problem

if TYPE_CHECKING:
    from selfcorrect.rewards.checker import Checker

_COUNTDOWN = re.compile(r"\s*(\d{1,6}(?:[\s,]+\d{1,6})+)[\s,]+get\s+(\d{1,6})\s*:?\s*", re.IGNORECASE)
_EQUATION = re.compile(
    r"\s*(\d{1,6}\s*x\s*\+\s*\d{1,6}\s*y(?:\s*\+\s*\d{1,6}\s*z(?:\s*\+\s*\d{1,6}\s*w)?)?)\s*=\s*(\d{1,6})\s*:?\s*"
)
"""2 to 4 unknowns, in this order: x, y, z, w."""


def problem_of_question(question: str, *, answer: str | None, reads_english: bool) -> Problem:
    """`question` as a problem for a policy that does or does not read English sentences.

    "3 5 7 9 get 56" is Countdown, "11 x + 7 y + 5 z = 96" is an equation in positive whole numbers; both are judged. Anything else
    is passed on as it is, and judged if `answer` is given.

    Raises:
        ConfigurationError: the question is blank, or is judged by itself and comes with an answer.
    """
    if not question.strip():
        raise ConfigurationError("the question is empty; ask something like '3 5 7 9 get 56'")
    countdown, equation = _COUNTDOWN.fullmatch(question), _EQUATION.fullmatch(question)
    if countdown is None and equation is None:
        checker = "math" if answer is not None else "none"
        return Problem(id="question", prompt=question.strip(), reference=answer, checker=checker)
    if answer is not None:
        kind = (
            "a Countdown question is judged by its own numbers and target"
            if countdown
            else "an equation is judged by itself"
        )
        raise ConfigurationError(f"--answer: {kind}")
    if countdown is None:
        assert equation is not None
        return _equation(
            [int(number) for number in re.findall(r"\d+", equation[1])], int(equation[2]), words=reads_english
        )
    # In training the numbers come sorted; their order means nothing.
    numbers = sorted(int(number) for number in re.split(r"[\s,]+", countdown[1]))
    return _countdown(numbers, int(countdown[2]), words=reads_english)


def _countdown(numbers: list[int], target: int, *, words: bool) -> Problem:
    from selfcorrect.tasks.countdown import WORDS

    listed = " ".join(map(str, numbers))
    prompt = WORDS.format(numbers=listed, target=target) if words else f"{listed} get {target} :"
    return Problem(id="question", prompt=prompt, reference={"numbers": numbers, "target": target}, checker="countdown")


def _equation(coefficients: list[int], total: int, *, words: bool) -> Problem:
    from selfcorrect.tasks.equations import asked

    reference = {"coefficients": coefficients, "total": total}
    return Problem(
        id="question", prompt=asked(coefficients, total, words=words), reference=reference, checker="equations"
    )


def checker_of(problem: Problem) -> "Checker | None":
    """The judge of a question's answers; None where nobody said what is right.

    Raises:
        ConfigurationError: the answer that was given cannot be judged by.
    """
    if problem.checker == "countdown":
        from selfcorrect.rewards.countdown import CountdownChecker

        return CountdownChecker()
    if problem.checker == "equations":
        return _equation_checker(problem)
    if problem.reference is None:
        return None
    from selfcorrect.rewards.maths import MathChecker

    checker: Checker = MathChecker()
    fault = checker.validate_reference(problem.reference)
    if fault is not None:
        raise ConfigurationError(f"--answer {problem.reference!r} cannot be used by the math checker: {fault}")
    return checker


def _equation_checker(problem: Problem) -> "Checker":
    from selfcorrect.rewards.equations import EquationChecker

    checker = EquationChecker()
    fault = checker.validate_reference(problem.reference)
    if fault is not None:
        raise ConfigurationError(f"{problem.prompt!r} is no equation that can be judged: {fault}")
    return checker
