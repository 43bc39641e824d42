"""Sampling for the supervised arms: problem after problem, until there is enough."""

import asyncio
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from selfcorrect.agents.episodes import play, run_blocking
from selfcorrect.agents.evaluation import judge, report_on
from selfcorrect.agents.policy import Sampling, derive_seed
from selfcorrect.agents.state import EpisodeState, Turn
from selfcorrect.errors import TaskError, UnreadablePromptError
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.supervised.examples import Example, distinct
from selfcorrect.training.processes import count, places_here, together
from selfcorrect.training.runs.held_out import left_out_text
from selfcorrect.training.settings import SupervisedSettings

_EPISODES_AT_ONCE = 256


@dataclass(slots=True)
class Sampled:
    """What was sampled, and made of it.

    Attributes:
        states: the judged episodes; those with a hint left out.
        hinted: the judged episodes with a hint.
        examples: what is to be learnt.
        left_out: why samples gave no example, and how often, where the arm counts that.
    """

    states: list[EpisodeState] = field(default_factory=list)
    hinted: list[EpisodeState] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    """Sampled tokens of all turns that were added."""

    def add(self, more: "Sampled") -> None:
        """Take in what was sampled next, without what only learning needs: a run samples tens of thousands of
        episodes."""
        self.states += map(_lightened, more.states)
        self.hinted += map(_lightened, more.hinted)
        self.examples += more.examples
        self.left_out.update(more.left_out)
        turns = [turn for state in (*more.states, *more.hinted) for turn in state["turns"]]
        self.tokens += sum(len(turn["generation"]["completion_ids"]) for turn in turns)


Harvest = Callable[[Sequence[Problem], int], Sampled]
"""Samples the listed problems with a seed, and makes examples of the episodes. A problem is listed as often as it is
sampled."""


