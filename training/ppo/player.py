"""Plays the episodes of one batch: with which first answers, what they are paid, and the seeds that make a resumed run
draw the same ones."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.policy import Sampling, derive_seed
from selfcorrect.agents.tracing import Credit, is_traced, tell_credit
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.problem import Problem
from selfcorrect.training import processes
from selfcorrect.training.credit.estimators import refuse_missing_estimators, refuse_unknown_roles
from selfcorrect.training.credit.settings import Tree
from selfcorrect.training.ppo.batching import call_table
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.metrics import without_spread
from selfcorrect.training.ppo.rollouts import CheckerRewards, Episode, Signals, collect

SignalsAt = Callable[[int], Signals]
"""From the batch number (from 0) to what its turns are paid: the schedule of stages."""
BegunWith = Callable[[Sequence[Problem], int, int], Sequence[Episode | None]]
"""From the problems of a batch, each as often as it is played, that number, and the batch number to the episodes that
are begun already (`Episode.begun`); None where the policy draws the first answer."""


@dataclass(frozen=True, slots=True)
class EpisodePlayer:
    """Plays problems in a graph.

    Args:
        policy, graph, signals_at, trainable, inputs, context, rules, begun_with: see `TurnPPOTrainer`.
        config: gives the temperature and the run's seed.

    Raises:
        ConfigurationError: first answers are given to a graph of the user's own or to trees, which begin otherwise; or
            a call of `build_graph`'s graphs has none of the roles of `config.credit_by_role`.
    """

    policy: Any
    graph: Any
    signals_at: SignalsAt
    config: TurnPPOConfig
    trainable: frozenset[str] | None
    inputs: Callable[[Problem], dict[str, Any]] | None
    context: Any
    rules: EpisodeRules
    begun_with: BegunWith | None = None

    def __post_init__(self) -> None:
        refuse_missing_estimators([self.config.credit, *self.config.credit_by_role.values()])
        if self.inputs is None:
            refuse_unknown_roles(self.config.credit_by_role, ("answer", "critique"))
        if self.begun_with is not None and (self.inputs is not None or isinstance(self.config.credit, Tree)):
            raise ConfigurationError("begun_with needs a graph of build_graph, and does not go with credit 'tree'")

    def play(self, problems: list[Problem], *, batch: int, process: int, again: int = 0) -> list[Episode]:
        """As `draw`, and paid with regard to what all processes play; `again`, to what this one does."""
        played = self.draw(problems, batch=batch, process=process, again=again)
        return played if again else self.settled(played, batch)

    def settled(self, played: list[Episode], batch: int) -> list[Episode]:
        """The episodes of this process, paid with regard to those of all; all must ask."""
        signals = self.signals_at(batch)
        return signals.settled(played, processes.together) if isinstance(signals, CheckerRewards) else played

    def draw(self, problems: list[Problem], *, batch: int, process: int, again: int = 0) -> list[Episode]:
        """One episode of each of `problems`, which are what the process with number `process` plays of batch number
        `batch`, `again` for the n-th time."""
        seeds = self._seeds(len(problems), batch, process, again)
        if not isinstance(self.config.credit, Tree):
            begun = self.begun_with and self.begun_with(problems, self.config.episodes_per_problem, batch)
            return self._collected(problems, seeds, batch, trunks=begun or ())
        return self._branching(problems, seeds, batch, self.config.credit.branches)

    def tell_credit(self, episodes: Sequence[Episode], advantages: Sequence[Sequence[float]], batch: int) -> None:
        """Tell traces, where there are any, what every call was paid.

        Args:
            advantages: of the tokens of each call of all episodes, in their order.
        """
        callbacks = (self.rules.config or {}).get("callbacks")
        if not is_traced(callbacks):
            return
        means = iter(sum(tokens) / len(tokens) if tokens else None for tokens in advantages)
        credits = [
            Credit(episode.problem.id, batch, call.node, turn, signal.reward, next(means), call.trace)
            for episode in episodes
            for turn, (call, signal) in enumerate(zip(episode.calls, episode.signals, strict=True), 1)
        ]
        tell_credit(credits, callbacks)

    def _branching(self, problems: list[Problem], seeds: list[int], batch: int, branches: int) -> list[Episode]:
        """In every `branches` rows the first episode is played whole, and its first answer revised anew in the
        others."""
        if self.inputs is not None:
            raise ConfigurationError("credit 'tree' branches after a first answer: it needs a graph of build_graph")
        whole = self._collected(problems[::branches], seeds[::branches], batch)
        trunks = [episode.as_trunk(seed) for episode, seed in zip(whole, seeds[::branches], strict=True)]
        grafted = [trunk if trunk.calls else None for trunk in trunks]  # where the first one failed, all begin anew
        rest = [row for row in range(len(problems)) if row % branches]
        others = self._collected(
            [problems[row] for row in rest],
            [seeds[row] for row in rest],
            batch,
            trunks=[grafted[row // branches] for row in rest],
        )
        grown = iter(others)
        return [next(grown) if row % branches else trunks[row // branches] for row in range(len(problems))]

    def _collected(
        self, problems: list[Problem], seeds: list[int], batch: int, *, trunks: Sequence[Episode | None] = ()
    ) -> list[Episode]:
        return run_blocking(
            collect(
                self.graph,
                problems,
                self.signals_at(batch),
                sampling=Sampling(temperature=self.config.temperature),
                seeds=seeds,
                policy=self.policy,
                trainable=self.trainable,
                inputs=self.inputs,
                context=self.context,
                rules=self.rules,
                trunks=trunks,
                batch=batch,
            )
        )

    def _seeds(self, count: int, batch: int, process: int, again: int) -> list[int]:
        """Seeds that depend on the run's seed, the batch and the row only, so that a resumed run draws the same
        episodes."""
        first = (self.config.seed * 1_000_003 + batch) * 65_536 + process * count
        seeds = [first + row for row in range(count)]
        return [derive_seed(seed, again) for seed in seeds] if again else seeds


class PlayedAhead:
    """Plays the next batch in a thread, by the weights of now, while what is learnt from this one changes them: one
    step off policy, which `optimiser.mismatch` corrects.

    Args:
        player: plays.
        problems: of the whole run, in the order of its batches.

    Raises:
        ConfigurationError: the policy's engine cannot answer by weights of a step ago while the model is trained.
    """

    def __init__(self, player: EpisodePlayer, problems: Sequence[Problem]) -> None:
        policy, config = player.policy, player.config
        if not getattr(policy, "keeps_older_weights", False):
            raise ConfigurationError(
                "optimiser.play_ahead plays while the model is trained: it takes policy.engine vllm, a server of its "
                "own, and an adapter that learns (policy.lora), of which the server keeps the one before"
            )
        self._player, self.tell_credit = player, player.tell_credit
        rows, each = config.problems_per_step, config.episodes_per_problem
        mine = rows // processes.count()
        self._batches = [
            [problem for problem in problems[begin + mine * processes.rank() :][:mine] for _ in range(each)]
            for begin in range(0, len(problems) - rows + 1, rows)
        ]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="selfcorrect-ahead")
        self._begun: dict[int, Future[list[Episode]]] = {}

    def play(self, problems: list[Problem], *, batch: int, process: int, again: int = 0) -> list[Episode]:
        """As of an `EpisodePlayer`; the batch after it is begun."""
        if again:
            return self._player.play(problems, batch=batch, process=process, again=again)
        if self._batches[batch % len(self._batches)] != problems:
            raise ConfigurationError(
                "optimiser.play_ahead knows the next batch where problems are played in the order given: shuffled=True"
            )
        begun = self._begun.pop(batch, None)
        played = begun.result() if begun else self._player.draw(problems, batch=batch, process=process)
        later = batch + 1
        if later < self._player.config.steps:
            with self._player.policy.pinned():
                following = self._batches[later % len(self._batches)]
                play = partial(self._player.draw, following, batch=later, process=process)
                self._begun[later] = self._thread.submit(copy_context().run, play)
        return self._player.settled(played, batch)  # here, as processes meet in the order of their threads' calls


def with_others(
    played: list[Episode],
    problems: Sequence[Problem],
    config: TurnPPOConfig,
    dice: Random,
    play: Callable[[list[Problem], int], list[Episode]],
) -> tuple[list[Episode], list[Episode]]:
    """Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): problems without spread make room for others.

    Args:
        played: one episode of each row of the batch.
        problems: what there is to play.
        dice: decide which are.
        play: plays problems, each as often as it stands there, in the round with that number.

    Returns:
        All that was played, `played` first; and as many episodes to learn from as `played` has.
    """
    everything, chosen = list(played), list(played)
    others = _other_problems(problems, {episode.problem.id for episode in played}, dice)
    for round_number in range(1, config.resample_rounds + 1):
        idle = without_spread(chosen, call_table(chosen))
        fresh = [problem for problem, _ in zip(others, idle, strict=False)]
        if not fresh:
            break
        found = play([problem for problem in fresh for _ in range(config.episodes_per_problem)], round_number)
        everything += found
        useful = without_spread(found, call_table(found))
        replacing = iter([episode for episode in found if episode.problem.id not in useful])
        chosen = [next(replacing, episode) if episode.problem.id in idle else episode for episode in chosen]
    return everything, chosen


def _other_problems(problems: Sequence[Problem], taken: set[str], dice: Random) -> Iterator[Problem]:
    """Those of `problems` whose ids are not `taken`, in an order that `dice` decide; each is then taken."""
    for index in dice.sample(range(len(problems)), len(problems)):
        if problems[index].id not in taken:
            taken.add(problems[index].id)
            yield problems[index]
