"""First hits: dense and lexical scores on one scale, and documents named in the question."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.search.lexical import LexicalIndex
from reflectory.retrieval.vectors import VectorIndex

DENSE_SHARE = 0.7
"""Weight of the dense score in the fusion; the lexical one has the rest."""

MOST_DEVIATIONS = 8.0
"""Standard score that the best lexical hit has at most."""

_SAMPLE = 16_384


class DenseScores:
    """Cosines as standard scores: how many deviations above the mean of all passages.

    The cosines of a query with all rows have the mean q.m and the variance q.C.q, for m
    and C the mean and covariance of the rows; so no query has to be compared with all.

    Args:
        vectors: The rows.
    """

    def __init__(self, vectors: VectorIndex) -> None:
        self._vectors = vectors

    @cached_property
    def _moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        size = len(self._vectors)
        # Evenly spaced, so that a sorted corpus is sampled from all its parts.
        rows = np.unique(np.linspace(0, size - 1, min(size, _SAMPLE)).astype(np.int64))
        sample = np.asarray(self._vectors.rows(rows), dtype=np.float64)
        mean = sample.mean(axis=0)
        centred = sample - mean
        return mean, centred.T @ centred / len(sample)

    def prepare(self) -> None:
        """Measure mean and covariance now, rather than with the first query."""
        _ = self._moments

    def cosines(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the cosine of the query with some rows."""
        return np.asarray(self._vectors.rows(rows) @ query, dtype=np.float32)

    def standard(
        self, query: NDArray[np.float32], cosines: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return cosines of a query as standard scores."""
        mean, covariance = self._moments
        wide = query.astype(np.float64)
        deviation = math.sqrt(max(float(wide @ covariance @ wide), 0.0))
        if deviation < 1e-6:  # one passage, or all alike
            return np.zeros_like(cosines)
        return ((cosines - wide @ mean) / deviation).astype(np.float32)


def standard_lexical(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return BM25 scores of all passages as standard scores, shape (n,), the best at most 8.

    Cosines spread over all passages and rarely lie more than five deviations above their
    mean. Most BM25 scores are zero; the rarer a word, and the larger the corpus, the more
    deviations lie below the few that are not, and words would silence the other layers.
    """
    deviation = float(scores.std())
    if deviation < 1e-6:
        return np.zeros_like(scores)
    standard = np.asarray((scores - scores.mean()) / deviation, dtype=np.float32)
    best = float(standard.max())
    return standard * np.float32(min(1.0, MOST_DEVIATIONS / best))


def best_rows(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the rows of the highest scores above zero, in rising order of row.

    Of equal scores the first rows are taken, on every machine.
    """
    count = min(count, len(scores))
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > max(least, 0))
    if least > 0:
        equal = np.flatnonzero(scores == least)[: count - len(above)]
        above = np.sort(np.concatenate([above, equal]))
    return above.astype(np.int64)


@dataclass(frozen=True)
class Candidates:
    """What the first layers say of some passages; arrays of shape (n,).

    Attributes:
        rows: The passages, rising.
        cosines: Cosine with the question; zeros without the dense layer.
        bm25: BM25 score; zeros without the lexical layer.
        fused: Their standard scores together.
        dense: Whether the dense layer is on.
    """

    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]
    bm25: NDArray[np.float32]
    fused: NDArray[np.float32]
    dense: bool


class FirstHits:
    """Dense and lexical search of one question.

    Args:
        vectors: The rows.
        dense: Scales their cosines; ``None`` without the dense layer.
        lexical: Scores by words; ``None`` without the lexical layer.
        query: Vector of the question, shape (d,).
        words: Its terms, as :meth:`LexicalIndex.query` returns them.
        depth: How many passages each layer names.
    """

    def __init__(
        self,
        vectors: VectorIndex,
        dense: DenseScores | None,
        lexical: LexicalIndex | None,
        query: NDArray[np.float32],
        words: NDArray[np.int32],
        depth: int,
    ) -> None:
        self._dense, self._query = dense, query
        self._bm25 = self._standard = None
        found = [np.zeros(0, dtype=np.int64)]
        if dense is not None:
            found.append(vectors.search(query, depth)[1][0])
        if lexical is not None:
            self._bm25 = lexical.scores(words)
            self._standard = standard_lexical(self._bm25)
            found.append(best_rows(self._bm25, depth))
        self.rows: NDArray[np.int64] = np.unique(np.concatenate(found))

    def of(self, rows: NDArray[np.int64]) -> Candidates:
        """Return the scores of some passages, whichever layer found them."""
        cosines = bm25 = fused = np.zeros(len(rows), dtype=np.float32)
        if self._bm25 is not None and self._standard is not None:
            bm25 = self._bm25[rows]
            fused = self._standard[rows]
        if self._dense is not None:
            cosines = self._dense.cosines(self._query, rows)
            dense = self._dense.standard(self._query, cosines)
            lexical = fused
            fused = dense
            if self._bm25 is not None:
                fused = DENSE_SHARE * dense + (1 - DENSE_SHARE) * lexical
        return Candidates(rows, cosines, bm25, fused.astype(np.float32), self._dense is not None)
