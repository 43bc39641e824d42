"""The rows of a batch that are still being decoded.

Shapes: R rows still being decoded, C columns (prompt and completion).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfcorrect.agents.decoding_requests import Request
from selfcorrect.agents.reading import Start
from selfcorrect.agents.seeding import seed_array


@dataclass(slots=True)
class RunningRows:
    """The rows still in the batch: which request each belongs to, and how to draw for it."""

    request_R: Tensor
    limit_R: Tensor
    temperature_R: Tensor
    top_p_R: Tensor
    seeds_R: Any  # numpy uint64
    position_R: Tensor
    mask_RC: Tensor
    done_R: Tensor

    def select(self, kept: Tensor) -> None:
        """Keep the rows whose numbers are `kept`."""
        self.seeds_R = self.seeds_R[kept.cpu().numpy()]
        for name in ("request_R", "limit_R", "temperature_R", "top_p_R", "position_R", "mask_RC", "done_R"):
            setattr(self, name, getattr(self, name).index_select(0, kept))


def begin_rows(start: Start, requests: Sequence[Request]) -> RunningRows:
    """The rows of `requests`, all of them running, row i that of request i."""
    count, device = len(requests), start.logits_RV.device
    steps = max(request.max_new_tokens for request in requests)
    written_RC = torch.ones(count, steps, dtype=torch.bool, device=device)
    return RunningRows(
        request_R=torch.arange(count, device=device),
        limit_R=torch.tensor([request.max_new_tokens for request in requests], device=device),
        temperature_R=torch.tensor([float(request.temperature) for request in requests], device=device),
        top_p_R=torch.tensor([float(request.top_p) for request in requests], device=device),
        seeds_R=seed_array([request.seed for request in requests]),
        position_R=start.position_R,
        mask_RC=torch.cat([start.mask_RC, written_RC], dim=1),
        done_R=torch.zeros(count, dtype=torch.bool, device=device),
    )
