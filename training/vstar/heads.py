"""The verifiers with a head: an outcome for every answer (ORM), a success frequency for every step (PRM)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifiers.base import context_of, padded
from selfcorrect.rewards.verifiers.encoding import Encoded, ResponseEncoder, Wording, tokenizer_fingerprint
from selfcorrect.rewards.verifiers.folder import VerifierCard
from selfcorrect.rewards.verifiers.kinds import ClassifierVerifier, ScoringModel, StepwiseVerifier
from selfcorrect.training.settings import HeadSettings
from selfcorrect.training.vstar.fits import StepLog, optimiser_for, refuse_divergence
from selfcorrect.training.vstar.pairs import Labelled

Row = dict[str, Any]


def train_head(
    kind: Literal["classifier", "stepwise"],
    base: str | Path,
    answers: Sequence[Labelled],
    settings: HeadSettings,
    *,
    wording: Wording,
    work: Path,
    seed: int,
    log: StepLog | None = None,
) -> ClassifierVerifier | StepwiseVerifier:
    """A verifier whose logits fit the targets of `answers`, by binary cross-entropy over all weights.

    Args:
        kind: "classifier" reads one target per answer, "stepwise" one per step.
        base: folder or id of the model whose body it starts from.
        answers: see `outcome_labels` and `step_labels`.
        settings: of the fit.
        wording: how problems are shown, and what separates steps.
        work: a folder for the trainer's own files.
        seed: of the order and of dropout.
        log: told of the steps.

    Raises:
        TrainingError: none of `answers` can be read.
        DivergenceError: the loss or a weight is no longer finite.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    causal = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = ScoringModel(causal.base_model)
    rows = head_rows(kind, answers, ResponseEncoder(tokenizer, wording, longest=context_of(causal)))
    _fit(model, rows, settings, work, seed, log)
    refuse_divergence(model)
    card = VerifierCard(
        kind=kind,
        tokenizer=tokenizer_fingerprint(tokenizer),
        wording=wording,
        reduction=settings.reduction,
        trained={"answers": len(rows), **settings.model_dump(), "seed": seed},
    )
    made = ClassifierVerifier if kind == "classifier" else StepwiseVerifier
    return made(model.eval(), tokenizer, card)


def head_rows(kind: str, answers: Sequence[Labelled], encoder: ResponseEncoder) -> list[Row]:
    """Token ids, the places that are scored and their targets; answers that cannot be read are left out.

    Raises:
        TrainingError: none is left.
    """
    encode = encoder.whole if kind == "classifier" else encoder.stepwise
    encoded = [(encode(answer.prompt, answer.response), answer.targets) for answer in answers]
    rows = [
        {"ids": one.ids, "places": _places(kind, one), "targets": list(aim)} for one, aim in encoded if one is not None
    ]
    if not rows:
        raise TrainingError(
            f"none of {len(answers)} answers can be read by the verifier's base model: they are blank, hold words that "
            "its tokenizer does not know, or are longer than its context"
        )
    return rows


def _places(kind: str, encoded: Encoded) -> list[int]:
    return [len(encoded.ids) - 1] if kind == "classifier" else encoded.step_ends


def collate_scored(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Ids (R, T) and mask (R, T), and targets (R, T) that are nan where nothing is scored."""
    ids, mask = padded([row["ids"] for row in rows])
    targets = torch.full(ids.shape, torch.nan)
    for number, row in enumerate(rows):
        targets[number, row["places"]] = torch.tensor(row["targets"])
    return {"input_ids": ids, "attention_mask": mask, "targets": targets}


def scored_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (R, T) over the places whose target (R, T) is not nan."""
    scored = ~targets.isnan()
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[scored], targets[scored])


def _fit(
    model: ScoringModel, rows: list[Row], settings: HeadSettings, work: Path, seed: int, log: StepLog | None
) -> None:
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class HeadTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            logits = model(inputs["input_ids"], inputs["attention_mask"])
            loss = scored_loss(logits, inputs["targets"])
            return (loss, logits) if return_outputs else loss

    arguments = TrainingArguments(
        output_dir=str(work),
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,
        seed=seed,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    trainer = HeadTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collate_scored,
        callbacks=[log] if log is not None else [],
        optimizers=(optimiser_for(model, settings), None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
