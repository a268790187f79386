"""Attention of a pass in operations of torch; what runs where there are no compiled loops."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reflectory.models.engine.attention import Part, attend, merge
from reflectory.models.engine.layout import Layout, Level
from reflectory.models.engine.network import Shape
from reflectory.models.engine.reading import Reading
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import Node


class PlainAttention:
    """Attention of one pass, called once per layer (see :data:`Attend`).

    What shares a node meets the node's keys in one product; the parts of a token are merged.

    Args:
        shape: Of the network.
        store: Own keys and values of the decoding rows; each gets a token more.
        layout: What stands where.
        reading: Gets what nodes are to hold.
    """

    def __init__(self, shape: Shape, store: RowStore, layout: Layout, reading: Reading) -> None:
        self._shape = shape
        self._store = store
        self._layout = layout
        self._reading = reading
        self._rows = len(layout.slots)
        self._shuffle: tuple[torch.Tensor, torch.Tensor] | None = None
        self._places = self._bias = None
        if layout.slots:
            self._places = store.places(layout.slots)
            self._bias = store.bias()
            if layout.slots != list(range(len(layout.slots))):
                packed = torch.tensor(layout.slots, device=shape.device)
                self._shuffle = (packed, packed.argsort())

    def __call__(self, layer: int, query: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        """Return the attention of one layer."""
        if self._places is not None:
            self._store.write(layer, self._places, kv[: self._rows])
        self._reading.keep(layer, kv)
        shape, count = self._shape, len(query)
        parts = []
        if self._rows:
            parts.append(self._own(layer, query[: self._rows]))
        for _, begin, end in self._layout.pieces:
            parts.append(self._within(query[begin:end], kv[begin:end]))
        whole = _joined(parts)
        if self._layout.levels:
            by_head = query.view(count, shape.kv_heads, shape.groups, shape.width)
            by_head = by_head.transpose(0, 1).reshape(1, shape.kv_heads, -1, shape.width)
            for level in self._layout.levels:
                whole = self._before(layer, by_head, level, whole)
        out = whole[0].view(shape.kv_heads, count, shape.groups, shape.width)
        return out.transpose(0, 1).reshape(count, -1)

    def _own(self, layer: int, query: torch.Tensor) -> Part:
        """Attend to what belongs to each decoding row alone."""
        shape, rows = self._shape, self._rows
        grouped = query.reshape(rows, shape.kv_heads, shape.groups, shape.width)
        if self._shuffle is not None:
            grouped = grouped[self._shuffle[1]]
        keys, values = self._store.read(layer)
        out, total = attend(grouped, keys, values, shape.scale, bias=self._bias)
        if self._shuffle is not None:
            out, total = out[self._shuffle[0]], total[self._shuffle[0]]
        flat = (shape.kv_heads, rows * shape.groups)
        return (
            out.transpose(0, 1).reshape(*flat, shape.width),
            total.transpose(0, 1).reshape(flat),
        )

    def _within(self, query: torch.Tensor, kv: torch.Tensor) -> Part:
        """Attend from the tokens of one piece to those before them in it."""
        shape, count = self._shape, len(query)
        keys, values = kv.permute(1, 2, 0, 3).repeat_interleave(shape.groups, dim=1)[:, None]
        out, total = attend(query.transpose(0, 1)[None], keys, values, shape.scale, causal=True)
        by_head = (shape.kv_heads, shape.groups, count)
        flat = (shape.kv_heads, count * shape.groups)
        return (
            out.view(*by_head, shape.width).transpose(1, 2).reshape(*flat, shape.width),
            total.view(by_head).transpose(1, 2).reshape(flat),
        )

    def _before(self, layer: int, query: torch.Tensor, level: Level, whole: Part) -> Part:
        """Return ``whole`` with the attention to shared nodes merged into it."""
        groups = self._shape.groups
        found: list[Part] = []
        first = last = level[0][1]
        for node, begin, end in [*level, (None, -1, -1)]:
            if begin != last and found:
                whole = _merged(whole, _joined(found), first * groups, last * groups)
                found, first = [], begin
            if node is None:
                break
            found.append(self._to_node(layer, query, node, begin, end))
            last = end
        return whole

    def _to_node(self, layer: int, query: torch.Tensor, node: Node, begin: int, end: int) -> Part:
        """Return the attention of some neighbours to a node that they share."""
        groups = self._shape.groups
        keys, values = self._reading.run(layer, node)[:, None]
        asked = query[:, :, begin * groups : end * groups]
        out, total = attend(asked, keys, values, self._shape.scale)
        return out[0], total[0]


def _joined(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([p[0] for p in parts], dim=1), torch.cat([p[1] for p in parts], dim=1)


def _merged(whole: Part, part: Part, begin: int, end: int) -> Part:
    """Return ``whole`` with the queries from ``begin`` to ``end`` attending to ``part`` too."""
    if begin == 0 and end == whole[1].shape[1]:
        return merge(whole, part)
    out, total = merge((whole[0][:, begin:end], whole[1][:, begin:end]), part)
    whole[0][:, begin:end] = out
    whole[1][:, begin:end] = total
    return whole
