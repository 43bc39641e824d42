"""Per-turn PPO on other people's clusters: episodes are played and paid here, the weights are a service's.

A service that speaks Tinker's training API (Thinking Machines', SkyRL's) takes rows of token ids with, for each token,
its log-probability when it was drawn and an advantage, and changes its adapter by them. That is all that per-turn
credit needs: every token carries the advantage of its own turn, context an advantage of 0, which teaches nothing.

A run's folder holds the names of the service's checkpoints, not weights. A run that is resumed learns on from the last
that it noted, in an adapter of its own: whatever the old adapter learnt after it, noted or not, counts for nothing.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.policies.tinker import TinkerPolicy, asked
from selfcorrect.errors import ConfigurationError, PolicyError, TrainingError
from selfcorrect.files import StepLog
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.credit.estimators import call_advantages
from selfcorrect.training.own_graph import Inputs, kl_weights, named_nodes, playable, problems_of
from selfcorrect.training.own_graph_rewards import FunctionRewards, RewardFn
from selfcorrect.training.own_graph_run import OwnRunDirectory
from selfcorrect.training.ppo.batching import PlacedRow, call_table, placed_rows, row_tensors
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.controllers import rate_of_stages
from selfcorrect.training.ppo.loss import future_kl_BT, learning_items, token_weights_BT
from selfcorrect.training.ppo.metrics import dropped, rollout_metrics, with_lengths
from selfcorrect.training.ppo.player import EpisodePlayer
from selfcorrect.training.ppo.rollouts import Episode
from selfcorrect.training.runs.callbacks import StopOnInterrupt
from selfcorrect.training.runs.fitting import epochs
from selfcorrect.training.runs.holding import alone_in
from selfcorrect.training.runs.progress import ProgressSink, usual_progress

Reduction = Literal["sum", "mean"]

_LOSSES = {"clip": "ppo", "cispo": "cispo"}
"""What the service calls our surrogates."""
_HONOURED = {
    "learning_rate", "learning_rate_decay", "warmup_steps", "problems_per_step", "episodes_per_problem", "ppo_epochs",
    "minibatches", "clip", "clip_high", "surrogate", "normalise_loss", "truncated", "overlong", "no_spread", "baseline",
    "normalise_by", "kl", "kl_over", "max_grad_norm", "adam_beta2", "seed", "save_every", "credit", "credit_by_role",
    "output_dir", "steps",
}  # fmt: skip
"""The settings of `TurnPPOConfig` that have an effect here."""


@dataclass(frozen=True, slots=True)
class CreditedRow:
    """A training sequence as it is sent: T token ids; for each its log-probability when it was drawn and its advantage,
    which is 0.0 for context and for what does not learn. In an advantage is all that a token's loss is multiplied by:
    its weight, what the loss is divided by, and what its KL is charged."""

    ids: list[int]
    logprobs: list[float]
    advantages: list[float]


@dataclass(frozen=True, slots=True)
class TrainedElsewhere:
    """What `train_elsewhere` leaves behind.

    Attributes:
        steps: the figures of every batch of episodes, oldest first.
        weights: the service's path of what was trained, "tinker://...", as `TinkerPolicy.from_service` takes it.
    """

    steps: list[dict[str, float]]
    weights: str


def train_elsewhere(
    graph: Any,
    task: Task | Sequence[Problem],
    *,
    policy: TinkerPolicy,
    reward_fn: RewardFn,
    inputs: Inputs,
    config: TurnPPOConfig,
    reduction: Reduction = "sum",
    trainable: Collection[str] | None = None,
    kl: float | Mapping[str, float] = 0.0,
    context: Any = None,
    rules: EpisodeRules | None = None,
    progress: ProgressSink | None = None,
    resume: bool = False,
) -> TrainedElsewhere:
    """As `train`, but the weights are those of a service, which `policy` writes with.

    Args:
        graph, task, reward_fn, inputs, trainable, context, rules, progress: as of `train`.
        policy: of `TinkerPolicy.to_train`, the very object that the graph calls.
        config: those settings that the protocol has room for; `output_dir` gets config.yaml, metrics.jsonl, and in
            checkpoints/service.jsonl the service's paths of the adapter and its optimiser's state: before the first
            step, every `save_every` steps and after the last one.
        reduction: how the service makes one loss of those of the tokens: Thinking Machines' adds them up; "mean" is
            SkyRL's JAX engine, which takes the mean over a row's tokens and over the rows. Either way a token counts
            here as it does in `train`.
        kl: as of `train`, against the policy's reference. The loss has no room for it, so a token's advantage is less
            by kl * log(policy / reference): the same expected gradient while the policy is the one that drew.
        resume: go on from the last checkpoint that the run in `config.output_dir` noted, in any process and with a
            policy fresh from `TinkerPolicy.to_train`; later steps are played and learnt again.

    Raises:
        ConfigurationError: the policy has no training client; a setting has no effect here; there is nothing to resume,
            or it is of another base model, rank, or settings.
        GraphError, TaskError, TrainingError: as of `train`; the output folder holds a run.
        PolicyError: the service refuses, or cannot be reached; the run can be resumed.
        KeyboardInterrupt: Ctrl-C was pressed; the step was finished and its checkpoint noted.
    """
    if not policy.is_trainable:
        raise ConfigurationError("this policy only writes: make the one to train by TinkerPolicy.to_train(...)")
    _refuse_idle(config)
    known = playable(graph)
    learning, weights = named_nodes(trainable, config, known), kl_weights(kl, known) if config.kl else 0.0
    signals = FunctionRewards(reward_fn, weights)
    player = EpisodePlayer(
        policy, known.graph, lambda _: signals, config, learning,
        lambda problem: dict(inputs(problem)), context, rules or EpisodeRules(),
    )  # fmt: skip
    rows, problems = config.problems_per_step, problems_of(task, config)
    order = epochs(problems, batches=config.steps, per_batch=rows, seed=config.seed)
    if len(order) < rows:
        raise TrainingError(f"{len(order)} problems are fewer than problems_per_step, {rows}")
    with alone_in(config.output_dir):
        learner = Learner(policy, config, reduction)
        run = _learnt(player, learner, order, progress or usual_progress(), resume=resume)
        return TrainedElsewhere(run.read_metrics(), learner.saved())


def _learnt(
    player: EpisodePlayer, learner: "Learner", order: Sequence[Problem], sink: ProgressSink, *, resume: bool
) -> OwnRunDirectory:
    """Play and learn `order`, batch after batch, from where the run stands; the run's folder."""
    config, rows, interrupt = player.config, player.config.problems_per_step, StopOnInterrupt(1)
    run, done = _begun(player, learner, resume=resume, tell=sink.message)
    sink.start(config.steps, "train")
    try:
        with interrupt.listening():
            for number in range(done, config.steps):
                figures = _step(player, learner, order[number * rows : (number + 1) * rows], number)
                run.append_metrics(figures)
                sink.step(figures)
                if interrupt.interrupted or _is_due(config, number + 1):
                    learner.keep(_states_of(run), number + 1)
                if interrupt.interrupted:
                    raise KeyboardInterrupt
    finally:
        sink.close()
    return run


