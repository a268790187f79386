"""A scan of short codes: what looks near by its code is compared again exactly.

A product quantizer turns each pair of numbers of a row into four bits, a sixteenth of
the bytes, and FAISS's fast scan reads some 200 million such codes of 384 numbers a second
and thread. How many of the nearest codes must be compared exactly depends on the vectors,
so it is measured against exact search on a sample of queries.

Why all codes, and neither lists nor a graph: on sentences embedded by the default model an
inverted file has to read a fifth of the rows to find 97% of the ten nearest, and more for
questions; a graph (HNSW) takes half a minute to build per 100,000 rows, and is another one
each time when several threads build it. The scan needs no such structure, finds 99% also
among vectors without any clusters, and a row is added for what a row costs. Its time grows
with the rows: about 5 ms for a million. ``faiss`` is imported when something is trained.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.vectors.exact import Matrix, exact_search, rescored

NEIGHBOURS = 10
"""Recall is measured on this many nearest rows."""
SAMPLE = 400
"""Queries that the search is tuned with."""
MOST_CANDIDATES = 4096
"""Rows that are compared exactly for ten; who needs more had better compare with all."""

_LEAST_CANDIDATES = 128  # fewer would save 0.04 ms
_STEP = 32
_MOST_DEPTH = 1 << 14
_TRAINING_ROWS = 1 << 14
_BLOCK_ROWS = 1 << 16
_BLOCK_QUERIES = 1 << 10
_MOVED = 0.7  # cosine of a sampled row and the query made of it, as of question and passage


class Tuning(NamedTuple):
    """How codes have to be searched.

    Attributes:
        candidates: Rows to compare exactly for the ten nearest.
        recall: Share of the true ten nearest rows that are then found, the lower one of
            the two halves of the sample, in [0, 1].
        sample: Number of queries.
    """

    candidates: int
    recall: float
    sample: int


def build_codes(rows: Matrix, seed: int) -> Any:
    """Return FAISS's index of the codes of the rows.

    Args:
        rows: Shape (n, d), in memory or memory-mapped; read in blocks.
        seed: Decides which rows the quantizer is trained on, and where it starts.
    """
    import faiss

    count, dimension = rows.shape
    pieces = dimension // 2 if dimension % 2 == 0 else dimension
    index = faiss.IndexPQFastScan(dimension, pieces, 4, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.seed = seed & 0x7FFFFFFF
    index.pq.cp.min_points_per_centroid = 1
    sample = _sample(count, _TRAINING_ROWS, np.random.default_rng(seed))
    index.train(np.ascontiguousarray(rows[sample]))
    for start in range(0, count, _BLOCK_ROWS):
        index.add(rows[start : start + _BLOCK_ROWS])
    return index


def tune(index: Any, rows: Matrix, seed: int, target: float) -> Tuning:
    """Find the fewest candidates with which the target is reached.

    Half of the queries are rows that look for the nearest others; the other half are
    rows that were moved away, to a cosine of 0.7, because a question lies farther from
    its passages than they from each other. The target must be reached on both halves.

    Args:
        index: The codes of ``rows``.
        rows: Shape (n, d).
        seed: Decides the sample.
        target: Recall to reach, in (0, 1].

    Returns:
        The cheapest tuning that reaches the target, or one with ``MOST_CANDIDATES``
        and a recall below the target where none does.
    """
    random = np.random.default_rng([seed & 0x7FFFFFFF, 1])
    own = _sample(len(rows), SAMPLE // 2, random)
    moved = _moved(rows[_sample(len(rows), SAMPLE // 2, random)], random)
    depth = min(len(rows), MOST_CANDIDATES)
    positions = []
    for queries, ids in ((np.ascontiguousarray(rows[own]), own), (moved, None)):
        proposed = index.search(queries, depth)[1]
        true = exact_search(rows, queries, NEIGHBOURS + 1)[1]
        positions.append(_positions(proposed, _without(true, ids)))
    # Whatever is among the candidates is found, because they are compared exactly.
    needed = max(int(places[math.ceil(target * len(places)) - 1]) + 1 for places in positions)
    needed = max(_LEAST_CANDIDATES, math.ceil(needed / _STEP) * _STEP)
    candidates = min(MOST_CANDIDATES, needed)
    worse = min(float((places < candidates).mean()) for places in positions)
    return Tuning(candidates, worse, len(own) + len(moved))


def search_codes(
    index: Any, rows: Matrix, queries: Matrix, k: int, candidates: int
) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the nearest rows of each query among those with the nearest codes.

    Args:
        index: The codes of ``rows``.
        rows: Shape (n, d), in memory or memory-mapped; only candidates are read.
        queries: Shape (m, d), finite.
        k: At least 1.
        candidates: Rows compared exactly per ten that are asked for. Where that is more
            than a quarter of all rows or than 16,384, all of them are compared.

    Returns:
        Exact scores and row numbers, both of shape (m, min(k, n)), best first, equal
        ones by row.
    """
    count = min(k, len(rows))
    depth = math.ceil(candidates * max(1.0, count / NEIGHBOURS))
    if depth > min(_MOST_DEPTH, len(rows) // 4):
        return exact_search(rows, queries, k)
    scores = np.empty((len(queries), count), dtype=np.float32)
    found = np.empty((len(queries), count), dtype=np.int64)
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = slice(start, start + _BLOCK_QUERIES)
        proposed = index.search(queries[block], depth)[1]
        scores[block], found[block] = rescored(rows, queries[block], proposed, count)
    return scores, found


def _sample(count: int, wanted: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return different row numbers in rising order, all of them where there are few."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(random.choice(count, wanted, replace=False))


def _moved(rows: Matrix, random: np.random.Generator) -> Matrix:
    noise = random.standard_normal(rows.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    moved = _MOVED * rows + (1 - _MOVED**2) ** 0.5 * noise
    return np.ascontiguousarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)


def _without(found: NDArray[np.int64], ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Drop from each line its own id, or else the last entry."""
    own = np.zeros(found.shape, dtype=bool) if ids is None else found == ids[:, None]
    own[~own.any(axis=1), -1] = True
    return np.reshape(found[~own], (len(found), found.shape[1] - 1))


def _positions(proposed: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, in rising order, where in its line of proposals each true row stands.

    A row that was not proposed stands behind all that were.
    """
    places = []
    for line, wanted in zip(proposed, true, strict=True):
        order = np.argsort(line)
        at = np.minimum(np.searchsorted(line, wanted, sorter=order), len(line) - 1)
        places.append(np.where(line[order[at]] == wanted, order[at], MOST_CANDIDATES))
    return np.sort(np.concatenate(places))
