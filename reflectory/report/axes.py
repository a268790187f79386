"""What the pictures of an evaluation have in common: colours, new axes, notes.

The orange is the project's, the other colours are those of Okabe and Ito, which people
with any colour vision can tell apart; nothing rests on colour alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORANGE = "#d94801"
"""The reference contender, and what is right."""
BLUE = "#0072b2"
"""The other side: what is wrong, or better than the reference contender."""
INK = "#333333"
GREY = "#767676"
PALE = "#c9c9c9"

OTHERS = (BLUE, "#009e73", "#cc79a7", "#56b4e9", "#8c6d1f", "#555555", "#332288", "#117733")
"""Other contenders, in their order; from the ninth on they begin again."""
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "h", "*")
"""Marks beside the colours; the reference contender has the disc."""

MOST_NAMED = 15
"""Above so many iterations only some of them are named."""
_LABEL_COLUMNS = 26


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a figure of its own, without pyplot; ``axes.figure`` is the figure.

    Args:
        width: In inches.
        height: In inches.
    """
    return _new_figure(width, height).add_subplot()


def new_grid(rows: int, columns: int, width: float, height: float) -> NDArray[np.object_]:
    """Return the axes of a figure of its own, shape (rows, columns), without pyplot.

    Args:
        rows: Of axes.
        columns: Of axes.
        width: Of the figure, in inches.
        height: Of the figure, in inches.
    """
    found: NDArray[np.object_] = _new_figure(width, height).subplots(rows, columns, squeeze=False)
    return found


def _new_figure(width: float, height: float) -> Figure:
    from reflectory.report.figures import ShownFigure

    return ShownFigure(width, height)


def plain(ax: Axes) -> Axes:
    """Take the frame off but for the two lines that carry numbers."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(colors=INK, labelsize=9)
    return ax


def note(ax: Axes, text: str) -> Axes:
    """Write into empty axes why there is nothing to draw."""
    ax.set_axis_off()
    said = ax.text(0.5, 0.5, text, color=GREY, fontsize=10, transform=ax.transAxes)
    said.set(horizontalalignment="center", verticalalignment="center", parse_math=False)
    return ax


def whole_numbers(ax: Axes, axis: str = "x") -> None:
    """Let the ticks of an axis stand at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    chosen = ax.xaxis if axis == "x" else ax.yaxis
    chosen.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def name_iterations(ax: Axes, names: Mapping[int, str], *, named: str, unnamed: str) -> None:
    """Name the iterations along the x-axis of values in [0, 1]; of very many only some.

    Args:
        ax: Where they are drawn.
        names: What stands below each iteration, by its number; not empty.
        named: Label of the axis where all are named.
        unnamed: Label of the axis where they are not.
    """
    last = max(names)
    if last < MOST_NAMED:
        ax.set_xticks(list(names), labels=list(names.values()))
        ax.set_xlabel(named)
    else:
        whole_numbers(ax)
        ax.set_xlabel(unnamed)
    ax.set_xlim(-0.5, last + 0.5)
    ax.set_ylim(0.0, 1.0)


def bars_inside(means: Sequence[float], deviations: Sequence[float]) -> NDArray[np.float64]:
    """Return how far error bars reach below and above means in [0, 1], cut at both ends.

    Args:
        means: Values in [0, 1].
        deviations: As many, each at least 0.

    Returns:
        Shape (2, number of means), as ``Axes.errorbar`` takes ``yerr``. A bar that left the
        axes would be cut without its cap and look like a fault.
    """
    mean = np.asarray(means, dtype=np.float64)
    reach = np.asarray(deviations, dtype=np.float64)
    return np.stack([np.minimum(reach, mean), np.minimum(reach, 1.0 - mean)])


def wrapped(name: str, columns: int = _LABEL_COLUMNS) -> str:
    """Return a name of the user's in at most three lines that fit beside an axis."""
    lines = textwrap.wrap(name, columns, max_lines=3, placeholder=" ...")
    return "\n".join(lines) or name


def legend_below(ax: Axes, columns: int = 4, title: str | None = None) -> None:
    """Put the legend under ticks and label of the axes, where it covers nothing.

    Call it last: it looks at how many lines there are to stay clear of.

    Args:
        ax: Whose lines and bars are named.
        columns: Most entries side by side.
        title: Stands above the entries.
    """
    from matplotlib.transforms import ScaledTranslation

    handles, labels = ax.get_legend_handles_labels()
    figure = ax.get_figure(root=True)
    if not handles or figure is None:
        return
    ticks = max((label.get_text().count("\n") for label in ax.get_xticklabels()), default=0)
    lines = 2 + ticks + ax.get_xlabel().count("\n")
    down = ScaledTranslation(0.0, -(6 + 13 * lines) / 72, figure.dpi_scale_trans)
    names = [wrapped(label, 60 if columns == 1 else _LABEL_COLUMNS) for label in labels]
    longest = max(len(line) for name in names for line in name.split("\n"))
    # About 0.066 inches per character of 9 points, and 0.5 for the line before it.
    width = 1.15 * ax.get_window_extent().width / figure.dpi
    room = int(width / (0.066 * longest + 0.5))
    legend = ax.legend(
        handles,
        names,
        title=title,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=ax.transAxes + down,
        ncols=max(1, min(columns, room, len(handles))),
        fontsize=9,
        title_fontsize=9,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.4,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def widen(ax: Axes, span: float = 0.1) -> None:
    """Let the y-axis span at least so much, so that a small change does not look like a large one.

    It does not go below zero unless something is drawn there.
    """
    lowest = float(ax.dataLim.y0)
    low, high = ax.get_ylim()
    if (more := span - (high - low)) > 0:
        low, high = low - more / 2, high + more / 2
    ax.set_ylim(max(low, 0.0) if lowest >= 0 else low, high)


def draw_interval(
    ax: Axes,
    place: int,
    low: float,
    middle: float,
    high: float,
    *,
    colour: str,
    filled: bool,
    marker: str = "o",
) -> None:
    """Draw a figure with its interval as one row of a forest plot.

    Args:
        ax: Where to draw.
        place: Of the row, from 0 at the bottom.
        low: Lower end.
        middle: The figure itself.
        high: Upper end.
        colour: Of line and mark.
        filled: Whether the mark is filled or hollow.
        marker: Its shape.
    """
    ax.plot([low, high], [place, place], color=colour, linewidth=2.0, solid_capstyle="butt")
    (mark,) = ax.plot([middle], [place], marker, color=colour, markersize=7, markeredgewidth=1.6)
    mark.set_markerfacecolor(colour if filled else "white")


def name_rows(ax: Axes, names: Sequence[str], beside: Sequence[str]) -> None:
    """Write the names of a forest plot's rows to the left and their figures to the right."""
    ax.set_yticks(range(len(names)), labels=[wrapped(name) for name in names], parse_math=False)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    for place, text in enumerate(beside):
        said = ax.annotate(
            text,
            (1.0, place),
            (8, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            annotation_clip=False,
        )
        said.set(verticalalignment="center", fontsize=8.5, color=INK, parse_math=False)


def count_above(
    ax: Axes, x: float, y: float, text: str, *, colour: str, below: bool = False
) -> None:
    """Write a number above the end of a bar, or below it."""
    said = ax.annotate(text, (x, y), (0, -3 if below else 3), textcoords="offset points")
    said.set(horizontalalignment="center", verticalalignment="top" if below else "bottom")
    said.set(color=colour, fontsize=9)
