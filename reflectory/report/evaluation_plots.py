"""The pictures of an evaluation: who is better, at what cost, what each iteration did.

Every function draws into the axes that it is given, or into a new figure, and returns
the axes. matplotlib is imported inside the functions. The matrices are drawn by
:mod:`reflectory.report.matrix_plots` and the judge by :mod:`reflectory.report.judge_plots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reflectory.evaluation.anytime import AnytimeCurve
from reflectory.evaluation.comparison import FEW_ROWS
from reflectory.evaluation.multiple import verdict
from reflectory.evaluation.records import ContenderComparison
from reflectory.evaluation.turning import TurningPoint
from reflectory.report.axes import (
    BLUE,
    GREY,
    INK,
    MARKERS,
    MOST_NAMED,
    ORANGE,
    OTHERS,
    count_above,
    draw_interval,
    legend_below,
    name_rows,
    new_axes,
    note,
    plain,
    whole_numbers,
    widen,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR = 0.62
_MARKED = 12
"""Most attempts that are marked on a curve."""


def plot_turning(points: Sequence[TurningPoint], *, ax: Axes | None = None) -> Axes:
    """Draw how many answers each iteration turned right (up) and wrong (down).

    Args:
        points: Of one loop contender, R_0 first.
        ax: Where to draw; a new figure is made without it.
    """
    turned = [p for p in points if p.iteration > 0]
    ax = new_axes(max(4.2, 1.6 + 0.8 * len(turned)), 3.4) if ax is None else ax
    if not turned:
        return note(ax, "no iteration: nothing could be turned" if points else "no loop answered")
    plain(ax)
    at = [p.iteration for p in turned]
    up, down = [p.turned_right for p in turned], [p.turned_wrong for p in turned]
    top = max(*up, *down, 1)
    ax.bar(at, up, _BAR, color=ORANGE, label="turned right")
    fell = ax.bar(at, [-n for n in down], _BAR, color="white", edgecolor=BLUE, label="turned wrong")
    for bar in fell:
        bar.set_hatch("///")
    for t, right, wrong in zip(at, up, down, strict=True) if len(at) <= MOST_NAMED else ():
        count_above(ax, t, right, f"{right}", colour=ORANGE)
        count_above(ax, t, -wrong, f"{wrong}", colour=BLUE, below=True)
    ax.axhline(0.0, color=INK, linewidth=0.8)
    ax.set_ylim(-1.25 * top, 1.25 * top)
    ax.set_xlim(min(at) - 0.8, max(at) + 0.8)
    whole_numbers(ax, "y")
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    if len(at) <= MOST_NAMED:
        ax.set_xticks(at, labels=[f"{p.iteration}\n({p.reached})" for p in turned])
        ax.set_xlabel("iteration t (loops that reached it)")
    else:
        whole_numbers(ax)
        ax.set_xlabel("iteration t")
    ax.set_ylabel("questions")
    legend_below(ax)
    return ax


def plot_stopping(points: Sequence[TurningPoint], metric: str, *, ax: Axes | None = None) -> Axes:
    """Draw what stopping at each iteration would have given, last response and best one.

    Args:
        points: Of one loop contender, R_0 first.
        metric: Which mean to draw.
        ax: Where to draw; a new figure is made without it.
    """
    known = [p for p in points if metric in p.means]
    ax = new_axes(max(4.8, 1.6 + 0.6 * len(known)), 3.4) if ax is None else ax
    if not known:
        return note(ax, f"no iteration with {metric}")
    plain(ax)
    at = [p.iteration for p in known]
    last = [p.means[metric] for p in known]
    chosen = [p.chosen.get(metric, float("nan")) for p in known]
    ax.plot(at, last, "o-", color=ORANGE, label="last response")
    ax.plot(at, chosen, "s--", color=BLUE, fillstyle="none", label="best by the judge")
    ax.axhline(last[0], color=GREY, linewidth=0.9, linestyle=":", label="R_0")
    whole_numbers(ax)
    ax.set_xlim(min(at) - 0.4, max(at) + 0.4)
    ax.margins(y=0.15)
    widen(ax)
    ax.set_xlabel("stopped at iteration t")
    ax.set_ylabel(f"mean {metric}", parse_math=False)
    legend_below(ax)
    return ax


def plot_anytime(
    curves: Sequence[AnytimeCurve], *, reference: str = "loop", ax: Axes | None = None
) -> Axes:
    """Draw the mean of a metric against what was spent, one line per contender.

    A line steps where a question gets another answer, and carries a mark where every
    question has made one more attempt. A contender with a single attempt is a mark at its
    cost, and its level is drawn through.

    Args:
        curves: Of the same metric and kind of budget.
        reference: The contender drawn in the project's orange, above the others.
        ax: Where to draw; a new figure is made without it.
    """
    drawn = [c for c in curves if c.steps]
    ax = new_axes(6.6, 3.8 + 0.1 * len(drawn)) if ax is None else ax
    if not drawn:
        return note(ax, "nobody answered")
    plain(ax)
    end = max(c.steps[-1].spent for c in drawn)
    styles = zip(OTHERS * len(drawn), MARKERS * len(drawn), strict=False)
    for curve in drawn:
        named = curve.contender == reference
        _draw_curve(ax, curve, end, *((ORANGE, "o") if named else next(styles)), named=named)
    ax.set_xlim(0.0, end * 1.03)
    ax.margins(y=0.08)
    widen(ax)
    whole_numbers(ax)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    kind = "model calls" if drawn[0].budget == "calls" else "tokens read and written"
    ax.set_xlabel(f"{kind} per question")
    count = drawn[0].questions
    ax.set_ylabel(
        f"mean {drawn[0].metric} over {count} question{'s' if count != 1 else ''}", parse_math=False
    )
    legend_below(ax)
    return ax


def _draw_curve(
    ax: Axes, curve: AnytimeCurve, end: float, colour: str, marker: str, *, named: bool
) -> None:
    """Draw one contender up to the budget ``end``; ``named`` is the reference."""
    over, width = (3, 2.2) if named else (2, 1.2)
    spent = [point.spent for point in curve.steps]
    mean = [point.mean for point in curve.steps]
    if len(curve.attempts) > 1:
        # What a contender reached it keeps, whatever else could have been spent.
        (line,) = ax.step([*spent, end], [*mean, mean[-1]], where="post", color=colour)
        line.set(linewidth=width, alpha=1.0 if named else 0.75, zorder=over)
    else:
        ax.axhline(mean[-1], color=colour, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    shown = curve.attempts if len(curve.attempts) <= _MARKED else curve.attempts[-1:]
    at, reached = [point.spent for point in shown], [point.mean for point in shown]
    (marks,) = ax.plot(at, reached, marker, color=colour, markersize=7 if named else 5.5)
    marks.set(markeredgecolor="white", markeredgewidth=0.7, zorder=over + 0.5)
    (sample,) = ax.plot([], [], marker=marker, color=colour, label=curve.contender)
    sample.set_linewidth(width)


def plot_differences(
    comparisons: Sequence[ContenderComparison],
    *,
    reference: str = "the loop",
    ax: Axes | None = None,
) -> Axes:
    """Draw the differences to every contender with their intervals (a forest plot).

    Orange is a contender that the interval puts behind the reference, blue one that it puts
    ahead. The mark is filled where that may be claimed
    (:func:`reflectory.evaluation.multiple.verdict`), and grey where the interval holds zero.

    Args:
        comparisons: Of one metric and one table.
        reference: What the reference contender is called.
        ax: Where to draw; a new figure is made without it.
    """
    rows = sorted(comparisons, key=lambda c: c.result.difference)
    ax = new_axes(7.2, 1.5 + 0.42 * max(len(rows), 1)) if ax is None else ax
    if not rows:
        return note(ax, "nobody to compare with")
    plain(ax)
    ax.axvline(0.0, color=INK, linewidth=0.9, zorder=1)
    for place, comparison in enumerate(rows):
        result, found = comparison.result, verdict(comparison)
        colour = GREY if not result.excludes_zero else ORANGE if result.low > 0.0 else BLUE
        marker = "s" if colour == BLUE else "o"
        draw_interval(
            ax,
            place,
            result.low,
            result.difference,
            result.high,
            colour=colour,
            filled=found in ("beats", "loses"),
            marker=marker,
        )
    name_rows(ax, [c.contender for c in rows], [_figures(c) for c in rows])
    reach = max(abs(end) for c in rows for end in (c.result.low, c.result.high))
    ax.set_xlim(-1.1 * (reach or 1.0), 1.1 * (reach or 1.0))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:+.2g}" if abs(value) > 1e-12 else "0")
    first = rows[0].result
    legend = (
        f"(fewer than {FEW_ROWS} questions: nothing may be claimed)"
        if first.few
        else "(filled: may be claimed; p is corrected)"
    )
    ax.set_xlabel(
        f"{rows[0].metric} of {reference} minus that of the other,\n"
        f"{first.confidence:.0%} interval {legend}",
        parse_math=False,
    )
    return ax


def _figures(comparison: ContenderComparison) -> str:
    result, p_value = comparison.result, comparison.adjusted
    p_text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f"{result.difference:+.3f} [{result.low:+.3f}, {result.high:+.3f}]  {p_text}"
