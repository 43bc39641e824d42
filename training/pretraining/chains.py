"""Documents of many looks, for a policy that may look at its answer again and again. All of one:

    3 5 7 get 56 : <an attempt of the model> <eos>
    again : 8 * 7 = 56 right <the attempt once more> <eos>
    check : 8 * 7 = 56 wrong <eos>
    again : 8 * 7 = 56 wrong <another solution, a right one> <eos>

With `restated` a look says the problem again before it answers, "again : 8 * 7 = 56 wrong 3 5 7 get 56 : <...>". So it
answers from where the first answer does, and finds the problem in the look before, always as far away; small policies
that learnt chains without it took earlier answers' numbers for the problem's.

As in documents of one look (see `corpus`), what is learnt is true, or a repetition; attempts of the model's own are
context; after "again :" the word is drawn without regard to whether the answer is right, after "check :" it is true.
Every answer that is called wrong is followed by another one: a solution, or (not learnt) another attempt of the
model's own, so that later looks have wrong answers to look at too.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from selfcorrect.tasks.countdown import all_solutions
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.pretraining.corpus import Attempted, Part, Text
from selfcorrect.training.pretraining.second_looks import EOS, SecondLook

_POOLED = 16
"""Batches whose documents are sorted by length together."""
LOOK_TOKENS = 26
"""Tokens of one look at an answer of four numbers, its "again :" and its end."""
RESTATED_TOKENS = 7
"""Tokens of a problem of four numbers, which a look may say again."""


@dataclass(frozen=True, slots=True)
class ChainMixture:
    """What chains are made of.

    Attributes:
        looks: the most looks of a chain; each number from 1 on is as likely.
        verdicts: chance that a look is preceded by a verdict, and that one ends the chain.
        stands_by: share of the looks that say "right" and repeat the answer.
        own: share of the changed answers that are another attempt of the model's own, which is not learnt.
        gaps: chance that a chain pretends to hold more looks than it does: the positions from its first look on,
            which is then context, are moved on, so that the distances of `farthest` looks are learnt from short
            documents (Zhu et al. 2023, "PoSE", arXiv 2309.10400). What follows a real conversation's look is as near
            as ever; only what lies before it is farther away.
        farthest: the most looks whose distances are learnt.
        restated: looks say the problem again before they answer.
        grows_over: chains over which the most looks grow from 2 to `looks`; 0 and they do not.
    """

    looks: int = 8
    verdicts: float = 0.3
    stands_by: float = 0.45
    own: float = 0.4
    gaps: float = 0.5
    farthest: int = 32
    restated: bool = False
    grows_over: int = 0

    @property
    def look_tokens(self) -> int:
        """Tokens of one look."""
        return LOOK_TOKENS + RESTATED_TOKENS * self.restated

    def most(self, made: int) -> int:
        """The most looks of the next chain, after `made` others."""
        return self.looks if made >= self.grows_over else 2 + (self.looks - 2) * made // self.grows_over


@dataclass(frozen=True, slots=True)
class Chain:
    """A document of several learnt parts; `gap` positions are left out before part `gap_at`."""

    parts: tuple[Part, ...]
    gap: int = 0
    gap_at: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """The model's own attempts at one problem, and all solutions of it, as texts: two or more."""

    problem: Problem
    attempts: tuple[Attempted, ...]
    solutions: tuple[str, ...]


def grouped(attempted: Sequence[Attempted]) -> list[Group]:
    """The attempts by problem, without problems that have a single solution: after "wrong" it could not be changed."""
    by_problem = itertools.groupby(sorted(attempted, key=lambda item: item.problem.id), lambda item: item.problem.id)
    groups = []
    for _, items in by_problem:
        attempts = tuple(items)
        problem = attempts[0].problem
        reference: dict[str, object] = problem.reference
        numbers, target = reference["numbers"], reference["target"]
        assert isinstance(numbers, list) and isinstance(target, int)
        solutions = tuple(all_solutions(numbers, target))
        if len(solutions) > 1:
            groups.append(Group(problem, attempts, solutions))
    return groups


def chains_about(
    groups: Sequence[Group], mixture: ChainMixture, rng: random.Random, look: SecondLook
) -> Iterator[Text]:
    """Chains without end."""
    for made in itertools.count():
        yield chained(rng.choice(groups), replace(mixture, looks=mixture.most(made)), rng, look)


def of_like_length(documents: Iterator[Text], rows: int, rng: random.Random) -> Iterator[Text]:
    """The same documents in another order: every `rows` that follow each other are about as long, so that little of a
    batch is padding; the batches come in random order."""
    while True:
        pool = sorted(itertools.islice(documents, rows * _POOLED), key=_length)
        batches = [pool[begin : begin + rows] for begin in range(0, len(pool), rows)]
        rng.shuffle(batches)
        yield from itertools.chain.from_iterable(batches)


def _length(document: Text) -> int:
    return sum(len(part.text.split()) for part in document.parts)


def chained(group: Group, mixture: ChainMixture, rng: random.Random, look: SecondLook) -> Chain:
    """One chain about `group`."""
    writing = _Writing(group, rng.choice(group.attempts).attempt)
    count = rng.randint(1, mixture.looks)
    more = mixture.farthest - count
    gapped = count > 1 and more > 0 and rng.random() < mixture.gaps
    gap = mixture.look_tokens * rng.randint(1, more) if gapped else 0
    if gapped:  # no conversation has a gap between a look and what it looks at, so that look is not learnt
        writing.look(look, rng, mixture)
        writing.parts = [replace(part, learnt=False) for part in writing.parts]
    for _ in range(count - gapped):
        if rng.random() < mixture.verdicts:
            writing.judge(look)
        writing.look(look, rng, mixture)
    if rng.random() < mixture.verdicts:
        writing.judge(look)
    return Chain(tuple(writing.parts), gap)


@dataclass(slots=True)
class _Writing:
    """A chain as far as it is written, and the answer that it has come to."""

    group: Group
    answer: str
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parts.append(Part(f"{self.group.problem.prompt} {self.answer} {EOS}", learnt=False))

    def judge(self, look: SecondLook) -> None:
        """The truth about the answer."""
        self._add("check :", f"{look.recheck(self.answer)}{'right' if self._is_right() else 'wrong'}")

    def look(self, look: SecondLook, rng: random.Random, mixture: ChainMixture) -> None:
        """The answer once more, or another one, whatever it is worth."""
        seen = look.recheck(self.answer)
        asked = f"{self.group.problem.prompt} " if mixture.restated else ""
        if rng.random() < mixture.stands_by:
            self._add("again :", f"{seen}right {asked}{self.answer}")
            return
        own = [item.attempt for item in self.group.attempts if item.attempt != self.answer]
        if own and rng.random() < mixture.own:
            self.answer = rng.choice(own)
            self._add("again :", f"{seen}wrong {asked}".rstrip(), f"{self.answer} {EOS}")
            return
        self.answer = rng.choice([text for text in self.group.solutions if text != self.answer])
        self._add("again :", f"{seen}wrong {asked}{self.answer}")

    def _add(self, shown: str, learnt: str, unlearnt: str | None = None) -> None:
        end = f" {EOS}" if unlearnt is None else ""
        self.parts += [Part(shown, learnt=False), Part(learnt + end, learnt=True)]
        if unlearnt is not None:
            self.parts.append(Part(unlearnt, learnt=False))

    def _is_right(self) -> bool:
        return self.answer in self.group.solutions or any(
            item.correct for item in self.group.attempts if item.attempt == self.answer
        )
