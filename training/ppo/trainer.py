"""The trainer: TRL's GRPOTrainer with two seams of our own, how episodes are produced and scored, and the loss.

From TRL and transformers come data loading, the generation buffer (several PPO epochs and minibatches a batch), PEFT,
accelerate, DeepSpeed, FSDP, logging, checkpoints and resume.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from safetensors import safe_open
from torch import Tensor
from transformers import PrinterCallback
from trl import GRPOTrainer
from trl.models.utils import prepare_deepspeed, prepare_fsdp, unwrap_model_for_generation
from trl.trainer.utils import add_fused_lm_head

from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.recording import unrecorded_draws
from selfcorrect.errors import DivergenceError, PolicyError, TrainingError
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.credit.estimators import call_advantages
from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.ppo.batching import (
    RowTensors,
    call_table,
    placed_rows,
    row_tensors,
)
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.critic import Critic
from selfcorrect.training.ppo.loss import LossTerms, TokenBatch, future_kl_BT, ppo_loss
from selfcorrect.training.ppo.metrics import calls_without_baseline, rollout_metrics, update_metrics
from selfcorrect.training.ppo.precision import prepare_weights
from selfcorrect.training.ppo.rollouts import Episode, EpisodePlayer, SignalsAt
from selfcorrect.training.ppo.scoring import (
    completion_logprobs,
    has_absolute_positions,
    hidden_before_each_token,
    without_dropout,
)

# What TRL's loop carries from the episodes to the loss: tensors by the names that TRL gives them.


def text_of(rows: RowTensors) -> dict[str, Tensor]:
    """Prompts and completions: all that scoring needs."""
    return {
        "prompt_ids": rows.prompt_ids_RP,
        "prompt_mask": rows.prompt_mask_RP,
        "completion_ids": rows.completion_ids_RT,
        "completion_mask": rows.completion_mask_RT,
    }


def trl_batch(rows: RowTensors, table: CallTable, advantages_RT: Tensor, betas_RT: Tensor) -> dict[str, Tensor]:
    """All that the loss needs, as far as no model must be asked for it."""
    return {
        **text_of(rows),
        "tool_mask": rows.spread(table.learns_C),
        "advantages": advantages_RT,
        "kl_coefficients": betas_RT,
        "calls": rows.calls_RT,
        "kinds": torch.where(rows.calls_RT >= 0, table.kinds_C[rows.calls_RT.clamp(min=0)], -1),
        "old_per_token_logps": rows.old_logprobs_RT,
    }


def whole_rows(batch: dict[str, Any]) -> tuple[Tensor, Tensor, int]:
    """Ids and mask of prompts with their completions, and how many positions at the end are completion."""
    return (
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        batch["completion_ids"].size(1),
    )


def token_batch(inputs: dict[str, Any], normaliser: Tensor) -> TokenBatch:
    """A minibatch as `ppo_loss` takes it."""
    return TokenBatch(
        old_logprobs_BT=inputs["old_per_token_logps"],
        reference_logprobs_BT=inputs.get("ref_per_token_logps"),
        advantages_BT=inputs["advantages"],
        kl_coefficients_BT=inputs["kl_coefficients"],
        mask_BT=inputs["tool_mask"],
        normaliser=normaliser,
    )


# The fixed reference model of the KL terms.


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A frozen model that is chosen explicitly, never looked up by the name in a config.

    Looked up by name, a policy that was loaded from its Stage I checkpoint would be anchored to Stage I in Stage II,
    and one built in memory to nothing at all.
    """

    model: Any

    @classmethod
    def of(cls, policy_model: Any, reference: Any, config: TurnPPOConfig) -> "ReferenceModel":
        """`reference` as a frozen model of the policy's dtype.

        Args:
            policy_model: copied as it is now when `reference` is None.
            reference: None, a folder, a Hub id, or a model.
            config: gives the temperature at which log-probabilities are taken.

        Raises:
            PolicyError: the folder does not exist or holds no model. The base model is never put in its place.
        """
        if reference is None:
            model = copy.deepcopy(policy_model)
        elif isinstance(reference, str | Path):
            model = _load(reference, policy_model)
        else:
            model = reference
        model.eval().requires_grad_(False)
        add_fused_lm_head(model, temperature=config.temperature)
        return cls(model)

    def prepare(self, trainer: Any) -> Any:
        """The model as the trainer's engine (DeepSpeed, FSDP or plain accelerate) wants it for scoring."""
        if trainer.is_deepspeed_enabled:
            return prepare_deepspeed(self.model, trainer.accelerator)
        if trainer.is_fsdp_enabled:
            return prepare_fsdp(self.model, trainer.accelerator)
        return trainer.accelerator.prepare_model(self.model, evaluation_mode=True)


