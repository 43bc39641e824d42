"""What a user's `reward_fn` pays, checked, as signals for the trainer."""

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from selfcorrect.agents.recording import PolicyCall
from selfcorrect.errors import ConfigurationError, GraphError, SelfCorrectError
from selfcorrect.rewards.shaping import Score
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.objectives import TurnSignal
from selfcorrect.training.ppo.rollouts import call_kind

Rewards = Sequence[float | None]
RewardFn = Callable[..., Rewards | Awaitable[Rewards]]


@dataclass(frozen=True)
class FunctionRewards:
    """Signals for any graph: every recorded call is paid what `reward_fn` says.

    Args:
        reward_fn: (state, calls) or (state, calls, problem) -> one reward per call, None where it abstains; plain or
            async.
        kl: KL weight of all calls, or by the name of a node the call is made in, the innermost named one first.

    Raises:
        ConfigurationError: `reward_fn` cannot be called with two or three arguments.
    """

    reward_fn: RewardFn
    kl: float | Mapping[str, float] = 0.0

    def __post_init__(self) -> None:
        _argument_count(self.reward_fn)

    async def __call__(
        self, problem: Problem, state: Any, calls: Sequence[PolicyCall]
    ) -> tuple[list[TurnSignal], list[Score]]:
        """One signal per call. There are no scores: what an answer is, only the graph knows."""
        paid = _checked(await self._paid(problem, state, calls), calls, problem)
        return [
            TurnSignal(reward, self._kl_weight(call), kind=kind_of(call), unjudged=reward is None)
            for call, reward in zip(calls, paid, strict=True)
        ], []

    async def _paid(self, problem: Problem, state: Any, calls: Sequence[PolicyCall]) -> Any:
        arguments = (state, list(calls), problem)[: _argument_count(self.reward_fn)]
        try:
            paid = self.reward_fn(*arguments)
            return await paid if inspect.isawaitable(paid) else paid
        except SelfCorrectError:
            raise
        except Exception as error:
            raise GraphError(f"problem {problem.id}: reward_fn raised {type(error).__name__}: {error}") from error

    def _kl_weight(self, call: PolicyCall) -> float:
        if not isinstance(self.kl, Mapping):
            return self.kl
        return next((self.kl[node] for node in reversed(call.nodes) if node in self.kl), 0.0)


kind_of = call_kind


def _argument_count(reward_fn: Any) -> int:
    """2 or 3: how many arguments `reward_fn` takes."""
    if not callable(reward_fn):
        raise ConfigurationError(f"reward_fn must be a function of (state, turns), got a {type(reward_fn).__name__}")
    try:
        signature = inspect.signature(reward_fn)
    except ValueError:  # some built-in callables have none
        return 2
    for count in (3, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    raise ConfigurationError(
        f"reward_fn takes {signature}; it is called with (state, turns) or (state, turns, problem)"
    )


def _checked(paid: Any, calls: Sequence[PolicyCall], problem: Problem) -> list[Score]:
    listed = ", ".join(kind_of(call) for call in calls)
    if isinstance(paid, str | bytes | Mapping) or not isinstance(paid, Sequence):
        raise GraphError(
            f"problem {problem.id}: reward_fn returned a {type(paid).__name__}; it must return a list with one number "
            f"or None per policy call, here for: {listed}"
        )
    if len(paid) != len(calls):
        raise GraphError(
            f"problem {problem.id}: reward_fn returned {len(paid)} rewards for {len(calls)} policy calls ({listed}); "
            "use None for a call that is not to be paid"
        )
    return [_number(reward, call, problem) for reward, call in zip(paid, calls, strict=True)]


def _number(reward: Any, call: PolicyCall, problem: Problem) -> Score:
    if reward is None:
        return None
    if not isinstance(reward, Real):
        raise GraphError(
            f"problem {problem.id}: reward_fn paid {kind_of(call)} with a {type(reward).__name__}, {reward!r}; rewards "
            "are numbers or None"
        )
    if not math.isfinite(reward):
        raise GraphError(
            f"problem {problem.id}: reward_fn paid {kind_of(call)} with {float(reward)}; use None for a call that "
            "cannot be judged"
        )
    return float(reward)
