"""Rewards from agreement: what the vote of a policy's own answers pays them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from pydantic import Field, PositiveInt
from transformers import TrainerCallback

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.agents.search.search import search_all
from selfcorrect.agents.search.state import AnswerKey, strictly_counted_as
from selfcorrect.agents.search.strategies import Majority
from selfcorrect.rewards.checker import Checker, judged_sync
from selfcorrect.rewards.shaping import Score
from selfcorrect.setting_groups import Positive, Settings
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.objectives import TurnSignal
from selfcorrect.training.runs.progress import ProgressSink


@dataclass(frozen=True, slots=True)
class Vote:
    """The vote on one problem: the winning key (None: nothing could be read), and its share of all samples."""

    winner: str | None
    agreement: float
    paid: bool


@dataclass(frozen=True, slots=True)
class BatchOfVotes:
    """The votes of one batch: mean agreement, how many problems, how many were held back, the largest share of one
    answer."""

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
    """Signals for `TurnPPOTrainer`: an answer is paid when all `samples` answers to its problem are there, by their
    vote.

    A problem whose first vote was not clear is never paid, however sure the policy grows of an answer to it later: what
    it has learnt from other problems is no evidence about this one.

    All episodes of a problem are played in one process at a time, which `TurnPPOTrainer` sees to; else this would wait
    for ever.
    """

    samples: int
    min_agreement: float
    kl: float
    key: Callable[[Problem], AnswerKey] | None = None
    """What a vote counts as equal, of a problem; None is what `strictly_counted_as` says."""
    votes: list[Vote] = field(default_factory=list)
    """Of the problems since they were last taken."""
    _clear_at_first: dict[str, bool] = field(default_factory=dict)
    _waiting: dict[str, list[tuple[str | None, "asyncio.Future[Score]"]]] = field(default_factory=dict)

    async def __call__(
        self, problem: Problem, state: Any, calls: Sequence[PolicyCall]
    ) -> tuple[list[TurnSignal], list[Score]]:
        """One signal per call. There are no scores: nobody knows who is right."""
        last = calls[-1].generation
        key = None if last["finish_reason"] == "length" else await self._key(problem, last["text"])
        future: asyncio.Future[Score] = asyncio.get_running_loop().create_future()
        group = self._waiting.setdefault(problem.id, [])
        group.append((key, future))
        if len(group) == self.samples:
            self._settle(problem.id, self._waiting.pop(problem.id))
        reward = await future
        return [TurnSignal(reward, self.kl, kind=f"answer {number + 1}") for number in range(len(calls))], []

    async def _key(self, problem: Problem, text: str) -> str | None:
        return await strictly_counted_as(problem, text) if self.key is None else self.key(problem)(text)

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
    """For measuring only, where references are known: mean accuracy of `samples` answers, of their vote, and their
    agreement."""
    draw = Sampling(max_new_tokens=getattr(policy, "max_new_tokens", None))
    found = run_blocking(
        search_all(problems, Majority(samples, early=False), policy, prompts=prompts, sampling=draw, seed=seed)
    )
    right: list[float] = []
    votes: list[float] = []
    for problem, result in zip(problems, found, strict=True):
        scores = [
            judged_sync(checker, one["text"], problem.reference, problem.prompt).score for one in result.candidates
        ]
        right.append(fmean(score or 0.0 for score in scores))
        votes.append(judged_sync(checker, result.answer, problem.reference, problem.prompt).score or 0.0)
    agreement = fmean(max((count for _, count in result.votes), default=0.0) / samples for result in found)
    return {"sampled accuracy": fmean(right), "majority accuracy": fmean(votes), "agreement": agreement}


# The guard against a policy that only confirms itself: it watches the votes by which it learns, and stops.


class GuardSettings(Settings):
    """When to stop."""

    fall: Positive = 0.1
    """Stop when mean agreement, over `window` batches, is this much below that of the first `window` batches."""
    collapse: float = Field(default=0.5, gt=0, le=1)
    """Stop when the most frequent winning answer is that of this share of a batch's different problems (of 4 or
    more)."""
    window: PositiveInt = 3
    """Batches."""


class AgreementGuard(TrainerCallback):  # type: ignore[misc]
    """Watches the votes; stops the training, and remembers the adapter as it was before things went wrong.

    Attributes:
        batches: so far.
        stop_reason: None as long as all is well.
    """

    def __init__(self, signals: AgreementSignals, settings: GuardSettings, progress: ProgressSink) -> None:
        self._signals, self._settings, self._progress = signals, settings, progress
        self.batches: list[BatchOfVotes] = []
        self.stop_reason: str | None = None
        self._trainer: Any = None
        self._best: tuple[float, int, dict[str, Any]] | None = None

    def watch(self, trainer: Any) -> None:
        """The trainer whose adapter is to be remembered."""
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The batch was sampled by the adapter as it is before this step: that is the one that its votes speak of."""
        votes = self._signals.take()
        if not votes:
            return
        self.batches.append(summary_of(votes))
        recent = fmean(batch.agreement for batch in self.batches[-self._settings.window :])
        if self._best is None or recent >= self._best[0]:
            self._best = (recent, int(state.global_step), self._adapter())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.stop_reason = self.reason()
        if self.batches:
            last = self.batches[-1]
            figures = {"agreement": last.agreement, "held_back": last.held_back / max(1, last.problems)}
            self._progress.step({"step": int(state.global_step), **figures})
        if self.stop_reason is not None:
            self._progress.message(f"stopped: {self.stop_reason}; the adapter goes back to its best state")
            control.should_training_stop = True

    def reason(self) -> str | None:
        """Why to stop now, or None."""
        window = self._settings.window
        if not self.batches:
            return None
        if self.batches[-1].problems >= 4 and self.batches[-1].same_answer >= self._settings.collapse:
            return "answers collapsed"
        if len(self.batches) < 2 * window:
            return None
        first = fmean(batch.agreement for batch in self.batches[:window])
        recent = fmean(batch.agreement for batch in self.batches[-window:])
        return "agreement fell" if recent < first - self._settings.fall else None

    def restore_if_stopped(self, model: Any) -> int:
        """After a stop, the adapter is that of the highest agreement again; how many updates it has had."""
        if self.stop_reason is None or self._best is None:
            return len(self.batches)
        from peft import set_peft_model_state_dict

        _, steps, adapter = self._best
        set_peft_model_state_dict(model, adapter)
        return steps

    def _adapter(self) -> dict[str, Any]:
        from peft import get_peft_model_state_dict

        if self._trainer is None:
            return {}
        state = get_peft_model_state_dict(self._trainer.accelerator.unwrap_model(self._trainer.model))
        return {name: tensor.detach().clone() for name, tensor in state.items()}
