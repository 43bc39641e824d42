"""What the user of `solve` asked: a Countdown problem, or anything else."""

import re

from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.problem import Problem

_COUNTDOWN = re.compile(r"\s*(\d{1,6}(?:[\s,]+\d{1,6})+)[\s,]+get\s+(\d{1,6})\s*:?\s*", re.IGNORECASE)


def problem_of_question(question: str, *, answer: str | None, reads_english: bool) -> Problem:
    """`question` as a problem for a policy that does or does not read English sentences.

    "3 5 7 9 get 56" is Countdown, and is judged. Anything else is passed on as it is, and judged if `answer` is given.

    Raises:
        ConfigurationError: the question is blank, or is Countdown and comes with an answer.
    """
    if not question.strip():
        raise ConfigurationError("the question is empty; ask something like '3 5 7 9 get 56'")
    countdown = _COUNTDOWN.fullmatch(question)
    if countdown is None:
        checker = "math" if answer is not None else "none"
        return Problem(id="question", prompt=question.strip(), reference=answer, checker=checker)
    if answer is not None:
        raise ConfigurationError("--answer: a Countdown question is judged by its own numbers and target")
    # In training the numbers come sorted; their order means nothing.
    numbers = sorted(int(number) for number in re.split(r"[\s,]+", countdown[1]))
    return _countdown(numbers, int(countdown[2]), words=reads_english)


def _countdown(numbers: list[int], target: int, *, words: bool) -> Problem:
    from selfcorrect.tasks.countdown import WORDS

    listed = " ".join(map(str, numbers))
    prompt = WORDS.format(numbers=listed, target=target) if words else f"{listed} get {target} :"
    return Problem(id="question", prompt=prompt, reference={"numbers": numbers, "target": target}, checker="countdown")
