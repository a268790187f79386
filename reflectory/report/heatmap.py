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

from reflectory.alignment import AlignmentMatrix
from reflectory.errors import StorageError, UserError
from reflectory.report.cells import GREY, draw_cells, heat_inches, label_inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
"""Formats that a figure can be saved in."""


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
    draw_cells(axes[0], matrix.levels, matrix.values, matrix.status, annotate=annotate)
    _draw_curve(axes[1], matrix)
    return axes


def alignment_png(matrix: AlignmentMatrix) -> bytes:
    """Return the picture as PNG, as a notebook shows it."""
    buffer = io.BytesIO()
    _figure_of(plot_alignment(matrix)).savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def save_alignment(matrix: AlignmentMatrix, path: str | Path, *, title: str | None = None) -> Path:
    """Save the picture as PNG, SVG or PDF, by the suffix of ``path``.

    Args:
        matrix: k levels by T iterations; T may be 0.
        path: Its suffix decides the format.
        title: Stands above; long titles are wrapped.

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


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 160) -> Path:
    """Write a figure in the format of the path's suffix, without the date in it.

    Args:
        figure: What is written.
        path: Where to.
        dpi: Dots per inch of a PNG.

    Raises:
        UserError: The suffix is none of :data:`SUFFIXES`.
        StorageError: The file cannot be written.
    """
    from matplotlib import rc_context

    target = Path(path)
    suffix = suffix_of(target)
    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    # TrueType fonts are embedded in PDF and stay text there; in SVG texts are outlines, which
    # look alike everywhere. The salt makes the ids of two runs the same.
    try:
        with rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": target.stem}):
            figure.savefig(target, format=suffix[1:], dpi=dpi, metadata=undated[suffix])
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
    from reflectory.report.figures import ShownFigure

    heat, height = heat_inches(matrix.levels, matrix.iterations)
    label, _ = label_inches(matrix.levels)
    curve = min(max(3.0, 0.45 * heat), 4.5)
    figure = ShownFigure(label + heat + curve + 2.1, height + 1.2, spacing=0.04)
    left, right = figure.subplots(1, 2, width_ratios=[heat + 0.6, curve])
    return figure, (left, right)


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
        ax.plot(steps[missing], floor, "x", color=GREY, label="not known", clip_on=False)
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
    """Write into an empty curve why there is nothing to draw."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("")
    ax.spines[:].set_visible(False)
    note = ax.text(0.5, 0.5, text, color="0.4", fontsize=9, transform=ax.transAxes)
    note.set(horizontalalignment="center", verticalalignment="center")
