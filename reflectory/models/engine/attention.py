"""Attention of a few queries to a run of keys, in parts that can be put together.

A sequence's keys lie in several places: in nodes that it shares with other
sequences, and in its own buffer. Softmax over all of them is put together from
the parts by their log-sum-exp, which is exact up to rounding (known as cascade or
prefix sharing attention: Juravsky et al. 2024, "Hydragen").
"""

from __future__ import annotations

import torch

_FLASH = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
"""torch's fused kernel for processors, behind ``scaled_dot_product_attention``: asked
for directly because it also returns the log-sum-exp."""

_MOST_SCORES = 16_000_000
"""Scores held at once by the plain way, as single floats."""

Part = tuple[torch.Tensor, torch.Tensor]
"""An attention output, (..., queries, width), and its log-sum-exp, (..., queries)."""


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    *,
    causal: bool = False,
    bias: torch.Tensor | None = None,
) -> Part:
    """Return attention and log-sum-exp.

    Args:
        query: Shape (batch, heads, queries, width).
        key: Shape (batch, heads, keys, width).
        value: The same shape.
        scale: Factor on the scores.
        causal: Query i sees keys up to i only (as many keys as queries).
        bias: Added to the scores, broadcast to (batch, heads, queries, keys);
            minus infinity hides, but never all of a query's keys.

    Returns:
        The output in the number format of ``query``, and the log-sum-exp in float32.
    """
    if _FLASH is not None and query.device.type == "cpu":
        mask = None if bias is None else bias.to(query.dtype)
        return tuple(_FLASH(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)[:2])
    rows = max(1, _MOST_SCORES // max(1, query.shape[0] * query.shape[1] * key.shape[2]))
    if query.shape[2] <= rows:
        return _plain(query, key, value, scale, causal, bias, 0)
    parts = [
        _plain(query[:, :, at : at + rows], key, value, scale, causal, bias, at)
        for at in range(0, query.shape[2], rows)
    ]
    return torch.cat([p[0] for p in parts], dim=2), torch.cat([p[1] for p in parts], dim=2)


def _plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    causal: bool,
    bias: torch.Tensor | None,
    first: int,
) -> Part:
    """Attend by matrix products; ``first`` is the number of the first query."""
    # Scaled first: in half precision the unscaled product can overflow.
    scores = ((query * scale) @ key.transpose(-1, -2)).float()
    if causal:
        at = torch.arange(first, first + query.shape[2], device=query.device)
        hidden = torch.arange(key.shape[2], device=query.device) > at[:, None]
        scores = scores.masked_fill(hidden, -torch.inf)
    if bias is not None:
        scores = scores + bias
    total = scores.logsumexp(dim=-1)
    weights = (scores - total[..., None]).exp().to(query.dtype)
    return weights @ value, total


def merge(left: Part, right: Part) -> Part:
    """Return the attention over the keys of both parts."""
    total = torch.logaddexp(left[1], right[1])
    share = (right[1] - left[1]).sigmoid()[..., None].to(left[0].dtype)
    return torch.lerp(left[0], right[0], share), total
