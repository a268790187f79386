"""Whether the judge's grades go with something else: reference metrics, or length.

Spearman's coefficient, over all answers and again with the mean rank of each question (or
of each kind of wrong answer within a question) taken off: a judge can know easy questions
from hard ones and nothing about answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reflectory.evaluation.judge.areas import Floats, draws_of, interval
from reflectory.evaluation.judge.records import Correlation, GradedAnswer

WITHIN = " within questions"


def correlate(
    of: str,
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[str],
    *,
    strata: Sequence[object] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Correlation:
    """Return a rank correlation with its interval over questions.

    Args:
        of: What is ranked.
        first: One number per answer, shape (n,).
        second: Likewise.
        groups: The question of each answer; questions are what is resampled.
        strata: What answers are compared within; over all when ``None``.
        confidence: Of the interval.
        seed: Of the resampling.

    Returns:
        The correlation; without coefficient where one side never changes.
    """
    from scipy.stats import t

    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    codes = _codes([0] * x.size if strata is None else strata)
    counts = np.bincount(codes) if codes.size else codes
    if strata is not None and codes.size:  # an answer alone in its stratum says nothing
        kept = counts[codes] > 1
        x, y, codes = x[kept], y[kept], _codes(codes[kept].tolist())
        groups = [group for group, keep in zip(groups, kept, strict=True) if keep]
    blank = Correlation(of=of, rho=None, p_value=None, count=int(x.size))
    if x.size < 3:
        return blank
    ranks = [_centred(_ranked(values, codes), codes) for values in (x, y)]
    clusters = _codes(groups)
    sums = np.zeros((int(clusters.max()) + 1, 3))
    products = (ranks[0] * ranks[1], ranks[0] ** 2, ranks[1] ** 2)
    for column, product in enumerate(products):
        np.add.at(sums[:, column], clusters, product)
    rho = _rho(sums.sum(axis=0, keepdims=True))[0]
    if math.isnan(rho):
        return blank
    freedom = x.size - int(codes.max()) - 2
    rest = max(1.0 - rho * rho, 0.0)
    statistic = math.inf if rest == 0.0 else abs(rho) * math.sqrt(max(freedom, 0) / rest)
    p_value = float(2.0 * t.sf(statistic, freedom)) if freedom > 0 else None
    low = high = None
    if len(sums) > 1:
        low, high = interval(_rho(draws_of(len(sums), seed) @ sums), confidence)
    return Correlation(
        of=of, rho=float(rho), p_value=p_value, count=int(x.size), low=low, high=high
    )


def _codes(labels: Sequence[object]) -> NDArray[np.intp]:
    """Return a number from 0 for each label, in the order of their first occurrence."""
    known: dict[object, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], dtype=np.intp)


def _ranked(values: Floats, codes: NDArray[np.intp]) -> Floats:
    """Return ranks from 0 to 1 within each stratum, ties sharing theirs."""
    from scipy.stats import rankdata

    ranks = np.empty(values.size)
    order = np.argsort(codes, kind="stable")
    for inside in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        ranks[inside] = rankdata(values[inside]) / inside.size
    return ranks


def _centred(values: Floats, codes: NDArray[np.intp]) -> Floats:
    means = np.bincount(codes, weights=values) / np.bincount(codes)
    return values - means[codes]


def _rho(sums: Floats) -> Floats:
    """Return the coefficients from sums of products and squares, shape (b, 3) to (b,)."""
    scale = np.sqrt(sums[:, 1] * sums[:, 2])
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Floats = np.where(scale > 1e-12, sums[:, 0] / scale, np.nan)
    return np.clip(rho, -1.0, 1.0)


def agreement_of(
    answers: Sequence[GradedAnswer], *, confidence: float = 0.95, seed: int = 0
) -> tuple[Correlation, ...]:
    """Return how G goes with each reference metric, and A with it where there is one.

    Args:
        answers: Graded answers with their metrics; those without a grade are left out.
        confidence: Of the intervals.
        seed: Of the resampling.
    """
    names = dict.fromkeys(name for answer in answers for name in answer.values)
    grades = {"G": [a.score for a in answers], "A": [a.alignment for a in answers]}
    found = []
    for name in names:
        for symbol, given in grades.items():
            rows = [
                (answer.id, value, answer.values[name])
                for answer, value in zip(answers, given, strict=True)
                if value is not None and name in answer.values
            ]
            ids = [row[0] for row in rows]
            ways: list[tuple[str, Sequence[str] | None]] = [("", None)] if rows else []
            if len(set(ids)) < len(ids):
                ways.append((WITHIN, ids))
            found += [
                correlate(
                    f"{symbol} and {name}{way}",
                    [row[1] for row in rows],
                    [row[2] for row in rows],
                    ids,
                    strata=strata,
                    confidence=confidence,
                    seed=seed,
                )
                for way, strata in ways
            ]
    return tuple(found)
