"""Likelihoods of given continuations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch

from reflectory.models.engine.work import ScoreRow

REMEMBERED = 2**15
"""Continuations whose likelihoods are kept, some 500 bytes each."""


def logprobs_of(logits: torch.Tensor, targets: Sequence[int]) -> tuple[float, ...]:
    """Return the natural log-probability of each target.

    Args:
        logits: Shape (targets, vocabulary), any number format.
        targets: Token ids.
    """
    single = logits.float()
    index = torch.tensor(targets, device=single.device)[:, None]
    chosen = single.gather(1, index)[:, 0] - torch.logsumexp(single, dim=-1)
    return tuple(chosen.tolist())


class RememberedScores:
    """Likelihoods of the continuations that were scored last, behind which prompt and by whom.

    An examination holds the same few names against every answer, and grades what is said
    again once more.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, bytes], tuple[float, ...]] = OrderedDict()

    def get(self, row: ScoreRow) -> tuple[float, ...] | None:
        """Return the likelihoods of a row's targets, if they are known."""
        known = self._known.get(row.name)
        if known is not None:
            self._known.move_to_end(row.name)
        return known

    def add(self, row: ScoreRow) -> None:
        """Keep what a row has found."""
        if row.logprobs is None:
            return
        self._known[row.name] = row.logprobs
        self._known.move_to_end(row.name)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def forget(self, adapter: str) -> None:
        """Drop what an adapter has found."""
        for name in [name for name in self._known if name[0] == adapter]:
            del self._known[name]
