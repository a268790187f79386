"""Nearest rows by comparing a query with all of them, with one order for equal scores.

FAISS proposes candidates; their scores are then computed again, one row at a time
in double precision. So a score depends on nothing but the query and the row: not on
how many queries were asked at once, not on the kind of index, and equal rows have
equal scores. ``faiss`` is imported when something is searched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""Vectors as rows, shape (number, dimension)."""

_SPARE = 16
"""Candidates beyond k, so that a handful of ties does not need a second look."""
_ROUNDING = 4e-6
"""More than two float32 inner products of unit vectors may be off (n * 2**-24 / 2 at most,
and some 2e-7 in practice)."""
_BLOCK_NUMBERS = 1 << 24
"""Numbers of a block that is computed at once: 128 MiB in double precision."""


def exact_search(
    rows: Matrix, queries: Matrix, k: int, *, first: int = 0
) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the k rows with the highest inner products.

    Args:
        rows: Shape (n, d), finite, in memory or memory-mapped.
        queries: Shape (m, d), finite.
        k: At least 1; no more than n rows are returned.
        first: Number of the first row; it is added to all row numbers.

    Returns:
        Scores and row numbers, both of shape (m, min(k, n)), best first; of equal
        scores the lower row is first.
    """
    import faiss

    count = min(k, len(rows))
    depth = min(len(rows), count + _SPARE)
    if count == 0 or len(queries) == 0:
        return _empty(len(queries), count)
    near, proposed = faiss.knn(queries, rows, depth, metric=faiss.METRIC_INNER_PRODUCT)
    scores, found = rescored(rows, queries, proposed, count)
    if depth < len(rows):
        # What FAISS left out is no better than the worst it proposed.
        unsure = near[:, -1] >= scores[:, -1] - _ROUNDING
        for query in np.flatnonzero(unsure):
            scores[query], found[query] = _compare_all(rows, queries[query], count)
    return scores, found + first


def rescored(
    rows: Matrix, queries: Matrix, candidates: NDArray[np.int64], k: int
) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the k best of each query's candidates, by their exact scores.

    Args:
        rows: Shape (n, d).
        queries: Shape (m, d).
        candidates: Row numbers, shape (m, c); -1 for none. Different ones in a row.
        k: How many to keep, at most c.

    Returns:
        Scores and row numbers, both of shape (m, k), best first and equal ones by row;
        what is missing is at the end with the score -inf and the row -1.
    """
    scores, found = _empty(len(queries), k)
    step = max(1, _BLOCK_NUMBERS // max(1, candidates.shape[1] * rows.shape[1]))
    for start in range(0, len(queries), step):
        part = candidates[start : start + step]
        products = np.einsum(
            "qcd,qd->qc",
            rows[np.maximum(part, 0)].astype(np.float64),
            queries[start : start + step].astype(np.float64),
        ).astype(np.float32)
        products[part < 0] = -np.inf
        order = np.lexsort((part, -products))[:, :k]
        scores[start : start + step] = np.take_along_axis(products, order, axis=1)
        found[start : start + step] = np.take_along_axis(part, order, axis=1)
    return scores, found


def merged(
    left: tuple[Matrix, NDArray[np.int64]], right: tuple[Matrix, NDArray[np.int64]], k: int
) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the k best of two results for the same queries, equal scores by row."""
    scores = np.concatenate((left[0], right[0]), axis=1)
    rows = np.concatenate((left[1], right[1]), axis=1)
    order = np.lexsort((rows, -scores))[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _compare_all(rows: Matrix, query: Matrix, k: int) -> tuple[Any, Any]:
    """Return the k best of all rows; for the queries of which many rows are equally near."""
    scores = np.empty(len(rows), dtype=np.float32)
    precise = query.astype(np.float64)
    step = max(1, _BLOCK_NUMBERS // rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        scores[start : start + step] = np.einsum("nd,d->n", block, precise)
    worst = np.partition(scores, len(scores) - k)[len(scores) - k]
    possible = np.flatnonzero(scores >= worst)
    order = np.lexsort((possible, -scores[possible]))[:k]
    return scores[possible[order]], possible[order]


def _empty(queries: int, k: int) -> tuple[Matrix, NDArray[np.int64]]:
    return np.empty((queries, k), dtype=np.float32), np.empty((queries, k), dtype=np.int64)
