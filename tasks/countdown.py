"""Countdown: reach a target from given numbers, each used once, by steps written out. Procedural, without end."""

import hashlib
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from selfcorrect.errors import TaskError
from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.tasks.registry import ProceduralSettings

LARGEST_NUMBER = 25
LARGEST_VALUE = 199
TARGETS = range(10, 100)
_TEST_SHARE = 10
"""One problem in this many belongs to the test split."""

WORDS = (
    "Using the numbers {numbers}, each exactly once, and + - * /, reach {target}. Write every step, separated by ';', "
    "like this: 3 + 5 = 8 ; 8 * 7 = 56"
)


@dataclass(frozen=True)
class CountdownTask:
    """Countdown problems with `numbers` numbers of 1 to 25 and a target of 10 to 99.

    A problem belongs to the test split if a hash of its sorted numbers and target says so, whatever the seed: no
    problem can be in both. Every problem has a solution whose values are whole, positive and at most 199.

    Args:
        numbers: how many numbers are given, 3 to 6. This is the difficulty.
        words: ask in English sentences, for general language models, rather than in the embedded policy's "3 5 7 get 56
            :".

    Raises:
        TaskError: `numbers` is outside its range.
    """

    numbers: int = 4
    words: bool = False

    def __post_init__(self) -> None:
        if not 3 <= self.numbers <= 6:
            raise TaskError(f"countdown: numbers must be 3 to 6, got {self.numbers}")

    @property
    def name(self) -> str:
        return f"countdown-{self.numbers}"

    @property
    def checker(self) -> Checker:
        return CountdownChecker()

    def problems(self, split: Split, count: int, *, seed: int = 0) -> list[Problem]:
        """`count` distinct problems of `split`; see `Task.problems`."""
        chosen: dict[str, Problem] = {}
        for problem in self.stream(split, seed=seed):
            if len(chosen) == count:
                break
            chosen.setdefault(problem.id, problem)
        return list(chosen.values())

    def stream(self, split: Split, *, seed: int = 0) -> Iterator[Problem]:
        """Problems of `split` without end; one may come twice."""
        rng = random.Random(f"{split}-{self.numbers}-{seed}")
        while True:
            numbers = sorted(rng.randint(1, LARGEST_NUMBER) for _ in range(self.numbers))
            steps, target = random_solution(numbers, rng)
            if target in TARGETS and target not in numbers and split_of(numbers, target) == split:
                yield self._problem(numbers, target, " ; ".join(steps))

    def _problem(self, numbers: list[int], target: int, gold: str) -> Problem:
        return Problem(
            id=f"countdown-{'.'.join(map(str, numbers))}-{target}",
            prompt=asked(numbers, target, words=self.words),
            reference={"numbers": numbers, "target": target},
            checker="countdown",
            gold=gold,
            difficulty=float(self.numbers),
        )


class CountdownSettings(ProceduralSettings):
    """Procedural Countdown problems."""

    example: ClassVar[str] = "3 5 7 9 get 56"
    number: ClassVar[str | None] = "numbers"

    kind: Literal["countdown"] = "countdown"
    numbers: int = Field(default=4, ge=3, le=6)
    """How many numbers a problem gives."""

    def open(self) -> CountdownTask:
        return CountdownTask(numbers=self.numbers, words=self.words)

    @property
    def title(self) -> str:
        return f"countdown with {self.numbers} numbers"

    @classmethod
    def recognise(cls, question: str, *, words: bool) -> Problem | None:
        """A question such as "3 5 7 9 get 56"."""
        found = _QUESTION.fullmatch(question)
        if found is None:
            return None
        # In training the numbers come sorted; their order means nothing.
        numbers, target = sorted(int(number) for number in re.split(r"[\s,]+", found[1])), int(found[2])
        reference = {"numbers": numbers, "target": target}
        prompt = asked(numbers, target, words=words)
        return Problem(id="question", prompt=prompt, reference=reference, checker="countdown")


_QUESTION = re.compile(r"\s*(\d{1,6}(?:[\s,]+\d{1,6})+)[\s,]+get\s+(\d{1,6})\s*:?\s*", re.IGNORECASE)


def asked(numbers: list[int], target: int, *, words: bool) -> str:
    """The prompt: in English sentences, or "3 5 7 get 56 :"."""
    listed = " ".join(map(str, numbers))
    return WORDS.format(numbers=listed, target=target) if words else f"{listed} get {target} :"


def split_of(numbers: list[int], target: int) -> Split:
    """The split a problem belongs to, decided by the problem alone."""
    key = f"{sorted(numbers)}-{target}".encode()
    digest = hashlib.blake2b(key, digest_size=8).digest()
    return "test" if int.from_bytes(digest) % _TEST_SHARE == 0 else "train"


def random_solution(numbers: list[int], rng: random.Random) -> tuple[list[str], int]:
    """Combine `numbers` at random until one value is left; returns the steps and that value.

    The larger operand of each step is written first; all values are whole, 1 to 199 (a dead end is begun again).
    """
    while True:
        values, steps = list(numbers), []
        while len(values) > 1:
            left, right = sorted(
                (values.pop(rng.randrange(len(values))), values.pop(rng.randrange(len(values)))), reverse=True
            )
            choices = _steps_from(left, right)
            if not choices:
                break
            operator, value = choices[rng.randrange(len(choices))]
            steps.append(f"{left} {operator} {right} = {value}")
            values.append(value)
        else:
            return steps, values[0]


def all_solutions(numbers: Sequence[int], target: int) -> list[str]:
    """Every way to reach `target` that `random_solution` could find, as texts, sorted."""
    return sorted(" ; ".join(steps) for steps in set(_ways(tuple(sorted(numbers)), target)))


def _ways(values: tuple[int, ...], target: int) -> Iterator[tuple[str, ...]]:
    if len(values) == 1:
        if values[0] == target:
            yield ()
        return
    for i, j in itertools.combinations(range(len(values)), 2):
        left, right = max(values[i], values[j]), min(values[i], values[j])
        rest = values[:i] + values[i + 1 : j] + values[j + 1 :]
        for operator, value in _steps_from(left, right):
            for steps in _ways((*rest, value), target):
                yield (f"{left} {operator} {right} = {value}", *steps)


def _steps_from(left: int, right: int) -> list[tuple[str, int]]:
    """The (operator, value) pairs allowed for left >= right >= 1; multiplying or dividing by 1 is left out as idle."""
    choices = [("+", left + right)]
    if left > right:
        choices.append(("-", left - right))
    if right > 1:
        choices.append(("*", left * right))
        if left % right == 0:
            choices.append(("/", left // right))
    return [(operator, value) for operator, value in choices if value <= LARGEST_VALUE]
