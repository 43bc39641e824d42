"""Small random models and tokenizers (real transformers classes, no download), and readers of episodes."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from selfcorrect.agents.state import EpisodeState
from selfcorrect.tasks.problem import Problem

WORDS = [*map(str, range(30)), "+", "-", "*", "/", "=", ";", ":", "get", "again", "check", "right", "wrong", "hint"]
CHAT_WORDS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "user", "assistant", "system", *WORDS]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% set text = message['content'] %}"
    "{% if message['role'] == 'assistant' and '</think>' in text %}"
    "{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{{ ' <|im_start|> ' + message['role'] + ' ' + text + ' <|im_end|> ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ ' <|im_start|> assistant ' }}{% endif %}"
)
"""Shaped like many instruction models' templates: earlier answers lose their thoughts."""


def word_tokenizer(words: Sequence[str], *, eos: str = "<eos>", **options: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, unk_token="<unk>", **options)


def llama(vocabulary: int, *, positions: int = 256) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.3,  # far from uniform, so that mistakes show
    )
    return LlamaForCausalLM(config).eval()


BYTE_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_chat_model(folder: Path) -> Path:
    """A random chat model that reads and writes any text, byte by byte, saved in `folder`."""
    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({text: index for index, text in enumerate([*special, *letters])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|end|>", pad_token="<|end|>", additional_special_tokens=special[1:]
    )
    tokenizer.chat_template = BYTE_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gpt2(vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=256, initializer_range=0.3,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def sliding(vocabulary: int) -> PreTrainedModel:
    """A model with sliding-window attention: its cache cannot be taken up again."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, max_position_embeddings=256, bos_token_id=None, eos_token_id=None,
        initializer_range=0.3,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


MODELS = {"llama": llama, "gpt2": gpt2, "sliding": sliding}


def problem(prompt: str, *, id: str = "p", reference: object = None) -> Problem:
    return Problem(id=id, prompt=prompt, reference=reference, checker="countdown")


def problems(prompts: Sequence[str]) -> list[Problem]:
    return [problem(prompt, id=f"p{number}") for number, prompt in enumerate(prompts)]


def texts(state: EpisodeState) -> list[str]:
    return [turn["generation"]["text"] for turn in state["turns"]]


def roles(state: EpisodeState) -> list[str]:
    return [turn["role"] for turn in state["turns"]]
