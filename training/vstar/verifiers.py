"""From labelled answers to verifiers of each kind, calibrated on problems that nothing was trained on."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from selfcorrect.agents.choosing.best_of_k import pick_best
from selfcorrect.agents.choosing.sample_pool import Sample, by_problem
from selfcorrect.devices import choose_device
from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifiers.base import ModelVerifier, context_of, padded
from selfcorrect.rewards.verifiers.encoding import Encoded, ResponseEncoder, Wording, tokenizer_fingerprint
from selfcorrect.rewards.verifiers.folder import Calibration, VerifierCard, write_calibration
from selfcorrect.rewards.verifiers.kinds import ClassifierVerifier, ScoringModel, StepwiseVerifier
from selfcorrect.training.engines import LoraSettings
from selfcorrect.training.passes import WholeSteps, passes_arguments
from selfcorrect.training.runs.opening import lora_config
from selfcorrect.training.vstar.fits import (
    Labelled,
    StepLog,
    optimiser_for,
    outcome_labels,
    placed_arguments,
    preference_pairs,
    refuse_divergence,
    step_labels,
    weights_dtype,
)
from selfcorrect.training.vstar.preference import train_likelihood
from selfcorrect.training.vstar.probing import fit_head, hidden_states
from selfcorrect.training.vstar.settings import HeadSettings, Kind, VstarSettings

# The verifiers with a head: an outcome for every answer (ORM), a success frequency for every step (PRM).

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
    lora: LoraSettings | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> ClassifierVerifier | StepwiseVerifier:
    """A verifier whose logits fit the targets of `answers`, by binary cross-entropy.

    Args:
        kind: "classifier" reads one target per answer, "stepwise" one per step.
        base: folder or id of the model whose body it starts from.
        answers: see `outcome_labels` and `step_labels`.
        settings: of the fit.
        wording: how problems are shown, and what separates steps.
        work: a folder for the trainer's own files.
        seed: of the order and of dropout.
        log: told of the steps.
        lora: adapters that learn instead of all weights of the body.
        device, dtype: where it learns, and what it computes in, as in `policy`.

    Raises:
        TrainingError: none of `answers` can be read.
        DivergenceError: the loss or a weight is no longer finite.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    frozen = settings.body == "frozen"
    causal = AutoModelForCausalLM.from_pretrained(base, dtype=weights_dtype(frozen or lora is not None, device, dtype))
    model = ScoringModel(causal.base_model)
    rows = head_rows(kind, answers, ResponseEncoder(tokenizer, wording, longest=context_of(causal)))
    fitted = {} if settings.body == "with_head" else _fit_head(model, rows, choose_device(device))
    if not frozen:
        model.body = _adapted(model.body, lora)
        model.head.requires_grad_(settings.body == "with_head")
        _fit(model, rows, settings, log, placed_arguments(partial(_arguments, settings, work, seed), device, dtype))
        refuse_divergence(model)
    card = VerifierCard(
        kind=kind,
        base=str(base) if frozen else "",
        dtype=dtype,
        tokenizer=tokenizer_fingerprint(tokenizer),
        wording=wording,
        reduction=settings.reduction,
        trained={
            "answers": len(rows), **settings.model_dump(), **fitted, "lora": lora and lora.model_dump(), "seed": seed
        },
    )  # fmt: skip
    made = ClassifierVerifier if kind == "classifier" else StepwiseVerifier
    return made(model.eval(), tokenizer, card)


def _fit_head(model: ScoringModel, rows: Sequence[Row], place: torch.device) -> dict[str, float]:
    """Fit the head to the body as it is; what is to be told of it."""
    model.to(place)
    states = hidden_states(model, [row["ids"] for row in rows], [row["places"] for row in rows])
    targets = [aim for row in rows for aim in row["targets"]]
    problems = [row["problem"] for row in rows for _ in row["targets"]]
    found = fit_head(torch.cat(states).double().numpy(), np.asarray(targets, dtype=np.float64), problems)
    found.put_into(model.head)
    return {"head_penalty": found.penalty, "head_held_out_loss": found.held_out_loss}


def _adapted(body: Any, lora: LoraSettings | None) -> Any:
    if lora is None:
        return body
    from peft import get_peft_model

    return get_peft_model(body, lora_config(lora, task=None))


def head_rows(kind: str, answers: Sequence[Labelled], encoder: ResponseEncoder) -> list[Row]:
    """Token ids, the places that are scored and their targets; answers that cannot be read are left out.

    Raises:
        TrainingError: none is left.
    """
    encode = encoder.whole if kind == "classifier" else encoder.stepwise
    encoded = [(encode(answer.prompt, answer.response), answer) for answer in answers]
    rows = [
        {"ids": one.ids, "places": _places(kind, one), "targets": list(answer.targets), "problem": answer.prompt}
        for one, answer in encoded
        if one is not None
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


def _arguments(settings: HeadSettings, work: Path, seed: int, **placing: bool) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(work),
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        **passes_arguments(settings.batch, settings.micro_batch),
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,
        seed=seed,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        **placing,
    )


