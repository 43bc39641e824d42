"""What the user of `solve` asked: a Countdown problem, an equation, or anything else."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.state import Generation, Message
from selfcorrect.cli.console import loading
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.problem import Problem

if TYPE_CHECKING:
    from selfcorrect.agents.graph import CritiqueMode
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.rewards.checker import Checker
    from selfcorrect.tasks.problem import Task
    from selfcorrect.training.settings import TaskSettings


_COUNTDOWN = re.compile(r"\s*(\d{1,6}(?:[\s,]+\d{1,6})+)[\s,]+get\s+(\d{1,6})\s*:?\s*", re.IGNORECASE)
_EQUATION = re.compile(
    r"\s*(\d{1,6}\s*x\s*\+\s*\d{1,6}\s*y(?:\s*\+\s*\d{1,6}\s*z(?:\s*\+\s*\d{1,6}\s*w)?)?)\s*=\s*(\d{1,6})\s*:?\s*"
)
"""2 to 4 unknowns, in this order: x, y, z, w."""


def problem_of_question(question: str, *, answer: str | None, reads_english: bool) -> Problem:
    """`question` as a problem for a policy that does or does not read English sentences.

    "3 5 7 9 get 56" is Countdown, "11 x + 7 y + 5 z = 96" is an equation in positive whole numbers; both are judged.
    Anything else is passed on as it is, and judged if `answer` is given.

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


# The policy that a command names, and how to talk to it.


@dataclass(frozen=True)
class NamedPolicy:
    """An opened policy, as the user called it."""

    name: str
    policy: "Policy"

    @property
    def reads_english(self) -> bool:
        """False for the embedded policy and others with a small vocabulary: they know numbers and a few words."""
        from selfcorrect.agents.prompts import reads_english

        return reads_english(getattr(self.policy, "tokenizer", None))

    def prompts(self, critique: "CritiqueMode") -> "Prompts":
        """The words of the loop for this policy."""
        from selfcorrect.agents.prompts import math_prompts, prompts_of

        return prompts_of(self.policy, english=math_prompts(critique))

    def refuse_unreadable(self, prompt: str) -> None:
        """Raise a ConfigurationError if the policy's vocabulary lacks words of `prompt`."""
        from selfcorrect.agents.prompts import refuse_unreadable

        refuse_unreadable(self.policy, [prompt], name=self.name)


def open_policy(name: str, **options: Any) -> NamedPolicy:
    """The policy called `name`: "embedded", a folder, a Hugging Face id, or "provider:model" of LangChain.

    Args:
        name: as above.
        **options: of `TransformersPolicy`.

    Raises:
        PolicyError: it cannot be loaded.
    """
    with loading(f"policy {name}"):
        from selfcorrect.agents.loading import named_policy

        policy, _ = named_policy(name, **options)
    return NamedPolicy(name, policy)


# A policy that tells how far it is, for a progress bar.


class CountedPolicy:
    """Passes every call on to `policy` and tells, after each, how many turns of `total` are written."""

    def __init__(self, policy: Policy, tell: Callable[[int, int], None], total: int) -> None:
        self._policy, self._tell, self._total = policy, tell, total
        self._written = 0

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        generation = await self._policy.generate(messages, sampling, after=after)
        self._written += 1
        self._tell(self._written, self._total)
        return generation


# How tasks are named on the command line: "countdown", "countdown-5", "equations", "equations-4", or the path of a JSON
# Lines file.

_COUNTDOWN_NAME = re.compile(r"countdown(?:-([3-6]))?")
_EQUATIONS = re.compile(r"equations(?:-([2-4]))?")


def task_settings(name: str, *, words: bool = False) -> "TaskSettings":
    """The settings that `name` stands for; `words` asks procedural problems in English sentences.

    Raises:
        ConfigurationError: it stands for nothing.
    """
    from selfcorrect.training.settings import CountdownSettings, EquationsSettings, JsonlSettings

    countdown = _COUNTDOWN_NAME.fullmatch(name)
    if countdown:
        return CountdownSettings(numbers=int(countdown[1] or 4), words=words)
    equations = _EQUATIONS.fullmatch(name)
    if equations:
        return EquationsSettings(unknowns=int(equations[1] or 3), words=words)
    if name.endswith((".jsonl", ".json")) or Path(name).is_file():
        return JsonlSettings(path=Path(name))
    raise ConfigurationError(
        f"unknown task {name!r}: expected countdown, countdown-3 to countdown-6, equations, equations-2 to "
        "equations-4, or the path of a .jsonl file"
    )


def open_task(name: str, *, words: bool = False) -> "Task":
    """The task that `name` stands for; see `task_settings`.

    Raises:
        ConfigurationError: it stands for nothing.
        TaskError: its file is unusable.
    """
    return task_settings(name, words=words).open()
