"""Fine-tuning a policy on examples with TRL's SFTTrainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.passes import passes_arguments
from selfcorrect.training.ppo.precision import placed, prepare_weights
from selfcorrect.training.ppo.sharding import WholeNorms, save_whole
from selfcorrect.training.ppo.trl_options import checkpointing_argument
from selfcorrect.training.processes import refuse_apart
from selfcorrect.training.reporting.services import Reporters
from selfcorrect.training.runs.callbacks import FiniteGradients

_IGNORED = -100
_LOSSES = 10
"""How often the loss is logged in one fine-tuning."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How long and how fast is learnt.

    Args:
        steps: optimiser steps, exactly; the examples are gone through as often as that takes.
        batch_size: examples per step, over all processes. Fewer examples than that make smaller batches; where there
            are several processes, the last batch of an epoch is filled up from its beginning instead.
        learning_rate: of AdamW without weight decay; falls linearly to 0.
        max_grad_norm: gradients are clipped to it.
        micro_batch: examples of one forward and backward pass, at most; None is all of a step's.
    """

    steps: int
    batch_size: int
    learning_rate: float
    max_grad_norm: float = 1.0
    micro_batch: int | None = None


def fine_tune(
    policy: TransformersPolicy,
    examples: Sequence[Example],
    tuning: Tuning,
    *,
    seed: int,
    folder: Path,
    peft_config: Any = None,
    reporters: Reporters | None = None,
) -> dict[str, float]:
    """Learn `examples` with `policy`'s model, in place, and save model and tokenizer in `folder`; adapters are merged.

    The loss of a batch is the mean cross-entropy of its answers' tokens: a token of a long answer counts as much as one
    of a short one, and context counts nothing.

    Returns:
        `sft_loss_first` and `sft_loss`: the mean loss over the first and the last tenth of the steps, in nats per
        token.

    Raises:
        DivergenceError: a gradient was not finite.
    """
    trainer = sft_trainer(policy, examples, tuning, seed=seed, folder=folder, peft_config=peft_config)
    if reporters is not None:
        trainer.add_callback(reporters)
    trainer.train()
    save_whole(trainer, policy.tokenizer, folder)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"sft_loss_first": losses[0], "sft_loss": losses[-1]}


def sft_trainer(
    policy: TransformersPolicy,
    examples: Sequence[Example],
    tuning: Tuning,
    *,
    seed: int,
    folder: Path,
    peft_config: Any = None,
) -> Any:
    """The `trl.SFTTrainer` of `fine_tune`."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTTrainer

    class Trainer(WholeNorms, SFTTrainer):  # type: ignore[misc]
        """SFTTrainer, where weights may be divided."""

    bf16 = prepare_weights(policy, adapter=peft_config is not None)
    device = policy.training_device
    trainer = Trainer(
        model=policy.model,
        args=placed(_arguments(tuning, seed, folder, bf16=bf16, use_cpu=policy.on_cpu), device),
        train_dataset=Dataset.from_list([_row(example) for example in examples]),
        processing_class=policy.tokenizer,
        peft_config=peft_config,
        callbacks=[FiniteGradients()],
    )
    trainer.remove_callback(PrinterCallback)
    refuse_apart(trainer.accelerator)
    return trainer


def _row(example: Example) -> dict[str, list[int]]:
    context, answer = list(example.context_ids), list(example.answer_ids)
    return {"input_ids": context + answer, "labels": [_IGNORED] * len(context) + answer}


def _arguments(tuning: Tuning, seed: int, folder: Path, *, bf16: bool, use_cpu: bool) -> Any:
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder),
        max_steps=tuning.steps,
        **passes_arguments(tuning.batch_size, tuning.micro_batch),
        learning_rate=tuning.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        max_grad_norm=tuning.max_grad_norm,
        max_length=None,  # examples are learnt whole; the policy has seen them, so they fit its context
        **{checkpointing_argument(): False},
        bf16=bf16,
        use_cpu=use_cpu,
        seed=seed % 2**32,
        logging_steps=max(1, tuning.steps // _LOSSES),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
