"""Where a model runs, and in what: chosen by itself, or as asked, or told that it is not there."""

import asyncio
from pathlib import Path

import pytest
import torch
from small_models import WORDS, llama, word_tokenizer

from selfcorrect import devices
from selfcorrect.agents.policies.pretrained import decoding_attention, free_bytes
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY
from selfcorrect.agents.state import Message
from selfcorrect.devices import choose_device, choose_dtype
from selfcorrect.errors import ConfigurationError, PolicyError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: GPU)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    llama(len(tokenizer)).to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("no_accelerator")
def test_without_an_accelerator_it_is_the_cpu_and_others_are_told_to_be_missing() -> None:
    assert choose_device() == choose_device("cpu") == CPU
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ConfigurationError, match=f"'{name}' is not there.*no accelerator"):
            choose_device(name)


@pytest.mark.usefixtures("two_gpus")
def test_each_process_takes_the_accelerator_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device() == torch.device("cuda", 1)
    assert choose_device("cuda:1") == torch.device("cuda", 1) and choose_device("cpu") == CPU


@pytest.mark.usefixtures("two_gpus")
def test_another_accelerator_or_one_too_many_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="there are 2 of its kind"):
        choose_device("cuda:2")
    with pytest.raises(ConfigurationError, match="this machine has the accelerator cuda"):
        choose_device("mps")


def test_of_several_processes_each_takes_its_own_unless_it_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: GPU)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)
    assert choose_device("cuda") == GPU
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert choose_device("cuda") == choose_device("auto") == torch.device("cuda", 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)


def test_what_is_no_device_is_told() -> None:
    with pytest.raises(ConfigurationError, match="'gpu' is no device; use auto, cpu, cuda"):
        choose_device("gpu")


def test_the_dtype_is_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_dtype("auto", CPU) is None and choose_dtype("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(ConfigurationError, match="'cpu' does not compute in float16"):
        choose_dtype("float16", CPU)
    with pytest.raises(ConfigurationError, match="'int8' is no dtype to compute in"):
        choose_dtype("int8", CPU)
    monkeypatch.setattr(devices, "_has_bfloat16", lambda device: True)
    assert choose_dtype("auto", GPU) is torch.bfloat16
    monkeypatch.setattr(devices, "_has_bfloat16", lambda device: False)
    assert choose_dtype("auto", GPU) is torch.float32 and choose_dtype("float16", GPU) is torch.float16
    with pytest.raises(ConfigurationError, match="'cuda' does not compute in bfloat16; use auto or float32"):
        choose_dtype("bfloat16", GPU)


def test_a_policy_is_opened_as_it_was_saved_or_as_asked(folder: Path) -> None:
    assert TransformersPolicy.from_pretrained(folder, device="cpu").model.dtype is torch.bfloat16
    asked = TransformersPolicy.from_pretrained(folder, device="cpu", dtype="float32", attention="eager")
    assert asked.model.dtype is torch.float32 and asked.training_device == CPU
    assert asked.model.config._attn_implementation == "eager"
    with pytest.raises(PolicyError, match="cannot load"):
        TransformersPolicy.from_pretrained(folder, device="cpu", attention="flash_attention_2")


def test_caches_of_turns_may_take_a_share_of_what_is_free(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfcorrect.agents.policies import transformers

    free = free_bytes(CPU)
    assert free is not None and free > 2**20
    assert transformers._cache_limit(CPU) == pytest.approx(free / 4, rel=0.5)
    monkeypatch.setattr(transformers, "free_bytes", lambda device: None)
    assert transformers._cache_limit(CPU) == 2**30


def attention_back_ends() -> list[bool]:
    """Which of torch's back ends may compute attention: cuDNN, FlashAttention, efficient, plain."""
    return [
        getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in ("cudnn", "flash", "mem_efficient", "math")
    ]


def test_decoding_on_a_gpu_leaves_cudnn_out_and_only_while_it_lasts() -> None:
    before = attention_back_ends()
    with decoding_attention(CPU):
        assert attention_back_ends() == before
    with decoding_attention(GPU):
        assert attention_back_ends() == [False, True, True, True]
    assert attention_back_ends() == before


def test_the_policy_reads_and_draws_with_the_back_ends_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, seen, asked = word_tokenizer(WORDS, pad_token="<pad>"), list[bool](), list[torch.device]()
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=4)
    policy.model.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))

    def on_a_gpu(device: torch.device) -> object:
        asked.append(device)
        return decoding_attention(GPU)

    monkeypatch.setattr("selfcorrect.agents.policies.ongoing.decoding_attention", on_a_gpu)
    asyncio.run(policy.generate([Message(role="user", content="3 5")], GREEDY))
    assert asked == [CPU]  # it asks for those of the device that the model is on
    assert len(seen) > 1 and not any(seen)
