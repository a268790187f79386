"""Compiled code in bfloat16; see ``halves.py`` and ``attention.py`` for what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from reflectory.models.engine.kernels.loops import (
    Floats,
    exp,
    floats,
    halved,
    halves,
    loop,
    mean_square,
    share,
    single,
    widened,
)
from reflectory.models.engine.kernels.table import Kernel


@loop
def _add_halves(x: Floats, y: Any) -> None:
    for j in range(x.size):
        x[j] += widened(y[j])


@loop
def _weighted(x: Floats, factor: Any, weight: Floats, out: Any) -> None:
    for j in range(x.size):
        out[j] = halved(x[j] * factor * weight[j])


@loop
def _gated_halves(gates: Any, up: Any, out: Any) -> None:
    for j in range(gates.size):
        v = widened(gates[j])
        out[j] = halved(v / (single(1.0) + exp(-v)) * widened(up[j]))


@loop
def _turned_halves(head: Any, cosine: Floats, sine: Floats, out: Any) -> None:
    half = head.size // 2
    for j in range(half):
        a, b = widened(head[j]), widened(head[half + j])
        out[j] = halved(a * cosine[j] + b * sine[j])
        out[half + j] = halved(b * cosine[half + j] + a * sine[half + j])


@loop
def _copied(x: Any, out: Any) -> None:
    for j in range(x.size):
        out[j] = x[j]


@Kernel
def norm_halves(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.halves.norm_halves`."""
    t = carray(table, 8)
    rows, width, parts = t[0], t[1], t[2]
    x, y = floats(t[3], rows, width), halves(t[4], rows, width)
    weight, out = floats(t[5], 1, width)[0], halves(t[6], rows, width)
    epsilon = floats(t[7], 1, 1)[0, 0]
    begin, end = share(rows)
    for i in range(begin, end):
        row = x[i]
        if parts == 1:
            _add_halves(row, y[i])
        factor = single(1.0) / np.sqrt(mean_square(row) + epsilon)
        _weighted(row, factor, weight, out[i])


@Kernel
def gate_halves(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.halves.gate_halves`."""
    t = carray(table, 4)
    rows, width = t[0], t[1]
    both, out = halves(t[2], rows, 2 * width), halves(t[3], rows, width)
    begin, end = share(rows)
    for i in range(begin, end):
        _gated_halves(both[i, :width], both[i, width:], out[i])


@Kernel
def turn_halves(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.halves.turn_halves`."""
    t = carray(table, 9)
    rows, heads, kv_heads, width = t[0], t[1], t[2], t[3]
    turning, every = heads + kv_heads, heads + 2 * kv_heads
    y = halves(t[4], rows * every, width)
    cosine, sine = floats(t[5], rows, width), floats(t[6], rows, width)
    query, kv = halves(t[7], rows * heads, width), halves(t[8], rows * 2 * kv_heads, width)
    begin, end = share(rows)
    for i in range(begin, end):
        for h in range(every):
            out = query[i * heads + h] if h < heads else kv[i * 2 * kv_heads + h - heads]
            if h < turning:
                _turned_halves(y[i * every + h], cosine[i], sine[i], out)
            else:
                _copied(y[i * every + h], out)