def _fit(
    model: ScoringModel,
    rows: list[Row],
    settings: HeadSettings,
    log: StepLog | None,
    arguments: Any,
) -> None:
    from transformers import PrinterCallback, Trainer

    class HeadTrainer(WholeSteps, Trainer):  # type: ignore[misc]  # transformers is untyped here
        def counted(self, inputs: Any) -> Any:
            return (~inputs["targets"].isnan()).sum()

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            logits = model(inputs["input_ids"], inputs["attention_mask"])
            loss = self.weighed(scored_loss(logits, inputs["targets"]), inputs)
            return (loss, logits) if return_outputs else loss

    trainer = HeadTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collate_scored,
        callbacks=[log] if log is not None else [],
        optimizers=(optimiser_for(model, settings, list(model.head.parameters())), None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    # without the trainer's autocast, which is not there when the folder is read
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


Answers = Sequence[tuple[float, bool]]
"""(score, correct) of answers."""


def train_verifier(
    kind: Kind,
    base: str | Path,
    samples: Sequence[Sample],
    settings: VstarSettings,
    *,
    wording: Wording,
    work: Path,
    seed: int,
    log: StepLog | None = None,
    lora: LoraSettings | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> ModelVerifier:
    """A verifier of `kind` that starts from `base` and learns from the labelled answers of all rounds; not calibrated
    yet.

    Raises:
        TrainingError: `samples` hold no right or no wrong answers.
        DivergenceError: the fit went wrong.
    """
    seen = _different(samples)
    how: dict[str, Any] = {
        "wording": wording, "work": work, "seed": seed, "log": log, "lora": lora, "device": device, "dtype": dtype
    }  # fmt: skip
    if kind == "likelihood":
        pairs = preference_pairs(seen, per_problem=settings.likelihood.pairs_per_problem, seed=seed)
        return train_likelihood(base, pairs, settings.likelihood, **how)
    if kind == "classifier":
        labels, fit = outcome_labels(seen), settings.classifier
    else:
        # all samples, not only the different ones: how often a text came is what the frequencies count
        labels, fit = step_labels(samples, separator=wording.separator), settings.stepwise
    return train_head(kind, base, labels, fit, **how)


def calibrate(verifier: ModelVerifier, samples: Sequence[Sample], folder: Path, *, temperature: float) -> None:
    """Calibrate on fresh answers and save the verifier to `folder`, with what thresholds are chosen from.

    The first fifth of the problems fits the probabilities, or as many more, up to half, as it takes to have right and
    wrong answers. The others, which that fit has not seen, are kept in the folder: the first answer to each problem
    ("attempt"), and the best-scored of all ("best_of_K"), with their scores and outcomes. All were sampled at
    `temperature`.

    Raises:
        TrainingError: there are fewer than five problems; or half of them hold no right or no wrong answers.
    """
    problems = by_problem(one for one in samples if one.correct is not None)
    if len(problems) < 5:
        raise TrainingError(
            f"a verifier is calibrated on at least 5 problems, got {len(problems)}: raise vstar.calibration_problems"
        )
    begin = _fitting(problems)
    fitting = [one for group in problems[:begin] for one in group]
    verifier.calibrate([(one.prompt, one.text) for one in fitting], [bool(one.correct) for one in fitting])
    verifier.save(folder)
    write_calibration(folder, Calibration(temperature, chosen_answers(verifier, problems[begin:])))


def _fitting(problems: Sequence[Sequence[Sample]]) -> int:
    """How many of the first problems fit the probabilities."""
    for begin in range(len(problems) // 5, len(problems) // 2 + 1):
        if len({bool(one.correct) for group in problems[:begin] for one in group}) == 2:
            return begin
    said = "right" if any(one.correct for one in problems[0]) else "wrong"
    raise TrainingError(
        f"a verifier is calibrated on right and wrong answers, and all {said} are those to the first "
        f"{len(problems) // 2} of {len(problems)} calibration problems: raise vstar.calibration_problems or "
        "vstar.calibration_samples"
    )


def chosen_answers(verifier: ModelVerifier, problems: Sequence[Sequence[Sample]]) -> dict[str, Answers]:
    """(score, correct) of the first and of the best-scored answer to each problem; problems without any score are
    left out."""
    scored = verifier.score_all([(one.prompt, one.text) for group in problems for one in group])
    rest = iter(scored)
    groups = [[next(rest) for _ in group] for group in problems]
    first: list[tuple[float, bool]] = []
    best: list[tuple[float, bool]] = []
    for group, scores in zip(problems, groups, strict=True):
        for kept, chosen in ((first, 0), (best, pick_best(scores))):
            score = scores[chosen]
            if score is not None:
                kept.append((score, bool(group[chosen].correct)))
    sizes = {len(group) for group in problems}
    return {"attempt": first, f"best_of_{max(sizes)}": best} if max(sizes) > 1 else {"attempt": first}


def _different(samples: Sequence[Sample]) -> list[Sample]:
    """Every different text of a problem once."""
    return list({(one.prompt, one.text): replace(one, tokens=0) for one in samples}.values())
