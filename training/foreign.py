"""Training a policy inside a LangGraph graph that was not made by us, as it is.

    train(graph, task, policy=policy, reward_fn=paid, inputs=lambda problem: {"question": problem.prompt}, config=config)

Each call that the graph makes of `policy` is recorded and paid by `reward_fn`. Everything else the graph does, calls of other
models too, is left alone.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.config import PPOConfig
from selfcorrect.training.foreign_nodes import checked_names, playable
from selfcorrect.training.foreign_rewards import PaidByFunction, RewardFn
from selfcorrect.training.progress import ProgressSink, SilentProgress

Inputs = Callable[[Problem], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` leaves behind, beside the policy itself, whose model was trained in place.

    Attributes:
        steps: the figures of every batch of episodes, oldest first; "reward/<node>_<turn>" is the mean reward of a call.
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
    config: PPOConfig,
    trainable: Collection[str] | None = None,
    kl: float | Mapping[str, float] = 0.01,
    context: Any = None,
    reference: Any = None,
    peft_config: Any = None,
    progress: ProgressSink | None = None,
    resume: bool = False,
) -> Trained:
    """Train `policy` in place by per-turn PPO, in episodes of a compiled LangGraph graph.

    The graph is played as it is, but without its checkpointer and cache, so that training episodes neither meet nor stay. The
    calls that learn are drawn at `config.temperature` with seeds of the episode, whatever their nodes ask for; a graph that is
    greedy in use trains unchanged. A call is compared with the same call of the other episodes of its problem: the n-th of its
    node, counted along each parallel branch after the other.

    Args:
        graph: any compiled graph whose nodes call `policy`, directly or through a chat model made of it.
        task: a `Task`, whose train split is used, or the problems themselves (ids must differ).
        policy: a `TransformersPolicy`, the very object that the graph calls.
        reward_fn: `reward_fn(state, turns)` or `reward_fn(state, turns, problem)`, plain or async: from the graph's final state
            and the recorded calls to one reward per call; None abstains. See `PolicyCall` for what a call knows.
        inputs: the graph's input for a problem.
        config: the trainer's settings.
        trainable: names of nodes; only calls made in them learn, or in subgraphs inside them. The others are recorded and may be
            paid, but stay as they are: a frozen critic. None is all.
        kl: weight of KL(policy || reference) on a call's tokens, in reward per nat; one for all, or by node (others 0). Nothing
            is charged where `config.kl` is False.
        context: the graph's run context.
        reference, peft_config: see `PPOTrainer`.
        progress: where to show the figures of each batch.
        resume: go on from the last checkpoint in `config.output_dir`; needs `config.save_every`.

    Raises:
        GraphError: the graph cannot be played or calls no policy, a node's name is unknown, or `reward_fn` does not pay as it
            should; with the problem's id where there is one.
        ConfigurationError, TaskError: the arguments cannot be used.
        TrainingError, DivergenceError: the run cannot start or go on.
        KeyboardInterrupt: Ctrl-C was pressed; the run was saved and can be resumed.
    """
    from selfcorrect.training.foreign_run import ForeignRun

    if not hasattr(policy, "model") or not hasattr(policy, "tokenizer"):
        raise ConfigurationError(
            f"a {type(policy).__name__} cannot be trained: it holds no model and tokenizer; use a TransformersPolicy, in the graph and here"
        )
    known = playable(graph)
    learning = None if trainable is None else checked_names(trainable, known, "trainable")
    weights = _kl_weights(kl, known) if config.kl else 0.0
    problems = _problems(task, config)
    signals = PaidByFunction(reward_fn, weights)
    run = ForeignRun(known.graph, policy, problems, signals, config, progress or SilentProgress())
    return Trained(*run.play(inputs, learning, context, reference, peft_config, resume=resume))


def _kl_weights(kl: float | Mapping[str, float], known: Any) -> float | Mapping[str, float]:
    weights = kl.values() if isinstance(kl, Mapping) else [kl]
    if any(not weight >= 0 for weight in weights):
        raise ConfigurationError(f"kl must be 0 or more, got {kl}")
    if isinstance(kl, Mapping):
        checked_names(kl, known, "kl")
    return kl


def _problems(task: Task | Sequence[Problem], config: PPOConfig) -> list[Problem]:
    """As many problems as the run can use; a finite source gives what it has, and problems then come again."""
    if isinstance(task, Sequence):
        ids = [problem.id for problem in task]
        twice = next((one for one in ids if ids.count(one) > 1), None)
        if twice is not None:
            raise TaskError(
                f"two problems have the id {twice!r}: their episodes would be compared as if they were one problem's"
            )
        return list(task)
    wanted = config.problems_per_batch * config.batches
    available = getattr(task, "available", None)
    return list(
        task.problems("train", wanted if available is None else min(wanted, available("train")), seed=config.seed)
    )
