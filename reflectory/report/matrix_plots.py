"""The pictures of many matrices: A by iteration and level, and how loops stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflectory.evaluation.matrices import MatrixReport
from reflectory.report.axes import (
    BLUE,
    GREY,
    INK,
    MARKERS,
    ORANGE,
    OTHERS,
    bars_inside,
    count_above,
    legend_below,
    name_iterations,
    new_axes,
    note,
    plain,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_levels(report: MatrixReport, *, ax: Axes | None = None) -> Axes:
    """Draw the mean of A by iteration, one line per level, as the survey's Figure 5.

    Bars show one standard deviation over the loops each way. Below each iteration stands
    how many loops got so far; later means are over those only. A darker orange is a
    higher level.

    Args:
        report: Of many loops.
        ax: Where to draw; a new figure is made without it.
    """
    from matplotlib import colormaps

    filled = [t for level in report.levels for t, n in enumerate(level.counts) if n]
    longest = max(filled, default=-1) + 1
    ax = new_axes(max(5.0, min(1.8 + 0.9 * longest, 12.0)), 3.9) if ax is None else ax
    if not longest:
        return note(ax, "no cell has a value" if report.loops else "no loop was read")
    plain(ax)
    count = len(report.levels)
    shades = colormaps["Oranges"]([0.4 + 0.6 * j / max(count - 1, 1) for j in range(count)])
    apart = 0.0 if count == 1 else min(0.07, 0.4 / count)
    for j, level in enumerate(report.levels):
        known = [(t, mean) for t, mean in enumerate(level.means) if mean is not None]
        ax.errorbar(
            [t + (j - (count - 1) / 2) * apart for t, _ in known],
            [mean for _, mean in known],
            yerr=bars_inside([m for _, m in known], [level.spreads[t] or 0.0 for t, _ in known]),
            fmt="o-" if j == 0 else f"{MARKERS[(j - 1) % len(MARKERS)]}-",
            color=shades[j],
            label=level.level,
            linewidth=1.8,
            markersize=6,
            elinewidth=1.0,
            capsize=2.5,
        )
    reached = [max(level.counts[t] for level in report.levels) for t in range(longest)]
    names = {t: f"{t}\n({n})" for t, n in enumerate(reached)}
    name_iterations(ax, names, named="iteration t (loops that got so far)", unnamed="iteration t")
    ax.set_ylabel("alignment A[j,t],\nmean and standard deviation")
    legend_below(ax)
    return ax


def plot_stops(report: MatrixReport, *, ax: Axes | None = None) -> Axes:
    """Draw how many loops stopped by which rule after how many iterations.

    Args:
        report: Of many loops.
        ax: Where to draw; a new figure is made without it.
    """
    stops = {rule: by for rule, by in report.stops.items() if any(by.values())}
    iterations = sorted({t for by in stops.values() for t in by})
    width = 1.8 + 0.6 * (iterations[-1] - iterations[0] + 1) if iterations else 4.2
    ax = new_axes(min(max(4.2, width), 12.0), 3.2) if ax is None else ax
    if not stops:
        return note(ax, "no loop was read")
    plain(ax)
    # Convergence is the project's orange; an error is grey and crossed.
    order = sorted(stops, key=lambda rule: (rule == "failed", rule != "epsilon", rule))
    others = iter(OTHERS * 9)
    below = dict.fromkeys(iterations, 0)
    hatches = iter(("", "///", "...", "xx", "\\\\\\", "++") * 9)
    for rule in order:
        colour = {"epsilon": ORANGE, "failed": GREY}.get(rule) or next(others, BLUE)
        ax.bar(
            iterations,
            [stops[rule].get(t, 0) for t in iterations],
            0.7,
            bottom=[below[t] for t in iterations],
            color=colour,
            edgecolor="white",
            hatch=next(hatches),
            label=f"{rule} ({sum(stops[rule].values())})",
        )
        for t in iterations:
            below[t] += stops[rule].get(t, 0)
    for t, total in below.items():
        count_above(ax, t, total, f"{total}", colour=INK)
    whole_numbers(ax)
    whole_numbers(ax, "y")
    ax.set_xlim(iterations[0] - 0.8, iterations[-1] + 0.8)
    ax.set_ylim(0.0, 1.15 * max(below.values()))
    ax.set_xlabel("stopped after so many iterations")
    ax.set_ylabel("loops")
    legend_below(ax, columns=3)
    return ax
