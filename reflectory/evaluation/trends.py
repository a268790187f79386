"""From the trajectories of many loops to what their matrices show, in one pass.

A trajectory is read and forgotten; what stays is a mean per cell and a few numbers per
loop and level.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import UserError
from reflectory.evaluation.comparison import compare
from reflectory.evaluation.matrices import LevelTrend, MatrixReport
from reflectory.types import Trajectory

Matrix = NDArray[np.float64]

FAILED = "failed"
"""The place in ``MatrixReport.stops`` of loops that ended with an error."""


def matrix_report(
    trajectories: Iterable[Trajectory],
    *,
    epsilon: float | None = None,
    resamples: int = 10_000,
) -> MatrixReport:
    """Read the matrices of many loops: does A rise with t, do higher levels take longer?

    Loops may have different numbers of iterations. Cells without a value are left out of
    every mean and counted.

    Args:
        trajectories: Loops with the same levels in the same order; read once.
        epsilon: How near a level must stay to its last value to count as settled; by
            default each loop's own. Loops without either are left out of that figure.
        resamples: Draws of the interval of each level's rise; with thousands of loops
            fewer do, and they take most of the time.

    Raises:
        UserError: Two loops have different levels, or epsilon is not a number of at least 0.
    """
    if epsilon is not None and not 0.0 <= epsilon < float("inf"):
        raise UserError(
            f"an epsilon of {epsilon} is none", hint="give a number of at least 0, such as 0.05"
        )
    gathered: _Gathered | None = None
    first = ""
    for trajectory in trajectories:
        if gathered is None:
            gathered, first = _Gathered(trajectory.levels), trajectory.id
        if trajectory.levels != gathered.levels:
            raise UserError(
                f"the loops {first} and {trajectory.id} have different levels: "
                f"{', '.join(gathered.levels)} and {', '.join(trajectory.levels)}",
                hint="make one report for each set of levels",
            )
        gathered.add(trajectory, epsilon)
    return MatrixReport(loops=0) if gathered is None else gathered.report(resamples)


@dataclass
class _Cells:
    """Running count, mean and sum of squared deviations per cell (Welford 1962).

    Attributes:
        count: Loops that have the cell, of shape (k, longest T so far).
        mean: Their mean, likewise.
        square: Their sum of squared deviations, likewise.
    """

    count: Matrix
    mean: Matrix
    square: Matrix

    @classmethod
    def of(cls, levels: int) -> _Cells:
        return cls(*(np.zeros((levels, 0)) for _ in range(3)))

    def add(self, values: Matrix) -> None:
        """Take in one matrix of shape (k, T), NaN where nothing is known."""
        if (more := values.shape[1] - self.count.shape[1]) > 0:
            wider = ((0, 0), (0, more))
            self.count, self.mean, self.square = (
                np.pad(part, wider) for part in (self.count, self.mean, self.square)
            )
        seen = np.s_[:, : values.shape[1]]
        known = ~np.isnan(values)
        self.count[seen] += known
        distance = np.where(known, values - self.mean[seen], 0.0)
        self.mean[seen] += distance / np.maximum(self.count[seen], 1)
        self.square[seen] += distance * np.where(known, values - self.mean[seen], 0.0)

    def means(self, level: int) -> tuple[float | None, ...]:
        pairs = zip(self.mean[level], self.count[level], strict=True)
        return tuple(float(mean) if count else None for mean, count in pairs)

    def spreads(self, level: int) -> tuple[float | None, ...]:
        pairs = zip(self.square[level], self.count[level], strict=True)
        return tuple(float(np.sqrt(square / count)) if count else None for square, count in pairs)


@dataclass
class _Level:
    """What is kept of one level: one number per loop, and the sum of its steps."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    climbed: float = 0.0
    steps: int = 0

    def add(self, row: Matrix, epsilon: float | None) -> None:
        """Take in A[j,0..T-1] of one loop."""
        changes = np.diff(row)
        changes = changes[~np.isnan(changes)]
        self.climbed += float(changes.sum())
        self.steps += changes.size
        places = np.flatnonzero(~np.isnan(row))
        if places.size < 2:
            return
        self.first.append(float(row[places[0]]))
        self.last.append(float(row[places[-1]]))
        if epsilon is not None:
            self.settled.append(_settled_at(row, places, epsilon))


def _settled_at(row: Matrix, places: NDArray[np.intp], epsilon: float) -> int:
    """Return the first iteration from which on every known cell is near the last one."""
    away = np.abs(row[places] - row[places[-1]]) > epsilon + 1e-12  # 0.30 - 0.25 is not 0.05
    beyond = np.flatnonzero(away)
    return int(places[beyond[-1] + 1]) if beyond.size else int(places[0])


class _Gathered:
    """Everything that is kept of the loops read so far."""

    def __init__(self, levels: tuple[str, ...]) -> None:
        self.levels = levels
        self.loops = self.cells = self.failed = 0
        self.values = _Cells.of(len(levels))
        self.by_level = [_Level() for _ in levels]
        self.stops: dict[str, Counter[int]] = defaultdict(Counter)
        self.flags: Counter[str] = Counter()

    def add(self, trajectory: Trajectory, epsilon: float | None) -> None:
        values = trajectory.alignment.values
        self.loops += 1
        self.cells += values.size
        self.failed += int(np.isnan(values).sum())
        self.values.add(values)
        near = trajectory.epsilon if epsilon is None else epsilon
        for level, row in zip(self.by_level, values, strict=True):
            level.add(row, near)
        if trajectory.stop is None:
            self.stops[FAILED][values.shape[1]] += 1
        else:
            self.stops[trajectory.stop.rule][trajectory.stop.iterations] += 1
        self.flags.update({flag.value for flag in trajectory.flags})

    def report(self, resamples: int) -> MatrixReport:
        order, p_value = self._order()
        return MatrixReport(
            loops=self.loops,
            levels=tuple(self._trend(j, resamples) for j in range(len(self.levels))),
            order=order,
            order_p=p_value,
            stops={rule: dict(sorted(self.stops[rule].items())) for rule in sorted(self.stops)},
            flags=dict(sorted(self.flags.items())),
            failed_cells=self.failed,
            cells=self.cells,
        )

    def _trend(self, j: int, resamples: int) -> LevelTrend:
        name, level = self.levels[j], self.by_level[j]
        rise = None
        if level.first:
            rise = compare(
                level.first,
                level.last,
                name=name,
                resamples=resamples,
                alternative="two-sided",
                interval="expanded",
            )
        return LevelTrend(
            level=name,
            means=self.values.means(j),
            spreads=self.values.spreads(j),
            counts=tuple(int(count) for count in self.values.count[j]),
            slope=level.climbed / level.steps if level.steps else None,
            rise=rise,
            settled=float(np.mean(level.settled)) if level.settled else None,
        )

    def _order(self) -> tuple[float, float] | tuple[None, None]:
        """Return Kendall's tau-b of place and time, and its p-value."""
        places = [j for j, level in enumerate(self.by_level) for _ in level.settled]
        times = [time for level in self.by_level for time in level.settled]
        if len(set(places)) < 2 or len(set(times)) < 2:
            return None, None
        from scipy.stats import kendalltau

        found = kendalltau(places, times)
        return float(found.statistic), float(found.pvalue)
