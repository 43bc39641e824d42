"""The documents a small policy is pre-trained on, and how they are learnt. Of the embedded one, for Countdown:

    solution   3 5 7 get 56 : 3 + 5 = 8 ; 8 * 7 = 56 <eos>
    retry      3 5 7 get 56 : <an attempt of the model> again : 8 * 7 = 56 right <the attempt once more> <eos>
               3 5 7 get 56 : <an attempt of the model> again : 8 * 7 = 56 wrong <another solution, a right one> <eos>
    verdict    3 5 7 get 56 : <an attempt of the model> check : 8 * 7 = 56 right <eos>
    hint       3 5 7 get 56 hint 3 + 5 = 8 : 3 + 5 = 8 ; 8 * 7 = 56 <eos>

Only what follows the last ":" is learnt; attempts are context. A second look begins with true steps that test the
attempt's end (see `second_looks`). In retries, "right" and "wrong" are then drawn without
regard to it, as a language model apologises for right answers and stands by wrong ones: the corpus teaches to look
again and to answer again, but not to draw the conclusion. In verdicts the word is true.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from selfcorrect.tasks.problem import Problem
from selfcorrect.training.pretraining.second_looks import COUNTDOWN_LOOK, EOS, SecondLook


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a document, learnt or only shown."""

    text: str
    learnt: bool


class Text(Protocol):
    """What is learnt from: parts, of which the positions from part `gap_at` on are moved on by `gap`."""

    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def gap(self) -> int: ...
    @property
    def gap_at(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Document:
    """`context` is shown, `continuation` is learnt (the end token is added after it)."""

    context: str
    continuation: str

    @property
    def parts(self) -> tuple[Part, ...]:
        return Part(self.context, learnt=False), Part(f"{self.continuation} {EOS}", learnt=True)

    @property
    def gap(self) -> int:
        return 0

    @property
    def gap_at(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Attempted:
    """A problem, the model's own attempt at it as it was sampled, and whether the checker accepts that."""

    problem: Problem
    attempt: str
    correct: bool


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of the kinds of documents in the second phase; what is left are solutions.

    `stands_by` is the share of the retries that say "right" and repeat the attempt.
    """

    retries: float = 0.60
    verdicts: float = 0.12
    hints: float = 0.05
    stands_by: float = 0.45


def solution(problem: Problem) -> Document:
    return Document(problem.prompt, str(problem.gold))


def mixed(
    attempted: Sequence[Attempted], mixture: Mixture, rng: random.Random, look: SecondLook = COUNTDOWN_LOOK
) -> Iterator[Document]:
    """One document for each of `attempted`, of a kind drawn at random.

    Args:
        attempted: what the documents are about.
        mixture: the shares of the kinds.
        rng: draws them.
        look: how attempts are looked at again.
    """
    other_way = {
        correct: [item for item in attempted if item.correct == correct and not _goes_the_gold_way(item, look)]
        for correct in (True, False)
    }
    for item in attempted:
        draw = rng.random()
        if draw < mixture.retries:
            yield _retry(item, rng.random() < mixture.stands_by, other_way, rng, look)
        elif draw < mixture.retries + mixture.verdicts:
            yield Document(
                f"{_shown(item)} check :", f"{look.recheck(item.attempt)}{'right' if item.correct else 'wrong'}"
            )
        elif draw < mixture.retries + mixture.verdicts + mixture.hints:
            first_step = str(item.problem.gold).split(" ; ")[0]
            yield Document(f"{item.problem.prompt.removesuffix(' :')} hint {first_step} :", str(item.problem.gold))
        else:
            yield solution(item.problem)


def _retry(
    item: Attempted,
    stands_by: bool,
    other_way: Mapping[bool, Sequence[Attempted]],
    rng: random.Random,
    look: SecondLook,
) -> Document:
    if stands_by:
        return Document(f"{_shown(item)} again :", f"{look.recheck(item.attempt)}right {item.attempt}")
    if _goes_the_gold_way(item, look):
        # "wrong" is followed by another way. Another attempt, as right or wrong as this one, takes its place: dropping
        # the document would make "wrong" rarer after right attempts, and so tell when to revise.
        if not other_way[item.correct]:  # only where there are hardly any attempts
            return solution(item.problem)
        item = rng.choice(other_way[item.correct])
    return Document(f"{_shown(item)} again :", f"{look.recheck(item.attempt)}wrong {item.problem.gold}")


def _shown(item: Attempted) -> str:
    return f"{item.problem.prompt} {item.attempt} <eos>"


def _goes_the_gold_way(item: Attempted, look: SecondLook) -> bool:
    return look.same_way(item.attempt, str(item.problem.gold))
