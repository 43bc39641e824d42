"""A policy small enough to train in a test: a tiny Llama over the embedded policy's vocabulary."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of some 20,000 parameters with the Countdown tokenizer, saved as a model folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from selfcorrect.training.pretraining.second_looks import make_tokenizer, vocabulary

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary()),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    folder = tmp_path_factory.mktemp("tiny-policy")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
