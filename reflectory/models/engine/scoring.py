"""Likelihoods of given continuations."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def logprobs_of(logits: torch.Tensor, targets: Sequence[int]) -> tuple[float, ...]:
    """Return the natural log-probability of each target.

    Args:
        logits: Shape (targets, vocabulary).
        targets: Token ids.
    """
    single = logits.float()
    index = torch.tensor(targets, device=single.device)[:, None]
    chosen = single.gather(1, index)[:, 0] - torch.logsumexp(single, dim=-1)
    return tuple(chosen.tolist())
