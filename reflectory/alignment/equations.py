"""Equations 31 and 32 of the survey, as functions of plain numbers and arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cosine_similarity(first: ArrayLike, second: ArrayLike) -> float:
    """Return the cosine of the angle between two embeddings.

    Args:
        first: Embedding of shape (d,).
        second: Embedding of shape (d,).

    Returns:
        A number in [-1, 1]; 0.0 when either vector is zero, because an empty
        embedding is related to nothing.

    Raises:
        ValueError: The shapes differ or are not one-dimensional.
    """
    a: NDArray[np.float64] = np.asarray(first, dtype=np.float64)
    b: NDArray[np.float64] = np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"two vectors of one length are needed, got {a.shape} and {b.shape}")
    # The largest entry is divided out first: squares of tiny numbers would
    # otherwise vanish and squares of huge ones overflow.
    scale_a, scale_b = float(np.abs(a).max(initial=0.0)), float(np.abs(b).max(initial=0.0))
    if scale_a == 0.0 or scale_b == 0.0:
        return 0.0
    a, b = a / scale_a, b / scale_b
    cosine = float(a @ b) / (float(np.linalg.norm(a)) * float(np.linalg.norm(b)))
    return max(-1.0, min(1.0, cosine))


def alignment_score(similarity: float, quality: float) -> float:
    """Return A[j,t] for one answer.

    Equation 31: ``A[j,t] = sim(embed(R[j,t]), embed(I)) * quality(R[j,t], l_j)``.

    The similarity is a cosine and may be negative. It is cut at zero: an answer
    that points away from the instruction is as unrelated as one at a right
    angle, and with a negative factor a better quality would make the cell
    *worse*, so that A would no longer rise with the quality of an answer.
    With the cut, A lies in [0, 1] and grows with both factors.

    Args:
        similarity: Cosine between answer and instruction, in [-1, 1].
        quality: The score in the teacher's feedback, in [0, 1].

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: An argument is not a number or outside its range.
    """
    if not (math.isfinite(similarity) and -1.0 <= similarity <= 1.0):
        raise ValueError(f"similarity must lie in [-1, 1], got {similarity}")
    if not (math.isfinite(quality) and 0.0 <= quality <= 1.0):
        raise ValueError(f"quality must lie in [0, 1], got {quality}")
    return max(0.0, similarity) * quality  # Equation 31


def column_change(current: ArrayLike, previous: ArrayLike) -> float:
    """Return how far one iteration moved the matrix.

    Equation 32: the Euclidean norm of ``A[:,t] - A[:,t-1]``.

    Args:
        current: Column A[:,t] of shape (k,), NaN where a cell has no value.
        previous: Column A[:,t-1] of shape (k,).

    Returns:
        A number in [0, sqrt(k)], or NaN when a cell of either column is
        missing: an unknown change is not a small one.
    """
    difference = np.asarray(current, dtype=np.float64) - np.asarray(previous, dtype=np.float64)
    if difference.size == 0 or np.isnan(difference).any():
        return math.nan
    return float(np.linalg.norm(difference))  # Equation 32
