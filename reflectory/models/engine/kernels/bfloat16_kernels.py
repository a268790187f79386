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
    integers,
    loop,
    mean_square,
    share,
    single,
    softmax,
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


@loop
def _dot_halves(x: Floats, y: Any) -> Any:
    total = single(0.0)
    for j in range(x.size):
        total += x[j] * widened(y[j])
    return total


@loop
def _add_times_halves(out: Floats, x: Any, factor: Any) -> None:
    for j in range(out.size):
        out[j] += factor * widened(x[j])


@loop
def _widen(x: Any, factor: Any, out: Floats) -> None:
    for j in range(x.size):
        out[j] = widened(x[j]) * factor


@loop
def _halve(x: Floats, out: Any) -> None:
    for j in range(x.size):
        out[j] = halved(x[j])


@Kernel
def attend_rows_halves(table: Any) -> None:
    """The same as ``attend_rows`` for bfloat16, with queries and sums in float32 meanwhile."""
    t = carray(table, 16)
    rows, kv_heads, groups, width, columns, slots = t[0], t[1], t[2], t[3], t[4], t[5]
    heads, step = kv_heads * groups, 2 * kv_heads
    query = halves(t[6], rows * heads, width)
    new, kv = halves(t[7], rows * step, width), halves(t[8], slots * columns * step, width)
    places, scale = integers(t[9], 2, rows), floats(t[10], 1, 1)[0, 0]
    out, found = (
        halves(t[11], kv_heads * rows * groups, width),
        floats(t[12], kv_heads, rows * groups),
    )
    scores = floats(t[13], rows * heads, columns)
    asked, sums = floats(t[14], rows * heads, width), floats(t[15], rows * heads, width)
    begin, end = share(rows)
    for i in range(begin, end):
        first, length = places[0, i] * columns * step, places[1, i]
        for h in range(step):
            _copied(new[i * step + h], kv[first + (length - 1) * step + h])
        for g in range(i * heads, (i + 1) * heads):
            _widen(query[g], scale, asked[g])
            sums[g] = single(0.0)
        for c in range(length):
            for h in range(kv_heads):
                key = kv[first + c * step + h]
                for g in range(i * heads + h * groups, i * heads + (h + 1) * groups):
                    scores[g, c] = _dot_halves(asked[g], key)
        for h in range(kv_heads):
            for g in range(groups):
                weights = scores[i * heads + h * groups + g, :length]
                found[h, i * groups + g] = softmax(weights)
        for c in range(length):
            for h in range(kv_heads):
                value = kv[first + c * step + kv_heads + h]
                for g in range(i * heads + h * groups, i * heads + (h + 1) * groups):
                    _add_times_halves(sums[g], value, scores[g, c])
        for h in range(kv_heads):
            for g in range(groups):
                _halve(sums[i * heads + h * groups + g], out[(h * rows + i) * groups + g])


@loop
def _mix_halves(out: Any, part: Any, weight: Any) -> None:
    for j in range(out.size):
        left = widened(out[j])
        out[j] = halved(left + weight * (widened(part[j]) - left))


@Kernel
def merge_halves(table: Any) -> None:
    """The same as ``merge`` for outputs in bfloat16; the log-sum-exp is in float32."""
    t = carray(table, 13)
    count, heads, width, places, begin = t[0], t[1], t[2], t[3], t[4]
    by_head, by_query, total_by_head, total_by_query = t[5], t[6], t[7], t[8]
    out, found = halves(t[9], heads * places, width), floats(t[10], heads, places)
    part = halves(t[11], 1, by_head * heads + by_query * count)[0]
    total = floats(t[12], 1, total_by_head * heads + total_by_query * count)[0]
    first, last = share(count)
    for h in range(heads):
        for i in range(first, last):
            left = found[h, begin + i]
            right = total[h * total_by_head + i * total_by_query]
            at = h * by_head + i * by_query
            weight = single(1.0) / (single(1.0) + np.exp(left - right))
            _mix_halves(out[h * places + begin + i], part[at : at + width], weight)
            big, small = max(left, right), min(left, right)
            found[h, begin + i] = big + np.log(single(1.0) + np.exp(small - big))
