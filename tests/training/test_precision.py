"""bfloat16 checkpoints learn as float32 ones do."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trainer import trainer_of
from torch import Tensor

from selfcorrect.agents.policies import transformers as transformers_policy
from selfcorrect.agents.policies.adapters import merged, stochastically_rounded
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.arms.supervised.fine_tuning import Tuning, fine_tune, sft_trainer
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.precision import StochasticAdamW, placed, prepare_weights
from selfcorrect.training.runs.opening import chosen_lora, open_policy
from selfcorrect.training.settings import LoraSettings, PolicySettings
from selfcorrect.training.vstar import fits
from selfcorrect.training.vstar.preference import dpo_config
from selfcorrect.training.vstar.settings import PreferenceSettings

pytestmark = pytest.mark.slow

RATE = 5e-6
"""At which a bfloat16 weight is moved by less than half the distance to its neighbour."""


@pytest.fixture(scope="module")
def bf16_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bf16")
    saved = TransformersPolicy.from_pretrained(tiny_model_folder, dtype=torch.bfloat16)
    saved.model.save_pretrained(folder)
    saved.tokenizer.save_pretrained(folder)
    return folder


def weights_of(model: Any) -> Tensor:
    return torch.cat([parameter.detach().float().reshape(-1) for parameter in model.parameters()]).clone()


def in_float32(folder: Path) -> TransformersPolicy:
    return TransformersPolicy.from_pretrained(folder, dtype=torch.float32, max_new_tokens=5)


def moved_by_ppo(policy: TransformersPolicy, out: Path, **changes: Any) -> Tensor:
    before = weights_of(policy.model)
    trainer, _ = trainer_of(policy, out, learning_rate=RATE, adam_beta2=0.9, **changes)
    trainer.train()
    return weights_of(trainer.accelerator.unwrap_model(trainer.model)) - before


def test_a_bf16_checkpoint_moves_as_far_as_float32_does(bf16_folder: Path, tmp_path: Path) -> None:
    exact = moved_by_ppo(
        TransformersPolicy.from_pretrained(bf16_folder, dtype=torch.float32, max_new_tokens=5), tmp_path / "a"
    )
    saved = TransformersPolicy.from_pretrained(bf16_folder, max_new_tokens=5)
    assert saved.model.dtype is torch.bfloat16
    moved = moved_by_ppo(saved, tmp_path / "b")
    assert float((moved != 0).float().mean()) > 0.99
    assert float(moved.abs().mean()) == pytest.approx(float(exact.abs().mean()), rel=0.2)


def test_computing_in_bf16_moves_float32_weights_as_far(bf16_folder: Path, tmp_path: Path) -> None:
    """The path of accelerators, tried on the CPU: float32 weights, sampled and scored under autocast."""
    exact = moved_by_ppo(
        TransformersPolicy.from_pretrained(bf16_folder, dtype=torch.float32, max_new_tokens=5), tmp_path / "a"
    )
    policy = open_policy(PolicySettings(model=str(bf16_folder), dtype="bfloat16", max_new_tokens=5))
    assert policy.model.dtype is torch.float32 and policy.compute_dtype is torch.bfloat16
    moved = moved_by_ppo(policy, tmp_path / "b")
    assert float((moved != 0).float().mean()) > 0.99
    assert float(moved.abs().mean()) == pytest.approx(float(exact.abs().mean()), rel=0.2)


def test_pure_bf16_moves_as_far_on_average_and_only_with_its_own_optimiser(bf16_folder: Path, tmp_path: Path) -> None:
    """Rounded by chance, a weight jumps a whole step now and then: it is the sum over many that is right."""
    weights = torch.linspace(0.5, 1.0, 20_000)

    def moved(optimiser: Any, parameter: torch.nn.Parameter) -> float:
        for _ in range(20):
            parameter.grad = torch.ones_like(parameter)
            optimiser.step()
        return float((parameter.detach().float() - weights.bfloat16().float()).mean())

    mine = torch.nn.Parameter(weights.bfloat16())
    usual = torch.nn.Parameter(weights.bfloat16())
    assert moved(StochasticAdamW([mine], 1e-4, betas=(0.9, 0.999)), mine) == pytest.approx(-20 * 1e-4, rel=0.1)
    assert moved(torch.optim.AdamW([usual], 1e-4, weight_decay=0.0), usual) == 0.0
    policy = TransformersPolicy.from_pretrained(bf16_folder, max_new_tokens=5)
    changed = moved_by_ppo(policy, tmp_path, pure_bf16=True)
    assert policy.model.dtype is torch.bfloat16 and bool((changed != 0).any())


def test_the_supervised_arms_move_a_bf16_checkpoint_as_far(bf16_folder: Path, tmp_path: Path) -> None:
    examples = [Example("a", "correct", (5, 6, 7), (8, 9, 1), None, "")]
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        policy = TransformersPolicy.from_pretrained(bf16_folder, dtype=dtype)
        before = weights_of(policy.model)
        fine_tune(policy, examples, Tuning(6, 2, RATE), seed=0, folder=tmp_path / str(dtype))
        moved[dtype] = float((weights_of(policy.model) - before).abs().mean())
    assert moved[torch.bfloat16] == pytest.approx(moved[torch.float32], rel=0.2) and moved[torch.float32] > 0


def test_adapters_are_float32_on_a_bf16_base(bf16_folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    settings = PolicySettings(
        model=str(bf16_folder), dtype="bfloat16", max_new_tokens=5, lora=LoraSettings(rank=2, target_modules=["q_proj"])
    )
    policy = open_policy(settings)
    trainer, _ = trainer_of(policy, tmp_path, learning_rate=1e-2, peft_config=lora)
    trainer.train()
    dtypes = {"lora" in name: parameter.dtype for name, parameter in trainer.model.named_parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    assert any(bool(value.abs().sum() > 0) for name, value in trainer.model.named_parameters() if "lora_B" in name)


def test_float16_is_refused_for_training(tiny_model_folder: Path) -> None:
    policy = TransformersPolicy.from_pretrained(tiny_model_folder, dtype=torch.float16)
    with pytest.raises(ConfigurationError, match="loss scaled"):
        prepare_weights(policy)
    with pytest.raises(ConfigurationError, match="an adapter is small"):
        prepare_weights(TransformersPolicy.from_pretrained(tiny_model_folder), adapter=True, pure_bf16=True)


@given(value=st.floats(-(2.0**99), 2.0**99, width=32), seed=st.integers(0, 2**31))
def test_a_rounded_number_is_one_of_its_two_neighbours(value: float, seed: int) -> None:
    rounded = stochastically_rounded(torch.full((32,), value), torch.Generator().manual_seed(seed)).float()
    below = torch.tensor(value).view(torch.int32) & -65536
    neighbours = {float(below.view(torch.float32)), float((below + 65536).view(torch.float32))}
    exact = float(below.view(torch.float32)) == value
    assert set(rounded.tolist()) <= ({value} if exact else neighbours)


def test_rounding_by_chance_is_right_on_average() -> None:
    count, value = 100_000, 1.0 + 2**-7 * 0.3
    rounded = stochastically_rounded(torch.full((count,), value), torch.Generator().manual_seed(0)).float()
    error = 2**-7 * math.sqrt(0.3 * 0.7 / count)
    assert abs(float(rounded.mean()) - value) < 5 * error


def test_on_float32_weights_it_is_adamw() -> None:
    mine, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    ours = StochasticAdamW([mine], 1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    usual = torch.optim.AdamW([theirs], 1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(5):
        for parameter, optimiser in ((mine, ours), (theirs, usual)):
            parameter.grad = torch.linspace(0, 1, 7) ** (step + 1) - 0.5
            optimiser.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


def test_adapters_are_chosen_by_the_size_of_the_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig

    assert chosen_lora(PolicySettings(model=str(tiny_model_folder))) is None
    large = AutoConfig.from_pretrained(tiny_model_folder, hidden_size=8192, intermediate_size=32768)
    large.save_pretrained(tmp_path)
    assert chosen_lora(PolicySettings(model=str(tmp_path))) == LoraSettings()
    assert chosen_lora(PolicySettings(model=str(tmp_path), lora=None)) is None


def test_an_adapter_that_adds_little_is_not_lost_when_it_is_merged_into_bf16(bf16_folder: Path) -> None:
    """It adds a tenth of the distance between neighbours to every weight: rounded to the nearest that is nothing."""
    from peft import LoraConfig, get_peft_model

    base = TransformersPolicy.from_pretrained(bf16_folder).model
    before = base.model.layers[0].self_attn.q_proj.weight.detach().float().clone()
    adapted = get_peft_model(base, LoraConfig(r=1, lora_alpha=1, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    step = float(before.abs().median()) * 2**-8 / 10
    for layer in adapted.base_model.model.model.layers:
        with torch.no_grad():
            layer.self_attn.q_proj.lora_A["default"].weight.fill_(1.0)
            layer.self_attn.q_proj.lora_B["default"].weight.fill_(step)
    assert adapted.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"].weight.dtype is torch.float32
    plain = merged(adapted, seed=0)
    after = plain.model.layers[0].self_attn.q_proj.weight
    assert after.dtype is torch.bfloat16 and not any("lora" in name for name in plain.state_dict())
    added = after.detach().float() - before
    spread = float(added.std()) / math.sqrt(added.numel())
    assert float(added.mean()) == pytest.approx(step, abs=4 * spread) and step > 8 * spread / 2


# Where it learns. `meta` stands for accelerators that are not here: transformers would choose another device by itself.


def test_a_trainer_works_on_the_accelerator_that_was_named(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = torch.device("meta", 1)
    monkeypatch.setattr(TransformersPolicy, "training_device", property(lambda policy: second))
    trainer, _ = trainer_of(TransformersPolicy.from_pretrained(tiny_model_folder), tmp_path)
    assert (trainer.accelerator.device, trainer.args.device, trainer.args.n_gpu) == (second, second, 1)
    assert next(trainer.model.parameters()).device.type == "meta"
    tuned = sft_trainer(
        TransformersPolicy.from_pretrained(tiny_model_folder),
        [Example("one", "gold", (3, 4), (5,), None, "5")],
        Tuning(steps=1, batch_size=1, learning_rate=1e-3),
        seed=0,
        folder=tmp_path,
    )
    assert (tuned.accelerator.device, tuned.args.device, tuned.args.n_gpu) == (second, second, 1)


def test_trainers_that_load_their_model_work_there_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fits, "choose_device", torch.device)
    make = partial(dpo_config, PreferenceSettings(), tmp_path, 0)
    assert fits.placed_arguments(make, "meta:1", "float32").device == torch.device("meta", 1)
    assert fits.placed_arguments(make, "cpu", "float32").use_cpu


def test_a_process_that_sees_several_accelerators_takes_one(tmp_path: Path) -> None:
    """Its model would else be spread over them, which TRL refuses."""
    arguments = TurnPPOConfig(output_dir=tmp_path, steps=1).to_trl()
    arguments._n_gpu = 2
    assert placed(arguments, torch.device("meta", 0)).n_gpu == 1


def test_of_several_processes_none_can_be_sent_elsewhere(tmp_path: Path) -> None:
    mine, words = (
        torch.device("meta", 0),
        "names one accelerator, and every process trains on its own, this one on meta:0",
    )
    arguments: Any = SimpleNamespace(parallel_mode=SimpleNamespace(value="distributed"), device=mine)
    assert placed(arguments, mine) is arguments
    with pytest.raises(ConfigurationError, match=words):
        placed(arguments, torch.device("meta", 1))


def test_a_policy_learns_where_it_was_put(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = TransformersPolicy.from_pretrained(tiny_model_folder, device="cpu")
    given = TransformersPolicy(put.model, put.tokenizer)
    monkeypatch.setattr(transformers_policy, "choose_device", lambda name: "meta" if name == "auto" else name)
    assert put.training_device.type == "cpu", "there it stays"
    assert str(given.training_device) == "meta", "where the accelerator is"
