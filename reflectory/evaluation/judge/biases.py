"""What a judge looks at besides the truth: one score for everything, length, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reflectory.evaluation.judge.agreement import WITHIN, correlate
from reflectory.evaluation.judge.areas import Floats
from reflectory.evaluation.judge.cases import OTHER_OPTION, OTHER_ROWS, SAME_DOCUMENTS, SAME_TYPE
from reflectory.evaluation.judge.records import CalibrationBin, Correlation, JudgedCase

BINS = 10
MOST_COMMON = 0.9
"""A judge that gives one score to this share of answers is called collapsed."""
LEAST_SPREAD = 0.02
"""So is one whose scores have a smaller standard deviation: A cannot move."""
_PLAIN_KINDS = (SAME_DOCUMENTS, SAME_TYPE, OTHER_ROWS, OTHER_OPTION)
_FEWEST_PAIRS = 5
_SURE = 0.01


class Collapse(NamedTuple):
    """How many different scores there were (see :class:`JudgeReport`)."""

    distinct: int
    most_common: float
    score: float | None
    collapsed: bool


class PaddingChange(NamedTuple):
    """Mean change of the score by padding, and whether chance explains it."""

    mean: float
    sure: bool


def balanced(right: NDArray[np.bool_]) -> Floats:
    """Return weights that sum to 1, with right and wrong answers weighing the same.

    Without them a judge that knows every wrong answer would seem to say nearly always 0,
    for there are as many wrong ones as one likes.
    """
    weights = np.ones(right.size)
    for side in (right, ~right):
        if side.any():
            weights[side] /= side.sum()
    total: float = weights.sum()
    return weights / total if total > 0.0 else weights


def collapse_of(scores: Floats, right: NDArray[np.bool_]) -> Collapse:
    """Return whether a judge says nearly the same to everything.

    Args:
        scores: One per answer, shape (n,).
        right: Whether each is right, shape (n,).
    """
    if not scores.size:
        return Collapse(0, 0.0, None, False)
    values, places = np.unique(scores.round(3), return_inverse=True)
    weights = balanced(right)
    shares = np.bincount(places, weights=weights)
    top = int(shares.argmax())
    mean = float(weights @ scores)
    spread = float(np.sqrt(weights @ (scores - mean) ** 2))
    collapsed = scores.size > 1 and bool(shares[top] >= MOST_COMMON or spread < LEAST_SPREAD)
    share = min(1.0, float(shares[top]))
    return Collapse(int(values.size), share, float(values[top]), collapsed)


def length_of(cases: Sequence[JudgedCase], *, confidence: float, seed: int) -> Correlation:
    """Return how scores go with the length in characters among equally wrong answers.

    Compared are wrong answers of one kind to one question: a copied sentence is longer than
    a name and likelier too, which has nothing to do with a preference for length.
    """
    rows = [
        (case.id, next(kind for kind in _PLAIN_KINDS if kind in case.kinds), score, case.text)
        for case in cases
        if (score := case.score) is not None
        and not case.right
        and not set(_PLAIN_KINDS).isdisjoint(case.kinds)
    ]
    return correlate(
        f"score and length{WITHIN}",
        [score for _, _, score, _ in rows],
        [len(text) for _, _, _, text in rows],
        [row[0] for row in rows],
        strata=[row[:2] for row in rows],
        confidence=confidence,
        seed=seed,
    )


def padding_of(pairs: Sequence[tuple[float, float]]) -> PaddingChange | None:
    """Return the mean change from (score, score of the same padded).

    It is sure when there are five pairs or more and a t-test at 0.01 says so.
    """
    if not pairs:
        return None
    from scipy.stats import ttest_1samp

    moved = np.array([after - before for before, after in pairs])
    mean = float(moved.mean())
    if moved.size < _FEWEST_PAIRS:
        return PaddingChange(mean, False)
    if moved.std() < 1e-12:
        return PaddingChange(mean, abs(mean) > 1e-12)
    return PaddingChange(mean, bool(ttest_1samp(moved, 0.0).pvalue < _SURE))


def calibration_of(
    scores: Floats, right: NDArray[np.bool_], weights: Floats
) -> tuple[tuple[CalibrationBin, ...], float | None]:
    """Return how often answers of a score are right, and the expected calibration error.

    The error is the mean distance of score and share over ten bins of equal width, each
    weighing what its answers do (Naeini et al. 2015; Guo et al. 2017).

    Args:
        scores: One per answer, shape (n,).
        right: Whether each is right, shape (n,).
        weights: What each answer counts, shape (n,), with a sum of 1.
    """
    if not scores.size:
        return (), None
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for place in range(BINS):
        inside = places == place
        if not inside.any():
            continue
        share = weights[inside] / weights[inside].sum()
        mean = min(1.0, float(share @ scores[inside]))
        often = min(1.0, float(share @ right[inside]))
        error += float(weights[inside].sum()) * abs(mean - often)
        bins.append(
            CalibrationBin(
                low=place / BINS,
                high=(place + 1) / BINS,
                count=int(inside.sum()),
                mean_score=mean,
                share_right=often,
            )
        )
    return tuple(bins), error
