"""The likelihood verifier: DPO from the supervised model on correct x incorrect pairs, by TRL's trainer."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifiers.base import context_of
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder, Wording, tokenizer_fingerprint
from selfcorrect.rewards.verifiers.folder import VerifierCard
from selfcorrect.rewards.verifiers.kinds import LikelihoodVerifier
from selfcorrect.training.engines import LoraSettings
from selfcorrect.training.passes import WholeSteps, passes_arguments
from selfcorrect.training.ppo.trl_options import checkpointing_argument
from selfcorrect.training.runs.opening import lora_config
from selfcorrect.training.vstar.fits import (
    Pair,
    StepLog,
    optimiser_for,
    placed_arguments,
    refuse_divergence,
    weights_dtype,
)
from selfcorrect.training.vstar.settings import PreferenceSettings


def train_likelihood(
    base: str | Path,
    pairs: Sequence[Pair],
    settings: PreferenceSettings,
    *,
    wording: Wording,
    work: Path,
    seed: int,
    log: StepLog | None = None,
    lora: LoraSettings | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> LikelihoodVerifier:
    """A verifier that prefers right answers, not calibrated yet.

    Args:
        base: folder or id of the supervised model, which it starts from and is compared with.
        pairs: what it learns to tell apart; as given, without shuffling them further than epoch by epoch.
        settings: of the fit.
        wording: how problems are shown.
        work: a folder for TRL's own files.
        seed: of the order and of dropout.
        log: told of the steps.
        lora: adapters that learn instead of all weights; the base beneath them is what they are compared with.
        device, dtype: where it learns, and what it computes in, as in `policy`.

    Raises:
        TrainingError: `pairs` is empty, or none can be read by the model.
        DivergenceError: the loss is no longer finite.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=weights_dtype(lora is not None, device, dtype))
    reference = None if lora else AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    rows = preference_rows(pairs, ResponseEncoder(tokenizer, wording, longest=context_of(model)))
    trainer = _trainer_class()(
        model=model,
        ref_model=reference,
        args=placed_arguments(partial(dpo_config, settings, work, seed), device, dtype),
        train_dataset=_dataset(rows),
        processing_class=_padding(tokenizer),
        callbacks=[log] if log is not None else [],
        peft_config=lora_config(lora),
        optimizers=(optimiser_for(model, settings), None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    refuse_divergence(trainer.model)
    card = VerifierCard(
        kind="likelihood",
        tokenizer=tokenizer_fingerprint(tokenizer),
        wording=wording,
        measure=settings.measure,
        dtype=dtype,
        trained={"pairs": len(rows), **settings.model_dump(), "lora": lora and lora.model_dump(), "seed": seed},
    )
    # without the trainer's autocast, which is not there when the folder is read
    trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    return LikelihoodVerifier(trained, reference, AutoTokenizer.from_pretrained(base), card)


def preference_rows(pairs: Sequence[Pair], encoder: ResponseEncoder) -> list[dict[str, list[int]]]:
    """The pairs as the token ids that the verifier will read; pairs that it cannot read are left out.

    Raises:
        TrainingError: none is left.
    """
    rows = []
    for pair in pairs:
        chosen, rejected = encoder.whole(pair.prompt, pair.chosen), encoder.whole(pair.prompt, pair.rejected)
        if chosen is not None and rejected is not None:
            begin = chosen.begin
            rows.append(
                {
                    "prompt_ids": chosen.ids[:begin],
                    "chosen_ids": chosen.ids[begin:],
                    "rejected_ids": rejected.ids[begin:],
                }
            )
    if not rows:
        raise TrainingError(
            f"none of {len(pairs)} pairs of answers can be read by the verifier's base model: they hold words that its "
            "tokenizer does not know, or are longer than its context"
        )
    return rows


def dpo_config(settings: PreferenceSettings, work: Path, seed: int, **placed: Any) -> Any:
    """The `trl.DPOConfig` of these settings."""
    from trl import DPOConfig

    return DPOConfig(
        output_dir=str(work),
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        **passes_arguments(settings.batch, settings.micro_batch),
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,
        beta=settings.beta,
        loss_type=["sigmoid"],
        max_length=None,
        seed=seed,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **{checkpointing_argument(): False},
        **placed,
    )


def _trainer_class() -> type[Any]:
    from trl import DPOTrainer

    class TokenisedDPOTrainer(WholeSteps, DPOTrainer):  # type: ignore[misc]  # TRL is untyped here
        """TRL's trainer on rows that are token ids already: those that the verifier reads later, to the token."""

        def counted(self, inputs: Any) -> Any:
            return torch.tensor(len(inputs["input_ids"]), device=inputs["input_ids"].device)

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            found = super().compute_loss(model, inputs, return_outputs, **kwargs)
            if return_outputs:
                return self.weighed(found[0], inputs), found[1]
            return self.weighed(found, inputs)

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    return TokenisedDPOTrainer


def _dataset(rows: Sequence[dict[str, list[int]]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(list(rows))


def _padding(tokenizer: Any) -> Any:
    """DPO pads; a tokenizer without a pad token pads with its EOS, which the mask hides."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
