"""Re-ranking by pairs: which two passages together say what was asked?

A question that needs two documents is said by neither. Judged alone, the first hit's
look-alikes stand before the second document; judged together with the first hit, it is
the second document that adds what the question has and the hit has not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 24
"""How many of the best passages are paired."""

COVERED = 3.0
"""Weight of the share of the question that a pair covers."""

LINKED = 1.0
"""Weight of how much the two passages share."""

PARTNER = 0.5
"""Weight of the partner's own score against that of the passage."""

_EQUAL = 1e-6


def pair_scores(
    scores: NDArray[np.float32],
    holds: NDArray[np.bool_],
    weights: NDArray[np.float32],
    shared: NDArray[np.float32],
    documents: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Score candidates by the best pair with a passage of another document.

    Args:
        scores: What the candidates have so far, shape (n,).
        holds: Which candidate holds which term of the question, shape (n, m).
        weights: How much each term tells, shape (m,).
        shared: How much two candidates share, shape (n, n), not negative.
        documents: Document of each candidate, shape (n,).

    Returns:
        The new scores, shape (n,): that of its best pair for each, of another scale than
        the old ones.
    """
    spread = float(scores.std())
    # What differs by rounding alone is equal.
    alone = (scores - scores.mean()) / (spread if spread > _EQUAL else 1.0)
    held = holds.astype(np.float32)
    single = held @ weights
    both = (held * weights) @ held.T
    total = float(weights.sum()) or 1.0
    covered = (single[:, None] + single[None, :] - both) / total
    apart = documents[:, None] != documents[None, :]
    most = float(shared[apart].max(initial=0.0)) or 1.0
    linked = np.minimum(shared / most, 1.0)
    value = alone[:, None] + PARTNER * alone[None, :] + COVERED * covered + LINKED * linked
    best = np.where(apart, value, -np.inf).max(axis=1)
    # Candidates of a single document have no pairs: what each says itself decides.
    best = np.where(apart.any(axis=1), best, alone + COVERED * single / total)
    return np.asarray(best, dtype=np.float32)
