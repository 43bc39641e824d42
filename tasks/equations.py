"""Linear equations in positive whole numbers, "11 x + 7 y + 5 z = 96", solved by steps written out. Procedural,
without end."""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.equations import EquationChecker
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.tasks.registry import ProceduralSettings

COEFFICIENTS = range(3, 16)
LARGEST_TOTAL = 149
SMALLEST_TOTAL = 60
NAMES = "xyzw"
_TEST_SHARE = 10
"""One equation in this many belongs to the test split."""
_GIVES_UP_AFTER = 2_000
"""Draws in a row that bring nothing new: two unknowns have some thousand test equations only."""

WORDS = (
    "Find positive whole numbers {names} with {equation}. Begin with the right side, take the products away one after "
    "the other, and divide what is left by the last coefficient. Write every step, separated by ';'. For 4 x + 3 y = "
    "26, for example, x = 5 and y = 2 are found like this: 26 - 20 = 6 ; 6 / 3 = 2"
)


@dataclass(frozen=True)
class EquationsTask:
    """Equations with `unknowns` unknowns, different coefficients of 3 to 15, and a right side of 60 to 149.

    An equation belongs to the test split if a hash of its sorted coefficients and its right side says so, whatever the
    seed: no equation can be in both, not even with its terms in another order. Every equation has a solution in
    positive whole numbers; most have many.

    Args:
        unknowns: 2 to 4. More unknowns need more steps, but leave more choice.
        words: ask in English sentences, for general language models, rather than in "11 x + 7 y + 5 z = 96 :".

    Raises:
        TaskError: `unknowns` is outside its range.
    """

    unknowns: int = 3
    words: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.unknowns <= len(NAMES):
            raise TaskError(f"equations: unknowns must be 2 to {len(NAMES)}, got {self.unknowns}")

    @property
    def name(self) -> str:
        return f"equations-{self.unknowns}"

    @property
    def checker(self) -> Checker:
        return EquationChecker()

    def problems(self, split: Split, count: int, *, seed: int = 0) -> list[Problem]:
        """`count` distinct problems of `split`; see `Task.problems`."""
        chosen: dict[str, Problem] = {}
        known_already = 0
        for problem in self.stream(split, seed=seed):
            if len(chosen) == count:
                break
            known_already = known_already + 1 if problem.id in chosen else 0
            if known_already == _GIVES_UP_AFTER:
                raise TaskError(
                    f"{self.name}: {count} {split} problems were asked for, but there are hardly more than "
                    f"{len(chosen)}"
                )
            chosen.setdefault(problem.id, problem)
        return list(chosen.values())

    def stream(self, split: Split, *, seed: int = 0) -> Iterator[Problem]:
        """Problems of `split` without end; one may come twice."""
        rng = random.Random(f"{split}-equations-{self.unknowns}-{seed}")
        while True:
            coefficients = rng.sample(COEFFICIENTS, self.unknowns)
            values = _random_values(coefficients, rng)
            total = sum(coefficient * value for coefficient, value in zip(coefficients, values, strict=True))
            if total >= SMALLEST_TOTAL and split_of(coefficients, total) == split:
                yield self._problem(coefficients, values, total)

    def _problem(self, coefficients: list[int], values: list[int], total: int) -> Problem:
        return Problem(
            id=f"equations-{'.'.join(map(str, coefficients))}-{total}",
            prompt=asked(coefficients, total, words=self.words),
            reference={"coefficients": coefficients, "total": total},
            checker="equations",
            gold=steps_of(coefficients, values),
            difficulty=float(self.unknowns),
        )


class EquationsSettings(ProceduralSettings):
    """Procedural linear equations in positive whole numbers."""

    example: ClassVar[str] = "11 x + 7 y + 5 z = 96"
    number: ClassVar[str | None] = "unknowns"

    kind: Literal["equations"] = "equations"
    unknowns: int = Field(default=3, ge=2, le=4)
    """How many unknowns an equation has."""

    def open(self) -> EquationsTask:
        return EquationsTask(unknowns=self.unknowns, words=self.words)

    @property
    def title(self) -> str:
        return f"equations with {self.unknowns} unknowns"

    @classmethod
    def recognise(cls, question: str, *, words: bool) -> Problem | None:
        """A question such as "11 x + 7 y + 5 z = 96".

        Raises:
            ConfigurationError: it has the form of one, but cannot be judged.
        """
        found = _QUESTION.fullmatch(question)
        if found is None:
            return None
        coefficients, total = [int(number) for number in re.findall(r"\d+", found[1])], int(found[2])
        reference = {"coefficients": coefficients, "total": total}
        prompt = asked(coefficients, total, words=words)
        fault = EquationChecker().validate_reference(reference)
        if fault is not None:
            raise ConfigurationError(f"{prompt!r} is no equation that can be judged: {fault}")
        return Problem(id="question", prompt=prompt, reference=reference, checker="equations")


_QUESTION = re.compile(
    r"\s*(\d{1,6}\s*x\s*\+\s*\d{1,6}\s*y(?:\s*\+\s*\d{1,6}\s*z(?:\s*\+\s*\d{1,6}\s*w)?)?)\s*=\s*(\d{1,6})\s*:?\s*"
)
"""2 to 4 unknowns, in this order: x, y, z, w."""


def asked(coefficients: Sequence[int], total: int, *, words: bool) -> str:
    """The prompt: in English sentences, or "11 x + 7 y + 5 z = 96 :"."""
    equation = written(coefficients, total)
    if not words:
        return f"{equation} :"
    return WORDS.format(names=", ".join(NAMES[: len(coefficients)]), equation=equation)


def written(coefficients: Sequence[int], total: int) -> str:
    """The equation as it is shown: "11 x + 7 y + 5 z = 96"."""
    products = (f"{coefficient} {name}" for coefficient, name in zip(coefficients, NAMES, strict=False))
    return f"{' + '.join(products)} = {total}"


def steps_of(coefficients: Sequence[int], values: Sequence[int]) -> str:
    """The steps that show a solution: every product but the last taken away, the rest divided by the last
    coefficient."""
    products = [coefficient * value for coefficient, value in zip(coefficients, values, strict=True)]
    rest, steps = sum(products), []
    for product in products[:-1]:
        steps.append(f"{rest} - {product} = {rest - product}")
        rest -= product
    return " ; ".join([*steps, f"{rest} / {coefficients[-1]} = {values[-1]}"])


def split_of(coefficients: Sequence[int], total: int) -> Split:
    """The split an equation belongs to, decided by the equation alone, whatever the order of its terms."""
    key = f"equation-{sorted(coefficients)}-{total}".encode()
    digest = hashlib.blake2b(key, digest_size=8).digest()
    return "test" if int.from_bytes(digest) % _TEST_SHARE == 0 else "train"


def _random_values(coefficients: Sequence[int], rng: random.Random) -> list[int]:
    """Positive values whose products add up to at most a right side drawn at random; each takes a random part of
    what is left."""
    room = rng.randint(SMALLEST_TOTAL, LARGEST_TOTAL) - sum(coefficients)
    values = []
    for coefficient in coefficients:
        more = rng.randint(0, max(0, room) // coefficient)
        values.append(1 + more)
        room -= coefficient * more
    return values
