"""Kernels between two products: add, normalise and round; gate and round; turn."""

from __future__ import annotations

import torch

from reflectory.models.engine.kernels import integer_kernels


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
    integer_kernels.absorb(len(x), x.shape[1], parts, x, y, scales, bias, out, found, epsilon)


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
    integer_kernels.gate(len(both), both.shape[1] // 2, both, scales, bias, out, found)


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
    integer_kernels.turn(len(y), *sizes, y, scales, bias, cosine, sine, query, kv)
