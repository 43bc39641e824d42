"""Playing batches of episodes through the graph, and judging them, for training."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selfcorrect.agents.episodes import initial_state, rare_garbage_collection
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.playing import EpisodeRules, final_state, threads_that_record
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.recording import Draws, PolicyCall, Recorder, recording
from selfcorrect.agents.state import EpisodeState, Generation, Turn, answer_text, verdict_of, verdict_record
from selfcorrect.agents.tracing import episode_traced
from selfcorrect.errors import ConfigurationError, GraphError, SelfCorrectError
from selfcorrect.rewards.checker import Checker, judging_timed
from selfcorrect.rewards.shaping import Score
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.judging import EarlyVerdicts, Span
from selfcorrect.training.ppo.objectives import BatchObjective, Objective, PlayedTurn, TurnSignal
from selfcorrect.training.processes import rank


@dataclass(slots=True)
class Episode:
    """One finished episode, ready for training.

    Attributes:
        problem: what was asked.
        state: the graph's final state.
        calls: the policy calls, in order.
        signals: one per call.
        scores: of the answers, in order; empty where the graph has no answers of ours.
        trunk, shared_calls: episodes that branched from one another have the same trunk, and as many first calls in
            common.
        draws: how many draws the policy made, those of tries that reached nobody too.
        error: why the episode failed; it has no state then, and calls only if the failure is paid for.
        copied_calls: how many of these were played elsewhere; they do not learn here.
        drawing, judging: when its calls, and the judging of its answers, were under way.
        offline: whether the first of them was not drawn by the policy that is trained.
    """

    problem: Problem
    state: Any
    calls: list[PolicyCall]
    signals: list[TurnSignal]
    scores: list[Score]
    trunk: int = -1
    shared_calls: int = 0
    draws: int = 0
    error: SelfCorrectError | None = None
    copied_calls: int = 0
    offline: bool = False
    drawing: list[Span] = field(default_factory=list, repr=False)
    judging: list[Span] = field(default_factory=list, repr=False)

    @classmethod
    def begun(cls, problem: Problem, attempt: Generation) -> "Episode":
        """An episode of which there is a first answer, which the policy that is trained did not draw."""
        return cls(problem, None, [PolicyCall("attempt", "", attempt, Sampling())], [], [], offline=True)

    def as_trunk(self, number: int) -> "Episode":
        """The same, as what others will branch from after its first call."""
        return replace(self, trunk=number, shared_calls=1)


Signals = Callable[[Problem, EpisodeState, Sequence[PolicyCall]], Awaitable[tuple[list[TurnSignal], list[Score]]]]


PlayedTurns = list[list[PlayedTurn]]
Everywhere = Callable[[PlayedTurns], list[PlayedTurns]]


def here_alone(played: PlayedTurns) -> list[PlayedTurns]:
    return [played]


@dataclass(frozen=True)
class CheckerRewards:
    """Signals for graphs made by `build_graph`: judges the answers with `checker` and pays what `objective` says.

    Verdicts are handed over after the episode is over, so none can reach the policy.
    """

    objective: Objective
    checker: Checker
    calls_wrong: Callable[[str], bool | None] = COUNTDOWN.calls_wrong
    """Reads a critique: whether it calls the answer wrong, None if it does not say."""
    judges_itself: bool = False
    """Whether critiques are verdicts, by which the loop goes on or ends."""

    async def __call__(
        self, problem: Problem, state: EpisodeState, calls: Sequence[PolicyCall], early: EarlyVerdicts | None = None
    ) -> tuple[list[TurnSignal], list[Score]]:
        """One signal per call, and the scores of the answers, some of which may be under way (`early`)."""
        verdicts = early or EarlyVerdicts(self.checker, problem, begins=False)
        turns = _generated(state)
        if len(turns) != len(calls):
            raise GraphError(
                f"problem {problem.id}: the episode has {len(turns)} generated turns but {len(calls)} recorded policy "
                "calls; give graphs with nodes of your own a reward_fn"
            )
        scores = list(
            await asyncio.gather(*(self._score(verdicts, turn) for turn in turns if turn["role"] != "critique"))
        )
        rewards = None
        if isinstance(self.objective, BatchObjective):
            rewards = self.objective.batch_rewards([self._played(turns, scores)])[0]
        return self._signals(turns, scores, rewards), scores

    def settled(self, episodes: Sequence["Episode"], everywhere: Everywhere = here_alone) -> list["Episode"]:
        """The episodes of a whole batch, paid with regard to one another where the objective does so.

        Args:
            episodes: those of this process.
            everywhere: from what this process played to what each process did, in the order of their ranks.
        """
        if not isinstance(self.objective, BatchObjective):
            return list(episodes)
        judged = [episode for episode in episodes if episode.state is not None]
        turns = [_generated(episode.state) for episode in judged]
        mine = [self._played(made, episode.scores) for made, episode in zip(turns, judged, strict=True)]
        parts = everywhere(mine)
        before = sum(map(len, parts[: rank()])) if len(parts) > 1 else 0
        rewards = self.objective.batch_rewards([played for part in parts for played in part])
        paid = iter(rewards[before : before + len(mine)])
        return [episode if episode.state is None else _repaid(episode, next(paid)) for episode in episodes]

    def _played(self, turns: Sequence[Turn], scores: Sequence[Score]) -> list[PlayedTurn]:
        played: list[PlayedTurn] = []
        position = -1
        for turn in turns:
            is_critique, text = turn["role"] == "critique", turn["generation"]["text"]
            position += not is_critique
            says_wrong = self.calls_wrong(text) if is_critique else None
            read = text if is_critique else answer_text(turn)
            played.append(PlayedTurn(is_critique, read, scores[position], says_wrong))
        return played

    async def _score(self, verdicts: EarlyVerdicts, turn: Turn) -> Score:
        verdict = verdict_of(turn)
        if verdict is None:
            verdict = await verdicts.verdict(turn["generation"]["text"])
            turn["verdict"] = verdict_record(verdict)
        return verdict.score

    def _rewards(self, turns: Sequence[Turn], scores: list[Score]) -> list[Score]:
        says_wrong = [self.calls_wrong(turn["generation"]["text"]) for turn in turns if turn["role"] == "critique"]
        answers = iter(self.objective.answer_rewards(scores))
        critiques = iter(self.objective.critique_rewards(scores, says_wrong))
        return [next(critiques if turn["role"] == "critique" else answers) for turn in turns]

    def _signals(
        self, turns: Sequence[Turn], scores: list[Score], rewards: Sequence[Score] | None = None
    ) -> list[TurnSignal]:
        paid = iter(self._rewards(turns, scores) if rewards is None else rewards)
        imitates = isinstance(self.objective, BatchObjective) and self.objective.imitates
        signals: list[TurnSignal] = []
        position = -1
        for turn in turns:
            if turn["role"] == "critique":
                kl, reward = self.objective.kl_coefficient(position, len(scores)), next(paid)
                unknown, kind = reward is None and scores[position] is None, f"critique {position + 1}"
                said = self.calls_wrong(turn["generation"]["text"]) is not None if self.judges_itself else None
                signals.append(
                    TurnSignal(
                        reward, kl, scores[position], kind, unjudged=unknown, imitates=imitates, has_verdict=said
                    )
                )
                continue
            position += 1
            kl = self.objective.kl_coefficient(position, len(scores))
            previous = scores[position - 1] if position else None
            judged = scores[position] is not None
            reward = next(paid)
            unknown = reward is None and (not judged or (position > 0 and previous is None))
            kind = f"answer {position + 1}"
            signals.append(TurnSignal(reward, kl, previous, kind, learns=judged, unjudged=unknown, imitates=imitates))
        return signals


def _generated(state: EpisodeState) -> list[Turn]:
    return [turn for turn in state["turns"] if turn["generation"]["completion_ids"]]


def _repaid(episode: Episode, rewards: Sequence[Score]) -> Episode:
    signals = [
        replace(signal, reward=reward, unjudged=signal.unjudged and reward is None)
        for signal, reward in zip(episode.signals, rewards, strict=True)
    ]
    if episode.offline:
        signals[0] = _given(signals[0])
    return replace(episode, signals=signals)


def _given(first: TurnSignal) -> TurnSignal:
    """Of an answer that the policy did not draw: it does not learn, and nothing is compared with it."""
    return replace(first, reward=None, learns=False, unjudged=False)


async def collect(
    graph: Any,
    problems: Sequence[Problem],
    signals: Signals,
    *,
    sampling: Sampling,
    seeds: Sequence[int],
    policy: Any = None,
    trainable: frozenset[str] | None = None,
    inputs: Callable[[Problem], dict[str, Any]] | None = None,
    context: Any = None,
    rules: EpisodeRules | None = None,
    trunks: Sequence[Episode | None] = (),
    batch: int | None = None,
) -> list[Episode]:
    """Play one episode per entry of `problems`, all at once, and judge each as soon as it is over; where `signals` are
    `CheckerRewards`, each answer as soon as it is drawn.

    Args:
        graph: a compiled LangGraph graph whose nodes call a trainable policy.
        problems: B problems; repeat a problem to play it several times.
        signals: what each call is paid.
        sampling: how the policy draws. The nodes of `build_graph` ask for it; with `inputs` it overrules what nodes ask
            for.
        seeds: B seeds, one per episode.
        policy: only its calls are recorded; None records those of every trainable policy.
        trainable: names of the nodes whose calls learn, with all that is inside them; None is all.
        inputs: the graph's input for a problem; None is that of `build_graph`.
        context: the graph's run context; None is `EpisodeContext(sampling)`, and with `inputs` no context.
        rules: for episodes that fail, ask a person, or take long; None raises what an episode raises.
        trunks: B episodes whose first answers are taken over, one per episode; none, and all begin at the beginning.
        batch: its number, for traces.

    Raises:
        GraphError: an episode (every one, unless the rules say "raise") called no trainable policy, or raised an error
            of its own, which is the cause.
    """
    rules = rules or EpisodeRules("raise")
    shared = EpisodeContext(sampling=sampling) if context is None and inputs is None else context

    async def one(problem: Problem, seed: int, trunk: Episode | None) -> Episode:
        draws = None if inputs is None else Draws(seed, sampling.temperature, trainable)
        with judging_timed() as judging:
            early = _early_verdicts(signals, problem, graph, inputs)
            with recording(policy, draws, early.heard) as recorder, episode_traced(problem.id, batch, seed):
                try:
                    given = _begun(problem, seed, trunk) if inputs is None else inputs(problem)
                    state = await final_state(graph, given, problem, recorder, rules, context=shared)
                    if not recorder.calls and trunk is None:  # a branch of an answer that ends the episode makes none
                        raise GraphError(_no_calls(problem, recorder.others))
                except ConfigurationError:
                    raise
                except Exception as error:
                    early.abandon()
                    told = _told(problem, error, rules)
                    if rules.on_episode_error == "raise":
                        raise told from error
                    return _failed(problem, recorder, told, rules, trainable)
            calls = recorder.calls if trunk is None else [trunk.calls[0], *recorder.calls]
            paying = (early,) if isinstance(signals, CheckerRewards) else ()
            paid, scores = await signals(problem, state, calls, *paying)
        episode = Episode(problem, state, calls, _learning(calls, paid, trainable), scores, draws=recorder.draws_made)
        return _grafted(replace(episode, drawing=recorder.spans, judging=judging), trunk)

    begun: Sequence[Episode | None] = trunks or [None] * len(problems)
    with rare_garbage_collection(), threads_that_record():
        played = await asyncio.gather(*(one(*given) for given in zip(problems, seeds, begun, strict=True)))
    _raise_if_all_failed(played)
    return signals.settled(played) if isinstance(signals, CheckerRewards) else list(played)


def _raise_if_all_failed(played: Sequence[Episode]) -> None:
    errors = [episode.error for episode in played if episode.error is not None]
    if errors and len(errors) == len(played):
        raise errors[0]


def _early_verdicts(signals: Signals, problem: Problem, graph: Any, inputs: Any) -> EarlyVerdicts:
    """Verdicts on the answers of an episode: begun at once, unless the graph judges, or is none of `build_graph`."""
    if not isinstance(signals, CheckerRewards):
        return EarlyVerdicts(None, problem, begins=False)
    return EarlyVerdicts(signals.checker, problem, begins=inputs is None and "judge" not in graph.nodes)


def _learning(
    calls: Sequence[PolicyCall], signals: Sequence[TurnSignal], trainable: frozenset[str] | None
) -> list[TurnSignal]:
    """The signals of calls, of which those in the `trainable` nodes learn."""
    return [
        signal if call.inside(trainable) else replace(signal, learns=False)
        for call, signal in zip(calls, signals, strict=True)
    ]


def _told(problem: Problem, error: Exception, rules: EpisodeRules) -> SelfCorrectError:
    """What an episode raised, with the problem's id."""
    if isinstance(error, SelfCorrectError):
        said = str(error)
        return type(error)(said if said.startswith(f"problem {problem.id}:") else f"problem {problem.id}: {said}")
    if isinstance(error, TimeoutError) and rules.timeout is not None:
        return GraphError(f"problem {problem.id}: the episode took longer than {rules.timeout:g} seconds")
    return GraphError(f"problem {problem.id}: {type(error).__name__} while playing: {error}")


