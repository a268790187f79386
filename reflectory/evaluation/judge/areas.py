"""Areas under the ROC curve, with intervals over another draw of questions.

The answers to one question are no independent draws, so questions are resampled and not
answers (cluster bootstrap). A question that is drawn twice counts twice, so a draw is a
set of weights, and the area of many draws is one pass over the sorted scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reflectory.evaluation.judge.records import Separation

Floats = NDArray[np.float64]

RESAMPLES = 2_000
_CHUNK = 4_000_000
"""Weights that are held in memory at a time (32 MB)."""
_CURVE_POINTS = 101


def draws_of(questions: int, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return how often each question is drawn, shape (resamples, questions)."""
    random = np.random.default_rng(seed)
    return random.multinomial(
        questions, np.full(questions, 1.0 / questions), size=resamples
    ).astype(np.float64)


def areas(scores: Floats, right: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the area under the ROC curve for each row of weights.

    The area is the probability that a right answer scores higher than a wrong one, ties
    counting half (Hanley and McNeil 1982).

    Args:
        scores: One per answer, shape (n,).
        right: Whether each is right, shape (n,).
        weights: Not negative, shape (b, n).

    Returns:
        Shape (b,); NaN where the right or the wrong answers weigh nothing.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    result = np.empty(len(weights))
    step = max(1, _CHUNK // max(1, scores.size))
    for start in range(0, len(weights), step):
        part = weights[start : start + step, order]
        high = np.add.reduceat(part * right[order], starts, axis=1)
        low = np.add.reduceat(part * ~right[order], starts, axis=1)
        below = np.cumsum(low, axis=1) - 0.5 * low
        pairs = high.sum(axis=1) * low.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            result[start : start + step] = (high * below).sum(axis=1) / pairs
    return result


def area(scores: Floats, right: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; NaN without right or without wrong answers."""
    if right.all() or not right.any():
        return float("nan")
    return float(areas(scores, right, np.ones((1, scores.size)))[0])


def separate(
    kind: str,
    scores: Floats,
    right: NDArray[np.bool_],
    groups: NDArray[np.intp],
    draws: Floats,
    confidence: float = 0.95,
) -> Separation | None:
    """Return how well right answers come apart from one kind of wrong ones.

    Args:
        kind: Its name.
        scores: One per answer, shape (n,).
        right: Whether each is right, shape (n,).
        groups: Question of each, from 0, shape (n,).
        draws: From :func:`draws_of`, shape (resamples, questions).
        confidence: Of the intervals.

    Returns:
        The separation, or ``None`` without right or without wrong answers.
    """
    pooled = area(scores, right)
    if np.isnan(pooled):
        return None
    low, high = interval(areas(scores, right, draws[:, groups]), confidence)
    inside, held = _within(scores, right, groups)
    within = within_low = within_high = None
    if held.size:
        weights = draws[:, held]
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (weights @ inside) / weights.sum(axis=1)
        within = float(inside.mean())
        within_low, within_high = interval(means, confidence)
    return Separation(
        kind=kind,
        area=pooled,
        low=low,
        high=high,
        right=int(right.sum()),
        wrong=int((~right).sum()),
        within=within,
        within_low=within_low,
        within_high=within_high,
        questions=int(held.size),
        curve=_curve(scores, right),
    )


def interval(values: Floats, confidence: float) -> tuple[float, float]:
    """Return the middle ``confidence`` of the values that are numbers."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.nanquantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def _within(
    scores: Floats, right: NDArray[np.bool_], groups: NDArray[np.intp]
) -> tuple[Floats, NDArray[np.intp]]:
    """Return the area inside each question that has right and wrong answers, and which it is."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    found = [(area(scores[part], right[part]), groups[part[0]]) for part in parts]
    kept = [(value, group) for value, group in found if not np.isnan(value)]
    return (
        np.array([value for value, _ in kept], dtype=np.float64),
        np.array([group for _, group in kept], dtype=np.intp),
    )


def _curve(scores: Floats, right: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    from sklearn.metrics import roc_curve

    wrongs, rights, _ = roc_curve(right, scores)
    if wrongs.size > _CURVE_POINTS:
        keep = np.unique(np.linspace(0, wrongs.size - 1, _CURVE_POINTS).round().astype(int))
        wrongs, rights = wrongs[keep], rights[keep]
    return tuple(zip(wrongs.tolist(), rights.tolist(), strict=True))
