"""The alignment matrix as a picture: a heat map beside the curve of its change.

Drawn as in the survey's Figure 5: levels are rows and iterations are columns,
a darker orange is a higher alignment. The easiest level is the top row, so
that row j of the picture is row j of the array and of the printed matrix.

matplotlib is imported inside the functions. Figures are made without pyplot
and hold an Agg canvas of their own, so nothing is registered anywhere: it works
without a display and in threads, and a figure is freed with its axes.
"""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.errors import StorageError, UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
"""Formats that a figure can be saved in."""

_LABEL_COLUMNS = 22  # level names are wrapped at so many characters
_GREY = "0.55"


def plot_alignment(
    matrix: AlignmentMatrix,
    *,
    axes: tuple[Axes, Axes] | None = None,
    title: str | None = None,
    annotate: bool = True,
) -> tuple[Axes, Axes]:
    """Draw the matrix and, beside it, the norm of its change (Equation 32).

    The colour scale is always 0 to 1, so that pictures can be compared. Failed
    cells are hatched and crossed, pending cells are empty.

    Args:
        matrix: k levels by T iterations; T may be 0.
        axes: Where to draw (heat map, curve), for example of ``plt.subplots(1, 2)``;
            a new figure is made without them, to be had as ``axes[0].figure``.
        title: Stands above both; long titles are wrapped.
        annotate: Write the values into the cells where the cells are large enough.

    Returns:
        The axes of the heat map and of the curve.
    """
    if axes is None:
        figure, axes = _new_figure(matrix)
        if title:
            columns = int(figure.get_figwidth() * 11)
            figure.suptitle(textwrap.fill(title, columns), fontsize=12, parse_math=False)
    elif title:
        axes[0].set_title(title, parse_math=False)
    _draw_cells(axes[0], matrix, annotate=annotate)
    _draw_curve(axes[1], matrix)
    return axes


def alignment_png(matrix: AlignmentMatrix) -> bytes:
    """Return the picture as PNG, as a notebook shows it."""
    buffer = io.BytesIO()
    _figure_of(plot_alignment(matrix)).savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def save_alignment(matrix: AlignmentMatrix, path: str | Path, *, title: str | None = None) -> Path:
    """Save the picture as PNG, SVG or PDF, by the suffix of ``path``.

    Raises:
        UserError: The suffix is none of these.
        StorageError: The file cannot be written.
    """
    suffix_of(path)
    return save_figure(_figure_of(plot_alignment(matrix, title=title)), path)


def suffix_of(path: str | Path) -> str:
    """Return the suffix of a picture's path in lower case, with its dot.

    Raises:
        UserError: It is none of :data:`SUFFIXES`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"cannot save a picture as {Path(path).name!r}",
            hint=f"end the file name with one of {', '.join(SUFFIXES)}",
        )
    return suffix


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format of the path's suffix, without the date in it.

    Raises:
        UserError: The suffix is none of :data:`SUFFIXES`.
        StorageError: The file cannot be written.
    """
    target = Path(path)
    suffix = suffix_of(target)
    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    try:
        figure.savefig(target, format=suffix[1:], dpi=160, metadata=undated[suffix])
    except OSError as error:
        raise StorageError(
            f"cannot write the picture {target}: {error.strerror or error}",
            hint="check that the folder exists, is writable and has space",
        ) from error
    return target


def _figure_of(axes: tuple[Axes, Axes]) -> Figure:
    figure = axes[0].get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    return figure


def _new_figure(matrix: AlignmentMatrix) -> tuple[Figure, tuple[Axes, Axes]]:
    """Make a figure in which the cells of ``matrix`` are neither slivers nor slabs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows, columns = len(matrix.levels), max(matrix.iterations, 1)
    wrapped = [line for name in matrix.levels for line in _wrap(name).split("\n")]
    lines = max(_wrap(name).count("\n") + 1 for name in matrix.levels)
    label = 0.085 * max(len(line) for line in wrapped)
    heat = min(max(columns * min(0.62, max(0.24, 9.0 / columns)), 1.9), 12.0)
    curve = min(max(3.0, 0.45 * heat), 4.5)
    height = max(1.9, rows * max(0.46, 0.19 * lines))
    engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=0.04)
    figure = Figure(figsize=(label + heat + curve + 2.1, height + 1.2), layout=engine)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[heat + 0.6, curve])
    return figure, (left, right)


def _wrap(name: str) -> str:
    return textwrap.fill(name, _LABEL_COLUMNS) or name


def _oranges() -> Colormap:
    """Return the sequential oranges without their palest end, which a pending cell is."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["Oranges"](np.linspace(0.1, 1.0, 256)), name="alignment")


