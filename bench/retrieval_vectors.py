"""Vectors to measure an index with, and what it should have found."""

from __future__ import annotations

import statistics

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

BLOCK = 1 << 15
SPREAD = 0.9  # length of the deviation from a topic or subtopic, itself of length 1


class Source:
    """Draws vectors of one kind, the same ones for the same seed and number.

    Args:
        kind: ``clustered`` or ``uniform``.
        count: How many rows there will be; decides how many clusters there are.
        dimension: Length of a vector.
        seed: Of all draws.
    """

    def __init__(self, kind: str, count: int, dimension: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._dimension = dimension
        self._clustered = kind == "clustered"
        if self._clustered:
            topics, subtopics = max(8, count // 1000), max(32, count // 50)
            self._spectrum = (np.arange(1, dimension + 1) ** -0.5).astype(np.float32)
            centres = self._directions(topics)
            belongs = self._random.choice(topics, subtopics, p=falling(topics, 0.7))
            self._centres = unit(centres[belongs] + SPREAD * self._directions(subtopics))
            self._weights = falling(subtopics, 0.5)

    def draw(self, count: int) -> Matrix:
        """Return ``count`` more unit vectors."""
        if not self._clustered:
            return unit(self._random.standard_normal((count, self._dimension), dtype=np.float32))
        belongs = self._random.choice(len(self._centres), count, p=self._weights)
        return unit(self._centres[belongs] + SPREAD * self._directions(count))

    def _directions(self, count: int) -> Matrix:
        noise = self._random.standard_normal((count, self._dimension), dtype=np.float32)
        return unit(noise * self._spectrum)


def unit(vectors: Matrix) -> Matrix:
    """Return the rows with length 1."""
    lengths: Matrix = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def falling(count: int, power: float) -> NDArray[np.float64]:
    """Return probabilities that fall with a power of the rank."""
    weights = np.arange(1, count + 1) ** -power
    return weights / weights.sum()


def exact(rows: Matrix, queries: Matrix, k: int) -> NDArray[np.int64]:
    """Return the nearest rows by products in double precision, without the index's code."""
    scores, found = np.empty((len(queries), 0)), np.empty((len(queries), 0), dtype=np.int64)
    precise = queries.astype(np.float64)
    for start in range(0, len(rows), BLOCK):
        products = precise @ rows[start : start + BLOCK].astype(np.float64).T
        best = np.argsort(-products, axis=1, kind="stable")[:, :k]
        scores = np.concatenate((scores, np.take_along_axis(products, best, axis=1)), axis=1)
        found = np.concatenate((found, best + start), axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, axis=1)


def recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Return the share of the true rows that were found."""
    hits = [
        len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), true.tolist(), strict=True)
    ]
    return statistics.mean(hits)
