"""Two systems on the same questions: the paired difference, its interval and its p-value.

Rows are resampled with replacement, and seeds too where there are several, so that an
interval covers another draw of questions and another run of the training (two-way
bootstrap). The p-value comes from flipping the signs of the rows' differences
(Fisher's randomisation test); for a metric of 0 and 1 that is McNemar's exact test.
Everything is seeded and vectorised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from reflectory.errors import UserError
from reflectory.types import Record

FEW_ROWS = 20
"""Below this the bootstrap knows too few different rows for its interval to be believed."""

Alternative = Literal["greater", "two-sided"]
"""What a p-value is against: a higher mean, or a mean that differs either way."""

_CHUNK = 4_000_000
"""Weights that are held in memory at a time (32 MB)."""


class PairedComparison(Record):
    """What changed from one system to another on the same rows.

    Attributes:
        name: Of the metric.
        rows: Number of rows N.
        seeds: Number of seeds S.
        before: Mean of the first system.
        after: Mean of the second.
        difference: Mean paired difference, after minus before.
        low: Lower end of the two-sided interval of the difference.
        high: Its upper end.
        bound: Lower end of the one-sided interval: with probability ``confidence``
            the true difference lies above it.
        confidence: Of all three.
        p_value: Probability of a mean difference at least this high if the order of
            the two systems meant nothing; of one at least this far from zero when
            ``alternative`` is ``two-sided``.
        alternative: What the p-value is against.
        better: Rows whose mean over the seeds rose; turned right for a metric of 0 and 1.
        worse: Rows whose mean fell; turned wrong likewise.
        same: The others.
    """

    name: str = ""
    rows: int = Field(ge=1)
    seeds: int = Field(ge=1)
    before: float
    after: float
    difference: float
    low: float
    high: float
    bound: float
    confidence: float
    p_value: float = Field(ge=0.0, le=1.0)
    alternative: Alternative = "greater"
    better: int
    worse: int
    same: int

    @property
    def few(self) -> bool:
        """Whether there are too few rows for the interval to mean much."""
        return self.rows < FEW_ROWS

    @property
    def excludes_zero(self) -> bool:
        """Whether the two-sided interval lies on one side of zero."""
        return self.low > 0.0 or self.high < 0.0

    def __str__(self) -> str:
        over = f"{self.rows} rows" + (f" x {self.seeds} seeds" if self.seeds > 1 else "")
        text = (
            f"{self.name or 'mean'} {self.before:.3f} -> {self.after:.3f}, "
            f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}] at "
            f"{self.confidence:.0%}, p = {self.p_value:.3g}, {self.better} better, "
            f"{self.worse} worse, {self.same} same over {over}"
        )
        return f"{text} (few rows: read it with care)" if self.few else text


def compare(
    before: ArrayLike,
    after: ArrayLike,
    *,
    name: str = "",
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    vary: Literal["rows", "rows and seeds"] = "rows and seeds",
    alternative: Alternative = "greater",
    interval: Literal["percentile", "expanded"] = "percentile",
    weights: ArrayLike | None = None,
) -> PairedComparison:
    """Compare two systems that were measured on the same rows.

    Args:
        before: Values of the first system, of shape (N,) or (S, N): rows, or seeds x rows.
            Truth values count as 0 and 1.
        after: Values of the second, of the same shape or (N,): the same rows in the same
            order. A system without seeds is compared with every seed of the other.
        name: Of the metric.
        confidence: Of the intervals, in (0, 1).
        resamples: Draws of the bootstrap and of the test.
        seed: Seed of both.
        vary: What another experiment would draw anew; with ``rows`` the seeds are only
            averaged, and the interval holds for these trainings alone.
        alternative: What the p-value is against.
        interval: ``percentile`` takes the draws as they are, and with 25 rows excludes a
            true zero in about 7 of 100 cases at 95%; ``expanded`` makes up for the few
            rows as Student's t does (Hesterberg 2015, doi:10.1080/00031305.2015.1089789).
        weights: How much each row weighs in the means, of shape (N,) and above 0; the same
            when ``None``. Rows are still what is drawn: a draw's mean is the weighted sum of
            its rows over the sum of their weights.

    Raises:
        UserError: Shapes do not fit, there are no rows, or a value is not finite; or a weight
            is not above 0.
    """
    old, new = _values(before, "before"), _values(after, "after")
    if old.shape[1] != new.shape[1] or (old.shape[0] != new.shape[0] and 1 not in _seeds(old, new)):
        raise UserError(
            f"values of the shapes {old.shape} and {new.shape} are not of the same rows and seeds",
            hint="give both systems' values for the same questions in the same order",
        )
    if not 0.0 < confidence < 1.0:
        raise UserError(f"a confidence of {confidence} is none", hint="give one between 0 and 1")
    difference = new - old
    per_row = difference.mean(axis=0)
    weight = _weights(weights, difference.shape[1])
    draws = _bootstrap(difference, weight, resamples, seed, with_seeds=vary == "rows and seeds")
    expand = interval == "expanded"
    tail = _share_below((1.0 - confidence) / 2.0, difference.shape[1], expand=expand)
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    one_sided = _share_below(1.0 - confidence, difference.shape[1], expand=expand)
    return PairedComparison(
        name=name,
        rows=difference.shape[1],
        seeds=difference.shape[0],
        before=float((old * weight).mean()),
        after=float((new * weight).mean()),
        difference=float((difference * weight).mean()),
        low=float(low),
        high=float(high),
        bound=float(np.quantile(draws, one_sided)),
        confidence=confidence,
        p_value=_p_value(per_row * weight, resamples, seed, alternative),
        alternative=alternative,
        better=int((per_row > 0).sum()),
        worse=int((per_row < 0).sum()),
        same=int((per_row == 0).sum()),
    )


def _seeds(*values: NDArray[np.float64]) -> set[int]:
    return {value.shape[0] for value in values}


def _values(given: ArrayLike, which: str) -> NDArray[np.float64]:
    """Return values as an array of shape (S, N)."""
    try:
        values = np.atleast_2d(np.asarray(given, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the values {which} are no table of numbers: {error}",
            hint="give one number per row, or one list of them per seed",
        ) from error
    if values.ndim != 2 or values.size == 0:
        raise UserError(
            f"the values {which} have the shape {values.shape}",
            hint="give one number per row, or one list of them per seed",
        )
    if not np.isfinite(values).all():
        raise UserError(
            f"the values {which} hold something that is not finite",
            hint="count a question without an answer as wrong, as `aggregate` does",
        )
    return values


def _weights(given: ArrayLike | None, rows: int) -> NDArray[np.float64]:
    """Return the weights of rows with a mean of exactly 1 where they are all the same."""
    if given is None:
        return np.ones(rows)
    weights = np.asarray(given, dtype=np.float64)
    if weights.shape != (rows,) or not (np.isfinite(weights).all() and (weights > 0.0).all()):
        raise UserError(
            f"weights of the shape {weights.shape} do not fit {rows} rows, or one is not above 0",
            hint="give one positive number per row, and leave out rows without a part in the mean",
        )
    scaled: NDArray[np.float64] = weights / weights.mean()
    return scaled


def _bootstrap(
    difference: NDArray[np.float64],
    weight: NDArray[np.float64],
    resamples: int,
    seed: int,
    *,
    with_seeds: bool,
) -> NDArray[np.float64]:
    """Return the mean difference of so many draws of rows, and of seeds."""
    seeds, rows = difference.shape
    random = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _CHUNK // (rows + seeds))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        # How often each row is drawn says as much as which one is drawn when.
        weights = random.multinomial(rows, np.full(rows, 1.0 / rows), size=count) / rows
        if (weight != 1.0).any():
            weights = weights * weight
            weights /= weights.sum(axis=1, keepdims=True)
        if with_seeds and seeds > 1:
            of_seeds = random.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=count) / seeds
            drawn = of_seeds @ difference
        else:
            drawn = difference.mean(axis=0, keepdims=True)
        means[start : start + count] = (drawn * weights).sum(axis=1)
    return means


def _share_below(tail: float, rows: int, *, expand: bool) -> float:
    """Return which quantile of the draws ends the interval.

    The bootstrap's spread is too small by sqrt((N - 1) / N), and it knows no more of the
    tails than the normal distribution does; both are put right as in Student's interval.
    """
    if not expand or rows < 2:
        return tail
    from scipy.stats import norm, t

    return float(norm.cdf(np.sqrt(rows / (rows - 1)) * t.ppf(tail, rows - 1)))


def mcnemar(better: int, worse: int, alternative: Alternative = "two-sided") -> float:
    """Return the p-value of McNemar's exact test on answers turned right and turned wrong.

    Args:
        better: Rows that were wrong with the first system and are right with the second.
        worse: Rows that were right and are wrong.
        alternative: What the p-value is against.

    Returns:
        The probability in [0, 1] of turns at least this uneven when each turn was as
        likely to go either way; 1 without any turn.

    Raises:
        UserError: A count is negative.
    """
    if better < 0 or worse < 0:
        raise UserError(
            f"{better} answers turned right and {worse} turned wrong are no counts",
            hint="give how many rows changed each way",
        )
    if not better + worse:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(better, better + worse, 0.5, alternative=alternative).pvalue)


def _p_value(
    per_row: NDArray[np.float64], resamples: int, seed: int, alternative: Alternative
) -> float:
    """Return the p-value of the mean of paired differences; exact for few rows."""
    changed = per_row[per_row != 0.0]  # a zero has no sign to flip
    if not changed.size or np.ptp(np.abs(changed)) == 0.0:
        return mcnemar(int((changed > 0).sum()), int((changed < 0).sum()), alternative)
    from scipy.stats import permutation_test

    def total(values: NDArray[np.float64], axis: int) -> Any:
        return values.sum(axis=axis)

    result = permutation_test(
        (changed,),
        total,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _CHUNK // changed.size),
        alternative=alternative,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def compare_all(
    before: Sequence[Any], after: Sequence[Any], metrics: Sequence[str], **options: Any
) -> dict[str, PairedComparison]:
    """Compare two lists of scored answers on several metrics.

    Args:
        before: One object per row with the metrics as attributes, or ``None`` where there
            is no answer, which counts as 0.
        after: The same rows in the same order.
        metrics: Names of attributes that are numbers or truth values.
        **options: As :func:`compare` takes them.
    """

    def column(rows: Sequence[Any], metric: str) -> list[float]:
        found = (None if row is None else getattr(row, metric) for row in rows)
        return [0.0 if value is None else float(value) for value in found]

    return {
        metric: compare(column(before, metric), column(after, metric), name=metric, **options)
        for metric in metrics
    }
