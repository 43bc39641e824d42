"""Sampling without replacement: what was drawn before, as a tree of tokens that knows how much probability it holds.

Shi, Bieber & Sutton 2020, "Incremental Sampling Without Replacement for Sequence Models" (arXiv 2002.09067): a token is
drawn in proportion to its probability times the share of it that no earlier completion holds. Whole completions are
then distributed as if they were drawn again and again until a new one comes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


EXHAUSTED = 1e-5
"""Less than this share of the probability left is rounding: nothing new can be drawn."""
_NEVER = 1e-30


@dataclass(slots=True)
class Beginning:
    """One beginning of the completions drawn so far.

    Attributes:
        probability: of its last token, given those before.
        held: the share of everything that could follow, in [0, 1], that drawn completions hold; 1 for a whole
            completion.
        follow: the beginnings that are one token longer, by that token.
    """

    probability: float = 1.0
    held: float = 0.0
    follow: dict[int, "Beginning"] = field(default_factory=dict)


class DrawnTree:
    """Completions of one prompt that were drawn under one temperature, each with its tokens' log-probabilities.

    Args:
        drawn: their generations; equal ones count once.
    """

    def __init__(self, drawn: Iterable[Generation] = ()) -> None:
        self.root = Beginning()
        for generation in drawn:
            self.add(generation["completion_ids"], generation["logprobs"])

    @property
    def left(self) -> float:
        """The probability, in [0, 1], of all completions that were not drawn."""
        return 1.0 - self.root.held

    def add(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Note a completion: its token ids, and the log-probability of each under the model."""
        if not ids:
            return
        path = [self.root]
        for token, logprob in zip(ids, logprobs, strict=True):
            path.append(path[-1].follow.setdefault(token, Beginning(math.exp(logprob))))
        path[-1].held = 1.0
        for beginning in reversed(path[:-1]):
            held = math.fsum(child.probability * child.held for child in beginning.follow.values())
            beginning.held = min(1.0, max(held, beginning.held))


class Cursors:
    """Where each row of a batch stands in the tree of its prompt's drawn completions. Shapes: R rows, V vocabulary."""

    def __init__(self, trees: Sequence[DrawnTree | None]) -> None:
        self._at: dict[int, Beginning] = {
            request: tree.root for request, tree in enumerate(trees) if tree is not None and tree.root.follow
        }

    def __bool__(self) -> bool:
        """Whether any row is still in its tree."""
        return bool(self._at)

    def add(self, request: int, tree: DrawnTree) -> None:
        """A row of number `request` comes to the batch."""
        if tree.root.follow:
            self._at[request] = tree.root

    def drop(self, request: int) -> None:
        """It leaves."""
        self._at.pop(request, None)

    def without_drawn(self, logits_RV: "Tensor", requests_R: Sequence[int], temperature_R: "Tensor") -> "Tensor":
        """`logits_RV`, by which draws at `temperature_R` leave out what is drawn already; `logits_RV` itself if no
        row has any."""
        here = [(row, self._at[request]) for row, request in enumerate(requests_R) if request in self._at]
        places = [(row, token, child.held) for row, at in here for token, child in at.follow.items()]
        if not places:
            return logits_RV
        rows, tokens, held = zip(*places, strict=True)
        changed_RV = logits_RV.clone()
        # never quite 0: where rounding leads into a beginning that is all held, something has to be drawn
        free = temperature_R.new_tensor([max(1.0 - share, _NEVER) for share in held]).log() * temperature_R[list(rows)]
        changed_RV[list(rows), list(tokens)] += free.to(changed_RV.dtype)
        return changed_RV

    def advance(self, requests_R: Sequence[int], tokens_R: Sequence[int]) -> None:
        """Follow the tokens that were drawn; a row that leaves its tree is free."""
        for request, token in zip(requests_R, tokens_R, strict=True):
            at = self._at.pop(request, None)
            if at is not None and token in at.follow:
                self._at[request] = at.follow[token]


def refuse_cut_draws(sampling: Sampling) -> None:
    """Raise where there is nothing to draw without replacement from.

    Raises:
        ConfigurationError: `sampling` is greedy, or cuts by top-p, whose probabilities are not recorded.
    """
    if sampling.temperature == 0 or sampling.top_p < 1:
        raise ConfigurationError(
            "answers are drawn without replacement at a temperature above 0 and with top_p 1, got "
            f"temperature {sampling.temperature:g} and top_p {sampling.top_p:g}"
        )


# One token for each row of a batch: greedy or sampled, each row with its own temperature, nucleus and random number.
#
# Shapes: B rows, V vocabulary.

_LARGEST_TABLE = 2**23
"""Rows times vocabulary that are handled at once: a vocabulary of 150,000 in double precision is a megabyte a row."""
_GPU_TABLES = 8
"""So many of them at once on GPUs, which sum up few rows no faster than many."""


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
        Tokens, and the log-probability of each under softmax(logits / temperature), temperature 1 for greedy rows,
        before any top-p cut.
    """
    import torch

    table = _LARGEST_TABLE * (_GPU_TABLES if logits_BV.device.type == "cuda" else 1)
    rows = max(1, table // logits_BV.shape[1])
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
            probs_BV = nucleus(probs_BV, top_p_B, order_BV=logprobs_BV)
        tokens_B = torch.where(greedy_B, tokens_B, invert(probs_BV, uniform_B))
    return tokens_B, logprobs_BV.gather(1, tokens_B[:, None])[:, 0]


def invert(probs_BV: "Tensor", uniform_B: "Tensor") -> "Tensor":
    """Inverse-CDF sampling: the first token whose cumulated mass exceeds `uniform` times the total. Mass need not
    sum to 1."""
    import torch

    cumulated_BV = probs_BV.cumsum(dim=-1)
    target_B1 = uniform_B[:, None] * cumulated_BV[:, -1:]
    return torch.searchsorted(cumulated_BV, target_B1, right=True)[:, 0].clamp_(max=probs_BV.shape[1] - 1)


def nucleus(probs_BV: "Tensor", top_p_B: "Tensor", order_BV: "Tensor | None" = None) -> "Tensor":
    """`probs_BV` with 0 outside the smallest set of likeliest tokens whose mass reaches `top_p` (never empty).

    `order_BV` orders as the probabilities do (their logarithms in float32): sorting is what a cut costs, and GPUs sort
    single precision much faster than double.
    """
    order_BV = (probs_BV if order_BV is None else order_BV).argsort(dim=-1, descending=True, stable=True)
    sorted_BV = probs_BV.gather(-1, order_BV)
    mass_BV = sorted_BV.cumsum(dim=-1)
    kept_BV = sorted_BV.clone()
    kept_BV[:, 1:].masked_fill_(mass_BV[:, :-1] >= top_p_B[:, None], 0.0)  # the likelier ones reach it already
    return probs_BV.new_zeros(probs_BV.shape).scatter_(1, order_BV, kept_BV)
