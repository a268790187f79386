"""Compiled code between two integer products; see ``between.py`` for what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from reflectory.models.engine.kernels.loops import (
    Floats,
    digits,
    exp,
    floats,
    loop,
    mean_square,
    share,
    single,
)
from reflectory.models.engine.kernels.table import Kernel


@loop
def _largest(x: Floats) -> Any:
    """Return the largest absolute value, at least 1e-30."""
    # Positive floats are in the order of their bits, and of integers LLVM finds the
    # largest eight times as fast.
    bits = x.view(np.int32)
    big = np.int32(0)
    for j in range(bits.size):
        size = bits[j] & np.int32(0x7FFFFFFF)
        big = size if size > big else big
    return max(np.int32(big).view(np.float32), single(1e-30))


@loop
def _round(x: Floats, factor: Any, out: Any) -> None:
    for j in range(x.size):
        out[j] = np.uint8(np.int32(x[j] * factor + single(128.5)))


@loop
def _round_twice(x: Floats, factor: Any, first: Any, second: Any) -> None:
    for j in range(x.size):
        raised = x[j] * factor + single(128.5)
        whole = np.int32(raised)
        first[j] = np.uint8(whole)
        second[j] = np.uint8(np.int32((raised - single(whole)) * single(254.0) + single(1.5)))


@loop
def _add(x: Floats, y: Floats, scale: Any, bias: Floats) -> None:
    for j in range(x.size):
        x[j] += y[j] * scale + bias[j]


@loop
def _add_twice(x: Floats, first: Floats, second: Floats, scale: Any, bias: Floats) -> None:
    for j in range(x.size):
        x[j] += (first[j] + second[j] * single(0.5 / 127.0)) * scale + bias[j]


@loop
def _gated(gates: Floats, up: Floats, scale: Any, bias: Floats, up_bias: Floats) -> None:
    for j in range(gates.size):
        v = gates[j] * scale + bias[j]
        gates[j] = v / (single(1.0) + exp(-v)) * (up[j] * scale + up_bias[j])


@loop
def _turned(
    head: Floats, scale: Any, bias: Floats, cosine: Floats, sine: Floats, out: Floats
) -> None:
    half = head.size // 2
    left, right, left_bias, right_bias = head[:half], head[half:], bias[:half], bias[half:]
    for j in range(half):
        a = left[j] * scale + left_bias[j]
        b = right[j] * scale + right_bias[j]
        out[j] = a * cosine[j] + b * sine[j]
        out[half + j] = b * cosine[half + j] + a * sine[half + j]


@loop
def _scaled(x: Floats, scale: Any, bias: Floats, out: Floats) -> None:
    for j in range(x.size):
        out[j] = x[j] * scale + bias[j]


@Kernel
def absorb(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.between.absorb`."""
    t = carray(table, 10)
    rows, width, parts = t[0], t[1], t[2]
    x, y = floats(t[3], rows, width), floats(t[4], rows * parts, width)
    scales, bias = floats(t[5], rows, 1), floats(t[6], 1, width)[0]
    out, found = digits(t[7], rows, width), floats(t[8], rows, 1)
    epsilon = floats(t[9], 1, 1)[0, 0]
    begin, end = share(rows)
    for i in range(begin, end):
        row = x[i]
        if parts == 1:
            _add(row, y[i], scales[i, 0], bias)
        elif parts == 2:
            _add_twice(row, y[i], y[rows + i], scales[i, 0], bias)
        big = _largest(row)
        length = np.sqrt(mean_square(row) + epsilon) if epsilon >= single(0.0) else single(1.0)
        found[i, 0] = big / length
        _round(row, single(127.0) / big, out[i])


@Kernel
def gate(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.between.gate`."""
    t = carray(table, 7)
    rows, width = t[0], t[1]
    both, scales = floats(t[2], rows, 2 * width), floats(t[3], rows, 1)
    bias = floats(t[4], 2, width)
    out, found = digits(t[5], 2 * rows, width), floats(t[6], rows, 1)
    begin, end = share(rows)
    for i in range(begin, end):
        gates = both[i, :width]
        _gated(gates, both[i, width:], scales[i, 0], bias[0], bias[1])
        big = _largest(gates)
        found[i, 0] = big
        _round_twice(gates, single(127.0) / big, out[i], out[rows + i])


@Kernel
def turn(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.between.turn`."""
    t = carray(table, 11)
    rows, heads, kv_heads, width = t[0], t[1], t[2], t[3]
    turning, every = heads + kv_heads, heads + 2 * kv_heads
    y = floats(t[4], rows * every, width)
    scales, bias = floats(t[5], rows, 1), floats(t[6], every, width)
    cosine, sine = floats(t[7], rows, width), floats(t[8], rows, width)
    query, kv = floats(t[9], rows * heads, width), floats(t[10], rows * 2 * kv_heads, width)
    begin, end = share(rows)
    for i in range(begin, end):
        for h in range(every):
            out = query[i * heads + h] if h < heads else kv[i * 2 * kv_heads + h - heads]
            if h < turning:
                _turned(y[i * every + h], scales[i, 0], bias[h], cosine[i], sine[i], out)
            else:
                _scaled(y[i * every + h], scales[i, 0], bias[h], out)