def _load(reference: str | Path, policy_model: Any) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(str(reference), dtype=policy_model.dtype)
    except (OSError, ValueError) as error:
        raise PolicyError(f"the reference model '{reference}' cannot be loaded: {error}") from error


class TurnPPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """Per-turn PPO in a LangGraph graph.

    Every step plays `episodes_per_problem` episodes of each of `problems_per_step` problems through `graph`, pays
    every policy call its own reward, compares it with the same call of the other episodes of that problem, and updates
    the policy.

    Args:
        policy: a `TransformersPolicy`; its model is trained, in place.
        graph: a compiled LangGraph graph whose nodes call `policy`.
        problems: what to train on, at least one batch.
        signals: what the calls of batch number n are paid; see `SignalsAt`.
        config: the settings.
        reference: folder, Hub id or model of the fixed reference; None is a copy of the policy's model as it is now, or
            with `peft_config` the base model under the adapter. It is never re-loaded from a name by chance.
        peft_config: train an adapter only.
        trainable: names of the nodes whose calls learn; None is all.
        inputs, context: the graph's input for a problem and its run context; None are those of `build_graph`.
        callbacks: transformers callbacks.
        rules: for episodes that fail, ask a person, or take long; None drops those that fail.
        shuffled: play the problems in the order given; else TRL shuffles them anew in every epoch.

    Raises:
        TrainingError: there are fewer problems than one batch holds.
        DivergenceError: while training, the loss is not finite.
    """

    _tag_names: ClassVar[list[str]] = ["selfcorrect", "score"]

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
    ) -> None:
        if len(problems) < config.problems_per_step:
            # TRL's sampler drops an incomplete batch: the run would end at once, untrained, without an error.
            raise TrainingError(
                f"{len(problems)} problems are fewer than one batch of {config.problems_per_step}; lower "
                "problems_per_step or add problems"
            )
        self._policy, self._problems, self.settings = policy, list(problems), config
        without_dropout(policy.model)
        self._positions = has_absolute_positions(policy.model)
        computes_in_bf16 = prepare_weights(policy, adapter=peft_config is not None, pure_bf16=config.pure_bf16)
        self._player = EpisodePlayer(
            policy, graph, signals, config, trainable, inputs, context, rules or EpisodeRules()
        )
        uses_reference = config.kl and peft_config is None
        self._reference = ReferenceModel.of(policy.model, reference, config) if uses_reference else None
        self._critic = (
            None if config.critic is None else Critic(policy.model.config.get_text_config().hidden_size, config.critic)
        )
        self._generation_seconds, self._unrecorded = 0.0, 0
        self.last_episodes: list[Episode] = []
        super().__init__(
            model=policy.model,
            reward_funcs=[_rewards_come_from_the_graph],
            args=config.to_trl(shuffled=shuffled, bf16=computes_in_bf16, use_cpu=policy.on_cpu),
            train_dataset=Dataset.from_list(
                [{"prompt": problem.prompt, "problem": index} for index, problem in enumerate(self._problems)]
            ),
            processing_class=policy.tokenizer,
            peft_config=peft_config,
            callbacks=[*(callbacks or []), *([] if self._critic is None else [self._critic.keeper()])],
            optimizers=(config.own_optimiser(policy.model), None),
        )
        self.remove_callback(PrinterCallback)  # figures go to whoever listens to on_log
        if self._reference is not None:
            self.ref_model = self._reference.prepare(self)

    @property
    def batch_number(self) -> int:
        """Which batch of episodes is being learnt from, counted from 0 over the whole run."""
        return int(self.state.global_step) // self.settings.updates_per_step

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As transformers does; but mixtures of experts, which are stored expert by expert and held together, would
        come out of it with the weights of the run's beginning and a warning."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        held = self.accelerator.unwrap_model(model or self.model)
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if not sharded and not hasattr(held, "peft_config") and _stored_otherwise(Path(resume_from_checkpoint), held):
            stored = type(held).from_pretrained(resume_from_checkpoint, dtype=held.dtype)
            held.load_state_dict(stored.state_dict())

    # Seam 1: episodes.

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor | Any]:
        """Play, judge and pay the episodes of `inputs` (each problem repeated as often as it is to be played)."""
        training = self.model.training
        episodes = self._play(inputs)
        self.model.train(training)
        self.last_episodes = episodes
        batch = self._tensors(episodes)
        self._record(rollout_metrics(episodes, self._generation_seconds, self._unrecorded))
        return batch

    def _play(self, inputs: list[dict[str, Any]]) -> list[Episode]:
        problems = [self._problems[row["problem"]] for row in inputs]
        start, unrecorded = time.perf_counter(), unrecorded_draws(self._policy)
        with unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model:
            self._policy.model = model  # under DeepSpeed and FSDP the object with the gathered weights is another one
            episodes = self._player.play(problems, batch=self.batch_number, process=self.accelerator.process_index)
        self._generation_seconds = time.perf_counter() - start
        self._unrecorded = unrecorded_draws(self._policy) - unrecorded
        return episodes

    def _tensors(self, episodes: list[Episode]) -> dict[str, Tensor | Any]:
        table = call_table(episodes)
        rows = row_tensors(
            placed_rows(episodes, table),
            pad_id=self._tokenizer.pad_token_id,
            multiple_of=self.args.steps_per_generation,
        )
        reference_RT = (
            self._reference_logprobs(rows) if self.settings.kl and bool((table.kl_coefficients_C > 0).any()) else None
        )
        advantages_RT = self._advantages(rows, table)
        betas_RT = rows.spread(table.kl_coefficients_C)
        if reference_RT is not None and self.settings.kl_over == "turn":
            advantages_RT = advantages_RT - future_kl_BT(rows.old_logprobs_RT, reference_RT, betas_RT, rows.calls_RT)
        device = self.accelerator.device
        batch = trl_batch(rows, table, advantages_RT, betas_RT)
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        moved["num_items_in_batch"] = self.accelerator.gather(batch["tool_mask"].sum().to(device)).sum()
        if self.settings.recompute_old_logprobs:
            moved["old_per_token_logps"] = self._logprobs(self.model, moved)
        if reference_RT is not None:
            moved["ref_per_token_logps"] = reference_RT.to(device)
        return moved

    def _advantages(self, rows: RowTensors, table: CallTable) -> Tensor:
        """(R, T): every sampled token's advantage, from the baseline or from the critic."""
        if self._critic is None:
            settings = self.settings
            if settings.baseline != "none":
                self._record({"no_baseline": calls_without_baseline(table)})
            normalise_by = settings.normalise_by or "nothing"
            return rows.spread(
                call_advantages(
                    table, settings.baseline, normalise_by, credit=settings.credit, by_role=settings.credit_by_role
                )
            )
        model = self.accelerator.unwrap_model(self.model)
        hidden_RTH = hidden_before_each_token(
            model, *whole_rows(text_of(rows)), positions=self._positions, rows_at_once=self._rows_at_once
        )
        advantages_RT, value_loss = self._critic.learn(hidden_RTH, rows, table)
        self._record({"value_loss": value_loss})
        return advantages_RT

    def _logprobs(self, model: Any, batch: dict[str, Any]) -> Tensor:
        """(R, T) log-probabilities of the completion ids under `model` at the sampling temperature, without
        gradient."""
        training = model.training
        model.eval()  # an adapter's dropout is for learning; nothing was dropped when the ids were sampled
        with torch.no_grad():
            logprobs_RT, _ = self._scored(model, batch, rows_at_once=self._rows_at_once)
        model.train(training)
        return logprobs_RT

    def _scored(self, model: Any, batch: dict[str, Any], **how: Any) -> tuple[Tensor, Tensor | None]:
        autocast, positions = self.accelerator.autocast, self._positions
        return completion_logprobs(model, *whole_rows(batch), autocast=autocast, positions=positions, **how)

    @property
    def _rows_at_once(self) -> int:
        """Rows of one forward pass without gradient."""
        return self.settings.score_rows or int(self.args.per_device_train_batch_size)

    def _reference_logprobs(self, rows: RowTensors) -> Tensor:
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in text_of(rows).items()}
        with self._adapter_off():
            return self._logprobs(self.ref_model if self.ref_model is not None else self.model, batch).cpu()

    def _adapter_off(self) -> AbstractContextManager[Any]:
        model = self.accelerator.unwrap_model(self.model)
        return (
            model.disable_adapter() if self.ref_model is None and hasattr(model, "disable_adapter") else nullcontext()
        )

    # Seam 2: the loss.

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        with_entropy = self.settings.entropy > 0 or self.settings.log_entropy
        logprobs_BT, entropies_BT = self._scored(model, inputs, with_entropy=with_entropy)
        batch = token_batch(inputs, self._normaliser(inputs))
        terms = ppo_loss(
            logprobs_BT,
            batch,
            clip_low=self.settings.clip,
            clip_high=self.settings.clip if self.settings.clip_high is None else self.settings.clip_high,
            entropies_BT=entropies_BT,
            entropy_coefficient=self.settings.entropy,
        )
        self._refuse_divergence(terms)
        self._record(update_metrics(terms, batch, inputs["kinds"], entropies_BT))
        return terms.total

    def _normaliser(self, inputs: dict[str, Any]) -> Tensor:
        """Learning tokens of one optimiser step, per process (gradients are averaged over processes)."""
        share = self.current_gradient_accumulation_steps / self.args.steps_per_generation
        items: Tensor = inputs["num_items_in_batch"]
        return cast(Tensor, items.clamp(min=1.0) * share / self.accelerator.num_processes)

    def _refuse_divergence(self, terms: LossTerms) -> None:
        if not math.isfinite(float(terms.total.detach())):
            raise DivergenceError(
                f"the loss is {float(terms.total.detach())} in step {self.batch_number + 1}: training stops, the last "
                "checkpoint is kept; a smaller learning rate, a smaller alpha or a larger beta1 usually helps"
            )

    def _record(self, metrics: dict[str, float]) -> None:
        gathered = gather_object([metrics]) if self.accelerator.num_processes > 1 else [metrics]
        for name in metrics:
            values = [one[name] for one in gathered if not math.isnan(one.get(name, math.nan))]
            if values:
                self._metrics["train"][name].append(sum(values) / len(values))


def _stored_otherwise(folder: Path, model: Any) -> bool:
    """Whether weights in `folder` have names that `model` does not."""
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names.update(file.keys())
    return bool(names - set(model.state_dict()))


def _rewards_come_from_the_graph(**_: Any) -> list[float]:
    raise AssertionError("TRL asked for rewards; selfcorrect's trainer scores episodes itself: this TRL moved a seam")
