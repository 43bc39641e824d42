"""Rewards from agreement: what the vote of a policy's own answers pays them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.agents.search.answer_keys import AnswerKey
from selfcorrect.agents.search.searching import search_all
from selfcorrect.agents.search.strategies import Majority
from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.shaping import Score
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.objectives import TurnSignal


@dataclass(frozen=True, slots=True)
class Vote:
    """The vote on one problem: the winning key (None: nothing could be read), and its share of all samples."""

    winner: str | None
    agreement: float
    paid: bool


@dataclass(frozen=True, slots=True)
class BatchOfVotes:
    """The votes of one batch: mean agreement, how many problems, how many were held back, the largest share of one answer."""

    agreement: float
    problems: int
    held_back: int
    same_answer: float


def vote(keys: Sequence[str | None], min_agreement: float) -> tuple[Vote, list[Score]]:
    """The vote of `keys`, and what each is paid: 1 for the winner, 0 for others, None for all if agreement is too low.

    Ties go to the answer that came first; unreadable answers (None) count against agreement.
    """
    counted = Counter(key for key in keys if key is not None)
    if not counted:
        return Vote(None, 0.0, False), [None] * len(keys)
    winner, most = counted.most_common(1)[0]
    agreement = most / len(keys)
    if agreement < min_agreement:
        return Vote(winner, agreement, False), [None] * len(keys)
    return Vote(winner, agreement, True), [1.0 if key == winner else 0.0 for key in keys]


@dataclass
class AgreementSignals:
    """Signals for `PPOTrainer`: an answer is paid when all `samples` answers to its problem are there, by their vote.

    A problem whose first vote was not clear is never paid, however sure the policy grows of an answer to it later: what it has learnt
    from other problems is no evidence about this one.

    All episodes of a problem are played in one process at a time, which `PPOTrainer` sees to; else this would wait for ever.
    """

    samples: int
    min_agreement: float
    kl: float
    key: Callable[[Problem], AnswerKey]
    votes: list[Vote] = field(default_factory=list)
    """Of the problems since they were last taken."""
    _clear_at_first: dict[str, bool] = field(default_factory=dict)
    _waiting: dict[str, list[tuple[str | None, "asyncio.Future[Score]"]]] = field(default_factory=dict)

    async def __call__(
        self, problem: Problem, state: Any, calls: Sequence[PolicyCall]
    ) -> tuple[list[TurnSignal], list[Score]]:
        """One signal per call. There are no scores: nobody knows who is right."""
        last = calls[-1].generation
        key = None if last["finish_reason"] == "length" else self.key(problem)(last["text"])
        future: asyncio.Future[Score] = asyncio.get_running_loop().create_future()
        group = self._waiting.setdefault(problem.id, [])
        group.append((key, future))
        if len(group) == self.samples:
            self._settle(problem.id, self._waiting.pop(problem.id))
        reward = await future
        return [TurnSignal(reward, self.kl, kind=f"answer {number + 1}") for number in range(len(calls))], []

    def take(self) -> list[Vote]:
        """The votes since the last call."""
        taken, self.votes = self.votes, []
        return taken

    def _settle(self, problem: str, group: Sequence[tuple[str | None, "asyncio.Future[Score]"]]) -> None:
        result, rewards = vote([key for key, _ in group], self.min_agreement)
        if not self._clear_at_first.setdefault(problem, result.paid):
            result, rewards = replace(result, paid=False), [None] * len(group)
        self.votes.append(result)
        for (_, future), reward in zip(group, rewards, strict=True):
            future.set_result(reward)


def summary_of(votes: Sequence[Vote]) -> BatchOfVotes:
    """The votes of a batch in figures."""
    winners = Counter(one.winner for one in votes if one.winner is not None)
    same = max(winners.values(), default=0) / len(votes)
    return BatchOfVotes(fmean(one.agreement for one in votes), len(votes), sum(not one.paid for one in votes), same)


def measured_accuracy(
    policy: Any, problems: Sequence[Problem], checker: Checker, prompts: Prompts, samples: int, seed: int
) -> dict[str, float]:
    """For measuring only, where references are known: mean accuracy of `samples` answers, of their vote, and their agreement."""
    draw = Sampling(max_new_tokens=getattr(policy, "max_new_tokens", None))
    found = run_blocking(
        search_all(problems, Majority(samples, early=False), policy, prompts=prompts, sampling=draw, seed=seed)
    )
    right: list[float] = []
    votes: list[float] = []
    for problem, result in zip(problems, found, strict=True):
        scores = [checker.check_sync(one["text"], problem.reference).score for one in result.candidates]
        right.append(fmean(score or 0.0 for score in scores))
        votes.append(checker.check_sync(result.answer, problem.reference).score or 0.0)
    agreement = fmean(max((count for _, count in result.votes), default=0.0) / samples for result in found)
    return {"sampled accuracy": fmean(right), "majority accuracy": fmean(votes), "agreement": agreement}
