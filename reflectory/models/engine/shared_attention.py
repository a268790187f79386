"""Attention of many rows over one copy of the prefix that they share.

With the prefix copied into every row, each decoding step reads all copies, row
by row; on a CPU that is two thirds of a step at 32 rows and 600 shared tokens.
Here the queries of all rows meet the one prefix in a single matrix product, and
only what is the row's own is read per row. Both parts share one softmax, so the
result is that of ordinary attention. (The idea is known as cascade or prefix
sharing attention: Juravsky et al. 2024, "Hydragen".)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from reflectory.models.engine.kv import Prefix

NAME = "reflectory_shared"
"""Name of this attention among those of transformers."""

_MOST_SCORES = 16_000_000
"""Scores held at once, as single floats; larger groups of rows are cut in pieces."""


@dataclass(frozen=True, eq=False)
class SharedPrefixes:
    """Which rows of a batch begin with which prefix.

    Attributes:
        rows: Prefix of each row; ``None`` for a row without one.
        groups: Indices of the rows of each prefix, shape (n,), and the prefix.
    """

    rows: tuple[Prefix | None, ...]
    groups: tuple[tuple[torch.Tensor, Prefix | None], ...]

    @classmethod
    def of(cls, rows: Sequence[Prefix | None], device: torch.device) -> SharedPrefixes:
        """Group rows by the identity of their prefix."""
        members: dict[int, list[int]] = {}
        for i, prefix in enumerate(rows):
            members.setdefault(id(prefix), []).append(i)
        groups = tuple(
            (torch.tensor(indices, device=device), rows[indices[0]]) for indices in members.values()
        )
        return cls(tuple(rows), groups)


def shared_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prefixes: SharedPrefixes | None = None,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to the rows' own tokens and to their shared prefixes.

    Without ``shared_prefixes`` this is transformers' ordinary attention, so a
    model that uses it can be used by others as before.

    Args:
        module: The attention layer; its ``layer_idx`` picks the prefix's tensors.
        query: Shape (rows, heads, new tokens, width).
        key: The rows' own keys, shape (rows, key-value heads, tokens, width).
        value: The rows' own values, the same shape.
        attention_mask: True where a row may look among its own tokens, shape
            (rows, 1, new tokens, tokens); ``None`` for everything before it.
        shared_prefixes: What lies before the rows' own tokens.
        scaling: Factor on the scores.
        rest: Handed on to ordinary attention.

    Returns:
        Shape (rows, new tokens, heads, width), and no weights.
    """
    if shared_prefixes is None:
        done: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **rest
        )
        return done
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    visible = attention_mask
    if visible is None:
        new, length = query.shape[2], key.shape[2]
        visible = torch.ones((1, 1, new, length), dtype=torch.bool, device=query.device)
        visible = visible.tril(length - new)
    visible = visible.expand(len(query), -1, -1, -1)
    result = query.new_empty((*query.shape[:3], value.shape[-1]))
    layer = int(getattr(module, "layer_idx"))  # noqa: B009 - a Tensor or Module to mypy
    for members, prefix in shared_prefixes.groups:
        pair = None if prefix is None else (prefix.keys[layer], prefix.values[layer])
        width = key.shape[2] + (0 if prefix is None else len(prefix))
        per_row = query.shape[1] * query.shape[2] * width
        for rows in members.split(max(1, _MOST_SCORES // per_row)):
            if len(rows) == len(query):
                result = _attend(query, key, value, visible, pair, scale)
            else:
                result[rows] = _attend(
                    query[rows], key[rows], value[rows], visible[rows], pair, scale
                )
    return result.transpose(1, 2).contiguous(), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visible: torch.Tensor,
    prefix: tuple[torch.Tensor, torch.Tensor] | None,
    scale: float,
) -> torch.Tensor:
    """Attend for rows that have the same prefix, shapes as in :func:`shared_attention`."""
    rows, heads, new, width = query.shape
    groups = key.shape[1]
    # Query heads of one key-value head lie together: they become one matrix.
    grouped = query.reshape(rows, groups, heads // groups * new, width)
    scores = grouped @ key.transpose(2, 3)
    if prefix is not None:
        before = _across(grouped, prefix[0].transpose(1, 2))
        scores = torch.cat([before, scores], dim=-1)
    known = scores.shape[-1] - key.shape[2]
    scores = scores.float() * scale
    hidden = ~visible.repeat(1, 1, heads // groups, 1)
    # Not minus infinity: a padding query that sees nothing must not become NaN.
    scores[..., known:].masked_fill_(hidden, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1).to(query.dtype)
    result = weights[..., known:] @ value
    if prefix is not None:
        result = result + _across(weights[..., :known], prefix[1])
    return result.reshape(rows, heads, new, value.shape[-1])


def _across(per_row: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Multiply (rows, groups, n, a) by one (groups, a, b) as one product per group."""
    rows, groups, count, inner = per_row.shape
    flat = per_row.transpose(0, 1).reshape(groups, rows * count, inner)
    return (flat @ matrix).view(groups, rows, count, -1).transpose(0, 1)


AttentionInterface.register(NAME, shared_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
