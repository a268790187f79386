"""One matrix, two and their difference, and many beside one another.

Every function draws into the axes that it is given, or into a new figure without pyplot,
and returns the axes. One colour means one value in all of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.errors import UserError
from reflectory.evaluation.matrices import MatrixReport
from reflectory.report.axes import new_axes, new_grid, note
from reflectory.report.cells import (
    ALIGNMENT,
    difference_scale,
    draw_cells,
    heat_inches,
    label_inches,
    legend_of_states,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reflectory.types import Trajectory

Many = Mapping[str, AlignmentMatrix] | Iterable["Trajectory"]
"""Matrices by name, or trajectories, which are named by their instructions."""


def plot_matrix(
    matrix: AlignmentMatrix,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    annotate: bool = True,
    bar: bool = True,
) -> Axes:
    """Draw one matrix alone; with the curve of its change it is ``matrix.plot()``.

    Args:
        matrix: k levels by T iterations; T may be 0.
        ax: Where to draw; a new figure is made without it.
        title: Stands above; long titles are wrapped.
        annotate: Write the values into the cells where the cells are large enough.
        bar: Draw the colour bar.

    Returns:
        The axes.
    """
    ax = _axes_for(matrix.levels, matrix.iterations) if ax is None else ax
    draw_cells(ax, matrix.levels, matrix.values, matrix.status, annotate=annotate, bar=bar)
    return _titled(ax, title)


def plot_difference(
    first: AlignmentMatrix,
    second: AlignmentMatrix,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    reach: float | None = None,
) -> Axes:
    """Draw the second matrix less the first: orange where it is higher, purple where lower.

    Cells that only one of them has are pending, those that failed in either are failed.

    Args:
        first: k levels by T iterations.
        second: The same levels; it may have more or fewer iterations.
        ax: Where to draw; a new figure is made without it.
        title: Stands above; long titles are wrapped.
        reach: Where the colours end, in (0, 1]; just above the largest difference by default.

    Returns:
        The axes.

    Raises:
        UserError: The levels differ.
    """
    values, status = difference(first, second)
    known = np.abs(values[~np.isnan(values)])
    scale = difference_scale(float(known.max(initial=0.0)) if reach is None else reach)
    ax = _axes_for(first.levels, values.shape[1]) if ax is None else ax
    draw_cells(ax, first.levels, values, status, scale=scale)
    present = {state for row in status for state in row}
    said = {CellStatus.FAILED: "hatched: failed in one", CellStatus.PENDING: "empty: not in both"}
    words = [text for state, text in said.items() if state in present]
    ax.set_xlabel("iteration t" + (f"\n({', '.join(words)})" if words else ""))
    return _titled(ax, title)


def plot_comparison(
    first: AlignmentMatrix,
    second: AlignmentMatrix,
    *,
    names: tuple[str, str] = ("first", "second"),
    axes: Sequence[Axes] | None = None,
) -> tuple[Axes, Axes, Axes]:
    """Draw two matrices beside one another in one scale, and their difference.

    Args:
        first: k levels by T iterations.
        second: The same levels; it may have more or fewer iterations.
        names: What they are called.
        axes: Where to draw, three; a new figure is made without them.

    Returns:
        The axes of the first, the second and the difference.

    Raises:
        UserError: The levels differ, or there are not three axes.
    """
    difference(first, second)  # before anything is drawn
    if axes is None:
        columns = max(first.iterations, second.iterations, 1)
        width, height = heat_inches(first.levels, columns)
        label, _ = label_inches(first.levels)
        found = new_grid(1, 3, 3 * (min(width, 4.5) + 0.9) + label + 0.9, height + 1.3)
        axes = [found[0, 0], found[0, 1], found[0, 2]]
    if len(axes) != 3:
        raise UserError(
            f"a comparison needs three axes, got {len(axes)}", hint="plt.subplots(1, 3)"
        )
    left, middle, right = axes
    plot_matrix(first, ax=left, title=names[0], bar=False)
    plot_matrix(second, ax=middle, title=names[1])
    plot_difference(first, second, ax=right, title=f"{names[1]} less {names[0]}")
    for ax in (middle, right):
        ax.tick_params(labelleft=False)
    for ax in (left, middle):  # an iteration stands at one place in all three
        ax.set_xlim(right.get_xlim())
    return left, middle, right


def plot_many(
    matrices: Many,
    *,
    columns: int | None = None,
    most: int = 24,
) -> NDArray[np.object_]:
    """Draw many matrices small, one per instruction, in one scale.

    Args:
        matrices: By name, or trajectories; read no further than ``most`` and one more.
        columns: How many stand beside one another; by default what fits 12 inches.
        most: How many are drawn; a title says where there were more.

    Returns:
        The axes in reading order, an array of shape (number of matrices,); at least one.

    Raises:
        UserError: ``most`` or ``columns`` is below 1.
    """
    if most < 1 or (columns is not None and columns < 1):
        raise UserError("at least one matrix and one column are needed", hint="leave them out")
    named, more = _first(matrices, most)
    if not named:
        return np.array([note(new_axes(4.0, 2.0), "there is no matrix")], dtype=object)
    longest = max(matrix.iterations for _, matrix in named)
    width = min(max(1.7, 0.34 * longest), 5.0)
    rows_of_levels = max(len(matrix.levels) for _, matrix in named)
    label = max(label_inches(matrix.levels)[0] for _, matrix in named)
    across = columns or max(1, min(len(named), int((12.0 - label) / (width + 0.3))))
    down = -(-len(named) // across)
    across = columns or -(-len(named) // down)  # no row is much shorter than the others
    same = len({matrix.levels for _, matrix in named}) == 1
    total = label * (1 if same else across) + across * (width + 0.3) + 1.2
    height = max(0.9, 0.24 * rows_of_levels)
    grid = new_grid(down, across, total, down * (height + 0.9) + 0.3)
    drawn: list[Axes] = list(grid.flat)  # type: ignore[arg-type]
    below = "iteration t" + legend_of_states([row for _, m in named for row in m.status])
    mesh = None
    for place, (name, matrix) in enumerate(named):
        ax = drawn[place]
        cells = draw_cells(ax, matrix.levels, matrix.values, matrix.status, bar=False)
        mesh = cells or mesh
        ax.set_xlim(-0.5, max(longest, 1) - 0.5)  # one width of a cell in all
        ax.set_title(_short(name, int(width * 14)), fontsize=9, parse_math=False, loc="left")
        ax.tick_params(labelsize=8, labelleft=not same or place % across == 0)
        ax.set_xlabel("")
    for ax in drawn[len(named) :]:
        ax.set_axis_off()
    figure = drawn[0].get_figure(root=True)
    if figure is not None and mesh is not None:
        bar = figure.colorbar(mesh, ax=drawn, fraction=0.03, pad=0.02, aspect=30)
        bar.set_label(ALIGNMENT.label)
        bar.outline.set_visible(False)
    if figure is not None:
        # Once for all: below single matrices it would move their rows apart.
        figure.supxlabel(below.replace("\n", " "), fontsize=8)
    if figure is not None and more:
        figure.suptitle(f"the first {len(named)}; there are more", fontsize=10)
    return np.array(drawn[: len(named)], dtype=object)


def plot_mean(report: MatrixReport, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw the mean of A over a run, with the standard deviation in each cell.

    Below each iteration stands how many loops got so far; later means are over those only.
    The same as lines is :func:`~reflectory.report.matrix_plots.plot_levels`.

    Args:
        report: Of many loops.
        ax: Where to draw; a new figure is made without it.
        title: Stands above; long titles are wrapped.

    Returns:
        The axes.
    """
    if not report.levels:
        return note(new_axes(4.0, 2.0) if ax is None else ax, "no loop was read")
    names = [level.level for level in report.levels]
    mean = mean_of(report)
    values = mean.values
    ax = _axes_for(names, mean.iterations, lines=2) if ax is None else ax

    def write(j: int, t: int) -> str:
        return f"{values[j, t]:.2f}\n\u00b1{report.levels[j].spreads[t] or 0.0:.2f}"

    draw_cells(ax, names, values, mean.status, write=write)
    reached = [max(level.counts[t] for level in report.levels) for t in range(mean.iterations)]
    if 0 < len(reached) <= 15:
        ax.set_xticks(range(len(reached)), labels=[f"{t}\n({n})" for t, n in enumerate(reached)])
        ax.set_xlabel("iteration t (loops that got so far)")
    return _titled(ax, title)


