"""The trainer on TRL: what moves, what stays, and that TRL's seams are where we hold them."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainer import LikesPlus, trainer_on, weights
from trl import GRPOTrainer

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.errors import ConfigurationError, DivergenceError, PolicyError, TrainingError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.ppo.config import CriticConfig, TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageOne, StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer


@pytest.mark.slow
def test_a_few_batches_raise_the_reward(tiny_model_folder: Path, tmp_path: Path) -> None:
    trainer, log = trainer_on(
        tiny_model_folder, tmp_path, steps=25, problems_per_step=8, episodes_per_problem=8, learning_rate=1e-2
    )
    trainer.train()
    first = sum(step["accuracy_t1"] for step in log.steps[:3]) / 3
    last = sum(step["accuracy_t1"] for step in log.steps[-3:]) / 3
    assert last > first + 0.2


def test_the_policy_that_plays_is_the_one_that_learns(tiny_model_folder: Path, tmp_path: Path) -> None:
    """On-policy, the recorded log-probabilities are those of the trainer: the ratio does not leave 1."""
    trainer, log = trainer_on(tiny_model_folder, tmp_path, steps=3)
    trainer.train()
    assert all(step["ratio_deviation"] < 1e-4 for step in log.steps)
    assert all(step["clipped"] == 0 for step in log.steps)


def test_several_epochs_and_minibatches_move_the_ratio_and_log_the_clip(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    trainer, log = trainer_on(tiny_model_folder, tmp_path, ppo_epochs=3, minibatches=2, learning_rate=2e-2, clip=0.05)
    trainer.train()
    assert len(log.steps) == 2
    assert trainer.state.global_step == 12
    assert log.steps[-1]["ratio_deviation"] > 1e-3
    assert log.steps[-1]["clipped"] > 0


def test_nothing_is_learnt_from_unjudged_answers(tiny_model_folder: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class NeverKnows(LikesPlus):
        def check_sync(self, response: str, reference: Any) -> Verdict:
            return Verdict(Status.UNJUDGED)

    trainer, log = trainer_on(tiny_model_folder, tmp_path, checker=NeverKnows())
    before = weights(trainer)
    trainer.train()
    assert log.steps[0]["unjudged"] == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(trainer).items())


def test_equal_rewards_teach_nothing_but_the_kl(tiny_model_folder: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class AlwaysRight(LikesPlus):
        def check_sync(self, response: str, reference: Any) -> Verdict:
            return Verdict(Status.CORRECT)

    trainer, log = trainer_on(tiny_model_folder, tmp_path, checker=AlwaysRight(), kl_over="token")
    before = weights(trainer)
    trainer.train()
    assert log.steps[0]["no_spread"] == 1
    moved = max(float((before[name] - tensor).abs().max()) for name, tensor in weights(trainer).items())
    assert moved < 5e-3  # Adam turns rounding noise in the KL term into steps of its learning rate, and no more


@pytest.mark.slow
def test_a_strong_first_turn_anchor_keeps_the_first_turn_at_the_reference(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    shared = {"steps": 12, "problems_per_step": 8, "learning_rate": 1e-2}
    free, free_log = trainer_on(
        tiny_model_folder, tmp_path / "free", objective=StageOne(beta1=0.0, beta2=1e-6), **shared
    )
    held, held_log = trainer_on(
        tiny_model_folder, tmp_path / "held", objective=StageOne(beta1=0.0, beta2=3.0), **shared
    )
    free.train()
    held.train()
    last = lambda log: sum(step["kl_t1"] for step in log.steps[-4:])
    assert last(held_log) < 0.6 * last(free_log)


@pytest.mark.slow
def test_an_adapter_learns_and_its_base_is_the_reference(tiny_model_folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    trainer, log = trainer_on(tiny_model_folder, tmp_path, peft_config=lora, learning_rate=3e-2, steps=3)
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("lora_" in name for name in changed)
    # k1 of the samples: near 0 for the base itself, of either sign for a policy that has moved
    assert abs(log.steps[0]["kl_t1"]) < 1e-6 < abs(log.steps[-1]["kl_t1"])
    assert trainer.ref_model is None


def test_the_reference_is_the_policy_as_it_was_given_not_what_its_name_says(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model_folder), max_new_tokens=5)
    with torch.no_grad():
        policy.model.model.embed_tokens.weight.mul_(1.5)
    trainer = TurnPPOTrainer(
        policy,
        build_graph(policy, prompts=COUNTDOWN),
        CountdownTask(3).problems("train", 8),
        lambda batch: CheckerRewards(StageTwo(), LikesPlus()),
        TurnPPOConfig(output_dir=tmp_path, steps=1, problems_per_step=4, episodes_per_problem=2),
    )
    assert torch.equal(trainer.ref_model.model.embed_tokens.weight, policy.model.model.embed_tokens.weight)
    assert trainer.ref_model is not policy.model


def test_a_missing_reference_is_an_error_not_the_base_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="reference model"):
        trainer_on(tiny_model_folder, tmp_path, reference=tmp_path / "no-such-folder")


@pytest.mark.slow
def test_a_critic_takes_the_place_of_the_baseline(tiny_model_folder: Path, tmp_path: Path) -> None:
    trainer, log = trainer_on(
        tiny_model_folder,
        tmp_path,
        steps=25,
        problems_per_step=32,
        episodes_per_problem=2,
        learning_rate=1e-2,
        critic=CriticConfig(learning_rate=1e-2),
        save_every=25,
    )
    trainer.train()
    assert log.steps[-1]["value_loss"] < log.steps[0]["value_loss"]
    assert log.steps[-1]["accuracy_t1"] > log.steps[0]["accuracy_t1"] + 0.2
    assert (tmp_path / "checkpoint-25" / "critic.pt").exists()


def test_a_loss_that_is_not_a_number_stops_the_run(tiny_model_folder: Path, tmp_path: Path) -> None:
    trainer, _ = trainer_on(tiny_model_folder, tmp_path, objective=StageTwo(alpha=float("inf"), beta1=0.0))
    with pytest.raises(DivergenceError, match="step 1"):
        trainer.train()


def test_fewer_problems_than_a_batch_are_an_error_not_an_empty_run(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="32 problems are fewer than one batch of 64"):
        trainer_on(tiny_model_folder, tmp_path, problems_per_step=64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episodes_per_problem": 1}, "at least 2"),
        ({"minibatches": 3}, "must divide problems_per_step x episodes_per_problem = 256, got 3 x 1"),
        ({"temperature": 0.0}, "temperature: expected greater than 0"),
        ({"steps": 0}, "steps: expected greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TurnPPOConfig(**({"output_dir": tmp_path, "steps": 1} | settings))


@pytest.mark.parametrize(("setting", "value"), [("best", {}), ("evaluate_every", 2), ("stop_after_minutes", 9)])
def test_what_only_runs_do_is_refused_by_the_bare_trainer(
    setting: str, value: Any, tiny_model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting} has no effect in a TurnPPOTrainer of one's own"):
        trainer_on(tiny_model_folder, tmp_path, **{setting: value})


def test_trl_still_has_the_seams_we_hold() -> None:
    """If a TRL release moves one of these, training would silently be TRL's own. Read its changes before editing
    this test."""
    seams = {
        "_generate_and_score_completions": ["self", "inputs"],
        "_compute_loss": ["self", "model", "inputs"],
        "_prepare_inputs": ["self", "generation_batch"],
        "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    }
    for name, parameters in seams.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters
    source = inspect.getsource(GRPOTrainer)
    for name in ("self._generate_and_score_completions(", "self._compute_loss(", "current_gradient_accumulation_steps"):
        assert name in source
