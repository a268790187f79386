"""A data set of training rows: how long its texts are, and what they come from.

Every function draws into the axes that it is given, or into a new figure without pyplot,
and returns the axes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from reflectory.config import DEFAULT_LEVELS
from reflectory.report.axes import (
    BLUE,
    INK,
    ORANGE,
    OTHERS,
    legend_below,
    new_axes,
    note,
    plain,
    whole_numbers,
    wrapped,
)
from reflectory.training.rows import (
    SOURCES,
    FeedbackRow,
    LabelledRow,
    PreferenceRow,
    PromptRow,
    Row,
    TrainingRow,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 24
_COLOURS = dict(zip(SOURCES, (ORANGE, BLUE, OTHERS[1]), strict=True))
_HATCHES = dict(zip(SOURCES, ("", "///", "..."), strict=True))
SOURCE_NAMES = {"self": "the student", "distilled": "a teacher", "manual": "a person"}
"""Who wrote a row, in words."""


def plot_lengths(rows: Iterable[Row], *, ax: Axes | None = None) -> Axes:
    """Draw how long the texts are that a data set teaches, in words.

    Of pairs, the chosen and the rejected text are drawn over one another: a data set whose
    chosen texts are longer teaches length, whatever else it teaches.

    Args:
        rows: Of one data set; read once.
        ax: Where to draw; a new figure is made without it.

    Returns:
        The axes.
    """
    lengths = lengths_of(rows)
    ax = new_axes(5.6, 3.7) if ax is None else ax
    if not lengths:
        return note(ax, "there is no row")
    plain(ax)
    longest = max(max(found) for found in lengths.values())
    step = max(1, -(-(longest + 1) // _BINS))
    edges = np.arange(0, longest + step + 1, step) - 0.5
    for (name, found), colour in zip(lengths.items(), (ORANGE, BLUE), strict=False):
        middle = float(np.median(found))
        label = f"{name} ({len(found)} texts, median {middle:g})"
        first = colour == ORANGE
        ax.hist(
            found,
            bins=list(edges),
            color=colour if first else "none",
            alpha=0.85 if first else 1.0,
            edgecolor="white" if first else colour,
            linewidth=0.8 if first else 1.6,
            histtype="bar" if first else "step",
            label=label,
        )
        ax.axvline(middle, color=INK if first else colour, linewidth=1.1, linestyle="--")
    whole_numbers(ax)
    whole_numbers(ax, "y")
    ax.set_xlabel("words")
    ax.set_ylabel("rows")
    ax.margins(y=0.1)
    legend_below(ax, columns=1)
    return ax


def plot_origins(rows: Iterable[Row], *, ax: Axes | None = None) -> Axes:
    """Draw how many rows come from responses and from each level's answers, and who wrote them.

    Args:
        rows: Of one data set; read once.
        ax: Where to draw; a new figure is made without it.

    Returns:
        The axes.
    """
    counts = origins_of(rows)
    origins = list(dict.fromkeys(origin for origin, _ in counts))
    ax = new_axes(6.0, 1.7 + 0.4 * max(len(origins), 1)) if ax is None else ax
    if not origins:
        return note(ax, "there is no row")
    plain(ax)
    shown = list(reversed(origins))  # the first one on top
    left = dict.fromkeys(shown, 0)
    for source in SOURCES:
        found = [counts[origin, source] for origin in shown]
        if not any(found):
            continue
        ax.barh(
            range(len(shown)),
            found,
            0.66,
            left=[left[origin] for origin in shown],
            color=_COLOURS[source],
            hatch=_HATCHES[source],
            edgecolor="white",
            label=f"by {SOURCE_NAMES[source]} ({sum(found)})",
        )
        for origin, number in zip(shown, found, strict=True):
            left[origin] += number
    for place, total in enumerate(left.values()):
        said = ax.annotate(f"{total}", (total, place), (4, 0), textcoords="offset points")
        said.set(verticalalignment="center", fontsize=9, color=INK)
    ax.set_yticks(range(len(shown)), labels=[wrapped(o) for o in shown], parse_math=False)
    ax.set_ylim(-0.6, len(shown) - 0.4)
    ax.set_xlim(0.0, 1.12 * max(left.values()))
    whole_numbers(ax)
    ax.set_xlabel("rows")
    legend_below(ax, columns=3)
    return ax


def lengths_of(rows: Iterable[Row]) -> dict[str, list[int]]:
    """Return the lengths in words of what each row teaches, by what it is called."""
    found: dict[str, list[int]] = {}
    for row in rows:
        for name, text in taught(row):
            found.setdefault(name, []).append(len(text.split()))
    return found


def origins_of(rows: Iterable[Row]) -> Counter[tuple[str, str]]:
    """Return how many rows there are by origin (a response, or a level) and source.

    Responses come first, then the default levels from easy to hard, then others as they occur.
    """
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        about = row.provenance
        if about.source == "manual" and not about.trajectory:
            origin = "rows of a person"
        else:
            origin = "response" if about.what == "response" else f"answer: {about.level}"
        found[origin, about.source] += 1
    known = ["response", *(f"answer: {level.name}" for level in DEFAULT_LEVELS)]
    # Counter keeps the order of arrival, and sorting is stable.
    places = {name: place for place, name in enumerate(known)}
    return Counter(dict(sorted(found.items(), key=lambda f: places.get(f[0][0], len(places)))))


def taught(row: Row) -> tuple[tuple[str, str], ...]:
    """Return the texts that a row teaches, each with what it is called."""
    match row:
        case TrainingRow():
            return (("completion", row.completion[0].content),)
        case PreferenceRow():
            return ("chosen", row.chosen[0].content), ("rejected", row.rejected[0].content)
        case LabelledRow():
            name = "desirable" if row.label else "undesirable"
            return ((name, row.completion[0].content),)
        case FeedbackRow():
            return (("feedback", row.privileged_context),)
        case PromptRow():
            return (("question", row.question),)
