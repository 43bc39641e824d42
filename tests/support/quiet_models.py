"""Tiny models that think, and the slow way to do what they do: one thought at a time, each as a text of its own."""

from typing import Any

import torch
from small_models import WORDS, gpt2, llama, word_tokenizer
from torch import Tensor

from selfcorrect.agents.quiet.model import QuietModel
from selfcorrect.agents.quiet.thinking import Thinking

FAMILIES = {"llama": llama, "gpt2": gpt2}


def thinker(family: str = "llama", **options: Any) -> QuietModel:
    """A random model over the small vocabulary, with marks and head that differ from their beginnings."""
    tokenizer = word_tokenizer(WORDS)
    model = QuietModel.wrap(FAMILIES[family](len(tokenizer)), tokenizer, Thinking(**options))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in [*model.marks.parameters(), *model.mixing.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def one_by_one(model: QuietModel, text: list[int], thought: list[int], ahead: list[int]) -> tuple[Tensor, Tensor]:
    """Logits (L, V) and hidden states (L, D) of every token of a text, its thought between marks, and the true
    tokens ahead."""
    marks = model.marks()
    embed = model.lm.get_input_embeddings()

    def embedded(ids: list[int]) -> Tensor:
        return embed(torch.tensor(ids, dtype=torch.long))

    if model.thinking.kind == "pause":
        inner = marks.expand(model.thinking.overhead, -1)
    else:
        inner = torch.cat([marks[:1], embedded(thought), marks[1:]])
    whole = torch.cat([embedded(text), inner, embedded(ahead)])
    output = model.lm(inputs_embeds=whole[None], output_hidden_states=True, use_cache=False)
    return output.logits[0], output.hidden_states[-1][0]


def thinkable(model: QuietModel, logits: Tensor) -> Tensor:
    """Log-probabilities (..., V) of a thought's next token: it is never the end of text, id 1 here."""
    never = torch.zeros(logits.shape[-1], dtype=torch.bool)
    never[model.tokenizer.eos_token_id] = True
    return torch.log_softmax(logits.masked_fill(never, -torch.inf), dim=-1)
