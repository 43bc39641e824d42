"""What becomes of each option of `trl.GRPOConfig` in `optimiser.trl`: nothing is accepted and then ignored.

`HONOURED` options do what they say; a test shows the effect of each. All others are refused, with the setting that does
it here (`INSTEAD`) or the reason why nothing does (`SENSELESS`). Some options need another one, or a launcher, to have
an effect, and are refused without it.
"""

import difflib
import os
from collections.abc import Mapping
from typing import Any

from selfcorrect.errors import ConfigurationError

HONOURED: dict[str, str] = {
    "adam_beta1": "of Adam",
    "adam_epsilon": "of Adam",
    "ddp_backend": "several processes: how they talk",
    "ddp_broadcast_buffers": "several processes",
    "ddp_bucket_cap_mb": "several processes: how much is sent at once",
    "ddp_find_unused_parameters": "several processes",
    "ddp_static_graph": "several processes",
    "ddp_timeout": "several processes: seconds of waiting for each other",
    "full_determinism": "deterministic algorithms of torch, slower",
    "log_level": "how much transformers tells",
    "log_level_replica": "several processes: the same in all but the first",
    "log_on_each_node": "several machines: whether the first process of each tells",
    "lr_scheduler_kwargs": "of `lr_scheduler_type`",
    "lr_scheduler_type": "any scheduler of transformers",
    "optim": "any optimiser of transformers",
    "optim_args": "of `optim`: SGD, Adagrad, RMSprop, and those of other packages",
    "optim_target_modules": "of `optim`: GaLore and APOLLO",
    "project": "what trackio calls the project",
    "run_name": "what `report_to` calls the run",
    "save_on_each_node": "several machines without a common disk: each writes checkpoints",
    "torch_empty_cache_steps": "accelerators: gives memory back so often",
    "trackio_bucket_id": "where trackio keeps what it is told",
    "trackio_space_id": "the Space of trackio's pages",
    "trackio_static_space_id": "the Space of trackio's pages when the run is over",
    "weight_decay": "of the optimiser",
}

INSTEAD: dict[str, str] = {
    "activation_checkpointing": "optimiser.activation_checkpointing",
    "adam_beta2": "optimiser.adam_beta2",
    "beta": "score.beta1 and score.beta2, or kl of `train`",
    "bf16": "policy.dtype",
    "cache_implementation": "policy (it samples with its own cache)",
    "data_seed": "seed",
    "deepspeed": "accelerate launch --config_file configs/zero2.yaml, or zero3.yaml",
    "disable_dropout": "policy.lora.dropout (the model's own dropout is off: sampling has none)",
    "disable_tqdm": "--json, or a progress sink",
    "do_eval": "evaluation.every",
    "entropy_coef": "optimiser.entropy",
    "epsilon": "optimiser.clip",
    "epsilon_high": "optimiser.clip_high",
    "eval_on_start": "evaluation (a run evaluates before it trains)",
    "eval_steps": "evaluation.every",
    "eval_strategy": "evaluation.every",
    "fp16": "policy.dtype (bfloat16 needs no scaling of the loss; float16 is not trained in)",
    "fsdp": "accelerate launch --config_file configs/fsdp2.yaml",
    "fsdp_config": "accelerate launch --config_file configs/fsdp2.yaml",
    "generation_batch_size": "optimiser.problems_per_step and optimiser.episodes_per_problem",
    "gradient_accumulation_steps": "optimiser.gradient_accumulation",
    "gradient_checkpointing": "optimiser.activation_checkpointing",
    "learning_rate": "optimiser.learning_rate",
    "log_completions": "episodes.jsonl of the run's folder",
    "max_completion_length": "policy.max_new_tokens",
    "max_grad_norm": "optimiser.max_grad_norm",
    "max_steps": "score.stage_one_steps and score.stage_two_steps, or steps of TurnPPOConfig",
    "model_init_kwargs": "policy.attention, policy.dtype and policy.device",
    "num_generations": "optimiser.episodes_per_problem",
    "num_iterations": "optimiser.ppo_epochs",
    "num_train_epochs": "score.stage_one_steps and score.stage_two_steps, or steps of TurnPPOConfig",
    "output_dir": "--out, or output_dir of TurnPPOConfig",
    "per_device_train_batch_size": "optimiser.minibatches and optimiser.gradient_accumulation",
    "report_to": "--report-to, or report_to",
    "resume_from_checkpoint": "--resume",
    "save_steps": "save_every",
    "save_strategy": "save_every",
    "save_total_limit": "keep_checkpoints",
    "scale_rewards": "optimiser.normalise_by",
    "seed": "seed",
    "steps_per_generation": "optimiser.minibatches and optimiser.gradient_accumulation",
    "temperature": "optimiser.temperature",
    "use_cpu": "policy.device: cpu",
    "warmup_steps": "optimiser.warmup_steps",
}

