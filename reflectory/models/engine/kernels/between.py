"""Kernels between two products: add, normalise and round; gate and round; turn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import carray

from reflectory.models.engine.kernels.table import (
    Floats,
    Kernel,
    digits,
    floats,
    inlined,
    loop,
    share,
)

_F = np.float32


@inlined
def exp(v: Any) -> Any:
    """Return e to the power of v as 2**n times a polynomial (after Cephes' ``expf``)."""
    v = min(max(v, _F(-87.0)), _F(88.0))
    n = _F(math.floor(v * _F(1.44269504) + _F(0.5)))
    r = v - n * _F(0.693359375) + n * _F(2.12194440e-4)
    p = _F(1.9875691500e-4)
    p = p * r + _F(1.3981999507e-3)
    p = p * r + _F(8.3334519073e-3)
    p = p * r + _F(4.1665795894e-2)
    p = p * r + _F(1.6666665459e-1)
    p = p * r + _F(5.0000001201e-1)
    p = p * r * r + r + _F(1.0)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


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
    return max(np.int32(big).view(np.float32), _F(1e-30))


@loop
def _mean_square(x: Floats) -> Any:
    total = _F(0.0)
    for j in range(x.size):
        total += x[j] * x[j]
    return total / _F(x.size)


@loop
def _round(x: Floats, factor: Any, out: Any) -> None:
    for j in range(x.size):
        out[j] = np.uint8(np.int32(x[j] * factor + _F(128.5)))


@loop
def _round_twice(x: Floats, factor: Any, first: Any, second: Any) -> None:
    for j in range(x.size):
        raised = x[j] * factor + _F(128.5)
        whole = np.int32(raised)
        first[j] = np.uint8(whole)
        second[j] = np.uint8(np.int32((raised - _F(whole)) * _F(254.0) + _F(1.5)))


@loop
def _add(x: Floats, y: Floats, scale: Any, bias: Floats) -> None:
    for j in range(x.size):
        x[j] += y[j] * scale + bias[j]


@loop
def _add_twice(x: Floats, first: Floats, second: Floats, scale: Any, bias: Floats) -> None:
    for j in range(x.size):
        x[j] += (first[j] + second[j] * _F(0.5 / 127.0)) * scale + bias[j]


@loop
def _gated(gates: Floats, up: Floats, scale: Any, bias: Floats, up_bias: Floats) -> None:
    for j in range(gates.size):
        v = gates[j] * scale + bias[j]
        gates[j] = v / (_F(1.0) + exp(-v)) * (up[j] * scale + up_bias[j])


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
def _absorb(table: Any) -> None:
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
        length = np.sqrt(_mean_square(row) + epsilon) if epsilon >= _F(0.0) else _F(1.0)
        found[i, 0] = big / length
        _round(row, _F(127.0) / big, out[i])


@Kernel
def _gate(table: Any) -> None:
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
        _round_twice(gates, _F(127.0) / big, out[i], out[rows + i])


@Kernel
def _turn(table: Any) -> None:
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


def absorb(
    x: torch.Tensor,
    y: torch.Tensor | None,
    scales: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
    found: torch.Tensor,
    epsilon: torch.Tensor,
) -> None:
    """Add what a product said to hidden states, and round these for the next product.

    x += y * scales + bias; out = floor(127 x / max |x| + 128.5); found = max |x| over the
    root of mean(x**2) + epsilon, by row. All tensors are float32 and contiguous.

    Args:
        x: Shape (tokens, width), changed.
        y: Shape (tokens, width), or (2 tokens, width) with the sums of the second
            digits below those of the first; ``None`` adds nothing.
        scales: Of the rows of ``y``, shape (tokens, 1).
        bias: Shape (width,).
        out: Shape (tokens, width), bytes, written.
        found: Shape (tokens, 1), written; may be ``scales``.
        epsilon: One number; a negative one does without the root.
    """
    parts = 0 if y is None else len(y) // len(x)
    y = x if y is None else y
    _absorb(len(x), x.shape[1], parts, x, y, scales, bias, out, found, epsilon)


def gate(
    both: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
    found: torch.Tensor,
) -> None:
    """Gate, and round in two digits.

    v = silu(g * scales + bias) * (u * scales + bias) takes the place of g;
    r = 127 v / max |v| + 128.5, first digit floor(r), second floor(254 (r - floor(r)) + 1.5).

    Args:
        both: g beside u, shape (tokens, 2 width), changed.
        scales: Of the rows, shape (tokens, 1).
        bias: Shape (2 width,).
        out: Shape (2 tokens, width), bytes: the first digits, below them the second.
        found: max |v| of each row, shape (tokens, 1), written; may be ``scales``.
    """
    _gate(len(both), both.shape[1] // 2, both, scales, bias, out, found)


def turn(
    y: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor,
    cosine: torch.Tensor,
    sine: torch.Tensor,
    query: torch.Tensor,
    kv: torch.Tensor,
) -> None:
    """Scale queries, keys and values, and turn the first two by their positions.

    With z = y * scales + bias and z' its halves exchanged: z * cosine + z' * sine.

    Args:
        y: Sums of the product, shape (tokens, heads + 2 key-value heads, width).
        scales: Of the rows, shape (tokens, 1).
        bias: Shape ((heads + 2 key-value heads) * width,).
        cosine: Shape (tokens, 1, width).
        sine: The same, negative in the first half.
        query: Shape (tokens, heads, width), written.
        kv: Shape (tokens, 2, key-value heads, width), written.
    """
    sizes = (query.shape[1], kv.shape[2], query.shape[2])
    _turn(len(y), *sizes, y, scales, bias, cosine, sine, query, kv)
