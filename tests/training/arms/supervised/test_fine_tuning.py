"""What the loss of fine-tuning is, by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.arms.supervised.fine_tuning import Tuning, fine_tune, sft_trainer
from selfcorrect.training.passes import passes_arguments
from selfcorrect.training.runs.opening import lora_config
from selfcorrect.training.settings import LoraSettings

EXAMPLES = [
    Example("a", "correct", (5, 6, 7), (8, 9, 1), None, ""),
    Example("b", "incorrect to correct", (5, 6, 7, 20, 1, 211, 209), (30, 1), "", ""),
    Example("c", "correct", (11,), (12, 13, 14, 15, 1), None, ""),
]
TUNING = Tuning(steps=4, batch_size=2, learning_rate=1e-2)


def cross_entropy_by_hand(model: Any, examples: list[Example]) -> torch.Tensor:
    """Minus the mean log-probability of the answers' tokens, one example and one token at a time."""
    total, count = torch.zeros(()), 0
    for example in examples:
        ids = [*example.context_ids, *example.answer_ids]
        logprobs_TV = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        for position in range(len(example.context_ids), len(ids)):
            total = total - logprobs_TV[position - 1, ids[position]]
            count += 1
    return total / count


def test_the_loss_is_the_cross_entropy_of_the_answers_tokens_alone(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = TransformersPolicy.from_pretrained(tiny_model_folder)
    expected = cross_entropy_by_hand(policy.model, EXAMPLES)
    expected_gradients = torch.autograd.grad(expected, list(policy.model.parameters()))
    trainer = sft_trainer(policy, EXAMPLES, TUNING, seed=0, folder=tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(3)])
    loss = trainer.compute_loss(trainer.model, batch)
    torch.testing.assert_close(loss.detach(), expected.detach())
    gradients = torch.autograd.grad(loss, list(policy.model.parameters()))
    for found, hoped in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, hoped, atol=1e-6, rtol=1e-4)


def test_what_is_shown_is_never_learnt(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = TransformersPolicy.from_pretrained(tiny_model_folder)
    trainer = sft_trainer(policy, EXAMPLES, TUNING, seed=0, folder=tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(3)])
    for example, ids, labels in zip(EXAMPLES, batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        shown, learnt = len(example.context_ids), len(example.answer_ids)
        assert tuple(ids[: shown + learnt]) == example.context_ids + example.answer_ids
        assert labels == [-100] * shown + list(example.answer_ids) + [-100] * (len(ids) - shown - learnt)


@pytest.mark.slow
def test_a_step_in_several_passes_is_the_step_of_the_whole_batch(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Of answers of different lengths, and of a last step with fewer examples."""

    def learnt(micro_batch: int | None) -> dict[str, torch.Tensor]:
        policy = TransformersPolicy.from_pretrained(tiny_model_folder)
        tuning = Tuning(steps=6, batch_size=2, learning_rate=1e-2, micro_batch=micro_batch)
        fine_tune(policy, EXAMPLES, tuning, seed=0, folder=tmp_path)
        return dict(policy.model.state_dict())

    torch.testing.assert_close(learnt(1), learnt(None), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("batch", "micro_batch", "processes", "rows", "passes"),
    [(32, 8, 1, 8, 4), (32, None, 1, 32, 1), (4, 8, 1, 4, 1), (13, 8, 1, 1, 13), (12, 8, 1, 6, 2), (32, 8, 4, 8, 1)],
)
def test_a_batch_is_read_in_equal_parts_that_are_small_enough(
    batch: int, micro_batch: int | None, processes: int, rows: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    found = passes_arguments(batch, micro_batch)
    assert found == {"per_device_train_batch_size": rows, "gradient_accumulation_steps": passes}
    assert rows * passes * processes == batch


@pytest.mark.slow
def test_fine_tuning_takes_exactly_the_steps_it_is_told_and_saves_what_it_learnt(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    policy = TransformersPolicy.from_pretrained(tiny_model_folder)
    before = float(cross_entropy_by_hand(policy.model, EXAMPLES).detach())
    trainer = sft_trainer(policy, EXAMPLES, TUNING, seed=0, folder=tmp_path / "not-saved")
    trainer.train()
    assert trainer.state.global_step == 4

    policy = TransformersPolicy.from_pretrained(tiny_model_folder)
    figures = fine_tune(policy, EXAMPLES, Tuning(20, 4, 1e-2), seed=0, folder=tmp_path / "saved")
    learnt = TransformersPolicy.from_pretrained(tmp_path / "saved")
    assert float(cross_entropy_by_hand(learnt.model, EXAMPLES).detach()) < before / 2
    assert figures["sft_loss"] < figures["sft_loss_first"]


def test_an_adapter_is_learnt_alone_and_merged_into_what_is_saved(tiny_model_folder: Path, tmp_path: Path) -> None:
    adapter = lora_config(LoraSettings(rank=4))
    policy = TransformersPolicy.from_pretrained(tiny_model_folder)
    fine_tune(policy, EXAMPLES, Tuning(5, 4, 1e-2), seed=0, folder=tmp_path, peft_config=adapter)
    before = TransformersPolicy.from_pretrained(tiny_model_folder).model.state_dict()
    after = TransformersPolicy.from_pretrained(tmp_path).model.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)
