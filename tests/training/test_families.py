"""Sampling, scoring, resuming and adapters over tiny random models of the families that people train."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_models import WORDS, word_tokenizer
from small_trainer import LikesPlus

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.config import CriticConfig, TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer

pytestmark = pytest.mark.slow

_SMALL = {
    "vocab_size": len(WORDS) + 3, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": None,
    "eos_token_id": 1, "pad_token_id": 0, "initializer_range": 0.3,
}  # fmt: skip
_HEADS = {**_SMALL, "head_dim": 8}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", _SMALL),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _SMALL),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", _HEADS),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**_HEADS, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "gpt2": (
        "GPT2Config", "GPT2LMHeadModel",
        {"vocab_size": len(WORDS) + 3, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128,
         "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": 1},
    ),
    "opt": (
        "OPTConfig", "OPTForCausalLM",
        {"vocab_size": len(WORDS) + 3, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 128, "word_embed_proj_dim": 32, "init_std": 0.3,
         "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0},
    ),
    "phi": ("PhiConfig", "PhiForCausalLM", _SMALL),
    "sliding mistral": ("MistralConfig", "MistralForCausalLM", {**_SMALL, "sliding_window": 8}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**_SMALL, **_EXPERTS}),
    "qwen3-moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", {**_HEADS, **_EXPERTS}),
}  # fmt: skip

MIXED_LENGTHS = ["3 5", "3 5 7 9 get 21 : 3 + 5", "1 2 3 4 5 6 7 8 9 get 9 :", "2"]


def policy_of(family: str) -> TransformersPolicy:
    torch.manual_seed(0)
    config, model, settings = FAMILIES[family]
    made = getattr(transformers, model)(getattr(transformers, config)(**settings))
    return TransformersPolicy(made.eval(), word_tokenizer(WORDS, pad_token="<pad>"), max_new_tokens=5, device="cpu")


def trainer_of(policy: TransformersPolicy, out: Path, *, lora: Any = None, **settings: Any) -> TurnPPOTrainer:
    chosen: dict[str, Any] = {"steps": 2, "problems_per_step": 4, "episodes_per_problem": 4, "learning_rate": 1e-3}
    problems = [Problem(id=text, prompt=text, reference=None, checker="none") for text in MIXED_LENGTHS * 2]
    judged: Any = CheckerRewards(StageTwo(), LikesPlus())
    return TurnPPOTrainer(
        policy,
        build_graph(policy, prompts=COUNTDOWN),
        problems,
        lambda batch: judged,
        TurnPPOConfig(**(chosen | {"output_dir": out, "save_every": 1} | settings)),
        peft_config=lora,
        shuffled=True,
    )


def weights(trainer: TurnPPOTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_sampled_is_scored_as_it_was_sampled(family: str, tmp_path: Path) -> None:
    """With prompts of mixed length, the first update of on-policy episodes sees ratios of 1."""
    trainer = trainer_of(policy_of(family), tmp_path, steps=1, save_every=0)
    trainer.train()
    steps = [row for row in trainer.state.log_history if "ratio_deviation" in row]
    assert steps[0]["ratio_deviation"] < 1e-4 and steps[0]["kl_t1"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(family: str, tmp_path: Path) -> None:
    whole = trainer_of(policy_of(family), tmp_path)
    whole.train()
    again = trainer_of(policy_of(family), tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    torch.testing.assert_close(weights(again), weights(whole), rtol=0, atol=1e-6)


# PEFT says that it mends GPT-2's transposed layers, and that it leaves the stacked experts of a mixture alone.
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_alone_are_trained(family: str, tmp_path: Path) -> None:
    from peft import LoraConfig

    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    trainer = trainer_of(policy_of(family), tmp_path, steps=1, save_every=0, lora=lora, learning_rate=1e-2)
    before = weights(trainer)
    trainer.train()
    changed = {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert changed and all("lora_" in name for name in changed)
    assert next(row for row in trainer.state.log_history if "kl_t1" in row)["kl_t1"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "qwen3-moe"])
def test_a_critic_sees_the_hidden_states_that_the_model_gives(family: str, tmp_path: Path) -> None:
    trainer = trainer_of(policy_of(family), tmp_path, steps=1, save_every=0, critic=CriticConfig(), score_rows=3)
    trainer.train()
    assert any("value_loss" in row for row in trainer.state.log_history)


def test_an_adapters_dropout_works_and_leaves_the_scores_of_the_reference_alone(tmp_path: Path) -> None:
    from peft import LoraConfig

    deviations = {}
    for dropout in (0.0, 0.5):
        lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", lora_dropout=dropout)
        trainer = trainer_of(
            policy_of("llama"), tmp_path / str(dropout), lora=lora, learning_rate=0.1, minibatches=2, save_every=0
        )
        trainer.train()
        deviations[dropout] = weights(trainer)
    assert any(not torch.equal(value, deviations[0.5][name]) for name, value in deviations[0.0].items())


def test_the_dropout_of_the_model_itself_is_off(tmp_path: Path) -> None:
    policy = policy_of("opt")
    assert policy.model.config.dropout > 0
    trainer_of(policy, tmp_path)
    shares = [getattr(module, name, 0.0) for module in policy.model.modules() for name in ("dropout", "p")]
    assert not any(isinstance(share, float) and share > 0 for share in shares)
