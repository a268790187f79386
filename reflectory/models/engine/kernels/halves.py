"""Kernels between two products of bfloat16: add and normalise; gate; turn.

They compute in float32 and round once, at their end.
"""

from __future__ import annotations

import torch

from reflectory.models.engine.kernels import bfloat16_kernels


def norm_halves(
    x: torch.Tensor,
    y: torch.Tensor | None,
    weight: torch.Tensor,
    out: torch.Tensor,
    epsilon: torch.Tensor,
) -> None:
    """Add what a product said to hidden states, and normalise these for the next product.

    x += y; out = x / sqrt(mean(x**2) + epsilon) * weight, by row. All tensors are contiguous.

    Args:
        x: Shape (tokens, width), float32, changed.
        y: Shape (tokens, width), bfloat16; ``None`` adds nothing.
        weight: Shape (width,), float32.
        out: Shape (tokens, width), bfloat16, written.
        epsilon: One number, float32.
    """
    parts = 0 if y is None else 1
    bfloat16_kernels.norm_halves(
        len(x), x.shape[1], parts, x, out if y is None else y, weight, out, epsilon
    )


def gate_halves(both: torch.Tensor, out: torch.Tensor) -> None:
    """Write silu(g) * u.

    Args:
        both: g beside u, shape (tokens, 2 width), bfloat16 and contiguous.
        out: Shape (tokens, width), bfloat16 and contiguous, written.
    """
    bfloat16_kernels.gate_halves(len(both), out.shape[1], both, out)


def turn_halves(
    y: torch.Tensor,
    cosine: torch.Tensor,
    sine: torch.Tensor,
    query: torch.Tensor,
    kv: torch.Tensor,
) -> None:
    """Turn queries and keys by their positions, and copy the values.

    With z a head and z' its halves exchanged: z * cosine + z' * sine. All contiguous.

    Args:
        y: Shape (tokens, heads + 2 key-value heads, width), bfloat16.
        cosine: Shape (tokens, 1, width), float32.
        sine: The same, negative in the first half.
        query: Shape (tokens, heads, width), bfloat16, written.
        kv: Shape (tokens, 2, key-value heads, width), bfloat16, written.
    """
    sizes = (query.shape[1], kv.shape[2], query.shape[2])
    bfloat16_kernels.turn_halves(len(y), *sizes, y, cosine, sine, query, kv)
