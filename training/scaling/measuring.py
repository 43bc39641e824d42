"""Playing many strategies at many budgets on the same problems, with the same first answers; resumable."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from selfcorrect.agents.policy import Policy, Sampling, derive_seed
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.search.cached import CachedPolicy, CachedVerifier, KeptAnswers
from selfcorrect.agents.search.compute_optimal import ComputeOptimal, SearchPlan, difficulty_of
from selfcorrect.agents.search.search import search_all
from selfcorrect.agents.search.state import SearchResult
from selfcorrect.agents.search.strategies import Majority, Strategy, sized
from selfcorrect.errors import ConfigurationError
from selfcorrect.files import write_whole
from selfcorrect.rewards.checker import Checker, Verifier, judged
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.scaling.fitting import Outcome

# What a comparison of strategies leaves behind, and the files that hold it.


@dataclass(frozen=True, slots=True)
class Measured(Outcome):
    """An outcome, and where it comes from.

    Attributes:
        family: of the strategy; see `families`.
        saved: tokens that early stopping saved.
        stop_reason: of the search.
    """

    family: str
    saved: int
    stop_reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A problem, as its first answers show it.

    Attributes:
        problem: id, with the seed.
        correct: of each first answer (None: not judged).
        difficulty: as its first `samples` answers estimate it, by measure ("verifier", "agreement").
    """

    problem: str
    correct: list[float | None]
    difficulty: dict[str, float]

    @property
    def pass_rate(self) -> float:
        judged = [score for score in self.correct if score is not None]
        return sum(judged) / len(judged) if judged else 0.0


def write_chunk(path: Path, asked: Sequence[Asked], measured: Sequence[Measured]) -> None:
    """Keep a chunk of problems; the file appears when it is complete."""
    rows = {"asked": [asdict(one) for one in asked], "measured": [asdict(one) for one in measured]}
    write_whole(path, json.dumps(rows))


def read_chunk(path: Path) -> tuple[list[Asked], list[Measured]]:
    """What `write_chunk` kept."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Asked(**row) for row in rows["asked"]], [Measured(**row) for row in rows["measured"]]


COMPUTE_OPTIMAL = "compute_optimal"
PROBE = 64
"""Problems on which the mean length of an answer is measured."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Experiment:
    """What is compared, and on what.

    Args:
        policy, verifier, step_verifier, prompts, sampling: as in `search`.
        checker: judges the chosen answers, and nothing before.
        families: see `families`; "compute_optimal" plays `plan`.
        answers: budgets, in answers of mean length.
        answer_tokens: that length.
        samples: first answers by which difficulty is estimated.
        plan: of `compute_optimal`.
        chunk: problems that are searched at once and stored together.
    """

    policy: Policy
    checker: Checker
    prompts: Prompts
    families: tuple[str, ...]
    answers: tuple[int, ...]
    answer_tokens: float
    sampling: Sampling = field(default_factory=Sampling)
    verifier: Verifier | None = None
    step_verifier: Any = None
    samples: int = 4
    plan: SearchPlan | None = None
    chunk: int = 50

    def strategies(self) -> Iterator[tuple[str, int, Strategy]]:
        """(family, answers, strategy) of everything that is played."""
        for answers in sorted(self.answers):
            for family in self.families:
                strategy = self._compute_optimal() if family == COMPUTE_OPTIMAL else sized(family, answers)
                if strategy is not None:
                    yield family, answers, strategy

    def _compute_optimal(self) -> Strategy:
        if self.plan is None:
            raise ConfigurationError(
                "compute_optimal plays a plan: make one with `selfcorrect tune-budget` and give --plan FILE"
            )
        return ComputeOptimal(self.plan)

    def budget(self, answers: int) -> int:
        """In tokens."""
        return max(1, int(answers * self.answer_tokens))


async def mean_answer_tokens(
    policy: Policy, problems: Sequence[Problem], *, prompts: Prompts, sampling: Sampling, seed: int = 0
) -> float:
    """Mean generated tokens of a first answer."""
    results = await search_all(
        problems[:PROBE], Majority(1), policy, prompts=prompts, sampling=sampling, seed=derive_seed(seed, 777)
    )
    return sum(result.tokens for result in results) / len(results)


