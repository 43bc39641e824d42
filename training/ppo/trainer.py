"""The trainer: TRL's GRPOTrainer with two seams of our own, how episodes are produced and scored, and the loss.

From TRL and transformers come data loading, the generation buffer (several PPO epochs and minibatches a batch), PEFT,
accelerate, DeepSpeed, FSDP, logging, checkpoints and resume.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback
from trl import GRPOTrainer

from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.recording import unrecorded_draws
from selfcorrect.errors import DivergenceError
from selfcorrect.files import told
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.credit.estimators import call_advantages
from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.engines import correction_of
from selfcorrect.training.ppo.batching import (
    RowTensors,
    call_table,
    placed_rows,
    row_tensors,
    text_of,
    token_batch,
    trl_batch,
    whole_rows,
)
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.controllers import Controllers, ForgetMoments, rate_of_stages
from selfcorrect.training.ppo.critic import Critic
from selfcorrect.training.ppo.loss import (
    LossTerms,
    future_kl_BT,
    learning_items,
    mismatch_weights_BT,
    ppo_loss,
    token_weights_BT,
)
from selfcorrect.training.ppo.metrics import (
    MeanOfTokens,
    comparison_metrics,
    cost_metrics,
    dropped,
    mismatch_metrics,
    over_processes,
    rollout_metrics,
    share_without_spread,
    update_metrics,
    with_lengths,
)
from selfcorrect.training.ppo.player import BegunWith, EpisodePlayer, PlayedAhead, SignalsAt, with_others
from selfcorrect.training.ppo.precision import load_stored_otherwise, placed, prepare_weights
from selfcorrect.training.ppo.rollouts import Episode
from selfcorrect.training.ppo.scoring import (
    ReferenceModel,
    completion_logprobs,
    has_absolute_positions,
    hidden_before_each_token,
    without_dropout,
)
from selfcorrect.training.ppo.sharding import WholeNorms, is_sharded, refuse_with_shards, whole_model
from selfcorrect.training.processes import together
from selfcorrect.training.reporting.services import Reporters, episode_rows


class TurnPPOTrainer(WholeNorms, GRPOTrainer):  # type: ignore[misc]
    """Per-turn PPO in a LangGraph graph.

    Every step plays `episodes_per_problem` episodes of each of `problems_per_step` problems through `graph`, pays every
    policy call its own reward, compares it with the same call of that problem's other episodes, updates the policy.

    Args:
        policy: a `TransformersPolicy`; its model is trained, in place.
        graph: a compiled LangGraph graph whose nodes call `policy`.
        problems: what to train on, at least one batch.
        signals: what the calls of batch number n are paid; see `SignalsAt`.
        config: the settings.
        reference: folder, Hub id or model of the fixed reference; None is a copy of the policy's model as it is now, or
            with `peft_config` the model under the adapter. It is never re-loaded from a name by chance.
        peft_config: train an adapter only.
        trainable: names of the nodes whose calls learn; None is all.
        inputs, context: the graph's input for a problem and its run context; None are those of `build_graph`.
        callbacks: transformers callbacks.
        rules: for episodes that fail, ask a person, or take long; None drops those that fail.
        shuffled: play the problems in the order given; else TRL shuffles them anew in every epoch.
        begun_with: first answers of some episodes, which do not learn; for a graph of `build_graph`.
        reporters: tells `config.report_to`; None is one with its files in `config.output_dir`.

    Raises:
        TrainingError: there are fewer problems than one batch holds.
        ConfigurationError: a setting has no effect here, `config.mismatch` corrects for an engine that `policy` lacks,
            or `policy` is on an accelerator that is not this process's.
        DivergenceError: while training, the loss is not finite.
    """

    _tag_names: ClassVar[list[str]] = ["selfcorrect", "score"]
    measures: ClassVar[bool] = False
    """Whether a callback of its own plays held-out problems and compares checkpoints: that of runs does."""

    def __init__(
        self,
        policy: Any,
        graph: Any,
        problems: Sequence[Problem],
        signals: SignalsAt,
        config: TurnPPOConfig,
        *,
        reference: Any = None,
        peft_config: Any = None,
        trainable: frozenset[str] | None = None,
        inputs: Callable[[Problem], dict[str, Any]] | None = None,
        context: Any = None,
        callbacks: list[Any] | None = None,
        shuffled: bool = False,
        rules: EpisodeRules | None = None,
        begun_with: BegunWith | None = None,
        reporters: Reporters | None = None,
    ) -> None:
        config.refuse_idle_run(len(problems), measures=self.measures)
        self._policy, self._problems, self.settings = policy, list(problems), config
        self._correction = correction_of(config.mismatch, policy.engine)
        without_dropout(policy.model)
        self._positions = has_absolute_positions(policy.model)
        computes_in_bf16 = prepare_weights(policy, adapter=peft_config is not None, pure_bf16=config.pure_bf16)
        rules = rules or EpisodeRules()
        player = EpisodePlayer(policy, graph, signals, config, trainable, inputs, context, rules, begun_with)
        self._player = PlayedAhead(player, self._problems) if config.play_ahead else player
        uses_reference = config.kl and (peft_config is None or reference is not None)
        self._reference = ReferenceModel.of(policy.model, reference, config) if uses_reference else None
        hidden = policy.model.config.get_text_config().hidden_size
        self._critic = None if config.critic is None else Critic(hidden, config.critic)
        self._controllers, self._entropies = Controllers(config), MeanOfTokens()
        self._generation_seconds, self._unrecorded = 0.0, 0
        self.last_episodes: list[Episode] = []
        self.reporters = reporters or Reporters.beside(config.output_dir, config.report_to)
        self.reporters.rows = lambda step: episode_rows(self.last_episodes)
        arguments = config.to_trl(shuffled=shuffled, bf16=computes_in_bf16, use_cpu=policy.on_cpu)
        super().__init__(
            model=policy.model,
            reward_funcs=[_rewards_come_from_the_graph],
            args=placed(arguments, policy.training_device),
            train_dataset=Dataset.from_list(
                [{"prompt": problem.prompt, "problem": index} for index, problem in enumerate(self._problems)]
            ),
            processing_class=policy.tokenizer,
            peft_config=peft_config,
            callbacks=[*(callbacks or []), *self._keepers(), self.reporters],
            optimizers=(config.own_optimiser(policy.model), None),
        )
        self.remove_callback(PrinterCallback)  # figures go to whoever listens to on_log
        refuse_with_shards(self.accelerator, config, policy)
        if self._reference is not None:
            self.ref_model = self._reference.prepare(self)

    def _keepers(self) -> list[Any]:
        """Callbacks that keep what the trainer remembers, and those that steer the optimiser."""
        config = self.settings
        keepers = [self._controllers.keeper()] if config.kl_target or config.entropy_target else []
        keepers += [] if self._critic is None else [self._critic.keeper()]
        keepers += [] if config.stage_switch == "carry" else [ForgetMoments(config.stages, config.updates_per_step)]
        return keepers

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """TRL's, or one that begins anew with every stage."""
        config = self.settings
        if config.stage_switch != "restart":
            return super().create_scheduler(num_training_steps, optimizer)
        updates, decays = config.updates_per_step, config.learning_rate_decay
        lengths = [steps * updates for steps in config.stages]
        rate = rate_of_stages(lengths, warmup=config.warmup_steps * updates, decays=decays)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rate)
        return self.lr_scheduler

    @property
    def batch_number(self) -> int:
        """Which batch of episodes is being learnt from, counted from 0 over the whole run."""
        return int(self.state.global_step) // self.settings.updates_per_step

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
            load_stored_otherwise(Path(resume_from_checkpoint), self.accelerator.unwrap_model(model or self.model))

    def load_weights(self, checkpoint: Path) -> None:
        """Give the policy the weights of a checkpoint of this run."""
        self._load_from_checkpoint(str(checkpoint), self.model_wrapped)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As transformers does. A full disk is told as such; a torn checkpoint is passed over on resume."""
        with told(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    # Seam 1: episodes.
    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor | Any]:
        """Play, judge and pay the episodes of `inputs` (each problem repeated as often as it is to be played)."""
        training = self.model.training
        played, chosen = self._play([self._problems[row["problem"]] for row in inputs])
        self.model.train(training)
        self.last_episodes = chosen
        batch = self._tensors(chosen)
        figures = rollout_metrics(played[: len(chosen)], self._generation_seconds, self._unrecorded)
        self._record(figures | cost_metrics(played, self._generation_seconds))
        return batch

    def _play(self, problems: list[Problem]) -> tuple[list[Episode], list[Episode]]:
        """All episodes that were played, those of `problems` first, and as many to learn from."""
        start, unrecorded = time.perf_counter(), unrecorded_draws(self._policy)
        with self.playing():
            played = self._play_round(problems, 0)
            chosen = list(played)
            if self.settings.no_spread == "resample":
                dice = random.Random(f"{self.settings.seed} {self.batch_number} {self.accelerator.process_index}")
                played, chosen = with_others(played, self._problems, self.settings, dice, self._play_round)
                share, more = share_without_spread(played[: len(chosen)]), len(played) / len(chosen) - 1
                self._record({"resampled": more, "no_signal": share})
        self._policy.forget_turns()  # the weights change now, and the update wants the memory
        self._generation_seconds = time.perf_counter() - start
        self._unrecorded = unrecorded_draws(self._policy) - unrecorded
        if self.settings.no_spread == "drop":
            self._record({"dropped": share_without_spread(chosen)})
            chosen = dropped(chosen, call_table(chosen))
        return played, chosen

    @contextmanager
    def playing(self) -> Iterator[Any]:
        """The policy's model, which has all its weights in this process meanwhile, however they are divided."""
        with whole_model(self.model_wrapped, self.accelerator) as self._policy.model:  # perhaps another object
            self._policy.hand_over()
            yield self._policy.model

    def _play_round(self, problems: list[Problem], round_number: int) -> list[Episode]:
        process = self.accelerator.process_index
        played = self._player.play(problems, batch=self.batch_number, process=process, again=round_number)
        return with_lengths(played, truncated=self.settings.truncated, overlong=self.settings.overlong)

    def _tensors(self, episodes: list[Episode]) -> dict[str, Tensor | Any]:
        table = call_table(episodes)
        placed = placed_rows(episodes, table)
        # What one process scores all must score, in as many rows: of a sharded model each has a part.
        at_least = max(together(len(placed))) if is_sharded(self.accelerator) else 0
        pad, parts = self._tokenizer.pad_token_id, self.args.steps_per_generation
        rows = row_tensors(placed, pad_id=pad, multiple_of=parts, at_least=at_least)
        rows, correction_RT = self._by_the_trainer(rows)
        charged = self.settings.kl and any(together(bool((table.kl_coefficients_C > 0).any())))
        reference_RT = self._reference_logprobs(rows) if charged else None
        advantages_RT = self._advantages(rows, table)
        betas_RT = rows.spread(table.kl_coefficients_C) * self._steered(rows, table, reference_RT)
        if reference_RT is not None and self.settings.kl_over == "turn":
            advantages_RT = advantages_RT - future_kl_BT(rows.old_logprobs_RT, reference_RT, betas_RT, rows.calls_RT)
        self.tell_credit(episodes, rows.by_call(advantages_RT, len(table.rewards_C)))
        device = self.accelerator.device
        batch = trl_batch(rows, table, advantages_RT, betas_RT)
        if self.settings.critic is not None and self.batch_number < self.settings.critic.pretraining:
            batch["tool_mask"] = torch.zeros_like(batch["tool_mask"])  # no gradient: only the critic has learnt
        batch["weights"] = token_weights_BT(rows.calls_RT, self.settings.normalise_loss)
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        items = learning_items(batch["tool_mask"], batch["weights"], rows.calls_RT, self.settings.normalise_loss)
        moved["num_items_in_batch"] = self.accelerator.gather(items.to(device)).sum()
        if correction_RT is not None:
            moved["weights"] = moved["weights"] * correction_RT.to(device)
        if reference_RT is not None:
            moved["ref_per_token_logps"] = reference_RT.to(device)
        return moved

    def _by_the_trainer(self, rows: RowTensors) -> tuple[RowTensors, Tensor | None]:
        """The rows with log-probabilities of this process, where settings want that, and what corrects for theirs."""
        if (rule := self._correction) is None and not self.settings.recompute_old_logprobs:
            return rows, None
        own_RT, sampled_RT = self._logprobs(self.model, rows).cpu(), rows.calls_RT >= 0
        log_ratio_RT = torch.where(sampled_RT, own_RT - rows.old_logprobs_RT, torch.zeros_like(own_RT))
        weights_RT = None if rule is None else mismatch_weights_BT(log_ratio_RT, rows.calls_RT, rule)
        if self._policy.engine != "transformers":
            self._record(mismatch_metrics(log_ratio_RT, weights_RT, sampled_RT))
        return replace(rows, old_logprobs_RT=own_RT), weights_RT

    def tell_credit(self, episodes: list[Episode], advantages: list[list[float]]) -> None:
        """Tell who wants to know what every token of every call, of all episodes in order, was paid."""
        self._player.tell_credit(episodes, advantages, self.batch_number)

    def _steered(self, rows: RowTensors, table: CallTable, reference_RT: Tensor | None) -> float:
        """The factor on this step's KL coefficients; the last step's entropy and this one's KL are taken note of."""
        steering = self._controllers
        if steering.watch_entropy and any(together(self._entropies.count > 0)):
            steering.observe_entropy(self._entropies.over_processes())
            self._record({"entropy_coefficient": steering.entropy_coefficient})
        self._entropies = MeanOfTokens()
        factor = steering.kl_factor
        if self.settings.kl_target is not None and reference_RT is not None:
            charged_RT = rows.spread(table.learns_C * (table.kl_coefficients_C > 0))
            measured = MeanOfTokens()
            measured.add(rows.old_logprobs_RT - reference_RT, charged_RT)
            steering.observe_kl(measured.over_processes())
            self._record({"kl_factor": factor})
        return factor

    def _advantages(self, rows: RowTensors, table: CallTable) -> Tensor:
        """(R, T): every sampled token's advantage, from the baseline or from the critic."""
        if self._critic is None:
            settings = self.settings
            if settings.baseline != "none":
                self._record(comparison_metrics(self.last_episodes, table, told=settings.no_spread == "resample"))
            advantages_C = call_advantages(
                table,
                settings.baseline,
                settings.normalise_by or "nothing",
                credit=settings.credit,
                by_role=settings.credit_by_role,
            )
            return rows.spread(advantages_C)
        with self.playing() as model:
            hidden_RTH = hidden_before_each_token(
                model, *whole_rows(text_of(rows)), positions=self._positions, rows_at_once=self._rows_at_once
            )
        advantages_RT, value_loss = self._critic.learn(hidden_RTH, rows, table)
        self._record({"value_loss": value_loss})
        return advantages_RT

    def _logprobs(self, model: Any, rows: RowTensors) -> Tensor:
        """(R, T) log-probabilities of the completion ids under `model` at the sampling temperature, without
        gradient."""
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in text_of(rows).items()}
        training = model.training
        model.eval()  # an adapter's dropout is for learning; nothing was dropped when the ids were sampled
        with torch.no_grad():
            logprobs_RT, _ = self._scored(model, batch, rows_at_once=self._rows_at_once)
        model.train(training)
        return logprobs_RT

    def _scored(self, model: Any, batch: dict[str, Any], **how: Any) -> tuple[Tensor, Tensor | None]:
        how |= {"autocast": self.accelerator.autocast, "positions": self._positions}
        return completion_logprobs(model, *whole_rows(batch), by_length=not is_sharded(self.accelerator), **how)

    @property
    def _rows_at_once(self) -> int:
        """Rows of one forward pass without gradient."""
        return self.settings.score_rows or int(self.args.per_device_train_batch_size)

    def _reference_logprobs(self, rows: RowTensors) -> Tensor:
        with self._adapter_off():
            return self._logprobs(self.ref_model if self.ref_model is not None else self.model, rows).cpu()

    def _adapter_off(self) -> AbstractContextManager[Any]:
        model = self.accelerator.unwrap_model(self.model)
        adapted = self.ref_model is None and hasattr(model, "disable_adapter")
        return model.disable_adapter() if adapted else nullcontext()

    # Seam 2: the loss.
    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        bonus = self._controllers.entropy_coefficient
        with_entropy = bonus > 0 or self.settings.log_entropy or self._controllers.watch_entropy
        logprobs_BT, entropies_BT = self._scored(model, inputs, with_entropy=with_entropy)
        batch = token_batch(inputs, self._normaliser(inputs))
        terms = ppo_loss(
            logprobs_BT,
            batch,
            clip_low=self.settings.clip,
            clip_high=self.settings.clip if self.settings.clip_high is None else self.settings.clip_high,
            surrogate=self.settings.surrogate,
            dual_clip=self.settings.dual_clip,
            entropies_BT=entropies_BT,
            entropy_coefficient=bonus,
        )
        if entropies_BT is not None:
            self._entropies.add(entropies_BT.detach(), batch.mask_BT)
        self._refuse_divergence(terms)
        self._record(update_metrics(terms, batch, inputs["kinds"], entropies_BT))
        return terms.total

    def _normaliser(self, inputs: dict[str, Any]) -> Tensor:
        """Learning tokens (or turns) of one optimiser step, per process (gradients are averaged over processes)."""
        share = self.current_gradient_accumulation_steps / self.args.steps_per_generation
        items: Tensor = inputs["num_items_in_batch"]
        return cast(Tensor, items.clamp(min=1.0) * share / self.accelerator.num_processes)

    def _refuse_divergence(self, terms: LossTerms) -> None:
        if not math.isfinite(loss := float(terms.total.detach())):
            raise DivergenceError(
                f"the loss is {loss} in step {self.batch_number + 1}: training stops, the last "
                "checkpoint is kept; a smaller learning rate, a smaller alpha or a larger beta1 usually helps"
            )

    def _record(self, metrics: dict[str, float]) -> None:
        for name, value in over_processes(together(metrics)).items():
            self._metrics["train"][name].append(value)


def _rewards_come_from_the_graph(**_: Any) -> list[float]:
    raise AssertionError("TRL asked for rewards; selfcorrect's trainer scores episodes itself: this TRL moved a seam")
