"""The pictures of a run that the other modules do not draw: G[t], losses, lengths.

Every function draws into the axes that it is given, or into a new figure, and returns
the axes. matplotlib is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reflectory.report.axes import (
    BLUE,
    GREY,
    MARKERS,
    ORANGE,
    OTHERS,
    bars_inside,
    legend_below,
    name_iterations,
    new_axes,
    note,
    plain,
    whole_numbers,
)
from reflectory.report.run.datasets import Lengths
from reflectory.report.run.loops import Spread
from reflectory.training.lineage import AdapterManifest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 24
_SMOOTH = 0.9  # weight of the steps before, from so many steps on
_NOISY = 40


def plot_grades(
    grades: Sequence[Spread | None],
    groundedness: Sequence[Spread | None] = (),
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean of G[t] over the loops, with one standard deviation each way.

    Args:
        grades: By t, ``None`` where no loop has a grade.
        groundedness: Of the same responses, drawn beside it.
        ax: Where to draw; a new figure is made without it.
    """
    known = [(t, s) for t, s in enumerate(grades) if s is not None]
    ax = new_axes(max(5.0, min(1.8 + 0.9 * len(known), 12.0)), 3.6) if ax is None else ax
    if not known:
        return note(ax, "no response has a grade")
    plain(ax)
    grounded = [(t, s) for t, s in enumerate(groundedness) if s is not None]
    series = (
        ("grade G[t]", known, ORANGE, "o-", 0.0),
        ("groundedness", grounded, BLUE, "s--", 0.08),
    )
    for label, points, colour, form, aside in series:
        if not points:
            continue
        ax.errorbar(
            [t + aside for t, _ in points],
            [s.mean for _, s in points],
            yerr=bars_inside([s.mean for _, s in points], [s.deviation for _, s in points]),
            fmt=form,
            color=colour,
            label=label,
            linewidth=1.8,
            markersize=6,
            elinewidth=1.0,
            capsize=2.5,
        )
    names = {t: f"R_{t}\n({s.count})" for t, s in known}
    name_iterations(
        ax,
        names,
        named="response (loops that got so far)",
        unnamed="response after t reflections",
    )
    ax.set_ylabel("mean and standard deviation")
    legend_below(ax)
    return ax


def plot_losses(training: AdapterManifest, *, ax: Axes | None = None) -> Axes:
    """Draw the loss of every optimiser step, and what was measured on held-back rows.

    Args:
        training: The manifest of an adapter.
        ax: Where to draw; a new figure is made without it.
    """
    losses = training.losses
    ax = new_axes(6.4, 3.4) if ax is None else ax
    if not losses:
        return note(ax, "no step was recorded")
    plain(ax)
    stages: list[tuple[str, int, tuple[tuple[int, float], ...]]] = [
        (stage.objective, stage.steps, stage.checks) for stage in training.stages
    ]
    stages = stages or [(training.config.objective, len(losses), ())]
    begin = 0
    colours = (ORANGE, *OTHERS)
    for place, (objective, steps, checks) in enumerate(stages):
        part = losses[begin : begin + steps]
        at = range(begin + 1, begin + len(part) + 1)
        colour, noisy = colours[place % len(colours)], len(part) >= _NOISY
        size = 4 if len(part) <= 60 else 0
        (line,) = ax.plot(at, part, "o-", color=colour, markersize=size, linewidth=1.3)
        line.set(alpha=0.4 if noisy else 1.0, label=f"loss ({objective})")
        if noisy:
            ax.plot(at, _smooth(part), color=colour, linewidth=2.0, label="running mean")
        if checks:
            (held,) = ax.plot([begin + step for step, _ in checks], [loss for _, loss in checks])
            held.set(color=GREY, marker=MARKERS[place], linestyle="--", label="held back")
        begin += len(part)
        if begin < len(losses):
            ax.axvline(begin + 0.5, color=GREY, linewidth=0.9, linestyle=":")
    whole_numbers(ax)
    ax.set_xlim(0.0, len(losses) + 1.0)
    ax.set_ylim(bottom=0.0 if min(losses) >= 0.0 else None)
    ax.set_xlabel("optimiser step")
    ax.set_ylabel("loss")
    legend_below(ax)
    return ax


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the exponential running mean, corrected for its beginning as Adam's (2015)."""
    mean, weight, found = 0.0, 1.0, []
    for value in values:
        mean = _SMOOTH * mean + (1.0 - _SMOOTH) * value
        weight *= _SMOOTH
        found.append(mean / (1.0 - weight))
    return found


def plot_lengths(lengths: Mapping[str, Lengths], *, ax: Axes | None = None) -> Axes:
    """Draw how long the texts of a data set are, as a histogram in words.

    Args:
        lengths: By column; those without texts are left out.
        ax: Where to draw; a new figure is made without it.
    """
    shown = {name: found for name, found in lengths.items() if found.total}
    ax = new_axes(6.4, 3.2) if ax is None else ax
    if not shown:
        return note(ax, "no text was read")
    plain(ax)
    styles = zip((ORANGE, *OTHERS), ("", "///", "...", "xx", "\\\\\\") * 2, strict=False)
    for (name, found), (colour, hatch) in zip(shown.items(), styles, strict=False):
        sizes, counts = list(found.counts), list(found.counts.values())
        ax.hist(
            sizes,
            bins=min(_BINS, max(sizes) - min(sizes) + 1),
            weights=counts,
            color=colour,
            alpha=0.75,
            hatch=hatch,
            edgecolor="white",
            label=name,
        )
    whole_numbers(ax, "y")
    ax.set_xlabel("words")
    ax.set_ylabel("rows")
    legend_below(ax)
    return ax
