"""A run as a whole: the grades G[t] of its loops, and one level over several runs or rounds.

Every function draws into the axes that it is given, or into a new figure without pyplot,
and returns the axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import UserError
from reflectory.evaluation.matrices import LevelTrend, MatrixReport
from reflectory.report.axes import (
    GREY,
    INK,
    ORANGE,
    PALE,
    legend_below,
    name_iterations,
    new_axes,
    note,
    plain,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reflectory.types import Trajectory

_NAMED = 15
"""Most iterations whose numbers are written out one by one."""
_SINGLE = 60
"""Most loops that are drawn as a line of their own."""
_TICKS = 28
"""Most points over all runs that carry their iteration."""


def plot_grades(trajectories: Iterable[Trajectory], *, ax: Axes | None = None) -> Axes:
    """Draw G[t], the grade of the response after t reflections, over the loops of a run.

    The thick line is the mean, the band one standard deviation each way. Below each t stands
    how many loops have a grade there; later means are over those only. Up to 60 loops are
    drawn as thin lines, too.

    Args:
        trajectories: Of a run; failed loops are passed over. Read once.
        ax: Where to draw; a new figure is made without it.

    Returns:
        The axes.
    """
    grades = _table([t.grades for t in trajectories if t.status == "done"])
    columns = grades.shape[1]
    ax = new_axes(max(4.6, min(1.8 + 0.8 * columns, 12.0)), 3.9) if ax is None else ax
    if not (~np.isnan(grades)).any():
        return note(ax, "no response was graded" if grades.shape[0] else "no loop is done")
    plain(ax)
    at = np.arange(columns)
    counts, means, spreads = _moments(grades)
    known = counts > 0
    if 1 < len(grades) <= _SINGLE:
        for row in grades:
            ax.plot(at, row, "-", color=PALE, linewidth=0.8, marker=".", markersize=3, zorder=1)
        ax.plot([], [], "-", color=PALE, linewidth=0.8, marker=".", label="one loop")
    if len(grades) > 1:
        low, high = np.clip(means - spreads, 0.0, 1.0), np.clip(means + spreads, 0.0, 1.0)
        ax.fill_between(
            at[known],
            low[known],
            high[known],
            color=ORANGE,
            alpha=0.18,
            linewidth=0,
            label="one standard deviation",
        )
    label = "mean" if len(grades) > 1 else "grade"
    ax.plot(at[known], means[known], "o-", color=ORANGE, linewidth=2.2, label=label, zorder=3)
    names = {t: f"{t}\n({n})" for t, n in enumerate(counts)}
    name_iterations(ax, names, named="reflections t (loops with a grade)", unnamed="reflections t")
    ax.set_ylabel("grade of the response G[t]")
    legend_below(ax, columns=3)
    return ax


def plot_level(reports: Mapping[str, MatrixReport], level: str, *, ax: Axes | None = None) -> Axes:
    """Draw the mean of one level over all iterations of several runs or rounds, in their order.

    The runs stand beside one another, each with its iterations from 0, so that it can be
    seen whether a later one begins where the one before it ended. The band is one standard
    deviation over the loops each way.

    Args:
        reports: Of runs or rounds, by name, in the order of time.
        level: Name of the level.
        ax: Where to draw; a new figure is made without it.

    Returns:
        The axes.

    Raises:
        UserError: No report has such a level.
    """
    found = {name: _level_of(report, level) for name, report in reports.items()}
    if reports and not any(found.values()):
        known = dict.fromkeys(part.level for r in reports.values() for part in r.levels)
        raise UserError(
            f"no run has the level {level!r}",
            hint=f"choose one of {', '.join(known)}" if known else "the runs have no loops",
        )
    widths = [max(1, len(_known(trend))) for trend in found.values()]
    total = sum(widths) + len(widths)
    ax = new_axes(max(4.6, min(1.4 + 0.42 * total, 14.0)), 3.9) if ax is None else ax
    if not found:
        return note(ax, "there is no run")
    plain(ax)
    start, ticks, names = 0, [], []
    for place, (name, trend) in enumerate(found.items()):
        at = _draw_segment(ax, trend, start)
        ticks += [(x, t) for t, x in enumerate(at)]
        width = widths[place]
        names.append((start + (width - 1) / 2, wrapped(name, max(8, 3 * width, 48 // len(found)))))
        start += width + 1
        if place + 1 < len(found):
            ax.axvline(start - 1, color=PALE, linewidth=0.9, linestyle=":")
    if len(ticks) <= _TICKS:
        ax.set_xticks([x for x, _ in ticks], labels=[f"{t}" for _, t in ticks])
    else:
        firsts = [(x, t) for x, t in ticks if t == 0]
        ax.set_xticks([x for x, _ in firsts], labels=["0"] * len(firsts))
    for x, text in names:
        said = ax.annotate(text, (x, 1.0), (0, 4), textcoords="offset points")
        said.set(horizontalalignment="center", verticalalignment="bottom", annotation_clip=False)
        said.set(fontsize=9 if len(names) <= 8 else 7.5, color=INK, parse_math=False)
    ax.set_xlim(-0.8, start - 1.2)
    ax.set_ylim(0.0, 1.0)
    ax.set_xlabel("iteration t of each")
    ax.set_ylabel(f"A[j,t] of {level}", parse_math=False)
    return ax


def _draw_segment(ax: Axes, trend: LevelTrend | None, start: int) -> list[int]:
    """Draw one run from ``start`` on; return where its iterations stand."""
    known = _known(trend)
    if trend is None or not known:
        ax.plot([start], [0.0], "x", color=GREY, clip_on=False)
        return []
    at = np.array([start + t for t in known])
    mean = np.array([trend.means[t] for t in known], dtype=np.float64)
    spread = np.array([trend.spreads[t] or 0.0 for t in known])
    low, high = np.clip(mean - spread, 0.0, 1.0), np.clip(mean + spread, 0.0, 1.0)
    if len(at) == 1:
        ax.errorbar(at, mean, yerr=[mean - low, high - mean], color=ORANGE, alpha=0.5, capsize=3)
    ax.fill_between(at, low, high, color=ORANGE, alpha=0.18, linewidth=0)
    ax.plot(at, mean, "o-", color=ORANGE, linewidth=2.0, markersize=6)
    return [start + t for t in range(known[-1] + 1)]


def _known(trend: LevelTrend | None) -> list[int]:
    return [] if trend is None else [t for t, mean in enumerate(trend.means) if mean is not None]


def _level_of(report: MatrixReport, level: str) -> LevelTrend | None:
    return next((part for part in report.levels if part.level == level), None)


def _table(rows: list[list[float | None]]) -> NDArray[np.float64]:
    """Return rows of different lengths as one array of shape (n, longest), filled with NaN."""
    table = np.full((len(rows), max((len(row) for row in rows), default=0)), np.nan)
    for place, row in enumerate(rows):
        table[place, : len(row)] = [np.nan if value is None else value for value in row]
    return table


def _moments(
    table: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return count, mean and standard deviation of every column; NaN where nothing is known."""
    known = ~np.isnan(table)
    counts = known.sum(axis=0)
    sums = np.where(known, table, 0.0).sum(axis=0)
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    squares = np.where(known, (table - means) ** 2, 0.0).sum(axis=0)
    spread = np.sqrt(np.divide(squares, counts, out=np.zeros(len(counts)), where=counts > 0))
    return counts, means, spread