def _draw_cells(ax: Axes, matrix: AlignmentMatrix, *, annotate: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    rows, columns = len(matrix.levels), matrix.iterations
    width, height = _cell_inches(ax, matrix)
    line = 1.0 if min(width, height) > 0.15 else 0.0
    known = np.ma.masked_invalid(matrix.values)
    edges = (np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5)
    ax.set_xlim(-0.5, max(columns, 1) - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)  # the easiest level on top
    ax.set_yticks(range(rows), labels=[_wrap(name) for name in matrix.levels], parse_math=False)
    ax.set_xlabel("iteration t" + _legend_of_states(matrix))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if not columns:
        _note(ax, "no iteration yet")
        return
    ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    mesh = ax.pcolormesh(
        *edges, known, cmap=_oranges(), vmin=0.0, vmax=1.0, edgecolors="white", linewidth=line
    )
    _mark_missing(ax, matrix, line=line, points=min(width, height) * 72 * 0.45)
    if annotate and width >= 0.27 and height >= 0.2:
        _write_values(ax, matrix, mesh, size=9 if width >= 0.46 else 7)
    bar = _figure_of((ax, ax)).colorbar(mesh, ax=ax, fraction=0.05, pad=0.02, aspect=30)
    bar.set_label("alignment A[j,t]")
    bar.outline.set_visible(False)


def _write_values(ax: Axes, matrix: AlignmentMatrix, colours: ScalarMappable, *, size: int) -> None:
    for j, t in zip(*np.nonzero(~np.isnan(matrix.values)), strict=True):
        red, green, blue = colours.to_rgba(matrix.values[j, t])[:3]
        # Brightness of the cell (ITU-R BT.709), which decides whether black can be read on it.
        ink = "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.42 else "black"
        text = f"{matrix.values[j, t]:.2f}"
        ax.text(t, j, text, ha="center", va="center", color=ink, fontsize=size)


def _mark_missing(ax: Axes, matrix: AlignmentMatrix, *, line: float, points: float) -> None:
    """Hatch and cross the failed cells, and outline the pending ones."""
    from matplotlib.patches import Rectangle

    for j, t in zip(*np.nonzero(np.isnan(matrix.values)), strict=True):
        corner, failed = (t - 0.5, j - 0.5), matrix.status[j][t] is CellStatus.FAILED
        cell = Rectangle(corner, 1, 1, facecolor="white", edgecolor=_GREY if failed else "0.88")
        cell.set_linewidth(0.8 * line)
        ax.add_patch(cell)
        if failed:
            cell.set_hatch("////")
            cell.set_zorder(1.5)
            _cross(ax, t, j, points=points)


def _cross(ax: Axes, t: int, j: int, *, points: float) -> None:
    """Mark a failed cell on a white disc, so that the hatch does not hide the mark."""
    size = min(points, 11.0)
    ax.plot(t, j, "o", color="white", markersize=size * 1.35, clip_on=False)
    ax.plot(t, j, "x", color="black", markersize=size * 0.7, markeredgewidth=max(size / 7, 0.5))


def _legend_of_states(matrix: AlignmentMatrix) -> str:
    present = {status for row in matrix.status for status in row}
    said = {CellStatus.FAILED: "hatched: failed", CellStatus.PENDING: "empty: pending"}
    words = [text for status, text in said.items() if status in present]
    return f"\n({', '.join(words)})" if words else ""


def _cell_inches(ax: Axes, matrix: AlignmentMatrix) -> tuple[float, float]:
    """Return about how wide and high a cell will be, in inches."""
    figure = _figure_of((ax, ax))
    box = ax.get_window_extent()
    # The colour bar and the labels are not there yet and take some of it.
    width, height = 0.8 * box.width / figure.dpi, 0.85 * box.height / figure.dpi
    return width / max(matrix.iterations, 1), height / len(matrix.levels)


def _draw_curve(ax: Axes, matrix: AlignmentMatrix) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("iteration t")
    deltas, epsilon = matrix.deltas, matrix.epsilon
    missing = np.isnan(deltas)
    if missing.all():
        unknown = "no change is known:\ncells failed or are pending"
        one = "one iteration:\nno change to measure"
        _note(ax, unknown if deltas.size else one if matrix.iterations else "")
        return
    ax.set_ylabel("norm of A[:,t] - A[:,t-1]")
    ax.spines[["top", "right"]].set_visible(False)
    steps = np.arange(1, matrix.iterations)
    size = 5.0 if len(steps) <= 25 else 3.0 if len(steps) <= 100 else 1.0
    ax.plot(steps, deltas, "o-", color="#a63603", markersize=size, linewidth=1.4, label="change")
    top = float(np.nanmax(deltas))
    if epsilon is not None and math.isfinite(epsilon):
        label = f"epsilon = {epsilon:g}"
        ax.axhline(epsilon, color="0.25", linestyle="--", linewidth=1.1, label=label, zorder=1)
        top = max(top, epsilon)
    if missing.any():
        floor = np.zeros(int(missing.sum()))
        ax.plot(steps[missing], floor, "x", color=_GREY, label="not known", clip_on=False)
    if matrix.converged and not missing[-1]:
        ring = ax.plot(steps[-1:], deltas[-1:], "o", color="black", markersize=11, clip_on=False)[0]
        ring.set(fillstyle="none", markeredgewidth=1.6, label=f"converged at t = {steps[-1]}")
    # The room above the highest point is the legend's, so that it covers nothing.
    ax.set_ylim(0.0, top * 1.6 or 1.0)
    margin = 0.5 if len(steps) == 1 else max(0.3, 0.03 * len(steps))
    ax.set_xlim(1 - margin, len(steps) + margin)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    ax.legend(loc="upper right", fontsize=8, frameon=False)


def _note(ax: Axes, text: str) -> None:
    """Write into empty axes why there is nothing to draw."""
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    if ax.get_ylim() == (0.0, 1.0):  # untouched: these are no levels
        ax.set_yticks([])
        ax.set_xlabel("")
    note = ax.text(0.5, 0.5, text, color="0.4", fontsize=9, transform=ax.transAxes)
    note.set(horizontalalignment="center", verticalalignment="center")
