"""How much a thought has to say: the mixing head, and the mixture."""

import math

import torch
from torch import Tensor, nn


class MixingHead(nn.Module):
    """One weight in (0, 1) for each thought, from the hidden states before and after it: a ReLU network of three layers.

    0 is the prediction without the thought, 1 that with it. (The paper's w weighs the other side.) The last layer begins with
    zeros, so that every weight begins as `initial`.
    """

    def __init__(self, hidden: int, *, initial: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.log(initial / (1 - initial)))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Weights (...) from hidden states (..., D) at the position and at the end of its thought."""
        states = torch.cat([before, after], dim=-1).to(next(self.layers.parameters()).dtype)
        return torch.sigmoid(self.layers(states)[..., 0])


def mixed_logits(base: Tensor, thought: Tensor, weight: Tensor) -> Tensor:
    """Logits (..., V) of the mixture: log p = (1 - w) log p_base + w log p_thought, up to a constant.

    Arxiv 2403.09629, section 4.3. The constants that make the parts log-probabilities do not matter before a softmax, so logits
    are mixed as they are; softmax makes the mixture a distribution, which the sum of the paper's equation alone is not.

    Args:
        base: logits without the thought, (..., V).
        thought: logits after it, (..., V).
        weight: of the thought, (...).
    """
    return base + weight[..., None].to(base.dtype) * (thought - base)
