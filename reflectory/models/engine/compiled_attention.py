"""Attention of a pass by one compiled loop per layer (``kernels/shared_attention.py``).

The tokens of a pass are cut into units: neighbours that see mostly the same. A unit has a list of
runs, which are keys and values that lie somewhere in memory: a node's, a row's own, or those of
a piece that is being read. Threads take units, one key-value head at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reflectory.models.engine.layout import Layout
from reflectory.models.engine.network import Shape
from reflectory.models.engine.reading import Reading
from reflectory.models.engine.run_table import KEY, NEW, VALUE
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import Node


class CompiledAttention:
    """Attention of one pass, called once per layer (see :data:`Attend`).

    Args:
        shape: Of the network.
        store: Own keys and values of the decoding rows; each gets a token more.
        layout: What stands where.
        reading: Gets what nodes are to hold.
        kernel: ``kernels.SharedAttention`` for this shape.
    """

    def __init__(
        self, shape: Shape, store: RowStore, layout: Layout, reading: Reading, kernel: Any
    ) -> None:
        self._shape = shape
        self._store = store
        self._layout = layout
        self._reading = reading
        self._kernel = kernel
        store.grow(layout.slots)
        self._head_bytes = shape.width * shape.dtype.itemsize
        self._token_bytes = 2 * shape.kv_heads * self._head_bytes
        self._runs: list[tuple[int, ...]] = []
        # Number of a run, and whose keys it has: a node's, a row's, those read at a place.
        self._nodes: list[tuple[int, Node]] = []
        self._own: list[tuple[int, int]] = []
        self._within: list[tuple[int, int]] = []
        units = [self._unit(*unit) for unit in _units(layout, kernel.most_queries // shape.groups)]
        self._units = np.array(units, np.int64)
        self._table = np.array(self._runs, np.int64)
        self._value_distance = self._table[:, VALUE].copy()
        self._old = self._addresses()
        self._fresh = [(number, node) for number, node in self._nodes if node in reading]
        self._rows, places = np.array(self._own, np.int64).reshape(-1, 2).T
        self._slots = np.array([layout.slots[place] for place in places], np.int64)
        self._new = places * self._token_bytes
        self._read, places = np.array(self._within, np.int64).reshape(-1, 2).T
        self._offsets = places * self._token_bytes

    def __call__(self, layer: int, query: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        """Return the attention of one layer."""
        kv = kv.contiguous()
        self._reading.keep(layer, kv)
        self._locate(layer, kv)
        found: torch.Tensor = self._kernel(query.contiguous(), self._units, self._table)
        return found

    def _unit(self, begin: int, end: int) -> tuple[int, int, int, int]:
        """Write down the runs of a unit; return its places and runs, first and behind last."""
        width, kv_heads, layout = self._shape.width, self._shape.kv_heads, self._layout
        first = len(self._runs)
        for level in layout.levels:
            for node, from_, to in level:
                if from_ < end and begin < to:
                    self._nodes.append((len(self._runs), node))
                    count = node.end - node.cover
                    steps = (kv_heads * count * self._head_bytes, count * width, width)
                    self._runs.append((0, *steps, count, from_, to, 0, 0))
        steps = (kv_heads * self._head_bytes, width, 2 * kv_heads * width)
        for row in range(begin, min(end, len(layout.slots))):
            self._own.append((len(self._runs), row))
            length = self._store.lengths[layout.slots[row]]
            self._runs.append((0, *steps, length, row, row + 1, 0, 0))
        for _, from_, to in layout.pieces:
            if from_ < end and begin < to:
                self._within.append((len(self._runs), from_))
                self._runs.append((0, *steps, to - from_, from_, to, 1, 0))
        return begin, end, first, len(self._runs)

    def _addresses(self) -> NDArray[np.int64]:
        """Return where the keys of nodes lie that were read before, shape (layers, runs)."""
        found = np.zeros((self._shape.layers, len(self._runs)), np.int64)
        for number, node in self._nodes:
            if node not in self._reading:
                layers = range(self._shape.layers)
                found[:, number] = [self._reading.run(at, node).data_ptr() for at in layers]
        return found

    def _locate(self, layer: int, kv: torch.Tensor) -> None:
        """Write the addresses of a layer into the table."""
        keys, here = self._table[:, KEY], kv.data_ptr()
        keys[:] = self._old[layer]
        for number, node in self._fresh:
            keys[number] = self._reading.run(layer, node).data_ptr()
        keys[self._read] = here + self._offsets
        if len(self._rows):
            buffer = self._store.buffer(layer)
            slot_bytes = buffer.shape[1] * self._token_bytes
            keys[self._rows] = buffer.data_ptr() + self._slots * slot_bytes
            self._table[self._rows, NEW] = here + self._new
        self._table[:, VALUE] = keys + self._value_distance


def _units(layout: Layout, most: int) -> Iterator[tuple[int, int]]:
    """Yield the places of units: neighbourhoods, in equal parts of ``most`` places at most."""
    for begin, end in layout.neighbourhoods:
        parts = -(-(end - begin) // most)
        cuts = [begin + (end - begin) * part // parts for part in range(parts + 1)]
        yield from pairwise(cuts)
