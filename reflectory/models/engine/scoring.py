"""Likelihoods of given continuations, several in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reflectory.models.engine.decoding import read_rows
from reflectory.models.engine.prefix_cache import PrefixCache
from reflectory.models.engine.runner import Runner
from reflectory.models.engine.work import ScoreRow


def score_together(runner: Runner, prefixes: PrefixCache, rows: Sequence[ScoreRow]) -> None:
    """Set the log-likelihoods of some rows.

    Logits are made for the positions of the continuations only, and turned to
    probabilities row by row: a vocabulary is large, and prompts are long.
    """
    keep = max(len(row.targets) for row in rows)
    logits = read_rows(runner, prefixes, rows, keep).logits
    for row, scores in zip(rows, logits, strict=True):
        row.logprobs = logprobs_of(scores[-len(row.targets) :], row.targets)


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
