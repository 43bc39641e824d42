"""How the tokens of thoughts are drawn."""

from collections.abc import Callable

import torch
from torch import Tensor

Chooser = Callable[[Tensor, int], Tensor]
"""(logits (B, S, V), number of the thought's token) -> tokens (B, S)."""


def greedily(logits_BSV: Tensor, step: int) -> Tensor:
    """The likeliest token."""
    return logits_BSV.argmax(dim=-1)


def sampled(generator: torch.Generator | None = None) -> Chooser:
    """Draws at temperature 1, the one at which log-probabilities of thoughts are taken."""

    def choose(logits_BSV: Tensor, step: int) -> Tensor:
        probabilities = torch.softmax(logits_BSV.detach().float(), dim=-1)
        return torch.multinomial(probabilities.flatten(0, 1), 1, generator=generator).view(logits_BSV.shape[:2])

    return choose


def given(thoughts_BSM: Tensor) -> Chooser:
    """The thoughts that were written before: to score them, or to compare with another implementation."""

    def choose(logits_BSV: Tensor, step: int) -> Tensor:
        return thoughts_BSM[:, :, step]

    return choose
