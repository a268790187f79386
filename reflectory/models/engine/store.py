"""Keys and values that belong to one running row only, for all rows in one buffer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reflectory.models.engine.network import Shape

_ROOM = 64
"""Rows grow in steps of so many tokens."""


class RowStore:
    """One slot per running row, the slots of live rows without gaps.

    Every row begins at column 0, so a row that joins or leaves moves no other,
    except the last one into the gap.

    Args:
        shape: Sizes of the network.

    Attributes:
        lengths: Tokens of each slot in use.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._buffers: list[torch.Tensor] = []
        self._columns = 0
        self._slots = 0
        self.lengths: list[int] = []

    @property
    def nbytes(self) -> int:
        """Size of the buffers in bytes."""
        return sum(b.numel() * b.element_size() for b in self._buffers)

    def add(self, room: int, beginning: Sequence[torch.Tensor] | None = None) -> int:
        """Return a new slot.

        Args:
            room: Tokens that the row will have at most, its beginning included.
            beginning: Per layer, what it starts with, (2, kv heads, tokens, width).
        """
        self._reserve(len(self.lengths) + 1, room)
        slot = len(self.lengths)
        self.lengths.append(0)
        if beginning is not None:
            length = beginning[0].shape[2]
            for buffer, layer in zip(self._buffers, beginning, strict=True):
                buffer[slot, :length] = layer.permute(2, 0, 1, 3)
            self.lengths[slot] = length
        return slot

    def remove(self, slot: int) -> int:
        """Free a slot; return the number of the slot that moved into it (or itself)."""
        last = len(self.lengths) - 1
        if slot != last:
            length = self.lengths[last]
            for buffer in self._buffers:
                buffer[slot, :length] = buffer[last, :length]
            self.lengths[slot] = length
        self.lengths.pop()
        if not self.lengths:
            self.clear()
        return last

    def clear(self) -> None:
        """Give everything back."""
        self._buffers, self._columns, self._slots, self.lengths = [], 0, 0, []

    def places(self, slots: Sequence[int]) -> torch.Tensor:
        """Return where the next token of each slot is written, and count it."""
        places = [slot * self._columns + self.lengths[slot] for slot in slots]
        self.grow(slots)
        return torch.tensor(places, device=self._shape.device)

    def grow(self, slots: Sequence[int]) -> None:
        """Count a token more in each slot."""
        for slot in slots:
            self.lengths[slot] += 1

    def write(self, layer: int, places: torch.Tensor, kv: torch.Tensor) -> None:
        """Write the keys and values of new tokens, (tokens, 2, kv heads, width)."""
        self._buffers[layer].view(-1, *kv.shape[1:]).index_copy_(0, places, kv)

    def buffer(self, layer: int) -> torch.Tensor:
        """Return what a layer's slots lie in, (slots, columns, 2, kv heads, width)."""
        return self._buffers[layer]

    def read(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of all slots, each (slots, kv heads, columns, width)."""
        used = self._buffers[layer][: len(self.lengths), : max(self.lengths)]
        return used[:, :, 0].transpose(1, 2), used[:, :, 1].transpose(1, 2)

    def bias(self) -> torch.Tensor | None:
        """Return what hides the columns behind each slot's tokens; ``None`` if nothing does.

        Shape (slots, 1, 1, columns), in the number format of the network.
        """
        columns = max(self.lengths)
        if min(self.lengths) == columns:
            return None
        lengths = torch.tensor(self.lengths, device=self._shape.device)
        hidden = torch.arange(columns, device=lengths.device) >= lengths[:, None]
        bias = torch.zeros(hidden.shape, dtype=self._shape.dtype, device=lengths.device)
        return bias.masked_fill_(hidden, -torch.inf)[:, None, None]

    def _reserve(self, slots: int, columns: int) -> None:
        if slots <= self._slots and columns <= self._columns:
            return
        if columns > self._columns:
            columns = -(-columns // _ROOM) * _ROOM
        columns = max(columns, self._columns)
        if slots > self._slots:
            slots = max(slots, min(2 * self._slots, self._slots + 16))
        slots = max(slots, self._slots)
        shape = self._shape
        size = (slots, columns, 2, shape.kv_heads, shape.width)
        old, used = self._buffers, len(self.lengths)
        # Made layer by layer, so that no more than one is there twice.
        made: list[torch.Tensor] = []
        for layer in range(shape.layers):
            # Zeros, not garbage: a hidden column is multiplied by 0, and 0 * NaN is NaN.
            buffer = torch.zeros(size, dtype=shape.dtype, device=shape.device)
            if used:
                buffer[:used, : self._columns] = old[layer][:used]
                old[layer] = buffer[:0]
            made.append(buffer)
        self._buffers, self._slots, self._columns = made, slots, columns
