"""Kernels of attention: rows with few tokens of their own, and parts put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray

from reflectory.models.engine.kernels.between import exp
from reflectory.models.engine.kernels.table import Floats, Kernel, floats, integers, loop, share

_F = np.float32


@loop
def _dot(x: Floats, y: Floats) -> Any:
    total = _F(0.0)
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@loop
def _add_times(out: Floats, x: Floats, factor: Any) -> None:
    for j in range(out.size):
        out[j] += factor * x[j]


@loop
def _scale(x: Floats, factor: Any) -> None:
    for j in range(x.size):
        x[j] *= factor


@loop
def _softmax(scores: Floats) -> Any:
    """Put the softmax in the place of scores, and return their log-sum-exp."""
    big = scores[0]
    for j in range(scores.size):
        big = scores[j] if scores[j] > big else big
    total = _F(0.0)
    for j in range(scores.size):
        weight = exp(scores[j] - big)
        scores[j] = weight
        total += weight
    _scale(scores, _F(1.0) / total)
    return big + np.log(total)


@Kernel
def _attend_rows(table: Any) -> None:
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
                _scale(weights, scale)
                found[h, i * groups + g] = _softmax(weights)
                out[(h * rows + i) * groups + g] = _F(0.0)
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
def _merge(table: Any) -> None:
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
            weight = _F(1.0) / (_F(1.0) + np.exp(left - right))
            _mix(out[h * places + begin + i], part[at : at + width], weight)
            big, small = max(left, right), min(left, right)
            found[h, begin + i] = big + np.log(_F(1.0) + np.exp(small - big))


def attend_rows(
    query: torch.Tensor,
    new: torch.Tensor,
    kv: torch.Tensor,
    places: torch.Tensor,
    scale: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write each row's new keys and values, and attend to all that the row has for itself.

    softmax(scale * q @ k.T) @ v, all tensors float32 and contiguous but the places.

    Args:
        query: Shape (rows, heads, width).
        new: Shape (rows, 2, key-value heads, width).
        kv: Buffer of all slots, shape (slots, columns, 2, key-value heads, width); changed.
        places: Slot of each row, and how many of its columns are in use with the new one,
            at least 1; shape (2, rows), int64.
        scale: Factor on the scores, one number.

    Returns:
        Output, shape (key-value heads, rows * groups, width), and log-sum-exp, without width.
    """
    rows, heads, width = query.shape
    slots, columns, _, kv_heads, _ = kv.shape
    groups = heads // kv_heads
    out = query.new_empty((kv_heads, rows * groups, width))
    found = query.new_empty((kv_heads, rows * groups))
    scores = query.new_empty((rows, heads, columns))
    sizes = (kv_heads, groups, width, columns, slots)
    _attend_rows(rows, *sizes, query, new, kv, places, scale, out, found, scores)
    return out, found


def merge(
    whole: tuple[torch.Tensor, torch.Tensor], part: tuple[torch.Tensor, torch.Tensor], begin: int
) -> None:
    """Add the keys of another part to an attention, as ``attention.merge`` does, in place.

    Args:
        whole: Output, shape (heads, queries, width), and log-sum-exp, (heads, queries),
            both contiguous; changed from query ``begin`` on.
        part: The same of as many queries as it has, in any order in memory.
        begin: First query.
    """
    out, total = part
    sizes = (out.shape[0], out.shape[2], whole[0].shape[1], begin)
    _merge(out.shape[1], *sizes, *out.stride()[:2], *total.stride(), *whole, out, total)
