"""The documents the embedded policy is pre-trained on.

    solution   3 5 7 get 56 : 3 + 5 = 8 ; 8 * 7 = 56 <eos>
    retry      3 5 7 get 56 : <an attempt of the model> again : <a solution, or the attempt once more> <eos>
    verdict    3 5 7 get 56 : <an attempt of the model> check : right <eos>
    hint       3 5 7 get 56 hint 3 + 5 = 8 : 3 + 5 = 8 ; 8 * 7 = 56 <eos>

Only what follows the last ":" is learnt; attempts are context. All of it is right: errors of the model come from difficulty.
What comes after "again" does not depend on whether the attempt was right, so the corpus teaches to answer a second time,
but not to correct.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from selfcorrect.tasks.problem import Problem


@dataclass(frozen=True, slots=True)
class Document:
    """`context` is shown, `continuation` is learnt (the end token is added after it)."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class Attempted:
    """A problem, the model's own attempt at it as it was sampled, and whether the checker accepts that."""

    problem: Problem
    attempt: str
    correct: bool


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of the kinds of documents in the second phase; what is left are solutions.

    `copies` is the share of the retries whose second answer repeats the first.
    """

    retries: float = 0.55
    verdicts: float = 0.20
    hints: float = 0.05
    copies: float = 0.30


def solution(problem: Problem) -> Document:
    return Document(problem.prompt, str(problem.gold))


def mixed(attempted: Sequence[Attempted], mixture: Mixture, rng: random.Random) -> Iterator[Document]:
    """One document for each of `attempted`, of a kind drawn at random."""
    for item in attempted:
        draw = rng.random()
        if draw < mixture.retries:
            second = item.attempt if rng.random() < mixture.copies else str(item.problem.gold)
            yield Document(f"{item.problem.prompt} {item.attempt} <eos> again :", second)
        elif draw < mixture.retries + mixture.verdicts:
            yield Document(f"{item.problem.prompt} {item.attempt} <eos> check :", "right" if item.correct else "wrong")
        elif draw < mixture.retries + mixture.verdicts + mixture.hints:
            first_step = str(item.problem.gold).split(" ; ")[0]
            yield Document(f"{item.problem.prompt.removesuffix(' :')} hint {first_step} :", str(item.problem.gold))
        else:
            yield solution(item.problem)
