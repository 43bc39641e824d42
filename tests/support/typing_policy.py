"""A real policy of a real model that writes what a script says: prompts, ids and log-probabilities are all true."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import torch
from small_models import llama
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.decoding.engine import Decoded, Request
from selfcorrect.agents.policies.transformers import TransformersPolicy

MARKS = {
    "qwen3": ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"],
    "qwen2_5": ["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"],
    "llama3_1": ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>"],
}
ENDS = {"qwen3": "<|im_end|>", "qwen2_5": "<|im_end|>", "llama3_1": "<|eot_id|>"}


def family_tokenizer(family: str | None) -> PreTrainedTokenizerFast:
    """Bytes, and the marks and the chat template of a model family; None has no template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks, end = MARKS.get(family or "", []), ENDS.get(family or "", "<|endoftext|>")
    inner = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    inner.add_tokens([AddedToken(mark, special=mark.startswith("<|")) for mark in marks])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end, pad_token="<|endoftext|>")
    if family is not None:
        shipped = files("trl").joinpath("chat_templates", f"{family}.jinja")
        made.chat_template = shipped.read_text(encoding="utf-8")
    return made


class TypingPolicy(TransformersPolicy):
    """Writes `script(text of the prompt, seed)`, and ends; its log-probabilities are the model's own."""

    def __init__(self, script: Callable[[str, int], str], family: str | None = "qwen3", **options: Any) -> None:
        tokenizer = family_tokenizer(family)
        super().__init__(llama(len(tokenizer), positions=16_384), tokenizer, decoding="dynamic", **options)
        self.script = script

    def _decode_all(self, requests: Sequence[Request]) -> list[Decoded]:
        return [self._typed(request) for request in requests]

    def _typed(self, request: Request) -> Decoded:
        text = self.script(self.tokenizer.decode(request.prompt_ids), request.seed)
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        stopped = len(ids) <= request.max_new_tokens
        ids = ids[: request.max_new_tokens]
        with torch.no_grad():
            logits = self.model(torch.tensor([request.prompt_ids + ids])).logits[0, -len(ids) - 1 : -1].float()
        logprobs = torch.log_softmax(logits / (request.temperature or 1.0), dim=-1)
        return Decoded(ids, logprobs[torch.arange(len(ids)), torch.tensor(ids)].tolist(), stopped)


def typed_call(name: str, arguments: str) -> str:
    """A call in the format that Qwen's templates render; `arguments` as JSON."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
