"""Tokenizers of the tests of agents."""

import pytest
from small_models import CHAT_TEMPLATE, CHAT_WORDS, WORDS, word_tokenizer
from transformers import PreTrainedTokenizerFast


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(WORDS, pad_token="<pad>")


@pytest.fixture
def chat_tokenizer() -> PreTrainedTokenizerFast:
    made = word_tokenizer(CHAT_WORDS, eos="<|im_end|>")
    made.chat_template = CHAT_TEMPLATE
    return made
