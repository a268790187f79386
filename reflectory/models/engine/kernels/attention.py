"""Attention of all tokens of a pass, each to its own runs of keys, by one compiled loop.

Scores have to be finite: the loops add in any order, which LLVM does for finite numbers alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reflectory.models.engine.kernels import shared_attention as compiled
from reflectory.models.engine.kernels.products import BLOCK, CHUNK, has_tiles
from reflectory.models.engine.kernels.vectors import LANES
from reflectory.models.engine.network import Shape

_TILES = 8
_MOST_WIDTH = 256


def shared_attention(shape: Shape) -> SharedAttention | None:
    """Return the loop for a network; ``None`` where its heads do not fit the vectors."""
    fits = shape.width % LANES == 0 and shape.width <= _MOST_WIDTH
    known = shape.dtype in (torch.float32, torch.bfloat16)
    few = shape.groups <= BLOCK * compiled.BLOCKS
    return SharedAttention(shape) if fits and known and few else None


class SharedAttention:
    """softmax(scale * q @ k.T) @ v for queries that share keys.

    In bfloat16 products are made by AMX where the processor has it; sums and softmax are
    float32 everywhere.

    Attributes:
        most_queries: Of a unit and a key-value head.

    Args:
        shape: Of the network.
        tiles: Whether AMX is used; by default where it can be.
    """

    most_queries = BLOCK * compiled.BLOCKS

    def __init__(self, shape: Shape, tiles: bool | None = None) -> None:
        self._shape = shape
        # Weights are powers of two. The default format of others in this process is not asked.
        scale = shape.scale * math.log2(math.e)
        self._scale = torch.tensor([scale], dtype=torch.float32)
        self._mode = compiled.SINGLE
        if shape.dtype == torch.bfloat16:
            usable = shape.width % CHUNK == 0 and (has_tiles() if tiles is None else tiles)
            self._mode = compiled.TILES if usable else compiled.HALF
        self._each = -(-compiled.scratch_bytes(shape.width) // 64) * 64
        self._scratch = torch.empty(0, dtype=torch.uint8)
        # 64 bytes say that each tile has 16 rows of 64 bytes; behind them is a counter.
        self._control = torch.zeros(72, dtype=torch.uint8)
        self._control[0] = 1
        self._control[16 : 16 + 2 * _TILES : 2] = 64
        self._control[48 : 48 + _TILES] = 16
        self._counter = self._control[64:].view(torch.int64)

    def __call__(
        self, query: torch.Tensor, units: NDArray[np.int64], runs: NDArray[np.int64]
    ) -> torch.Tensor:
        """Return the attention of all queries.

        Args:
            query: Shape (tokens, heads, width), contiguous.
            units: Of tokens: the first and the one behind the last, and the same of their runs;
                shape (units, 4). Of a token all runs are in one unit.
            runs: Of keys and values, shape (runs, ``run_table.COLUMNS``), see there.

        Returns:
            Shape (tokens, heads * width).
        """
        shape, threads = self._shape, torch.get_num_threads()
        if len(self._scratch) < threads * self._each:
            self._scratch = torch.empty(threads * self._each, dtype=torch.uint8)
        out = query.new_empty((len(query), shape.heads * shape.width))
        self._counter.zero_()
        table: tuple[Any, ...] = (shape.kv_heads, shape.groups, shape.width, self._mode, query, out)
        table = (*table, self._scale, units.ctypes.data, runs.ctypes.data, self._scratch)
        items = len(units) * shape.kv_heads
        compiled.attend(items, *table, self._each, len(runs), self._control)
        return out
