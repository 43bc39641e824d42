"""Reading prompts: a causal language model, called with explicit positions and masks, fills a cache.

Rows are padded on the left. Shapes: R rows, C columns (prompt and completion), V vocabulary.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfcorrect.agents.decoding.kv_cache import new_cache, select_rows


@dataclass(slots=True)
class Start:
    """Prompts that the model has read: the cache, its mask (R, C), each row's last position (R,), the next logits
    (R, V)."""

    cache: Any
    mask_RC: Tensor
    position_R: Tensor
    logits_RV: Tensor


class Reader:
    """Calls a causal language model, whatever arguments its `forward` takes."""

    def __init__(self, model: Any) -> None:
        self.model = model
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = inspect.signature(inner.forward).parameters
        self.takes_positions = "position_ids" in accepted
        self._takes_last = "logits_to_keep" in accepted
        self.config = inner.config

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def read(self, ids_RC: Tensor, mask_RC: Tensor, positions_RC: Tensor, cache: Any) -> Tensor:
        """Append `ids_RC` to `cache`; the float32 logits (R, V) after the last column. `mask_RC` spans the whole
        cache."""
        arguments: dict[str, Any] = {"position_ids": positions_RC} if self.takes_positions else {}
        if self._takes_last:
            arguments["logits_to_keep"] = 1
        output = self.model(
            input_ids=ids_RC, attention_mask=mask_RC, past_key_values=cache, use_cache=True, **arguments
        )
        return output.logits[:, -1].float()  # type: ignore[no-any-return]


def prefill(reader: Reader, prompts: Sequence[list[int]]) -> Start:
    """Read whole prompts. Equal ones (several episodes of one problem) are read once."""
    start, rows = read_once(reader, prompts)
    return start if len(set(rows)) == len(prompts) else _spread(start, torch.tensor(rows, device=reader.device))


def read_once(reader: Reader, prompts: Sequence[list[int]]) -> tuple[Start, list[int]]:
    """Read whole prompts, equal ones once; what was read, and the row of each prompt in it."""
    row_of: dict[tuple[int, ...], int] = {}
    rows = [row_of.setdefault(tuple(prompt), len(row_of)) for prompt in prompts]
    ids_RC, mask_RC = left_padded([list(prompt) for prompt in row_of], reader.device)
    positions_RC = (mask_RC.long().cumsum(1) - 1).clamp_(min=0)
    cache = new_cache(reader.config)
    logits_RV = reader.read(ids_RC, mask_RC, positions_RC, cache)
    return Start(cache, mask_RC, positions_RC[:, -1], logits_RV), rows


def resume(reader: Reader, cache: Any, mask_RC: Tensor, new_ids: Sequence[list[int]]) -> Start:
    """Read `new_ids` (one or more for each row) after what `cache` already holds."""
    ids_RC, new_mask_RC = left_padded(new_ids, reader.device)
    known_R = mask_RC.sum(1)
    positions_RC = (known_R[:, None] + new_mask_RC.long().cumsum(1) - 1).clamp_(min=0)
    mask_RC = torch.cat([mask_RC, new_mask_RC], dim=1)
    logits_RV = reader.read(ids_RC, mask_RC, positions_RC, cache)
    return Start(cache, mask_RC, positions_RC[:, -1], logits_RV)


def left_padded(rows: Sequence[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (R, C), padded on the left with id 0, and the mask (R, C) that hides the padding."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(width, device=device)[None] >= (width - lengths)[:, None]


def _spread(start: Start, rows: Tensor) -> Start:
    select_rows(start.cache, rows)
    return Start(start.cache, start.mask_RC[rows], start.position_R[rows], start.logits_RV[rows])
