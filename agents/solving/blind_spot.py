"""The blind spot: does a model mend an error that it made as well as the same error of somebody else?

Tsui 2025 (arXiv 2507.02778). Three ways to meet one wrong answer:

    own       it stands in the model's own unfinished turn, which the model goes on with
    forced    the same, with "Wait" put behind it
    user      it stands in a user's message, which asks for a right one

blind spot = 1 - accuracy(own) / accuracy(user); 0 is none, 1 is total.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.evaluation import Interval, share, wilson
from selfcorrect.agents.policies.thinking import ThinkingPolicy
from selfcorrect.agents.policy import GREEDY, Sampling, derive_seed
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import TaskError
from selfcorrect.rewards.checker import Checker, Verdict, judged
from selfcorrect.tasks.problem import Problem


@dataclass(frozen=True, slots=True)
class BlindSpot:
    """What became of `n` wrong answers.

    Attributes:
        n: wrong answers; the model's own, drawn at temperature 1, of which each was met in all three ways.
        own, forced, user: share that were mended, unjudged ones left out.
        own_ci95, forced_ci95, user_ci95: Wilson intervals.
        blind_spot: 1 - own / user; nan where no user's error was mended.
        blind_spot_forced: the same of `forced`.
    """

    n: int
    own: float
    own_ci95: Interval
    forced: float
    forced_ci95: Interval
    user: float
    user_ci95: Interval
    blind_spot: float
    blind_spot_forced: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; nan is None."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


def blind_spot(
    policy: ThinkingPolicy,
    problems: Sequence[Problem],
    checker: Checker,
    prompts: Prompts,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
) -> BlindSpot:
    """Measure it on those of `problems` of which a drawn answer is wrong.

    Args:
        policy: its `thinking` says what "Wait" is; the drawing and the user's way do not use it.
        problems: one answer of each is drawn at temperature 1.
        checker: judges; what it says reaches no prompt.
        prompts: the words: a user's error is shown as the problem, the error, and the request for another answer.
        sampling: of the answers that are compared.
        seed: of all draws.

    Raises:
        TaskError: no drawn answer is wrong.
    """
    return run_blocking(_measured(policy, problems, checker, prompts, sampling, seed))


async def _measured(
    policy: ThinkingPolicy,
    problems: Sequence[Problem],
    checker: Checker,
    prompts: Prompts,
    sampling: Sampling,
    seed: int,
) -> BlindSpot:
    async def drawn(number: int, problem: Problem) -> tuple[Problem, Generation, Verdict]:
        draw = Sampling(seed=derive_seed(seed, number), max_new_tokens=sampling.max_new_tokens)
        generation = await policy.policy.generate(_asked(problem, prompts), draw)
        return problem, generation, await _judged(checker, problem, generation)

    async def met(number: int, problem: Problem, error: Generation) -> list[Verdict]:
        how = sampling.with_seed(derive_seed(derive_seed(seed, number), 1))
        shown = "\n\n".join([_asked(problem, prompts)[-1]["content"], error["text"], prompts.revise])
        unfinished, waiting = policy.reopened(error), policy.reopened(error, waiting=True)
        ways = await asyncio.gather(
            policy.policy.extend(unfinished, how),
            policy.policy.extend(waiting, how),
            policy.policy.generate(_asked(problem, prompts, shown), how),
        )
        return list(await asyncio.gather(*(_judged(checker, problem, way) for way in ways)))

    answers = await asyncio.gather(*(drawn(number, problem) for number, problem in enumerate(problems)))
    wrong = [(problem, error) for problem, error, verdict in answers if verdict.score is not None and verdict.score < 1]
    if not wrong:
        raise TaskError("the blind spot is measured on wrong answers, and no drawn answer is wrong: take more problems")
    verdicts = await asyncio.gather(*(met(number, *one) for number, one in enumerate(wrong)))
    return _figures([[verdict.score for verdict in one] for one in verdicts])


def _figures(scores: Sequence[Sequence[float | None]]) -> BlindSpot:
    columns = [[score for score in column if score is not None] for column in zip(*scores, strict=True)]
    right = [sum(score == 1.0 for score in column) for column in columns]
    own, forced, user = (share(mended, len(column)) for mended, column in zip(right, columns, strict=True))
    intervals = [wilson(mended, len(column)) for mended, column in zip(right, columns, strict=True)]
    return BlindSpot(
        n=len(scores),
        own=own,
        own_ci95=intervals[0],
        forced=forced,
        forced_ci95=intervals[1],
        user=user,
        user_ci95=intervals[2],
        blind_spot=1 - own / user if user > 0 else math.nan,
        blind_spot_forced=1 - forced / user if user > 0 else math.nan,
    )


def _asked(problem: Problem, prompts: Prompts, shown: str | None = None) -> list[Message]:
    content = prompts.attempt.replace("{problem}", problem.prompt) if shown is None else shown
    system = [Message(role="system", content=prompts.system)] if prompts.system else []
    return [*system, Message(role="user", content=content)]


async def _judged(checker: Checker, problem: Problem, generation: Generation) -> Verdict:
    return await judged(checker, generation["text"], problem.reference, problem.prompt)
