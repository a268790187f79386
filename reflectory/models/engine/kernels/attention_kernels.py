"""Compiled code of attention in float32; see ``attention.py`` for what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from reflectory.models.engine.kernels.loops import (
    Floats,
    floats,
    integers,
    loop,
    scale_row,
    share,
    single,
    softmax,
)
from reflectory.models.engine.kernels.table import Kernel


@loop
def _dot(x: Floats, y: Floats) -> Any:
    total = single(0.0)
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@loop
def _add_times(out: Floats, x: Floats, factor: Any) -> None:
    for j in range(out.size):
        out[j] += factor * x[j]


@Kernel
def attend_rows(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.attention.attend_rows`."""
    t = carray(table, 14)
    rows, kv_heads, groups, width, columns, slots = t[0], t[1], t[2], t[3], t[4], t[5]
    heads, step = kv_heads * groups, 2 * kv_heads
    query = floats(t[6], rows * heads, width)
    new, kv = floats(t[7], rows * step, width), floats(t[8], slots * columns * step, width)
    places, scale = integers(t[9], 2, rows), floats(t[10], 1, 1)[0, 0]
    out, found = (
        floats(t[11], kv_heads * rows * groups, width),
        floats(t[12], kv_heads, rows * groups),
    )
    scores = floats(t[13], rows * heads, columns)
    begin, end = share(rows)
    for i in range(begin, end):
        first, length = places[0, i] * columns * step, places[1, i]
        for h in range(step):
            kv[first + (length - 1) * step + h] = new[i * step + h]
        # Token by token over all heads, since that is how they lie in memory.
        for c in range(length):
            for h in range(kv_heads):
                key = kv[first + c * step + h]
                for g in range(i * heads + h * groups, i * heads + (h + 1) * groups):
                    scores[g, c] = _dot(query[g], key)
        for h in range(kv_heads):
            for g in range(groups):
                weights = scores[i * heads + h * groups + g, :length]
                scale_row(weights, scale)
                found[h, i * groups + g] = softmax(weights)
                out[(h * rows + i) * groups + g] = single(0.0)
        for c in range(length):
            for h in range(kv_heads):
                value = kv[first + c * step + kv_heads + h]
                for g in range(groups):
                    weight = scores[i * heads + h * groups + g, c]
                    _add_times(out[(h * rows + i) * groups + g], value, weight)


@loop
def _mix(out: Floats, part: Floats, weight: Any) -> None:
    for j in range(out.size):
        out[j] += weight * (part[j] - out[j])


@Kernel
def merge(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.attention.merge`."""
    t = carray(table, 13)
    count, heads, width, places, begin = t[0], t[1], t[2], t[3], t[4]
    by_head, by_query, total_by_head, total_by_query = t[5], t[6], t[7], t[8]
    out, found = floats(t[9], heads * places, width), floats(t[10], heads, places)
    part = floats(t[11], 1, by_head * heads + by_query * count)[0]
    total = floats(t[12], 1, total_by_head * heads + total_by_query * count)[0]
    first, last = share(count)
    for h in range(heads):
        for i in range(first, last):
            left = found[h, begin + i]
            right = total[h * total_by_head + i * total_by_query]
            at = h * by_head + i * by_query
            weight = single(1.0) / (single(1.0) + np.exp(left - right))
            _mix(out[h * places + begin + i], part[at : at + width], weight)
            big, small = max(left, right), min(left, right)
            found[h, begin + i] = big + np.log(single(1.0) + np.exp(small - big))
