"""Batches of `ContinuousDecoding` without a policy around them, over a small model of number words."""

from collections.abc import Sequence
from typing import Any

import torch
from small_models import WORDS, llama, word_tokenizer

from selfcorrect.agents.decoding.continuous import ContinuousDecoding
from selfcorrect.agents.decoding.engine import Decoded, Request
from selfcorrect.agents.decoding.prefill import Reader

TOKENIZER = word_tokenizer(WORDS, pad_token="<pad>")
EOS = TOKENIZER.eos_token_id


def with_lora(vocabulary: int) -> Any:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(llama(vocabulary), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for layer in adapted.base_model.model.model.layers:
            layer.self_attn.q_proj.lora_B["default"].weight.fill_(0.3)
    return adapted.eval()


def request(prompt: Sequence[int], seed: int, limit: int = 12, **more: Any) -> Request:
    return Request(list(prompt), limit, 1.0, 1.0, seed, **more)


def decoding(model: Any = None, *, max_rows: int = 4, eos: Sequence[int] = (EOS,), **options: Any) -> Any:
    reader = Reader(model or llama(len(TOKENIZER)))
    return ContinuousDecoding(
        reader, eos_ids=eos, text_of=TOKENIZER.decode, max_rows=max_rows, shelf=options.pop("shelf", None), **options
    )


def to_the_end(batch: ContinuousDecoding) -> dict[int, Decoded]:
    ended: dict[int, Decoded] = {}
    with torch.no_grad():
        while batch.busy:
            ended.update(batch.advance())
    return ended


def alone(one: Request) -> Decoded:
    batch = decoding()
    batch.add(0, one)
    return to_the_end(batch)[0]
