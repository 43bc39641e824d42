"""One token for each row of a batch: greedy or sampled, each row with its own temperature, nucleus and random number.

Shapes: B rows, V vocabulary.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LARGEST_TABLE = 2**23
"""Rows times vocabulary that are handled at once: a vocabulary of 150,000 in double precision is a megabyte a row."""


def draw(
    logits_BV: "Tensor", temperature_B: "Tensor", top_p_B: "Tensor | None", uniform_B: "Tensor | None"
) -> "tuple[Tensor, Tensor]":
    """The drawn tokens (B,) and their log-probabilities (B,).

    Args:
        logits_BV: float32.
        temperature_B: 0 means greedy.
        top_p_B: nucleus masses in (0, 1]; None if all are 1.
        uniform_B: a float64 number in [0, 1) for each row; None if all rows are greedy.

    Returns:
        Tokens, and the log-probability of each under softmax(logits / temperature), temperature 1 for greedy rows, before any
        top-p cut.
    """
    import torch

    rows = max(1, _LARGEST_TABLE // logits_BV.shape[1])
    parts = [slice(begin, begin + rows) for begin in range(0, len(logits_BV), rows)]
    drawn = [
        _draw(
            logits_BV[part],
            temperature_B[part],
            None if top_p_B is None else top_p_B[part],
            None if uniform_B is None else uniform_B[part],
        )
        for part in parts
    ]
    return torch.cat([tokens for tokens, _ in drawn]), torch.cat([logprobs for _, logprobs in drawn])


def logprobs_of(logits_BV: "Tensor", temperature_B: "Tensor", tokens_B: "Tensor") -> "Tensor":
    """Log-probabilities (B,) of given tokens, as `draw` has them."""
    import torch

    divisor_B = torch.where(temperature_B == 0, torch.ones_like(temperature_B), temperature_B)
    chosen_B = logits_BV.gather(1, tokens_B[:, None])[:, 0] / divisor_B
    return chosen_B - torch.logsumexp(logits_BV / divisor_B[:, None], dim=-1)


def widest_float(device: "torch.device") -> "torch.dtype":
    """The most precise number format of a device: Apple's GPUs have no double precision."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


def _draw(
    logits_BV: "Tensor", temperature_B: "Tensor", top_p_B: "Tensor | None", uniform_B: "Tensor | None"
) -> "tuple[Tensor, Tensor]":
    import torch

    greedy_B = temperature_B == 0
    divisor_B = torch.where(greedy_B, torch.ones_like(temperature_B), temperature_B)
    logprobs_BV = torch.log_softmax(logits_BV / divisor_B[:, None], dim=-1)
    tokens_B = logits_BV.argmax(dim=-1)
    if uniform_B is not None:
        probs_BV = logprobs_BV.to(widest_float(logits_BV.device)).exp()
        if top_p_B is not None:
            probs_BV = nucleus(probs_BV, top_p_B)
        tokens_B = torch.where(greedy_B, tokens_B, invert(probs_BV, uniform_B))
    return tokens_B, logprobs_BV.gather(1, tokens_B[:, None])[:, 0]


def invert(probs_BV: "Tensor", uniform_B: "Tensor") -> "Tensor":
    """Inverse-CDF sampling: the first token whose cumulated mass exceeds `uniform` times the total. Mass need not sum to 1."""
    import torch

    cumulated_BV = probs_BV.cumsum(dim=-1)
    target_B1 = uniform_B[:, None] * cumulated_BV[:, -1:]
    return torch.searchsorted(cumulated_BV, target_B1, right=True)[:, 0].clamp_(max=probs_BV.shape[1] - 1)


def nucleus(probs_BV: "Tensor", top_p_B: "Tensor") -> "Tensor":
    """`probs_BV` with 0 outside the smallest set of likeliest tokens whose mass reaches `top_p` (never empty)."""
    sorted_BV, order_BV = probs_BV.sort(dim=-1, descending=True)
    mass_BV = sorted_BV.cumsum(dim=-1)
    kept_BV = sorted_BV.clone()
    kept_BV[:, 1:].masked_fill_(mass_BV[:, :-1] >= top_p_B[:, None], 0.0)  # the likelier ones reach it already
    return probs_BV.new_zeros(probs_BV.shape).scatter_(1, order_BV, kept_BV)
