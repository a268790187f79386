"""All pictures in one place: functions that take what is drawn, and take and return axes.

    >>> from reflectory.report import plots
    >>> ax = plots.plot_grades(run.trajectories)
    >>> ax.set_title("what reflection did")
    >>> plots.save(ax, "grades.pdf")

matplotlib is loaded when something is drawn, pyplot never. The project's orange is the
default; nothing rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.errors import UserError
from reflectory.report.comparing_plots import (
    plot_comparison,
    plot_difference,
    plot_many,
    plot_matrix,
    plot_mean,
)
from reflectory.report.dataset_plots import plot_lengths, plot_origins
from reflectory.report.heatmap import plot_alignment, save_figure
from reflectory.report.matrix_plots import plot_levels, plot_stops
from reflectory.report.round_plots import plot_round, plot_rounds
from reflectory.report.run_plots import plot_grades, plot_level

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_alignment",
    "plot_comparison",
    "plot_difference",
    "plot_grades",
    "plot_lengths",
    "plot_level",
    "plot_levels",
    "plot_many",
    "plot_matrix",
    "plot_mean",
    "plot_origins",
    "plot_round",
    "plot_rounds",
    "plot_stops",
    "save",
]


def save(drawn: Figure | Axes | Iterable[Any], path: str | Path, *, dpi: int = 300) -> Path:
    """Save a picture for print, with its fonts in it, as PDF, SVG or PNG by the suffix.

    Args:
        drawn: A figure, axes, or several axes of one figure as the functions return them.
        path: Where it goes; a file that is there is replaced.
        dpi: Dots per inch of a PNG.

    Returns:
        The path.

    Raises:
        UserError: Nothing was drawn, or the suffix is none of these.
        StorageError: The file cannot be written.
    """
    return save_figure(_figure_of(drawn), path, dpi=dpi)


def _figure_of(drawn: Any) -> Figure:
    from matplotlib.figure import Figure

    if isinstance(drawn, Figure):
        return drawn
    if hasattr(drawn, "get_figure"):
        figure = drawn.get_figure(root=True)
        if isinstance(figure, Figure):
            return figure
    elif isinstance(drawn, Iterable) and not isinstance(drawn, str | bytes):
        for part in getattr(drawn, "flat", drawn):
            return _figure_of(part)
    raise UserError(
        f"{type(drawn).__name__} is no picture",
        hint="pass the axes that a plot function returned, or their figure",
    )
