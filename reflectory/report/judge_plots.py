"""The pictures of a judge on trial: its ROC curves, its areas, its calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflectory.evaluation.judge.records import JudgeReport
from reflectory.report.axes import (
    GREY,
    INK,
    ORANGE,
    OTHERS,
    PALE,
    draw_interval,
    legend_below,
    name_rows,
    new_axes,
    note,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))


def plot_roc(report: JudgeReport, *, ax: Axes | None = None) -> Axes:
    """Draw the ROC curve against each kind of wrong answers, with its area.

    The kind that the judge is named by is the thick orange line; the diagonal is chance.

    Args:
        report: Of one judge.
        ax: Where to draw; a new figure is made without it.
    """
    drawn = [s for s in report.separations if s.curve]
    ax = new_axes(5.0, 5.4 + 0.17 * len(drawn)) if ax is None else ax
    if not drawn:
        return note(ax, "no right and wrong answers were judged")
    plain(ax)
    headline = report.headline or drawn[0].kind
    colours, dashes = iter(OTHERS * 9), iter(_DASHES[1:] * 20)
    ax.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, zorder=1)
    ax.text(0.62, 0.58, "chance", color=GREY, fontsize=8, rotation=45, rotation_mode="anchor")
    for found in sorted(drawn, key=lambda s: s.kind != headline):
        named = found.kind == headline
        ax.plot(
            [x for x, _ in found.curve],
            [y for _, y in found.curve],
            color=ORANGE if named else next(colours),
            linestyle="-" if named else next(dashes),
            linewidth=2.6 if named else 1.4,
            zorder=3 if named else 2,
            label=f"{found.kind}: {found.area:.2f} [{found.low:.2f}, {found.high:.2f}]",
        )
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.set_xlabel("share of wrong answers at or above a score")
    ax.set_ylabel("share of right answers at or above it")
    legend_below(ax, columns=1, title="wrong answers: area [interval]")
    return ax


def plot_areas(report: JudgeReport, *, ax: Axes | None = None) -> Axes:
    """Draw the area under the ROC curve for each kind of wrong answers, with its interval.

    Args:
        report: Of one judge.
        ax: Where to draw; a new figure is made without it.
    """
    rows = sorted(report.separations, key=lambda s: s.area)
    ax = new_axes(6.4, 1.3 + 0.38 * max(len(rows), 1)) if ax is None else ax
    if not rows:
        return note(ax, "no right and wrong answers were judged")
    plain(ax)
    ax.axvline(0.5, color=INK, linewidth=0.9, zorder=1)
    for place, found in enumerate(rows):
        named = found.kind == report.headline
        colour = ORANGE if found.low > 0.5 else GREY
        draw_interval(
            ax,
            place,
            found.low,
            found.area,
            found.high,
            colour=colour,
            filled=found.low > 0.5,
            marker="D" if named else "o",
        )
    beside = [f"{s.area:.2f}  ({s.right} right, {s.wrong} wrong)" for s in rows]
    name_rows(ax, [s.kind for s in rows], beside)
    ax.set_xlim(min(0.4, *(s.low - 0.03 for s in rows)), 1.01)
    diamond = "\n(diamond: the one that the judge is named by)" if report.headline else ""
    ax.set_xlabel(f"area under the ROC curve, interval; 0.5 is chance{diamond}")
    return ax


def plot_calibration(report: JudgeReport, *, ax: Axes | None = None) -> Axes:
    """Draw how often answers with a score are right, and how the scores are spread.

    Points on the diagonal are a judge whose score is the probability of being right. The
    bars show which share of all answers each bin holds.

    Args:
        report: Of one judge.
        ax: Where to draw; a new figure is made without it.
    """
    ax = new_axes(4.8, 4.6) if ax is None else ax
    if not report.bins:
        return note(ax, "no score to calibrate")
    plain(ax)
    total = sum(b.count for b in report.bins)
    ax.bar(
        [(b.low + b.high) / 2 for b in report.bins],
        [b.count / total for b in report.bins],
        [0.9 * (b.high - b.low) for b in report.bins],
        color="#fdd0a2",
        label="share of the answers",
        zorder=1,
    )
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle="--", label="perfect", zorder=2)
    ax.plot(
        [b.mean_score for b in report.bins],
        [b.share_right for b in report.bins],
        "o-",
        color=ORANGE,
        markeredgecolor="white",
        markersize=7,
        label="share right",
        zorder=3,
    )
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), aspect="equal")
    error = report.calibration_error
    known = "" if error is None else f"expected calibration error {error:.2f}, "
    ax.set_xlabel(f"score of the judge\n({known}{total} answers)")
    ax.set_ylabel("share")
    legend_below(ax, columns=3)
    return ax
