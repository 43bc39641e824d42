"""A key/value cache of fixed shapes: one slot a row, each filled from its left end, that rows enter and leave at any
step.

Layout: each layer stores keys and values as (S slots, C columns, H heads, D head size). A decoding step looks at the
first R slots and the first C columns of them, and every row writes at its own length, so that nothing moves when
another row comes or goes, and a step's shapes are those of few buckets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from selfcorrect.agents.decoding.kv_cache import Rows

COLUMN_BLOCK = 64
"""Columns are reserved in multiples of this."""


@dataclass(slots=True)
class Window:
    """What the model sees of the store in the step that is under way: rows, columns, and where each row writes."""

    rows: int
    columns: int
    row_R: Tensor
    column_R: Tensor


class SlotLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """One layer's slots. It takes one new column a row and step; prompts are written by `SlotStore.fill`."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.store = keys, values
        self.window: Window | None = None
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new column (R, H, 1, D) of every row; all keys and values (R, H, C, D) of the window."""
        window = self.window
        assert window is not None and key_states.shape[2] == 1
        shown = []
        for stored, new in zip(self.store, (key_states, value_states), strict=True):
            stored[window.row_R, window.column_R] = new[:, :, 0].to(stored.dtype)
            shown.append(stored[: window.rows, : window.columns].transpose(1, 2))
        return shown[0], shown[1]

    def columns(self) -> tuple[Tensor, Tensor]:
        """The whole store: two tensors (S, C, H, D)."""
        return self.store

    def get_seq_length(self) -> int:
        """Columns that the model may look at; it is told positions and masks, so nothing depends on it."""
        return 0 if self.window is None else self.window.columns


class SlotStore:
    """The slots of all layers; they grow when more rows or columns are asked for, and never shrink."""

    def __init__(self) -> None:
        self.cache = Cache(layers=[])
        self.rows = self.columns = 0
        self.generation = 0
        """Counts how often the slots moved in memory: whatever remembers their addresses is void then."""

    @property
    def bytes(self) -> int:
        return sum(part.numel() * part.element_size() for layer in self.cache.layers for part in layer.store)

    def bytes_of(self, rows: int, columns: int, like: Cache) -> int:
        """What so many slots take, of keys and values as those of `like`."""
        parts: list[Tensor] = [part for layer in like.layers for part in layer.columns()]
        return rows * columns * sum(part[0, 0].numel() * _kept_dtype(part).itemsize for part in parts)

    def reserve(self, rows: int, columns: int, like: Cache, *, exactly: bool = False) -> None:
        """Make room for `rows` x `columns`, for keys and values as those of `like`; if not `exactly`, for half as many
        columns again as there were, so that growing costs little over many steps."""
        if rows <= self.rows and columns <= self.columns:
            return
        old_rows, old_columns = self.rows, self.columns
        self.rows = max(rows, old_rows)
        like = self.cache if old_rows else like
        if columns > old_columns:
            wanted = columns if exactly else max(columns, old_columns * 3 // 2)
            self.columns = -(-wanted // COLUMN_BLOCK) * COLUMN_BLOCK
        self.generation += 1
        for number, given in enumerate(like.layers):
            pair = [self._room(part) for part in given.columns()]
            if old_rows:
                layer = self.cache.layers[number]
                for new, old in zip(pair, layer.store, strict=True):
                    new[:old_rows, :old_columns] = old
                layer.store = pair[0], pair[1]
            else:
                self.cache.layers.append(SlotLayer(pair[0], pair[1]))

    def open(self, window: Window) -> Cache:
        """The cache, as a model takes it for one step on `window`."""
        for layer in self.cache.layers:
            layer.window = window
        return self.cache

    def fill(self, cache: Cache, mask_RC: Tensor, rows: Tensor, slots: Tensor) -> None:
        """Copy what `cache` holds of its rows `rows`, the columns that `mask_RC` shows of them, to the left ends of
        `slots`."""
        own_RC = mask_RC[rows]
        width = int(own_RC.sum(1).max())
        order_RC = (~own_RC).byte().argsort(dim=1, stable=True)[:, :width]
        for layer, given in zip(self.cache.layers, cache.layers, strict=True):
            for to, part in zip(layer.store, given.columns(), strict=True):
                to[slots, :width] = part[rows[:, None], order_RC].to(to.dtype)

    def move(self, origins: Tensor, targets: Tensor, columns: int) -> None:
        """Copy the first `columns` of the slots `origins` to the slots `targets`."""
        for layer in self.cache.layers:
            for part in layer.store:
                part[targets, :columns] = part[origins, :columns]

    def take(self, slots: Tensor, lengths: Sequence[int]) -> Rows:
        """A copy of the first `lengths` columns of each of `slots`."""
        width, counts = max(lengths), torch.tensor(lengths, device=slots.device)
        valid_RC = torch.arange(width, device=slots.device)[None] < counts[:, None]
        return Rows(
            [(layer.store[0][slots, :width], layer.store[1][slots, :width]) for layer in self.cache.layers], valid_RC
        )

    def _room(self, like: Tensor) -> Tensor:
        # zeros: what was never written is masked, and 0 times anything finite is no NaN
        return like.new_zeros(self.rows, self.columns, *like.shape[2:], dtype=_kept_dtype(like))


def _kept_dtype(like: Tensor) -> torch.dtype:
    """In which keys or values like this are kept: in what autocast would make of them at every step, all columns anew
    (rotated keys come in float32)."""
    device = like.device.type
    if like.dtype is torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return like.dtype
