"""One run of `train`: the trainer, its callbacks, what is saved."""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from selfcorrect.errors import ConfigurationError, GraphError, TaskError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.own_graph_rewards import FunctionRewards, RewardFn, kind_of
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.rollouts import Episode
from selfcorrect.training.ppo.trainer import TurnPPOTrainer
from selfcorrect.training.runs.fitting import fit, last_checkpoint, open_trainer, save_trained, training_problems
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress


@dataclass
class OwnGraphRun:
    """Trains `policy` in `graph` and keeps the figures."""

    graph: Any
    policy: Any
    problems: list[Problem]
    signals: FunctionRewards
    config: TurnPPOConfig
    progress: ProgressSink
    steps: list[dict[str, float]] = field(default_factory=list)

    def play(
        self,
        inputs: Callable[[Problem], Mapping[str, Any]],
        trainable: frozenset[str] | None,
        context: Any,
        reference: Any,
        peft_config: Any,
        *,
        resume: bool,
    ) -> tuple[list[dict[str, float]], Path]:
        """Train to the end; the figures of every batch and where the model was saved."""
        checkpoint = self._checkpoint(resume)
        something_learns = _SomethingLearns(trainable)
        trainer = open_trainer(
            self.policy,
            self.graph,
            self.problems,
            lambda batch: self.signals,
            self.config,
            reference=reference,
            peft_config=peft_config,
            trainable=trainable,
            inputs=_checked_inputs(inputs),
            context=context,
            callbacks=[something_learns, _Figures(self)],
        )
        something_learns.watch(trainer)
        self.progress.start(self.config.steps, "train")
        try:
            fit(trainer, resume_from=checkpoint)
        finally:
            self.progress.close()
        path = self.config.output_dir / "model"
        self.policy.model = save_trained(trainer, self.policy.tokenizer, path)
        return self.steps, path

    def _checkpoint(self, resume: bool) -> Path | None:
        if not resume:
            return None
        checkpoint = last_checkpoint(self.config.output_dir)
        if checkpoint is None:
            raise ConfigurationError(
                f"there is no checkpoint in {self.config.output_dir} to resume from; set save_every, or start with "
                "resume=False"
            )
        return checkpoint


