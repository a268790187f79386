"""Kernels of attention: rows with few tokens of their own, and parts put together.

Scores have to be finite: the loops add in any order, which LLVM does for finite numbers alone.
"""

from __future__ import annotations

import torch

from reflectory.models.engine.kernels import loops


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
    loops.attend_rows(rows, *sizes, query, new, kv, places, scale, out, found, scores)
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
    loops.merge(out.shape[1], *sizes, *out.stride()[:2], *total.stride(), *whole, out, total)
