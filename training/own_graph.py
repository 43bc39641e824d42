"""Training in a graph of one's own: what can be known of it before it is played, and `train`."""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.errors import ConfigurationError, GraphError, TaskError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.own_graph_rewards import FunctionRewards, RewardFn
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.runs.fitting import training_problems
from selfcorrect.training.runs.progress import ProgressSink, usual_progress

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

_HELD_OUT = 200

Inputs = Callable[[Problem], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` leaves behind, beside the policy itself, whose model was trained in place.

    Attributes:
        steps: the figures of every batch of episodes, oldest first; "reward/<node>_<turn>" is the mean reward of a
            call.
        before, after: figures of greedy episodes of the held-out problems: "reward/<node>_<turn>" and others; {} where
            nothing is held out.
        model_path: the trained model and its tokenizer; loads with `TransformersPolicy.from_pretrained`.
    """

    steps: list[dict[str, float]]
    model_path: Path
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)


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
    rules: EpisodeRules | None = None,
    held_out: Sequence[Problem] | None = None,
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
        resume: go on from the last whole checkpoint of the run in `config.output_dir`; needs `config.save_every`.
            Without it, a folder that holds a run is refused.
        rules: for episodes that fail, take long or ask a person, and the graph's run config; None drops what fails.
        held_out: problems for greedy evaluations before, after and while training; None takes up to 200 of a task's
            test split.

    Raises:
        GraphError: the graph cannot be played or calls no policy, a node's name is unknown, or `reward_fn` does not pay
            as it should; with the problem's id where there is one.
        ConfigurationError, TaskError: the arguments cannot be used.
        TrainingError, DivergenceError: the run cannot start or go on.
        KeyboardInterrupt: Ctrl-C was pressed; the run was saved and can be resumed.
    """
    from selfcorrect.training.own_graph_run import OwnGraphRun

    if not hasattr(policy, "model") or not hasattr(policy, "tokenizer"):
        raise ConfigurationError(
            f"a {type(policy).__name__} cannot be trained: it holds no model and tokenizer; use a TransformersPolicy, "
            "in the graph and here"
        )
    known = playable(graph)
    learning = named_nodes(trainable, config, known)
    weights = kl_weights(kl, known) if config.kl else 0.0
    problems = problems_of(task, config)
    signals = FunctionRewards(reward_fn, weights)
    kept, sink = _held_out(task, held_out, config), progress or usual_progress()
    seams = (rules or EpisodeRules(), inputs, learning, context)
    run = OwnGraphRun(known.graph, policy, problems, kept, signals, config, sink, *seams)
    return Trained(*run.play(reference, peft_config, resume=resume))


def _held_out(task: Task | Sequence[Problem], given: Sequence[Problem] | None, config: TurnPPOConfig) -> list[Problem]:
    kept = _chosen_held_out(task, given)
    if config.evaluate_every and not kept:
        raise ConfigurationError("evaluate_every has no effect without held-out problems: give held_out=[...] too")
    return kept


def _chosen_held_out(task: Task | Sequence[Problem], given: Sequence[Problem] | None) -> list[Problem]:
    if given is not None:
        return list(given)
    if isinstance(task, Sequence):
        return []
    available = getattr(task, "available", None)
    count = _HELD_OUT if available is None else min(_HELD_OUT, available("test"))
    return list(task.problems("test", count, seed=0)) if count else []


def named_nodes(
    trainable: Collection[str] | None, config: TurnPPOConfig, known: PlayableGraph
) -> frozenset[str] | None:
    """The nodes of `trainable`, None where all are; those that have a credit of their own are looked for too."""
    for role in config.credit_by_role:
        checked_names(role.split("/"), known, "config.credit_by_role")
    return None if trainable is None else checked_names(trainable, known, "trainable")


def kl_weights(kl: float | Mapping[str, float], known: Any) -> float | Mapping[str, float]:
    """`kl` as it is.

    Raises:
        ConfigurationError: a weight is negative.
        GraphError: it names a node that the graph does not have.
    """
    weights = kl.values() if isinstance(kl, Mapping) else [kl]
    if any(not weight >= 0 for weight in weights):
        raise ConfigurationError(f"kl must be 0 or more, got {kl}")
    if isinstance(kl, Mapping):
        checked_names(kl, known, "kl")
    return kl


def problems_of(task: Task | Sequence[Problem], config: TurnPPOConfig) -> list[Problem]:
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