def gather(
    task: Task,
    settings: SupervisedSettings,
    seed: int,
    harvest: Harvest,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[list[Example], dict[str, float]]:
    """Harvest as much as `settings` ask for; the distinct examples, and the figures of the sampling.

    The result is a function of the arguments: nothing else is random. `tell` hears now and then how far it is, and
    which problems were left out because they are too long for the policy's context.
    """
    start = time.perf_counter()
    everything, asked = Sampled(), 0
    told = _Told(settings, tell)
    _HEARD.set(told)
    problems = problems_of(task, settings, derive_seed(seed, 0))
    for number in itertools.count(1):
        size = _next_size(settings, asked, everything.tokens)
        batch = list(itertools.islice(problems, size))
        if not batch:
            break
        repeated = [problem for problem in batch for _ in range(settings.samples_per_problem)]
        everything.add(harvest(repeated, derive_seed(seed, number)))
        asked += len(batch)
        if settings.tokens is not None and not everything.tokens:
            break  # a budget of tokens would never be spent on problems that cannot be shown
    _HEARD.set(None)
    if told.too_long:
        everything.left_out["problems_too_long"] = len(told.too_long)
        tell(left_out_text(list(told.too_long)))
    examples = distinct(everything.examples)
    return examples, _figures(everything, examples, asked, time.perf_counter() - start)


def problems_of(task: Task, settings: SupervisedSettings, seed: int) -> Iterator[Problem]:
    """The training problems in the order in which they are asked: `settings.problems` of them, or with a token budget
    without end.

    Raises:
        TaskError: the task has no training problems.
    """
    available = getattr(task, "available", None)
    if available is None:
        endless = (
            problem
            for block in itertools.count()
            for problem in task.problems("train", _EPISODES_AT_ONCE, seed=derive_seed(seed, block))
        )
        return endless if settings.tokens is not None else itertools.islice(endless, settings.problems)
    count = available("train")
    if count == 0:
        raise TaskError(f"{task.name}: there are no training problems to sample; lower test_share or add rows")
    known = list(task.problems("train", count, seed=seed))
    if settings.tokens is None:
        return iter(known[: settings.problems])
    orders = (random.Random(derive_seed(seed, epoch)).sample(known, count) for epoch in itertools.count())
    return itertools.chain.from_iterable(orders)


def sampled_episodes(
    graph: Any, problems: Sequence[Problem], checker: Checker, *, temperature: float, seed: int
) -> list[EpisodeState]:
    """One judged episode per entry of `problems`; those that are too long for the policy's context are left out.

    Each process plays its share, all samples of a problem together, with the seeds that they have in one process; all
    episodes are returned in all of them, in the same order.
    """
    here = places_here([problem.id for problem in problems])
    mine, seeds = [problems[place] for place in here], [derive_seed(seed, place) for place in here]
    played = run_blocking(_judged(graph, mine, checker, Sampling(temperature=temperature), seeds)) if mine else []
    heard = _HEARD.get()
    parts = together((played, [] if heard is None else list(heard.too_long)))
    if heard is not None:
        heard.too_long.update(dict.fromkeys(problem for _, too_long in parts for problem in too_long))
    by_seed = {state["seed"]: state for states, _ in parts for state in states}
    return [by_seed[own] for place in range(len(problems)) if (own := derive_seed(seed, place)) in by_seed]


async def _judged(
    graph: Any, problems: Sequence[Problem], checker: Checker, sampling: Sampling, seeds: Sequence[int]
) -> list[EpisodeState]:
    told = _HEARD.get()
    on_episode, on_unreadable = (None, None) if told is None else (told.finished, told.unreadable)
    played = await play(
        graph, problems, sampling=sampling, seeds=seeds, on_episode=on_episode, on_unreadable=on_unreadable
    )
    return list(await asyncio.gather(*(judge(state, checker) for state in played)))


_TOLD_TIMES = 20
"""How often a loop's sampling tells how far it is."""


@dataclass(slots=True)
class _Told:
    """Counts the episodes, or tokens, of a loop, and tells each twentieth of them; notes the problems that are too long
    for the policy's context. Of several processes each counts its own, and takes the others to be as far."""

    settings: SupervisedSettings
    tell: Callable[[str], None]
    episodes: int = 0
    tokens: int = 0
    part: int = 0
    too_long: dict[str, None] = field(default_factory=dict)

    def unreadable(self, problem: Problem, error: UnreadablePromptError) -> None:
        self.too_long[problem.id] = None

    def finished(self, state: EpisodeState) -> None:
        self.episodes += count()
        self.tokens += count() * sum(len(turn["generation"]["completion_ids"]) for turn in state["turns"])
        budget = self.settings.tokens
        wanted = budget or self.settings.problems * self.settings.samples_per_problem
        done = self.tokens if budget else self.episodes
        part = min(_TOLD_TIMES, _TOLD_TIMES * done // wanted)
        if part > self.part:
            self.part = part
            unit = "tokens" if budget else "episodes"
            self.tell(f"sampled {done:,} of {wanted:,} {unit} ({done / wanted:.0%})")


_HEARD: ContextVar[_Told | None] = ContextVar("_HEARD", default=None)
"""Who hears of the episodes of the loop that is being sampled: arms make their own graphs and need not pass it on."""


def _lightened(state: EpisodeState) -> EpisodeState:
    """`state` without log-probabilities, conversations and prompts."""
    turns = [
        Turn(**{**turn, "generation": {**turn["generation"], "logprobs": [], "messages": [], "prompt_ids": []}})
        for turn in state["turns"]
    ]
    return {**state, "turns": turns}


def _next_size(settings: SupervisedSettings, asked: int, tokens: int) -> int:
    """How many problems the next batch asks; the last batch of a token budget is cut to what is missing."""
    most = max(1, _EPISODES_AT_ONCE // settings.samples_per_problem)
    if settings.tokens is None or asked == 0:
        return most
    missing = settings.tokens - tokens
    return min(most, max(0, math.ceil(missing / (tokens / asked)))) if tokens else most


def _figures(sampled: Sampled, examples: Sequence[Example], asked: int, seconds: float) -> dict[str, float]:
    """The row of metrics.jsonl, as reinforcement learning writes it, and what became of the samples."""
    figures = {
        "tokens": float(sampled.tokens),
        "tokens_per_second": sampled.tokens / max(seconds, 1e-9),
        "rollout_seconds": seconds,
        **(_of_episodes(sampled.states) if sampled.states else {}),
    }
    if sampled.hinted:
        figures["accuracy_hinted"] = report_on(sampled.hinted).accuracy_t1
    figures |= {"problems": float(asked), "episodes": float(len(sampled.states) + len(sampled.hinted))}
    figures["examples"] = float(len(examples))
    for kind in sorted({example.kind for example in examples}):
        figures[f"examples/{kind.replace(' ', '_')}"] = float(sum(example.kind == kind for example in examples))
    return figures | {f"left_out/{reason}": float(count) for reason, count in sampled.left_out.items() if count}


def _of_episodes(states: Sequence[EpisodeState]) -> dict[str, float]:
    report = report_on(states)
    figures = {"truncated": report.truncated, "unjudged": report.unjudged, "accuracy_t1": report.accuracy_t1}
    if len(report.accuracy) > 1:
        figures |= {
            "accuracy_t2": report.accuracy_t2,
            "delta": report.delta,
            "i_to_c": report.i_to_c,
            "c_to_i": report.c_to_i,
            "unchanged": report.unchanged,
        }
    return figures
