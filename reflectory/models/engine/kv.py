"""Keys and values of attention: buffers that grow in place, and batches of them.

transformers' own growing cache concatenates at every step, which copies the
whole batch's prefix for each token. The buffers here are written in place.
All tensors have shape (rows, heads, tokens, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(frozen=True, eq=False)
class Prefix:
    """What attention keeps of the beginning of a prompt.

    Attributes:
        tokens: The tokens, shape (n,).
        keys: One tensor per layer, shape (heads, n, width).
        values: The same for values.
    """

    tokens: NDArray[np.int64]
    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        """Size of the keys and values in bytes."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def first(self, count: int) -> Prefix:
        """Return a view of the first ``count`` tokens."""
        keys = tuple(t[:, :count] for t in self.keys)
        return Prefix(self.tokens[:count], keys, tuple(t[:, :count] for t in self.values))


class BufferLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer with room: new tokens are written into it in place.

    Args:
        capacity: Tokens to make room for; it grows when that was too few.
    """

    def __init__(self, capacity: int = 0) -> None:
        super().__init__()
        self.capacity = capacity

    def fill(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Start from the tokens of ``keys`` and ``values``, copied into a buffer."""
        self.lazy_initialization(keys, values)
        self.update(keys, values)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers in the shape of the first tokens."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._keys = _room_for(key_states, self.capacity)
        self._values = _room_for(value_states, self.capacity)
        self._show(0)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new tokens behind the others and return views of all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            self._grow(end + end // 4)
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    def _grow(self, capacity: int) -> None:
        keys, values = self.keys, self.values
        self.capacity = capacity
        self._keys, self._values = _room_for(keys, capacity), _room_for(values, capacity)
        self._keys[:, :, : keys.shape[-2]] = keys
        self._values[:, :, : values.shape[-2]] = values

    def _show(self, length: int) -> None:
        self.keys = self._keys[:, :, :length]
        self.values = self._values[:, :, :length]


def _room_for(like: torch.Tensor, capacity: int) -> torch.Tensor:
    rows, heads, _, width = like.shape
    return like.new_empty((rows, heads, capacity, width))


def empty_cache(capacity: int) -> Cache:
    """Return a cache without tokens whose layers appear as the model asks for them."""
    return Cache(layer_class_to_replicate=partial(BufferLayer, capacity))


def cache_of(prefixes: Sequence[Prefix | None], capacity: int) -> Cache:
    """Return a cache whose row i begins with ``prefixes[i]``, aligned to the right.

    Args:
        prefixes: One per row; ``None`` for a row without one.
        capacity: Tokens per row to make room for, the prefixes included.
    """
    present = [prefix for prefix in prefixes if prefix is not None]
    if not present:
        return empty_cache(capacity)
    width = max(len(prefix) for prefix in present)
    layers = []
    for index in range(len(present[0].keys)):
        layer = BufferLayer(capacity)
        layer.fill(
            _aligned([None if p is None else p.keys[index] for p in prefixes], width),
            _aligned([None if p is None else p.values[index] for p in prefixes], width),
        )
        layers.append(layer)
    return Cache(layers=layers)


def _aligned(rows: Sequence[torch.Tensor | None], width: int) -> torch.Tensor:
    """Stack tensors of shape (heads, n, d) at the right edge of ``width`` tokens."""
    like = next(row for row in rows if row is not None)
    if all(row is like for row in rows):
        return like.expand(len(rows), *like.shape)
    # Zeros and not garbage: a masked position is multiplied by 0, and 0 * NaN is NaN.
    stacked = like.new_zeros((len(rows), like.shape[0], width, like.shape[2]))
    for i, row in enumerate(rows):
        if row is not None:
            stacked[i, :, width - row.shape[1] :] = row
    return stacked


def prefix_of(cache: Cache, tokens: NDArray[np.int64]) -> Prefix:
    """Return the only row of a cache as a prefix."""
    keys = tuple(layer.keys[0].contiguous() for layer in cache.layers)
    values = tuple(layer.values[0].contiguous() for layer in cache.layers)
    return Prefix(tokens, keys, values)


def joined(first: Cache, second: Cache, room: int) -> Cache:
    """Return one cache with the rows of both, aligned to the right.

    Args:
        first: Its rows come first.
        second: Its rows come behind.
        room: Tokens per row to make room for besides those that are there.
    """
    width = max(first.get_seq_length(), second.get_seq_length())
    layers = []
    for left, right in zip(first.layers, second.layers, strict=True):
        layer = BufferLayer(width + room)
        layer.fill(
            _aligned([*left.keys, *right.keys], width),
            _aligned([*left.values, *right.values], width),
        )
        layers.append(layer)
    return Cache(layers=layers)


def kept(cache: Cache, rows: torch.Tensor, start: int, room: int) -> Cache:
    """Return a cache with some rows only, without the first ``start`` columns."""
    layers = []
    for old in cache.layers:
        layer = BufferLayer(old.keys.shape[-2] - start + room)
        layer.fill(old.keys[rows, :, start:], old.values[rows, :, start:])
        layers.append(layer)
    return Cache(layers=layers)