_SAMPLED_AS_IT_IS = "training samples from the policy as it is: a cut or bent distribution is not the one that learns"
_LOSS = "the loss is PPO's clipped surrogate per token, with rewards of turns; see docs"
_REFERENCE = "the reference is fixed: the policy as it was before the run"
_ENGINE = "episodes are played by policy.engine, in the words of its own settings (docs/engines.md)"
_EVERY_STEP = "every step is written, once"
_NO_EVALUATION = "TRL's evaluation is not used: see evaluation.every"
_NO_UPLOAD = "a run writes to its folder only; upload model/ when it is done"
_NO_LOADER = "the problems are in memory, and episodes are not loaded but played"
_NO_EFFECT = "it has no effect in this trainer"

_SENSELESS: dict[str, str] = {
    _SAMPLED_AS_IT_IS: "top_p top_k min_p repetition_penalty generation_kwargs chat_template_kwargs",
    _LOSS: "loss_type importance_sampling_level delta mask_truncated_completions top_entropy_quantile "
    "off_policy_mask_threshold sapo_temperature_neg sapo_temperature_pos vespo_k_neg vespo_k_pos vespo_lambda_neg "
    "vespo_lambda_pos label_smoothing_factor average_tokens_across_devices router_aux_loss_coef",
    "the weight of the entropy is fixed: see optimiser.entropy": "use_adaptive_entropy entropy_coef_delta "
    "entropy_coef_max entropy_coef_min entropy_target",
    _REFERENCE: "sync_ref_model ref_model_mixup_alpha ref_model_sync_steps use_bias_correction_kl",
    "rewards come from the graph's checker or from reward_fn": "reward_weights multi_objective_aggregation",
    _ENGINE: "use_vllm vllm_enable_sleep_mode vllm_gpu_memory_utilization vllm_group_port vllm_importance_sampling_cap "
    "vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min vllm_importance_sampling_correction "
    "vllm_importance_sampling_mode vllm_max_model_length vllm_mode vllm_model_impl vllm_server_base_url "
    "vllm_server_host vllm_server_port vllm_server_timeout vllm_structured_outputs_regex vllm_tensor_parallel_size "
    "use_transformers_continuous_batching use_transformers_paged transformers_continuous_batching_config "
    "ds3_gather_for_generation max_tool_calling_iterations",
    _EVERY_STEP: "logging_steps logging_strategy logging_first_step logging_nan_inf_filter",
    "episodes are in episodes.jsonl of the run's folder": "log_completions_hub_repo log_multimodal log_unique_prompts "
    "num_completions_to_print",
    _NO_EVALUATION: "num_generations_eval per_device_eval_batch_size eval_accumulation_steps eval_delay "
    "eval_do_concat_batches eval_use_gather_object batch_eval_metrics bf16_full_eval fp16_full_eval do_predict "
    "prediction_loss_only include_for_metrics load_best_model_at_end metric_for_best_model greater_is_better",
    _NO_UPLOAD: "push_to_hub hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy hub_token",
    _NO_LOADER: "dataloader_drop_last dataloader_in_order dataloader_multiprocessing_context dataloader_num_workers "
    "dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor remove_unused_columns "
    "length_column_name train_sampling_strategy label_names",
    "problems are shuffled already, in an order that a resumed run takes up again": "shuffle_dataset",
    "a checkpoint must hold all that resuming needs, and is resumed whole": "save_only_model ignore_data_skip "
    "restore_callback_states_from_checkpoint enable_jit_checkpoint",
    "the batch is what the baseline compares": "auto_find_batch_size accelerator_config",
    "noise on embeddings would make the ratio to the sampled log-probabilities noise": "neftune_noise_alpha",
    "sampling would not do the same, and the ratios would be off": "cast_lm_head_to_fp32 use_liger_kernel "
    "liger_kernel_config torch_compile torch_compile_backend torch_compile_mode",
    "TF32 is on by itself where the device has it": "tf32",
    "sequences are not split over devices": "parallelism_config",
    "code that comes with a model is not run": "trust_remote_code",
    "it does not reach the model's layers: TRL says how activations are computed again": (
        "activation_checkpointing_kwargs gradient_checkpointing_kwargs"
    ),
    _NO_EFFECT: "pad_to_multiple_of use_cache include_num_input_tokens_seen skip_memory_metrics debug do_train "
    "local_rank",
}

