"""The cells of a matrix in axes: what the heat maps, differences and small multiples share.

Levels are rows with the easiest on top, iterations are columns. matplotlib is imported
inside the functions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reflectory.alignment import CellStatus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Colormap

GREY = "0.55"
_LABEL_COLUMNS = 22  # level names are wrapped at so many characters

Status = Sequence[Sequence[CellStatus]]


@dataclass(frozen=True)
class Scale:
    """What a colour means.

    Attributes:
        colours: Name of a colour map of matplotlib.
        first: Where in it the scale begins, in [0, 1].
        low: The value of its beginning.
        high: The value of its end.
        label: Stands beside the colour bar.
        form: How a value is written.
    """

    colours: str
    first: float
    low: float
    high: float
    label: str
    form: str

    def colour_map(self) -> Colormap:
        """Return the colours from ``first`` on."""
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        return ListedColormap(colormaps[self.colours](np.linspace(self.first, 1.0, 256)))


ALIGNMENT = Scale("Oranges", 0.1, 0.0, 1.0, "alignment A[j,t]", ".2f")
"""Always 0 to 1, so that pictures can be compared; without the palest end, a pending cell's."""


def difference_scale(reach: float) -> Scale:
    """Return a scale with zero in the middle: orange is more, purple is less.

    Both ends of the map (ColorBrewer's PuOr) can be told apart by people with any colour
    vision, and grow equally dark.

    Args:
        reach: Largest absolute difference that is drawn; both sides go so far.
    """
    end = min(1.0, max(0.1, float(np.ceil(reach * 10 - 1e-9) / 10)))
    return Scale("PuOr_r", 0.0, -end, end, "difference of A[j,t]", "+.2f")


def draw_cells(
    ax: Axes,
    levels: Sequence[str],
    values: NDArray[np.float64],
    status: Status,
    *,
    scale: Scale = ALIGNMENT,
    annotate: bool = True,
    write: Callable[[int, int], str] | None = None,
    bar: bool = True,
) -> QuadMesh | None:
    """Draw a matrix into axes.

    Failed cells are hatched and crossed, pending cells are empty.

    Args:
        ax: Where to draw.
        levels: Names of the k rows.
        values: Shape (k, T), NaN where nothing is known; T may be 0.
        status: Of every cell, k rows of T.
        scale: What the colours mean.
        annotate: Write the values into the cells where the cells are large enough.
        write: What is written into the cell (j, t) instead of its value; two lines at most.
        bar: Draw a colour bar beside the axes.

    Returns:
        The cells, for a colour bar of the caller's; ``None`` when there are none.
    """
    from matplotlib.ticker import MaxNLocator

    rows, columns = values.shape
    width, height = cell_inches(ax, rows, columns)
    line = 1.0 if min(width, height) > 0.15 else 0.0
    edges = (np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5)
    ax.set_xlim(-0.5, max(columns, 1) - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)  # the easiest level on top
    ax.set_yticks(range(rows), labels=[wrap(name) for name in levels], parse_math=False)
    ax.set_xlabel("iteration t" + legend_of_states(status))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if not columns:
        ax.set_xticks([])
        said = ax.text(0.5, 0.5, "no iteration yet", color="0.4", transform=ax.transAxes)
        said.set(horizontalalignment="center", verticalalignment="center", fontsize=9)
        return None
    ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    mesh = ax.pcolormesh(
        *edges,
        np.ma.masked_invalid(values),
        cmap=scale.colour_map(),
        vmin=scale.low,
        vmax=scale.high,
        edgecolors="white",
        linewidth=line,
    )
    _mark_missing(ax, values, status, line=line, points=min(width, height) * 72 * 0.45)
    lines = 1 if write is None else 2
    if annotate and width >= 0.27 and height >= 0.2 * lines:
        _write_values(ax, values, mesh, scale, write, size=9 if width >= 0.46 else 7)
    figure = ax.get_figure(root=True)
    if bar and figure is not None:
        drawn = figure.colorbar(mesh, ax=ax, fraction=0.05, pad=0.02, aspect=30)
        drawn.set_label(scale.label)
        drawn.outline.set_visible(False)
    return mesh


def wrap(name: str) -> str:
    """Return the name of a level in lines that fit beside the cells."""
    return textwrap.fill(name, _LABEL_COLUMNS) or name


def label_inches(levels: Sequence[str]) -> tuple[float, int]:
    """Return how wide the names of levels are, in inches, and the most lines of one."""
    wrapped = [wrap(name).split("\n") for name in levels]
    longest = max(len(line) for lines in wrapped for line in lines)
    return 0.085 * longest, max(len(lines) for lines in wrapped)


def heat_inches(levels: Sequence[str], columns: int, *, lines: int = 1) -> tuple[float, float]:
    """Return a width and height at which cells are neither slivers nor slabs, in inches.

    Args:
        levels: Names of the rows.
        columns: T.
        lines: Of what is written into a cell.
    """
    across = max(columns, 1)
    width = min(max(across * min(0.62, max(0.24, 9.0 / across)), 1.9), 12.0)
    return width, max(1.9, len(levels) * max(0.46, 0.19 * label_inches(levels)[1], 0.3 * lines))


def cell_inches(ax: Axes, rows: int, columns: int) -> tuple[float, float]:
    """Return about how wide and high a cell will be, in inches."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    box = ax.get_window_extent()
    # The colour bar and the labels are not there yet and take some of it.
    width, height = 0.8 * box.width / figure.dpi, 0.85 * box.height / figure.dpi
    return width / max(columns, 1), height / max(rows, 1)


def _write_values(
    ax: Axes,
    values: NDArray[np.float64],
    colours: ScalarMappable,
    scale: Scale,
    write: Callable[[int, int], str] | None,
    *,
    size: int,
) -> None:
    for j, t in zip(*np.nonzero(~np.isnan(values)), strict=True):
        red, green, blue = colours.to_rgba(values[j, t])[:3]
        # Brightness of the cell (ITU-R BT.709), which decides whether black can be read on it.
        ink = "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.42 else "black"
        text = (
            format(round(values[j, t], 2) + 0.0, scale.form)
            if write is None
            else write(int(j), int(t))
        )
        ax.text(t, j, text, ha="center", va="center", color=ink, fontsize=size)


def _mark_missing(
    ax: Axes, values: NDArray[np.float64], status: Status, *, line: float, points: float
) -> None:
    """Hatch and cross the failed cells, and outline the pending ones."""
    from matplotlib.patches import Rectangle

    for j, t in zip(*np.nonzero(np.isnan(values)), strict=True):
        corner, failed = (t - 0.5, j - 0.5), status[j][t] is CellStatus.FAILED
        cell = Rectangle(corner, 1, 1, facecolor="white", edgecolor=GREY if failed else "0.88")
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


def legend_of_states(status: Status) -> str:
    """Return the line that says how failed and pending cells look; empty without any."""
    present = {state for row in status for state in row}
    said = {CellStatus.FAILED: "hatched: failed", CellStatus.PENDING: "empty: pending"}
    words = [text for state, text in said.items() if state in present]
    return f"\n({', '.join(words)})" if words else ""
