"""Nearest rows by comparing a query with all of them, with one order for equal scores.

A product of matrices in single precision proposes candidates; their scores are then
computed again, one row at a time in double precision. So a score depends on nothing but
the query and the row: not on how many queries were asked at once, not on the kind of
index, and equal rows have equal scores.

The product is numpy's and not FAISS's: for one query they take the same time (10 ms for
100,000 rows of 384 numbers), for 200 at once FAISS takes nine times as long.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""Vectors as rows, shape (number, dimension)."""

_SPARE = 16
"""Candidates beyond k, so that a handful of ties does not need a second look."""
_BLOCK_NUMBERS = 1 << 24
"""Numbers of a block that is computed at once: 128 MiB in double precision."""
_LEAST_ROWS = 1 << 12
_MOST_QUERIES = 1 << 10


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
    count = min(k, len(rows))
    depth = min(len(rows), count + _SPARE)
    scores, found = _empty(len(queries), count)
    for start in range(0, len(queries) if count else 0, _MOST_QUERIES):
        asked = queries[start : start + _MOST_QUERIES]
        near, proposed = _proposed(rows, asked, depth)
        best, numbers = rescored(rows, asked, proposed, count)
        if depth < len(rows):
            # What was left out is no better than the worst that was proposed, up to the
            # most that a product in single precision can be wrong.
            wrong = rows.shape[1] * 2.0**-24 * np.linalg.norm(asked, axis=1)
            for query in np.flatnonzero(near.min(axis=1) >= best[:, -1] - wrong):
                best[query], numbers[query] = _compare_all(rows, asked[query], count)
        scores[start : start + len(asked)], found[start : start + len(asked)] = best, numbers
    return scores, found + first


def _proposed(rows: Matrix, queries: Matrix, depth: int) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the ``depth`` rows with the highest products in single precision, in no order."""
    near = np.empty((len(queries), 0), dtype=np.float32)
    proposed = np.empty((len(queries), 0), dtype=np.int64)
    step = max(_LEAST_ROWS, _BLOCK_NUMBERS // len(queries))
    for start in range(0, len(rows), step):
        products = queries @ rows[start : start + step].T
        kept = _highest(products, depth)
        near = np.concatenate((near, np.take_along_axis(products, kept, axis=1)), axis=1)
        proposed = np.concatenate((proposed, kept + start), axis=1)
        kept = _highest(near, depth)
        near = np.take_along_axis(near, kept, axis=1)
        proposed = np.take_along_axis(proposed, kept, axis=1)
    return near, proposed


def _highest(values: Matrix, count: int) -> NDArray[np.int64]:
    """Return where the highest values of each line stand, in no order."""
    width = values.shape[1]
    if width <= count:
        return np.broadcast_to(np.arange(width), values.shape)
    return np.argpartition(values, width - count, axis=1)[:, width - count :]


def rescored(
    rows: Matrix, queries: Matrix, candidates: NDArray[np.int64], k: int
) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the k best of each query's candidates, by their exact scores.

    Args:
        rows: Shape (n, d).
        queries: Shape (m, d).
        candidates: Row numbers, shape (m, c), different ones in a line.
        k: How many to keep, at most c.

    Returns:
        Scores and row numbers, both of shape (m, k), best first and equal ones by row.
    """
    scores, found = _empty(len(queries), k)
    step = max(1, _BLOCK_NUMBERS // max(1, candidates.shape[1] * rows.shape[1]))
    for start in range(0, len(queries), step):
        asked, part = queries[start : start + step], candidates[start : start + step]
        near = rows[part]
        if part.shape[1] > 2 * (k + _SPARE):
            # Single precision is enough, and faster, to see which ones can matter.
            kept = _highest((near @ asked[:, :, None])[:, :, 0], k + _SPARE)
            part = np.take_along_axis(part, kept, axis=1)
            near = np.take_along_axis(near, kept[:, :, None], axis=1)
        products = np.einsum(
            "qcd,qd->qc", near.astype(np.float64), asked.astype(np.float64)
        ).astype(np.float32)
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
