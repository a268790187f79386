"""Kernels of attention: rows with few tokens of their own, and parts put together.

Scores have to be finite: the loops add in any order, which LLVM does for finite numbers alone.
"""

from __future__ import annotations

import torch

from reflectory.models.engine.kernels import attention_kernels, bfloat16_kernels


def attend_rows(
    query: torch.Tensor,
    new: torch.Tensor,
    kv: torch.Tensor,
    places: torch.Tensor,
    scale: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write each row's new keys and values, and attend to all that the row has for itself.

    softmax(scale * q @ k.T) @ v. Queries, keys and values are all float32 or all bfloat16; all
    tensors are contiguous.

    Args:
        query: Shape (rows, heads, width).
        new: Shape (rows, 2, key-value heads, width).
        kv: Buffer of all slots, shape (slots, columns, 2, key-value heads, width); changed.
        places: Slot of each row, and how many of its columns are in use with the new one,
            at least 1; shape (2, rows), int64.
        scale: Factor on the scores, one number, float32.

    Returns:
        Output, shape (key-value heads, rows * groups, width), and log-sum-exp, without width,
        in float32.
    """
    rows, heads, width = query.shape
    slots, columns, _, kv_heads, _ = kv.shape
    groups = heads // kv_heads
    out = query.new_empty((kv_heads, rows * groups, width))
    found = query.new_empty((kv_heads, rows * groups), dtype=torch.float32)
    scores = query.new_empty((rows, heads, columns), dtype=torch.float32)
    sizes = (kv_heads, groups, width, columns, slots)
    table = (*sizes, query, new, kv, places, scale, out, found, scores)
    if query.dtype == torch.bfloat16:
        wide = query.new_empty((2, rows, heads, width), dtype=torch.float32)
        bfloat16_kernels.attend_rows_halves(rows, *table, wide[0], wide[1])
    else:
        attention_kernels.attend_rows(rows, *table)
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
    kernel = (
        bfloat16_kernels.merge_halves if out.dtype == torch.bfloat16 else attention_kernels.merge
    )
    kernel(out.shape[1], *sizes, *out.stride()[:2], *total.stride(), *whole, out, total)