SENSELESS: dict[str, str] = {name: reason for reason, names in _SENSELESS.items() for name in names.split()}


def fault_of(name: str) -> str | None:
    """Why the option `name` cannot be given; None if it can."""
    if name in HONOURED:
        return None
    if name in INSTEAD:
        return f"trl.{name}: set {INSTEAD[name]}"
    if name in SENSELESS:
        return f"trl.{name}: {SENSELESS[name]}"
    near = difflib.get_close_matches(name, [*HONOURED, *INSTEAD], n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; those that can be given: {', '.join(HONOURED)}, ..."
    return f"trl.{name}: no option of GRPOConfig that selfcorrect knows{hint}"


# What an option needs, beside being known.

_USUAL_OPTIMISER = "adamw_torch_fused"
_ARGUMENTS = {
    _USUAL_OPTIMISER: "",
    "adamw_torch": "",
    "adafactor": "",
    "sgd": "momentum dampening nesterov",
    "adagrad": "lr_decay eps",
    "rmsprop": "momentum alpha eps centered",
}
"""What `optim_args` can say to torch's own optimisers; those of other packages get what is there."""
_LAUNCHED = ["log_level_replica", "log_on_each_node", "save_on_each_node"]


def faults_in(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with these options, each by itself and together."""
    faults = [fault for name in options if (fault := fault_of(name)) is not None]
    optimiser = _optimiser(options)
    if not is_adam(options):
        of_adam = [name for name in ("adam_beta1", "adam_epsilon") if name in options]
        faults += [f"trl.{name} is of Adam, and trl.optim is {optimiser!r}" for name in of_adam]
    if "optim_args" in options and optimiser in _ARGUMENTS:
        known, given = _ARGUMENTS[optimiser].split(), str(options["optim_args"]).replace(" ", "").split(",")
        idle = [name for pair in given if (name := pair.partition("=")[0]) not in known]
        reads = ", ".join(known) or "none"
        faults += [f"trl.optim_args: the optimiser {optimiser!r} reads no {name!r}; it reads {reads}" for name in idle]
    if "optim_target_modules" in options and not optimiser.startswith(("galore", "apollo")):
        faults.append(f"trl.optim_target_modules is of GaLore and APOLLO, and trl.optim is {optimiser!r}")
    if options.get("trackio_static_space_id") and "trackio_space_id" not in options:
        faults.append("trl.trackio_static_space_id is made of the Space trl.trackio_space_id, which is not given")
    if "lr_scheduler_kwargs" in options and "lr_scheduler_type" not in options:
        faults.append("trl.lr_scheduler_kwargs is of trl.lr_scheduler_type, which is not given")
    return faults


def is_adam(options: Mapping[str, Any]) -> bool:
    """Whether the optimiser that they choose reads Adam's settings."""
    return not _optimiser(options).startswith(("sgd", "adagrad", "rmsprop", "adafactor"))


def _optimiser(options: Mapping[str, Any]) -> str:
    chosen = options.get("optim", _USUAL_OPTIMISER)
    return str(getattr(chosen, "value", chosen))


def refuse_without_launcher(options: Mapping[str, Any]) -> None:
    """Raise a ValueError for options of several processes in one that no launcher started."""
    idle = [name for name in options if name.startswith("ddp_") or name in _LAUNCHED]
    if idle and "LOCAL_RANK" not in os.environ:
        raise ValueError(
            f"trl.{idle[0]} is for several processes, and this one was started alone: use accelerate launch or torchrun"
        )


def refuse_on_cpu(options: Mapping[str, Any]) -> None:
    """Raise a ConfigurationError for options that have no effect where a policy is trained on the CPU."""
    for name, reason in (
        ("torch_empty_cache_steps", "it keeps no such cache"),
        ("ddp_timeout", "transformers gives it to processes on accelerators only"),
    ):
        if name in options:
            raise ConfigurationError(f"trl.{name}: the policy is trained on the CPU, and {reason}")


def options_table() -> str:
    """The table of all options, in Markdown."""
    rows = [(name, "honoured", words) for name, words in HONOURED.items()]
    rows += [(name, "refused", f"set {words}") for name, words in INSTEAD.items()]
    rows += [(name, "refused", words) for name, words in SENSELESS.items()]
    lines = [f"| `{name}` | {what} | {words} |" for name, what, words in sorted(rows)]
    return "\n".join(["| option of `trl.GRPOConfig` | | |", "|---|---|---|", *lines]) + "\n"


def checkpointing_argument() -> str:
    """transformers' name of activation checkpointing, new after 5.22 (TRL switches the older one on unless told)."""
    from transformers import TrainingArguments

    names = TrainingArguments.__dataclass_fields__
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