def _begun(
    player: EpisodePlayer, learner: "Learner", *, resume: bool, tell: Callable[[str], None]
) -> tuple[OwnRunDirectory, int]:
    """The run's folder, and how many steps are done; the policy has what was learnt in them, and nothing else."""
    config = player.config
    kept = _last_state(OwnRunDirectory(config.output_dir)) if resume else None
    run = OwnRunDirectory.begin(config, resume=resume)
    if kept is not None:
        learner.take_up(kept)
        tell(f"the run goes on after step {kept['step']}, from {kept['state']}; later steps are done again")
    done = 0 if kept is None else int(kept["step"])
    run.truncate_metrics(done)
    _states_of(run).truncate(-1 if kept is None else done)
    if kept is None:
        player.policy.begin()
        if config.save_every:
            learner.keep(_states_of(run), 0)
    return run, done


def _states_of(run: OwnRunDirectory) -> StepLog:
    """The service's checkpoints of a run, one a line: after which step, of which model, and the service's path."""
    return StepLog(run.checkpoints_path / "service.jsonl")


def _last_state(run: OwnRunDirectory) -> dict[str, Any] | None:
    """The last checkpoint that was noted; None where the run was killed before the first, and had learnt nothing."""
    if states := _states_of(run).read():
        return states[-1]
    begun = yaml.safe_load(run.config_path.read_text(encoding="utf-8")) if run.config_path.is_file() else {}
    if not begun.get("save_every"):
        raise ConfigurationError(
            f"{run.path} names no checkpoint of a service to resume from: no run was begun there, or one with "
            "save_every=0; start with resume=False, in another output_dir if this one holds a run"
        )
    return None


def _is_due(config: TurnPPOConfig, step: int) -> bool:
    """Whether a checkpoint belongs behind `step`."""
    return bool(config.save_every) and (step % config.save_every == 0 or step == config.steps)