def _failed(
    problem: Problem, recorder: Recorder, error: SelfCorrectError, rules: EpisodeRules, trainable: frozenset[str] | None
) -> Episode:
    """An episode that failed: without calls, or with those it made, the last paid for the failure."""
    calls = recorder.calls if rules.on_episode_error == "pay" else []
    paid = [*[None] * (len(calls) - 1), rules.error_reward] if calls else []
    signals = [
        TurnSignal(reward, 0.0, kind=call_kind(call), learns=call.inside(trainable))
        for call, reward in zip(calls, paid, strict=True)
    ]
    return Episode(problem, None, calls, signals, [], draws=recorder.draws_made, error=error)


def call_kind(call: PolicyCall) -> str:
    """What a call is compared with: the call of the same nodes and turn in the other episodes of its problem."""
    return f"{'/'.join(call.nodes) or 'policy'} {call.turn}"


def _grafted(episode: Episode, trunk: Episode | None) -> Episode:
    """The episode as a branch of `trunk`, whose first call does not learn again."""
    if trunk is None:
        return episode
    first = _given(episode.signals[0]) if trunk.offline else replace(episode.signals[0], learns=False)
    return replace(
        episode,
        signals=[first, *episode.signals[1:]],
        trunk=trunk.trunk,
        shared_calls=trunk.shared_calls,
        copied_calls=1,
        offline=trunk.offline,
    )


def _begun(problem: Problem, seed: int, trunk: Episode | None) -> EpisodeState:
    return initial_state(problem, seed, attempt=None if trunk is None else trunk.calls[0].generation)


def _no_calls(problem: Problem, others: int) -> str:
    if others:
        return (
            f"problem {problem.id}: the graph made {others} calls of other policies and none of the one that is "
            "trained; pass the very policy object that the graph's nodes call"
        )
    return (
        f"problem {problem.id}: the graph made no call of a trainable policy, there is nothing to train. (Calls from "
        "threads that a node starts itself are seen only if they carry its context: asyncio.to_thread does.)"
    )