async def measure(
    experiment: Experiment,
    problems: Sequence[Problem],
    *,
    seed: int,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[list[Asked], list[Measured]]:
    """Play everything on `problems`; what `folder` already holds is not played again.

    Within one seed, all strategies share their first answers, so their differences are not those of luck.

    Args:
        experiment: see there.
        problems: what to ask.
        seed: of the draws.
        folder: one file per chunk is kept there; None keeps nothing.
        on_progress: told (searches ended, of how many), over all chunks and strategies.
    """
    asked: list[Asked] = []
    measured: list[Measured] = []
    each = 1 + len(list(experiment.strategies()))
    for number, start in enumerate(range(0, len(problems), experiment.chunk)):
        chunk = problems[start : start + experiment.chunk]
        path = None if folder is None else folder / f"seed-{seed}-chunk-{number}.json"
        if path is not None and path.exists():
            new_asked, new_measured = read_chunk(path)
        else:
            tell = _counted_on(on_progress, start * each, len(problems) * each)
            new_asked, new_measured = await _kept_chunk(experiment, chunk, seed, number, tell, path)
        asked += new_asked
        measured += new_measured
        if on_progress is not None:
            on_progress((start + len(chunk)) * each, len(problems) * each)
    return asked, measured


async def _kept_chunk(
    experiment: Experiment,
    chunk: Sequence[Problem],
    seed: int,
    number: int,
    tell: Callable[[], None],
    path: Path | None,
) -> tuple[list[Asked], list[Measured]]:
    """Play a chunk. Its answers are kept beside `path` as they come, and in `path` is what came of it."""
    kept = None if path is None else KeptAnswers(path.with_suffix(".answers.jsonl"))
    asked, measured = await _Chunk(experiment, chunk, seed, number, tell, kept).play()
    if path is not None and kept is not None:
        write_chunk(path, asked, measured)
        kept.path.unlink()
    return asked, measured


def _counted_on(on_progress: OnProgress | None, before: int, total: int) -> Callable[[], None]:
    done = itertools.count(before + 1)
    return (lambda: None) if on_progress is None else (lambda: on_progress(next(done), total))


class _Chunk:
    """Some problems, on which everything is played with one memory of answers, scores and verdicts."""

    def __init__(
        self,
        experiment: Experiment,
        problems: Sequence[Problem],
        seed: int,
        number: int,
        tell: Callable[[], None],
        kept: KeptAnswers | None,
    ) -> None:
        self._experiment, self._problems, self._tell = experiment, problems, tell
        self._seed = derive_seed(seed, number)
        self._names = [f"{seed}/{problem.id}" for problem in problems]
        self._policy = CachedPolicy(experiment.policy, kept)
        self._verifier = None if experiment.verifier is None else CachedVerifier(experiment.verifier)
        self._steps = None if experiment.step_verifier is None else CachedVerifier(experiment.step_verifier)
        self._verdicts: dict[tuple[str, str], float | None] = {}

    async def play(self) -> tuple[list[Asked], list[Measured]]:
        asked = await self._first_answers()
        measured: list[Measured] = []
        for family, answers, strategy in self._experiment.strategies():
            results = await self._search(strategy, self._experiment.budget(answers))
            for name, problem, result in zip(self._names, self._problems, results, strict=True):
                correct = await self._score(problem, result.answer)
                measured.append(
                    Measured(
                        name,
                        strategy.name,
                        answers,
                        correct,
                        result.tokens,
                        family,
                        result.saved_tokens,
                        result.stop_reason,
                    )
                )
        return asked, measured

    async def _search(self, strategy: Strategy, budget: int | None) -> list[SearchResult]:
        one = self._experiment
        return await search_all(
            self._problems, strategy, self._policy, self._verifier, budget,
            prompts=one.prompts, sampling=one.sampling, seed=self._seed, step_verifier=self._steps,
            on_result=lambda _: self._tell(),
        )  # fmt: skip

    async def _first_answers(self) -> list[Asked]:
        results = await self._search(Majority(max(self._experiment.answers), early=False), None)
        return [
            Asked(
                name,
                [await self._score(problem, candidate["text"]) for candidate in result.candidates],
                await self._difficulties(problem, result),
            )
            for name, problem, result in zip(self._names, self._problems, results, strict=True)
        ]

    async def _difficulties(self, problem: Problem, result: SearchResult) -> dict[str, float]:
        first = result.candidates[: self._experiment.samples]
        made = {"agreement": difficulty_of(first, "agreement")}
        if self._verifier is not None:
            scores = await self._verifier.scores(problem.prompt, [candidate["text"] for candidate in first])
            scored = [{**candidate, "score": score} for candidate, score in zip(first, scores, strict=True)]
            made["verifier"] = difficulty_of(scored, "verifier")  # type: ignore[arg-type]
        return made

    async def _score(self, problem: Problem, text: str) -> float | None:
        asked = (problem.id, text)
        if asked not in self._verdicts:
            verdict = await judged(self._experiment.checker, text, problem.reference, problem.prompt)
            self._verdicts[asked] = verdict.score
        return self._verdicts[asked]
