"""Rounds of self-improvement: one before and after, and all of them one after another.

Every function draws into the axes that it is given, or into a new figure without pyplot,
and returns the axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reflectory.report.axes import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    legend_below,
    name_rows,
    new_axes,
    note,
    plain,
    whole_numbers,
    widen,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reflectory.improvement.records import RoundRecord

DECISIONS = {
    "promoted": "promoted",
    "rolled_back": "rolled back",
    "failed": "failed",
    "abandoned": "abandoned",
}
"""What became of a round, in words."""


def plot_round(record: RoundRecord, *, ax: Axes | None = None) -> Axes:
    """Draw the held-out metrics of the student before a round and after it.

    Beside each stands the difference with its interval. Metrics that are no shares, such as
    the number of words, are written below and not drawn.

    Args:
        record: The round.
        ax: Where to draw; a new figure is made without it.

    Returns:
        The axes.
    """
    pairs = _comparisons(record)
    shares = {name: pair for name, pair in pairs.items() if _is_share(name, pair)}
    ax = new_axes(7.4, 1.9 + 0.42 * max(len(shares), 1)) if ax is None else ax
    verdict = DECISIONS.get(record.decision, record.decision)
    if not shares:
        return note(ax, f"round {record.number} {verdict}:\nno figure before and after")
    plain(ax)
    rows = list(reversed(shares.items()))
    for place, (_, pair) in enumerate(rows):
        before, after = float(pair["before"]), float(pair["after"])
        colour = GREY if after == before else ORANGE if after > before else BLUE
        ax.plot([before, after], [place, place], "-", color=colour, linewidth=2.0, zorder=1)
        ax.plot(before, place, "o", color=INK, markersize=8, fillstyle="none", zorder=2)
        ax.plot(after, place, "o" if after >= before else "s", color=colour, markersize=7, zorder=3)
    name_rows(ax, [name for name, _ in rows], [_figures(pair) for _, pair in rows])
    ax.set_xlim(-0.03, 1.03)
    asked = {name: int(pair.get("rows", 0)) for name, pair in shares.items()}
    general = asked.pop("general", 0)  # plain instructions, a set of their own
    count = max(asked.values(), default=0)
    lines = [f"ring: before, filled: after; {count} held-out question{'s' if count != 1 else ''}"]
    if general:
        lines[0] += f"; general: {general} instructions"
    rest = [
        f"{name} {_short(pair['before'])} -> {_short(pair['after'])}"
        for name, pair in pairs.items()
        if name not in shares
    ]
    if rest:
        lines.append(wrapped(", ".join(rest), 70))
    ax.set_xlabel("\n".join(lines), parse_math=False)
    ax.set_title(f"round {record.number}: {verdict}", fontsize=11, loc="left")
    return ax


def plot_rounds(
    rounds: Sequence[RoundRecord], metric: str | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw a held-out metric before and after every round.

    The dashed line follows the student that is in use: it rises or falls where one was
    promoted and goes on level where it was rolled back.

    Args:
        rounds: In their order.
        metric: Its name; the first that a round compared when ``None``.
        ax: Where to draw; a new figure is made without it.

    Returns:
        The axes.
    """
    ax = new_axes(max(4.8, min(2.0 + 0.9 * len(rounds), 12.0)), 3.9) if ax is None else ax
    chosen = metric or next((name for r in rounds for name in _comparisons(r)), None)
    drawn = [(r, _comparisons(r).get(chosen or "")) for r in rounds]
    compared = [(r, pair) for r, pair in drawn if pair is not None]
    if not compared:
        said = f"no round compared {metric}" if metric else "no round was compared"
        return note(ax, said if rounds else "no round is over")
    plain(ax)
    current: list[tuple[float, float]] = []
    for record, pair in compared:
        x, before, after = record.number, float(pair["before"]), float(pair["after"])
        promoted = record.decision == "promoted"
        low, high = before + float(pair["low"]), before + float(pair["high"])
        colour = ORANGE if promoted else GREY
        ax.plot([x + 0.15] * 2, [low, high], "-", color=colour, linewidth=1.6, zorder=1)
        ax.plot(
            x - 0.15,
            before,
            "o",
            color=INK,
            fillstyle="none",
            markersize=7,
            zorder=3,
            clip_on=False,
        )
        (mark,) = ax.plot(x + 0.15, after, "o" if promoted else "X", color=colour, markersize=8)
        mark.set(zorder=3, clip_on=False)
        current += [(x - 0.15, before), (x + 0.15, after if promoted else before)]
    ax.plot(*zip(*current, strict=True), "--", color=ORANGE, linewidth=1.1, zorder=0)
    for record, found in drawn:
        if found is None:
            verdict = ax.annotate(
                DECISIONS.get(record.decision, record.decision),
                (record.number, 0.02),
                xycoords=("data", "axes fraction"),
            )
            verdict.set(horizontalalignment="center", fontsize=8.5, color=GREY, rotation=90)
    _samples(ax, [r.decision for r, _ in compared])
    numbers = [r.number for r in rounds]
    ax.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
    whole_numbers(ax)
    ax.margins(y=0.12)
    widen(ax)
    ax.set_xlabel("round")
    ax.set_ylabel(f"held-out {chosen}\n(bar: interval)", parse_math=False)
    legend_below(ax, columns=2)
    return ax


def _samples(ax: Axes, decisions: Sequence[str]) -> None:
    """Name the marks that are there."""
    ax.plot([], [], "o", color=INK, fillstyle="none", label="before")
    if "promoted" in decisions:
        ax.plot([], [], "o", color=ORANGE, label="after, promoted")
    if any(decision != "promoted" for decision in decisions):
        ax.plot([], [], "X", color=GREY, label="after, not promoted")
    ax.plot([], [], "--", color=ORANGE, linewidth=1.1, label="student in use")


def _comparisons(record: RoundRecord) -> dict[str, dict[str, Any]]:
    """Return what can be drawn: comparisons with numbers on both sides."""
    return {
        name: pair
        for name, pair in record.comparisons.items()
        if all(_finite(pair.get(side)) for side in ("before", "after", "low", "high"))
    }


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_share(name: str, pair: dict[str, Any]) -> bool:
    """Return whether a metric lies in [0, 1] by what it is, and not by chance."""
    return name != "words" and all(0.0 <= float(pair[side]) <= 1.0 for side in ("before", "after"))


def _figures(pair: dict[str, Any]) -> str:
    change = float(pair["after"]) - float(pair["before"])
    return f"{change:+.3f} [{float(pair['low']):+.3f}, {float(pair['high']):+.3f}]"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else f"{value}"