def _step(player: EpisodePlayer, learner: "Learner", problems: Sequence[Problem], number: int) -> dict[str, float]:
    """Play a batch, learn from it: its figures."""
    config, start = player.config, time.perf_counter()
    each = [problem for problem in problems for _ in range(config.episodes_per_problem)]
    played = player.play(each, batch=number, process=0)
    episodes = with_lengths(played, truncated=config.truncated, overlong=config.overlong)
    if config.no_spread == "drop":
        episodes = dropped(episodes, call_table(episodes))
    figures = rollout_metrics(episodes, time.perf_counter() - start)
    rows = credited_rows(episodes, config, reference=learner.reference_of(episodes))
    return {"step": float(number + 1), **figures, **learner.learn(rows, number)}


def credited_rows(
    episodes: Sequence[Episode], config: TurnPPOConfig, *, reference: Sequence[Sequence[float]] | None = None
) -> list[CreditedRow]:
    """The rows of a batch of episodes after credit. The losses of their tokens add up to what `train` minimises.

    Args:
        episodes: played and paid.
        config: says how calls are compared, and what counts alike.
        reference: the log-probability of each id of each row under the reference; None charges no KL.
    """
    table = call_table(episodes)
    placed = placed_rows(episodes, table)
    rows = row_tensors(placed, pad_id=0)
    advantages_C = call_advantages(
        table, config.baseline, config.normalise_by or "nothing", credit=config.credit, by_role=config.credit_by_role
    )
    advantages_RT = rows.spread(advantages_C)
    if reference is not None:
        betas_RT, theirs_RT = rows.spread(table.kl_coefficients_C), rows.old_logprobs_RT.clone()
        for index, (one, told) in enumerate(zip(placed, reference, strict=True)):
            behind = theirs_RT.new_tensor(told[one.row.prompt_length :])
            theirs_RT[index, : len(behind)] = behind
        advantages_RT = advantages_RT - betas_RT * (rows.old_logprobs_RT - theirs_RT)
        if config.kl_over == "turn":
            advantages_RT = advantages_RT - future_kl_BT(rows.old_logprobs_RT, theirs_RT, betas_RT, rows.calls_RT)
    learns_RT, weights_RT = rows.spread(table.learns_C), token_weights_BT(rows.calls_RT, config.normalise_loss)
    items = learning_items(learns_RT, weights_RT, rows.calls_RT, config.normalise_loss).clamp(min=1.0)
    scaled_RT = advantages_RT * learns_RT * weights_RT / items
    return [_credited(one, scaled) for one, scaled in zip(placed, scaled_RT.tolist(), strict=True)]


def _credited(placed: PlacedRow, advantages: Sequence[float]) -> CreditedRow:
    row = placed.row
    behind = len(row.ids) - row.prompt_length
    return CreditedRow(row.ids, row.logprobs, [*[0.0] * row.prompt_length, *advantages[:behind]])


def datum(row: CreditedRow, scale: float = 1.0) -> Any:
    """A row as the SDK's `Datum`: the first T - 1 ids, and for each the id that follows it, with its log-probability
    and its advantage times `scale`."""
    from tinker import types

    return types.Datum(
        model_input=types.ModelInput.from_ints(row.ids[:-1]),
        loss_fn_inputs={
            "target_tokens": row.ids[1:],
            "logprobs": row.logprobs[1:],
            "advantages": [scale * advantage for advantage in row.advantages[1:]],
        },
    )


