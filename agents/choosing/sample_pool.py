"""Many judged answers to every problem, sampled once and kept in a file: what verifiers learn from and are measured
on."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from selfcorrect.agents.policy import Policy, Sampling, derive_seed
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.state import Generation, Message, tokens_of
from selfcorrect.errors import PolicyError, SelfCorrectError, TaskError
from selfcorrect.files import json_line, write_whole
from selfcorrect.rewards.checker import Checker, Verdict, judged
from selfcorrect.tasks.problem import Problem

_AT_ONCE = 4096
"""Calls that wait for the policy at a time: enough for full batches, few enough for memory."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One first answer to a problem.

    Attributes:
        id: of the problem.
        prompt: the problem's own prompt, without the words around it.
        text: what the policy wrote.
        answer: as the checker read it; None if it found none. Votes count equal answers.
        correct: None if the checker could not judge it.
        tokens: sampled ones, the stop token included; words where the policy has no tokens.
        finish_reason: "stop" or "length".
    """

    id: str
    prompt: str
    text: str
    answer: str | None
    correct: bool | None
    tokens: int
    finish_reason: str


async def sample_pool(
    policy: Policy,
    problems: Sequence[Problem],
    checker: Checker,
    *,
    per_problem: int,
    prompts: Prompts,
    sampling: Sampling | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> list[Sample]:
    """`per_problem` judged first answers to each of `problems`, problem after problem.

    Sample k of problem i depends on (policy, problem, `seed`, i, k) alone: a pool of 64 begins with the pool of 16.

    Args:
        policy: writes the answers.
        problems: what to ask.
        checker: judges them, after they were written.
        per_problem: samples of each problem.
        prompts: only the first message of the loop is used.
        sampling: how to draw; None is temperature 1. Its seed is not used.
        seed: as above.
        numbers: the i of each problem, where `problems` are some of more; None counts them from 0.

    Raises:
        PolicyError: the policy cannot answer one of `problems`, or its server failed.
    """
    draw = sampling or Sampling()
    asked = [
        (problem, derive_seed(derive_seed(seed, i), k))
        for i, problem in zip(range(len(problems)) if numbers is None else numbers, problems, strict=True)
        for k in range(per_problem)
    ]
    known: dict[tuple[str, str], Verdict] = {}
    samples: list[Sample] = []
    for begin in range(0, len(asked), _AT_ONCE):
        chunk = asked[begin : begin + _AT_ONCE]
        written = await asyncio.gather(
            *(_answered(policy, problem, prompts, draw.with_seed(own)) for problem, own in chunk)
        )
        texts = {(problem.id, text["text"]): problem for (problem, _), text in zip(chunk, written, strict=True)}
        new = {key: problem for key, problem in texts.items() if key not in known}
        verdicts = await asyncio.gather(
            *(judged(checker, text, problem.reference, problem.prompt) for (_, text), problem in new.items())
        )
        known.update(zip(new, verdicts, strict=True))
        samples += [
            _sample(problem, generation, known[problem.id, generation["text"]])
            for (problem, _), generation in zip(chunk, written, strict=True)
        ]
    return samples


def by_problem(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each problem, problems in the order of the pool."""
    return [list(group) for _, group in groupby(samples, key=lambda sample: sample.id)]


def write_pool(path: Path, samples: Iterable[Sample]) -> None:
    """Write one JSON line a sample; the file appears when it is complete."""
    write_whole(path, "".join(json_line(asdict(sample)) for sample in samples))


def read_pool(path: Path) -> list[Sample]:
    """The samples of a file of `write_pool`.

    Raises:
        TaskError: the file is missing or empty, or a line of it is no sample.
    """
    try:
        samples = list(_lines(path))
    except OSError as error:
        raise TaskError(f"cannot read the pool {path}: {error.strerror or error}") from error
    if not samples:
        raise TaskError(f"the pool {path} is empty: it should hold one JSON line for each sample")
    return samples


def _lines(path: Path) -> Iterator[Sample]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield Sample(**json.loads(line))
            except (json.JSONDecodeError, TypeError) as error:
                raise TaskError(f"{path}, line {number}: this is no sample of write_pool ({error})") from error


async def _answered(policy: Policy, problem: Problem, prompts: Prompts, sampling: Sampling) -> Generation:
    try:
        return await policy.generate(_first_message(problem, prompts), sampling)
    except SelfCorrectError:
        raise
    except Exception as error:  # whatever the client of a provider raises
        raise PolicyError(f"problem {problem.id!r}: {type(error).__name__} while answering: {error}") from error


def _first_message(problem: Problem, prompts: Prompts) -> list[Message]:
    system = [Message(role="system", content=prompts.system)] if prompts.system else []
    return [*system, Message(role="user", content=prompts.attempt.replace("{problem}", problem.prompt))]


def _sample(problem: Problem, generation: Generation, verdict: Verdict) -> Sample:
    return Sample(
        id=problem.id,
        prompt=problem.prompt,
        text=generation["text"],
        answer=verdict.answer,
        correct=None if verdict.score is None else verdict.correct,
        tokens=tokens_of(generation),
        finish_reason=generation["finish_reason"],
    )
