"""What verifiers learn from: labelled answers, pairs of them, and how often each beginning came out right."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from selfcorrect.agents.choosing.sample_pool import Sample
from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifier import STEP_SEPARATOR, prefixes, split_steps


@dataclass(frozen=True, slots=True)
class Pair:
    """A right and a wrong answer to the same problem."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer and its targets in [0, 1]: one for the whole answer, or one for each of its steps."""

    prompt: str
    response: str
    targets: tuple[float, ...]


def preference_pairs(samples: Sequence[Sample], *, per_problem: int, seed: int) -> list[Pair]:
    """Correct x incorrect answers of each problem (V-STaR, section 3.2), in random order.

    Answers with the same text count once. Of a problem's Cartesian product at most `per_problem` pairs are drawn, so
    that problems with many answers of both kinds do not drown the others.

    Raises:
        TrainingError: no problem has both a right and a wrong answer.
    """
    rng = random.Random(seed)
    rights, wrongs = _texts(samples, correct=True), _texts(samples, correct=False)
    pairs: list[Pair] = []
    for prompt, right in rights.items():
        both = list(product(right, wrongs.get(prompt, [])))
        pairs += [Pair(prompt, chosen, rejected) for chosen, rejected in rng.sample(both, min(per_problem, len(both)))]
    if not pairs:
        raise TrainingError(
            "a verifier learns from right and wrong answers to the same problem, and none of "
            f"{len(rights.keys() | wrongs.keys())} problems has both ({_count(rights)} right and {_count(wrongs)} "
            "wrong answers): sample more of each, or choose problems that the policy solves now and then"
        )
    rng.shuffle(pairs)
    return pairs


def outcome_labels(samples: Sequence[Sample]) -> list[Labelled]:
    """Every judged answer with its outcome, 1 or 0.

    Raises:
        TrainingError: all answers are right, all are wrong, or there are none.
    """
    labelled = [Labelled(one.prompt, one.text, (float(one.correct),)) for one in samples if one.correct is not None]
    _refuse_one_sided([label.targets[0] for label in labelled])
    return labelled


def step_labels(samples: Sequence[Sample], *, separator: str = STEP_SEPARATOR) -> list[Labelled]:
    """Every judged answer with a target for each step: the share of right answers among all that begin so.

    Math-Shepherd's soft estimate (arXiv 2312.08935, Eq. 4), in which the rollouts from a beginning are the samples that
    share it. Each sample is a rollout from all of its own beginnings, so the targets are unbiased however few there
    are.

    Raises:
        TrainingError: all answers are right, all are wrong, or there are none.
    """
    judged = [one for one in samples if one.correct is not None]
    _refuse_one_sided([float(bool(one.correct)) for one in judged])
    frequency = success_frequencies(judged, separator=separator)
    return [
        Labelled(one.prompt, one.text, tuple(frequency[one.prompt, begun] for begun in prefixes(one.text, separator)))
        for one in judged
        if split_steps(one.text, separator)
    ]


def success_frequencies(samples: Sequence[Sample], *, separator: str = STEP_SEPARATOR) -> dict[tuple[str, str], float]:
    """For every (prompt, beginning up to the end of a step): the share of right answers among the samples that begin
    so."""
    passed: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for one in samples:
        for begun in prefixes(one.text, separator):
            passed[one.prompt, begun].append(bool(one.correct))
    return {begun: sum(outcomes) / len(outcomes) for begun, outcomes in passed.items()}


def _texts(samples: Sequence[Sample], *, correct: bool) -> dict[str, list[str]]:
    """The different texts of the right (or wrong) answers to each prompt, blank ones left out."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for one in samples:
        if one.correct is correct and one.text.strip():
            found[one.prompt][one.text] = None
    return {prompt: list(texts) for prompt, texts in found.items()}


def _count(texts: dict[str, list[str]]) -> int:
    return sum(map(len, texts.values()))


def _refuse_one_sided(outcomes: Sequence[float]) -> None:
    rights = sum(outcomes)
    if not 0 < rights < len(outcomes):
        raise TrainingError(
            f"a verifier learns from right and wrong answers, and of {len(outcomes)} judged ones {rights:.0f} are "
            "right: sample more, or choose problems that the policy solves now and then"
        )


def minibatches(count: int, size: int, *, epochs: int, seed: int) -> Iterator[list[int]]:
    """Numbers 0 ... count - 1 in shuffled batches, epoch after epoch; the last batch of an epoch may be smaller."""
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(f"{seed}-{epoch}").shuffle(order)
        yield from (order[begin : begin + size] for begin in range(0, count, size))