class _Figures(TrainerCallback):  # type: ignore[misc]
    """Keeps the figures of every batch and shows them."""

    def __init__(self, run: OwnGraphRun) -> None:
        self._run = run

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "tokens" in logs:
            figures = {"step": state.global_step // self._run.config.updates_per_step, **logs}
            self._run.steps.append(figures)
            self._run.progress.step(figures)


class _SomethingLearns(TrainerCallback):  # type: ignore[misc]
    """Ends a run whose first batch could not teach anything, rather than let it run to its end for nothing."""

    def __init__(self, trainable: frozenset[str] | None) -> None:
        self._trainable = trainable
        self._trainer: TurnPPOTrainer | None = None

    def watch(self, trainer: TurnPPOTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._trainer is not None:
            self._refuse(self._trainer.last_episodes)
            self._trainer = None

    def _refuse(self, episodes: list[Episode]) -> None:
        pairs = [
            (call, signal) for episode in episodes for call, signal in zip(episode.calls, episode.signals, strict=True)
        ]
        learning = [signal for call, signal in pairs if call.inside(self._trainable)]
        if not learning:
            callers = sorted({kind_of(call).rpartition(" ")[0] for call, _ in pairs})
            raise GraphError(
                f"no call of the first {len(episodes)} episodes was made in {sorted(self._trainable or ())}: nothing "
                f"would learn. The nodes that called the policy: {', '.join(callers)}"
            )
        if all(signal.reward is None for signal in learning):
            raise GraphError(
                f"reward_fn paid None for every call of the first {len(episodes)} episodes: nothing would be learnt"
            )


def _checked_inputs(inputs: Callable[[Problem], Mapping[str, Any]]) -> Callable[[Problem], dict[str, Any]]:
    def checked(problem: Problem) -> dict[str, Any]:
        given = inputs(problem)
        if not isinstance(given, Mapping):
            raise GraphError(f"inputs returned a {type(given).__name__}; it must return the graph's input as a dict")
        return dict(given)

    return checked


# What can be known of a graph before it is played: that it can be, and the names of its nodes.


@dataclass(frozen=True, slots=True)
class PlayableGraph:
    """A graph as training plays it, and the nodes it and its subgraphs have; None if they cannot be listed."""

    graph: Any
    nodes: frozenset[str] | None


def playable(graph: Any) -> PlayableGraph:
    """`graph` without checkpointer and cache, and its nodes.

    A cache would hand the same text to all episodes of a problem; a checkpointer would want a thread for each and keep
    it.

    Raises:
        GraphError: it is not a compiled graph.
    """
    if not hasattr(graph, "ainvoke"):
        hint = "call .compile() on it first" if hasattr(graph, "compile") else "give a compiled LangGraph graph"
        raise GraphError(f"a {type(graph).__name__} cannot be played; {hint}")
    if not hasattr(graph, "get_subgraphs"):
        return PlayableGraph(graph, None)
    graph = graph.copy({"checkpointer": None, "cache": None})
    # Tasks of LangGraph's functional style are nodes that nobody can list.
    listed = hasattr(graph, "builder")
    return PlayableGraph(graph, frozenset(_names(graph)) if listed else None)


def _names(graph: Any) -> Iterable[str]:
    yield from graph.nodes
    for _, inner in graph.get_subgraphs(recurse=True):
        yield from inner.nodes


def checked_names(names: Iterable[str], known: PlayableGraph, argument: str) -> frozenset[str]:
    """`names` if the graph has nodes of these names.

    Raises:
        GraphError: there are no names, or one is not a node's; it tells the nearest right one.
    """
    asked = [names] if isinstance(names, str) else list(names)
    if not asked:
        raise GraphError(f"{argument} names no node: nothing would learn; leave it out to train all")
    if known.nodes is None:
        return frozenset(asked)
    real = sorted(name for name in known.nodes if not name.startswith("__"))
    for name in asked:
        if name not in real:
            near = difflib.get_close_matches(str(name), real, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise GraphError(
                f"{argument} names {name!r}, but the graph has no such node{meant} It has: {', '.join(real)}"
            )
    return frozenset(asked)


# Training a policy inside a LangGraph graph that was not made by us, as it is.
#
# train(graph, task, policy=policy, reward_fn=paid, inputs=lambda problem: {"question": problem.prompt}, config=config)
#
# Each call that the graph makes of `policy` is recorded and paid by `reward_fn`. Everything else the graph does, calls
# of other models too, is left alone.

Inputs = Callable[[Problem], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` leaves behind, beside the policy itself, whose model was trained in place.

    Attributes:
        steps: the figures of every batch of episodes, oldest first; "reward/<node>_<turn>" is the mean reward of a
            call.
        model_path: the trained model and its tokenizer; loads with `TransformersPolicy.from_pretrained`.
    """

    steps: list[dict[str, float]]
    model_path: Path


def train(
    graph: Any,
    task: Task | Sequence[Problem],
    *,
    policy: Any,
    reward_fn: RewardFn,
    inputs: Inputs,
    config: TurnPPOConfig,
    trainable: Collection[str] | None = None,
    kl: float | Mapping[str, float] = 0.01,
    context: Any = None,
    reference: Any = None,
    peft_config: Any = None,
    progress: ProgressSink | None = None,
    resume: bool = False,
) -> Trained:
    """Train `policy` in place by per-turn PPO, in episodes of a compiled LangGraph graph.

    The graph is played as it is, but without its checkpointer and cache, so that training episodes neither meet nor
    stay. The calls that learn are drawn at `config.temperature` with seeds of the episode, whatever their nodes ask
    for; a graph that is greedy in use trains unchanged. A call is compared with the same call of the other episodes of
    its problem: the n-th of its node, counted along each parallel branch after the other.

    Args:
        graph: any compiled graph whose nodes call `policy`, directly or through a chat model made of it.
        task: a `Task`, whose train split is used, or the problems themselves (ids must differ).
        policy: a `TransformersPolicy`, the very object that the graph calls.
        reward_fn: `reward_fn(state, turns)` or `reward_fn(state, turns, problem)`, plain or async: from the graph's
            final state and the recorded calls to one reward per call; None abstains. See `PolicyCall` for what a call
            knows.
        inputs: the graph's input for a problem.
        config: the trainer's settings.
        trainable: names of nodes; only calls made in them learn, or in subgraphs inside them. The others are recorded
            and may be paid, but stay as they are: a frozen critic. None is all.
        kl: weight of KL(policy || reference) on a call's tokens, in reward per nat; one for all, or by node (others 0).
            Nothing is charged where `config.kl` is False.
        context: the graph's run context.
        reference, peft_config: see `TurnPPOTrainer`.
        progress: where to show the figures of each batch.
        resume: go on from the last checkpoint in `config.output_dir`; needs `config.save_every`.

    Raises:
        GraphError: the graph cannot be played or calls no policy, a node's name is unknown, or `reward_fn` does not pay
            as it should; with the problem's id where there is one.
        ConfigurationError, TaskError: the arguments cannot be used.
        TrainingError, DivergenceError: the run cannot start or go on.
        KeyboardInterrupt: Ctrl-C was pressed; the run was saved and can be resumed.
    """
    from selfcorrect.training.own_graph import OwnGraphRun

    if not hasattr(policy, "model") or not hasattr(policy, "tokenizer"):
        raise ConfigurationError(
            f"a {type(policy).__name__} cannot be trained: it holds no model and tokenizer; use a TransformersPolicy, "
            "in the graph and here"
        )
    known = playable(graph)
    learning = None if trainable is None else checked_names(trainable, known, "trainable")
    weights = _kl_weights(kl, known) if config.kl else 0.0
    problems = _problems(task, config)
    signals = FunctionRewards(reward_fn, weights)
    run = OwnGraphRun(known.graph, policy, problems, signals, config, progress or SilentProgress())
    return Trained(*run.play(inputs, learning, context, reference, peft_config, resume=resume))


def _kl_weights(kl: float | Mapping[str, float], known: Any) -> float | Mapping[str, float]:
    weights = kl.values() if isinstance(kl, Mapping) else [kl]
    if any(not weight >= 0 for weight in weights):
        raise ConfigurationError(f"kl must be 0 or more, got {kl}")
    if isinstance(kl, Mapping):
        checked_names(kl, known, "kl")
    return kl


def _problems(task: Task | Sequence[Problem], config: TurnPPOConfig) -> list[Problem]:
    """As many problems as the run can use; a finite source gives what it has, and problems then come again."""
    if isinstance(task, Sequence):
        ids = [problem.id for problem in task]
        twice = next((one for one in ids if ids.count(one) > 1), None)
        if twice is not None:
            raise TaskError(
                f"two problems have the id {twice!r}: their episodes would be compared as if they were one problem's"
            )
        return list(task)
    return training_problems(task, config)
