"""A key/value cache whose rows (sequences) can be dropped, repeated and remembered.

Layout: each layer stores keys and values as (R rows, C columns, H heads, D head size), with room for more columns than
    are
used, so that a decoding step writes one column in place rather than copying the whole cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_SPARE_COLUMNS = 32


class RowLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """One layer's keys and values, for transformers models with plain full attention."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 0
        self.store: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append columns, given as transformers gives them: (R, H, new columns, D). Returns all keys and values so."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, end = self.used, self.used + key_states.shape[2]
        keys, values = self._room_for(end, key_states, value_states)
        keys[:, begin:end] = key_states.transpose(1, 2)
        values[:, begin:end] = value_states.transpose(1, 2)
        self._show(keys, values, end)
        return self.keys, self.values

    def columns(self) -> tuple[Tensor, Tensor]:
        """The used part of the store: two tensors (R, columns, H, D)."""
        assert self.store is not None
        return self.store[0][:, : self.used], self.store[1][:, : self.used]

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Replace everything by `keys` and `values` (R, columns, H, D)."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.store = (keys, values)
        self._show(keys, values, keys.shape[1])

    def _show(self, keys: Tensor, values: Tensor, used: int) -> None:
        self.store, self.used = (keys, values), used
        self.keys, self.values = keys[:, :used].transpose(1, 2), values[:, :used].transpose(1, 2)

    def _room_for(self, columns: int, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        if self.store is not None and self.store[0].shape[1] >= columns:
            return self.store
        return self._grown(0, columns, key_states), self._grown(1, columns, value_states)

    def _grown(self, which: int, columns: int, like: Tensor) -> Tensor:
        rows, heads, _, size = like.shape
        grown = like.new_empty(rows, columns + max(_SPARE_COLUMNS, columns // 4), heads, size)
        if self.store is not None:
            grown[:, : self.used] = self.store[which][:, : self.used]
        return grown


def new_cache(config: Any) -> Cache:
    """An empty cache for a model with this config: of `RowLayer`s if all its layers attend fully, else transformers'
    own."""
    cache = DynamicCache(config=config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return cache
    return Cache(layers=[RowLayer() for _ in cache.layers])


def keeps_rows(cache: Cache) -> bool:
    """Whether rows of `cache` can be remembered for a later turn."""
    return all(type(layer) is RowLayer for layer in cache.layers)


def select_rows(cache: Cache, rows: Tensor) -> None:
    """Make row i of `cache` what row `rows[i]` was: drops, repeats or reorders rows."""
    for layer in cache.layers:
        if isinstance(layer, RowLayer):
            keys, values = layer.columns()
            layer.fill(keys.index_select(0, rows), values.index_select(0, rows))
        else:
            layer.batch_select_indices(rows)


@dataclass(frozen=True)
class Rows:
    """Remembered rows: for each layer keys and values (R, C, H, D), and which columns are a row's own tokens (R, C)."""

    layers: list[tuple[Tensor, Tensor]]
    valid_RC: Tensor

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for pair in self.layers for tensor in pair)


def take_rows(cache: Cache, rows: Tensor, valid_RC: Tensor) -> Rows:
    """A copy of `rows` of `cache`, with `valid_RC` telling which of the used columns count (already for these rows)."""
    columns = [layer.columns() for layer in cache.layers]
    return Rows([(keys.index_select(0, rows), values.index_select(0, rows)) for keys, values in columns], valid_RC)


def all_rows(cache: Cache, valid_RC: Tensor) -> Rows:
    """All rows of a cache that nobody goes on using, not copied."""
    return Rows([layer.columns() for layer in cache.layers], valid_RC)


def assemble(config: Any, sources: Sequence[Rows], places: Sequence[tuple[int, int]]) -> tuple[Cache, Tensor]:
    """A cache whose row i is row `places[i][1]` of `sources[places[i][0]]`, its valid columns moved to the right end.

    Returns:
        The cache, and its mask (R, C): which columns are tokens.
    """
    device = sources[0].valid_RC.device
    lengths = [source.valid_RC.sum(1) for source in sources]
    length_R = torch.stack([lengths[source][row] for source, row in places])
    width = int(length_R.max())
    mask_RC = torch.arange(width, device=device)[None] >= (width - length_R)[:, None]
    cache = new_cache(config)
    pairs = [_empty_like(pair, len(places), width) for pair in sources[0].layers]
    for number, source in enumerate(sources):
        targets = [i for i, (which, _) in enumerate(places) if which == number]
        if targets:
            rows = torch.tensor([places[i][1] for i in targets], device=device)
            _copy_right_aligned(source, rows, torch.tensor(targets, device=device), pairs, width)
    for layer, (keys, values) in zip(cache.layers, pairs, strict=True):
        layer.fill(keys, values)
    return cache, mask_RC


def _copy_right_aligned(
    source: Rows, rows: Tensor, targets: Tensor, pairs: list[tuple[Tensor, Tensor]], width: int
) -> None:
    valid_RC = source.valid_RC[rows]
    total = valid_RC.shape[1]
    order_RC = valid_RC.byte().argsort(dim=1, stable=True)  # junk first, then the row's own columns in order
    if total < width:  # a shorter source: repeat its first junk or own column on the left; the mask hides it
        order_RC = torch.cat([order_RC[:, :1].expand(-1, width - total), order_RC], dim=1)
    flat = (rows[:, None] * total + order_RC[:, -width:]).flatten()
    for (keys, values), (to_keys, to_values) in zip(source.layers, pairs, strict=True):
        for tensor, to in ((keys, to_keys), (values, to_values)):
            _, columns, heads, size = tensor.shape
            assert columns == total
            picked = tensor.reshape(-1, heads * size).index_select(0, flat)
            to[targets] = picked.view(len(rows), width, heads, size)


def _empty_like(pair: tuple[Tensor, Tensor], rows: int, width: int) -> tuple[Tensor, Tensor]:
    keys, values = pair
    return keys.new_empty(rows, width, *keys.shape[2:]), values.new_empty(rows, width, *values.shape[2:])