class Learner:
    """Lets the service learn.

    Args:
        policy: writes with the weights that learn.
        config: the settings.
        reduction: see `train_elsewhere`.
    """

    def __init__(self, policy: TinkerPolicy, config: TurnPPOConfig, reduction: Reduction) -> None:
        self._policy, self._config, self._reduction, self._updates = policy, config, reduction, 0
        updates = config.updates_per_step
        warmup, decays = config.warmup_steps * updates, config.learning_rate_decay
        self._rate = rate_of_stages([config.steps * updates], warmup=warmup, decays=decays)
        self._name = re.sub(r"[^\w-]", "-", config.output_dir.name) or "run"

    def reference_of(self, episodes: Sequence[Episode]) -> list[list[float]] | None:
        """The log-probabilities of the batch's rows under the reference; None where no call has a KL weight."""
        table = call_table(episodes)
        if not bool((table.kl_coefficients_C > 0).any()):
            return None
        placed = placed_rows(episodes, table)

        async def all_of_them() -> list[list[float]]:
            return await asyncio.gather(*(self._policy.reference_logprobs(one.row.ids) for one in placed))

        return run_blocking(all_of_them())

    def learn(self, rows: Sequence[CreditedRow], number: int) -> dict[str, float]:
        """The updates of batch `number`; then the policy writes with the weights that come of them.

        Returns:
            "learning_rate" of the last; "logprob_gap", the mean distance in nats between the log-probabilities that the
            service drew by and those it learns by, before the first update; and "service/..." as it says.
        """
        dice, figures = random.Random(f"{self._config.seed} {number}"), dict[str, float]()
        for epoch in range(self._config.ppo_epochs):
            shuffled = dice.sample(list(rows), len(rows))
            for part in range(self._config.minibatches):
                told = self._update(shuffled[part :: self._config.minibatches])
                figures = told if epoch == part == 0 else {**told, "logprob_gap": figures["logprob_gap"]}
        self._policy.renew()
        return figures

    def keep(self, states: StepLog, step: int) -> None:
        """Let the service save adapter and optimiser as they are after `step`, and note its path in `states`.

        Killed in between, the run goes on from the note before: the service's copy is then one that nobody uses.
        """
        found = asked(lambda: self._policy.learner.save_state(f"{self._name}-{step}"))
        states.append({"step": step, **self._base(), "state": str(found.path)})

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on from a checkpoint that `keep` noted.

        Raises:
            ConfigurationError: it is one of another base model or rank than the policy's.
            PolicyError: the service cannot give it, which may be gone there.
        """
        for name, value in self._base().items():
            if kept.get(name, value) != value:
                raise ConfigurationError(f"the run to resume has {name} {kept[name]!r}, the policy {value!r}")
        try:
            self._policy.take_up(kept["state"])
        except PolicyError as error:
            raise PolicyError(
                f"cannot resume from {kept['state']}, noted after step {kept['step']}: {error}"
            ) from error
        self._updates = int(kept["step"]) * self._config.updates_per_step

    def _base(self) -> dict[str, Any]:
        """What the adapter is of, so that a run is not taken up with another."""
        adapter = self._policy.adapter
        return {} if adapter is None else {"model": adapter.model, "rank": adapter.rank}

    def saved(self) -> str:
        """The service's path of the weights as they are now."""
        return str(asked(lambda: self._policy.learner.save_weights_for_sampler(self._name)).path)

    def _update(self, rows: Sequence[CreditedRow]) -> dict[str, float]:
        from tinker import types

        config, learner = self._config, self._policy.learner
        rate = config.learning_rate * self._rate(self._updates)
        adam = types.AdamParams(
            learning_rate=rate, beta1=0.9, beta2=config.adam_beta2, eps=1e-8, grad_clip_norm=config.max_grad_norm
        )
        high = config.clip if config.clip_high is None else config.clip_high
        bounds = {"clip_low_threshold": 1 - config.clip, "clip_high_threshold": 1 + high}
        data = [datum(row, self._scale(row, len(rows))) for row in rows]
        # Both are sent before either is awaited, so that the service may do them in one go.
        gradient, step = learner.forward_backward(data, _LOSSES[config.surrogate], bounds), learner.optim_step(adam)
        found, moved = asked(gradient.result), asked(step.result)
        self._updates += 1
        told = {**(found.metrics or {}), **(getattr(moved, "metrics", None) or {})}
        gap = _gap(rows, [output["logprobs"].tolist() for output in found.loss_fn_outputs])
        return {"learning_rate": rate, "logprob_gap": gap, **{f"service/{name}": told[name] for name in told}}

    def _scale(self, row: CreditedRow, rows: int) -> float:
        """What makes the service's loss of one update the sum over its rows' tokens, over all minibatches' share."""
        whole = float(self._config.minibatches)
        return whole if self._reduction == "sum" else whole * rows * (len(row.ids) - 1)


def _gap(rows: Sequence[CreditedRow], theirs: Sequence[Sequence[float]]) -> float:
    """Mean distance of log-probabilities at the tokens that were drawn (the context has 0.0)."""
    pairs = [
        (drawn, scored)
        for row, told in zip(rows, theirs, strict=True)
        for drawn, scored in zip(row.logprobs[1:], told, strict=True)
        if drawn != 0.0
    ]
    return sum(abs(drawn - scored) for drawn, scored in pairs) / max(1, len(pairs))


def _refuse_idle(config: TurnPPOConfig) -> None:
    """Refuse what would have no effect: settings of a loss that the protocol lacks, and of the trainer in process."""
    fields = type(config).model_fields
    changed = sorted(
        name
        for name in fields
        if name not in _HONOURED and getattr(config, name) != fields[name].get_default(call_default_factory=True)
    )
    if changed:
        raise ConfigurationError(
            f"{', '.join(changed)}: the service's loss and optimiser have no room for it; leave it as it is by default"
        )
    if config.surrogate not in _LOSSES:
        raise ConfigurationError(f"surrogate {config.surrogate!r}: the service's losses are {', '.join(_LOSSES)}")
    if config.no_spread == "resample":
        raise ConfigurationError("no_spread 'resample' is of the trainer in this process; here it is keep or drop")