def mean_of(report: MatrixReport) -> AlignmentMatrix:
    """Return the mean of many matrices as a matrix; cells that no loop has are pending.

    Args:
        report: Of at least one loop.

    Raises:
        UserError: It is of no loop.
    """
    if not report.levels:
        raise UserError("there is no loop to take a mean over", hint="run one first")
    means = [[np.nan if m is None else m for m in level.means] for level in report.levels]
    # A mean of ones may lie above one by the last bit.
    return AlignmentMatrix([level.level for level in report.levels], np.clip(means, 0.0, 1.0))


def difference(
    first: AlignmentMatrix, second: AlignmentMatrix
) -> tuple[NDArray[np.float64], tuple[tuple[CellStatus, ...], ...]]:
    """Return the second less the first, shape (k, longer T), and the status of every cell.

    Args:
        first: k levels by T iterations.
        second: The same levels, by any number of iterations.

    Raises:
        UserError: The levels differ.
    """
    if first.levels != second.levels:
        raise UserError(
            f"the levels differ: {', '.join(first.levels)} and {', '.join(second.levels)}",
            hint="compare matrices with the same levels in the same order",
        )
    columns = max(first.iterations, second.iterations)
    values = np.full((len(first.levels), columns), np.nan)
    both = min(first.iterations, second.iterations)
    values[:, :both] = second.values[:, :both] - first.values[:, :both]

    def state(j: int, t: int) -> CellStatus:
        found = [m.status[j][t] for m in (first, second) if t < m.iterations]
        if CellStatus.FAILED in found:
            return CellStatus.FAILED
        return CellStatus.PENDING if np.isnan(values[j, t]) else CellStatus.DONE

    return values, tuple(
        tuple(state(j, t) for t in range(columns)) for j in range(len(first.levels))
    )


def _axes_for(levels: Sequence[str], columns: int, *, lines: int = 1) -> Axes:
    width, height = heat_inches(levels, columns, lines=lines)
    return new_axes(width + label_inches(levels)[0] + 1.7, height + 1.2)


def _titled(ax: Axes, title: str | None) -> Axes:
    if title:
        figure = ax.get_figure(root=True)
        width = ax.get_window_extent().width / (figure.dpi if figure is not None else 100.0)
        ax.set_title(textwrap.fill(title, max(16, int(width * 13))), fontsize=11, parse_math=False)
    return ax


def _first(matrices: Many, most: int) -> tuple[list[tuple[str, AlignmentMatrix]], bool]:
    """Return so many named matrices, and whether there are more."""
    found: list[tuple[str, AlignmentMatrix]] = []
    pairs = (
        iter(matrices.items())
        if isinstance(matrices, Mapping)
        else ((t.instruction, t.alignment) for t in matrices)
    )
    for pair in pairs:
        if len(found) == most:
            return found, True
        found.append(pair)
    return found, False


def _short(name: str, columns: int) -> str:
    lines = textwrap.wrap(name, max(columns, 12), max_lines=2, placeholder=" ...")
    return "\n".join(lines) or name
