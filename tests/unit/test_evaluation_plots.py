"""The pictures of an evaluation. What is drawn is read back from the axes."""

import math
from itertools import pairwise

import numpy as np
import pytest
from evaluations import make_report
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reflectory.errors import UserError
from reflectory.evaluation.anytime import anytime_curve
from reflectory.evaluation.judge.records import CalibrationBin, JudgeReport, Separation
from reflectory.evaluation.matrices import LevelTrend, MatrixReport
from reflectory.evaluation.records import Attempt, ContenderAnswer
from reflectory.evaluation.turning import TurningPoint
from reflectory.report.axes import BLUE, GREY, ORANGE
from reflectory.report.evaluation_plots import (
    plot_anytime,
    plot_differences,
    plot_stopping,
    plot_turning,
)
from reflectory.report.judge_plots import plot_areas, plot_calibration, plot_roc
from reflectory.report.matrix_plots import plot_levels, plot_stops


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def heights(ax: Axes) -> list[float]:
    return [float(bar.get_height()) for bar in ax.patches]


def drawn(ax: Axes) -> Axes:
    """Draw the figure and check that no text leaves it."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    box = ax.get_tightbbox(renderer)
    width, height = figure.canvas.get_width_height()
    assert box.x0 >= -2 and box.y0 >= -2 and box.x1 <= width + 2 and box.y1 <= height + 2
    if (shown := ax.get_legend()) is not None:
        label = ax.xaxis.label.get_window_extent(renderer)
        assert shown.get_window_extent(renderer).y1 <= label.y0 + 2  # below the label, not on it
    return ax


def point(t, right=0, wrong=0, reached=9, **means):
    return TurningPoint(
        iteration=t, reached=reached, turned_right=right, turned_wrong=wrong, means=means,
        chosen={name: value + 0.01 for name, value in means.items()},
    )  # fmt: skip


POINTS = [point(0, f1=0.3), point(1, 5, 2, f1=0.4), point(2, 1, 3, 7, f1=0.38)]


# What iterations did


def test_right_goes_up_and_wrong_goes_down() -> None:
    ax = drawn(plot_turning(POINTS))
    assert heights(ax) == [5, 1, -2, -3]
    assert texts(ax) == ["5", "2", "1", "3"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1\n(9)", "2\n(7)"]
    low, high = ax.get_ylim()
    assert -low == high > 5  # both directions have one scale
    assert legend(ax) == ["turned right", "turned wrong"]
    assert to_hex(ax.patches[0].get_facecolor()) == ORANGE


def test_no_iteration_is_said_and_many_are_not_written_out() -> None:
    assert texts(drawn(plot_turning(POINTS[:1]))) == ["no iteration: nothing could be turned"]
    assert texts(drawn(plot_turning([]))) == ["no loop answered"]
    many = drawn(plot_turning([point(t, t, 1) for t in range(40)]))
    assert texts(many) == [] and len(heights(many)) == 78
    still = drawn(plot_turning([point(0), point(1)]))
    assert texts(still) == ["0", "0"]


def test_stopping_draws_the_last_and_the_best_response() -> None:
    ax = drawn(plot_stopping(POINTS, "f1"))
    last, best = ax.lines[0], ax.lines[1]
    assert list(last.get_ydata()) == [0.3, 0.4, 0.38]
    assert list(best.get_ydata()) == pytest.approx([0.31, 0.41, 0.39])
    low, high = ax.get_ylim()
    assert high - low >= 0.1  # a change of a hundredth does not fill the picture
    assert "no iteration with bleu" in texts(plot_stopping(POINTS, "bleu"))
    zero = plot_stopping([point(0, f1=0.0), point(1, f1=0.0)], "f1")
    assert zero.get_ylim()[0] >= 0.0


# Anytime curves


def answered(name, tried):
    """Return answers and values of one contender; a pair is (calls, value)."""
    answers, values = [], {}
    for i, attempts in enumerate(tried):
        made = tuple(Attempt(text="x", calls=c, tokens=10 * c) for c, _ in attempts)
        answers.append(ContenderAnswer(contender=name, id=f"q{i}", attempts=made))
        values[f"q{i}"] = [{"f1": v} for _, v in attempts]
    return answers, values


def test_a_curve_by_hand() -> None:
    tried = [[(1, 0.0), (5, 1.0)], [(2, 0.5), (5, 0.0), (9, 1.0)], []]
    curve = anytime_curve(*answered("loop", tried), "f1", "calls")
    assert [(p.spent, p.mean, p.answered) for p in curve.steps] == [
        (1.0, pytest.approx(0.0), 1),
        (2.0, pytest.approx(0.5 / 3), 2),
        (5.0, pytest.approx(1.0 / 3), 2),
        (9.0, pytest.approx(2.0 / 3), 2),
    ]
    assert [p.spent for p in curve.attempts] == [2, 5, 9]
    tokens = anytime_curve(*answered("loop", tried), "f1", "tokens")
    assert [p.spent for p in tokens.steps] == [10, 20, 50, 90]
    silent = anytime_curve(*answered("loop", [[], []]), "f1", "calls")
    assert silent.steps == () and silent.attempts == ()


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), max_size=4).map(sorted),
        min_size=1,
        max_size=5,
    )
)
def test_a_curve_is_what_the_answers_within_each_budget_give(tried) -> None:
    answers, values = answered("loop", tried)
    curve = anytime_curve(answers, values, "f1", "calls")
    assert all(a.spent < b.spent and a.answered <= b.answered for a, b in pairwise(curve.steps))
    for step in curve.steps:
        total = 0.0
        for answer in answers:
            within = answer.within("calls", int(step.spent))
            if within is not None:
                place = max(n for n, a in enumerate(answer.attempts) if a.calls <= step.spent)
                assert answer.attempts[place] == within
                total += values[answer.id][place]["f1"]
        assert step.mean == pytest.approx(total / len(tried))
    assert set(curve.attempts) <= set(curve.steps)


def test_a_curve_of_nobody_or_of_two_is_refused() -> None:
    answers, values = answered("loop", [[(1, 0.5)]])
    with pytest.raises(UserError, match="one contender, got none"):
        anytime_curve([], {}, "f1", "calls")
    other, _ = answered("other", [[(1, 0.5)]])
    with pytest.raises(UserError, match="loop, other"):
        anytime_curve([*answers, *other], values, "f1", "calls")
    with pytest.raises(UserError, match="has no bleu"):
        anytime_curve(answers, values, "bleu", "calls")
    with pytest.raises(UserError, match="1 attempts and the metrics of 0"):
        anytime_curve(answers, {}, "f1", "calls")


def test_curves_have_marks_on_their_lines_and_the_reference_in_orange() -> None:
    loop = anytime_curve(*answered("loop", [[(1, 0.2), (8, 0.6)]] * 3), "f1", "calls")
    once = anytime_curve(*answered("direct", [[(1, 0.1)]] * 3), "f1", "calls")
    none = anytime_curve(*answered("silent", [[]] * 3), "f1", "calls")
    ax = drawn(plot_anytime([once, loop, none]))
    assert legend(ax) == ["direct", "loop"]
    orange = [line for line in ax.lines if line.get_color() == ORANGE and len(line.get_xdata())]
    line, marks = orange
    assert list(line.get_xdata()) == [1, 8, 8] and list(marks.get_xdata()) == [1, 8]
    assert list(line.get_ydata()) == pytest.approx([0.2, 0.6, 0.6])
    assert list(marks.get_ydata()) == pytest.approx([0.2, 0.6])
    assert ax.get_xlabel() == "model calls per question" and "3 questions" in ax.get_ylabel()
    assert texts(plot_anytime([none])) == ["nobody answered"] and texts(plot_anytime([]))
    names = [f"contender $x_{i}$ with a name that is long" for i in range(14)]
    many = [anytime_curve(*answered(n, [[(1, 0.2), (3, 0.3)]]), "f1", "tokens") for n in names]
    assert len(legend(drawn(plot_anytime(many)))) == 14


# Differences


def comparisons(count=40):
    report = make_report(count)
    return [c for c in report.comparisons if c.metric == "f1" and c.budget == "calls"]


def test_a_forest_plot_is_sorted_and_fills_only_what_may_be_claimed() -> None:
    found = comparisons()
    ax = drawn(plot_differences(found, reference="the loop"))
    names = [label.get_text() for label in ax.get_yticklabels()]
    rows = sorted(found, key=lambda c: c.result.difference)
    assert names == [c.contender for c in rows]
    lines = ax.lines[1:]  # the first one is zero
    for row, (span, mark) in zip(rows, zip(lines[::2], lines[1::2], strict=True), strict=True):
        assert list(span.get_xdata()) == [row.result.low, row.result.high]
        assert list(mark.get_xdata()) == [row.result.difference]
        claimed = row.result.excludes_zero and row.adjusted <= 0.05
        assert (mark.get_markerfacecolor() != "white") == claimed
        assert mark.get_color() == (ORANGE if row.result.low > 0 else GREY)
    assert len(texts(ax)) == len(rows) and "p = " in texts(ax)[0]


def test_a_loss_is_blue_and_few_questions_fill_nothing() -> None:
    (row,) = [c for c in comparisons() if c.contender == "direct"]
    turned = row.result.model_copy(
        update={"difference": -row.result.difference, "low": -row.result.high, "high": -0.1}
    )
    ax = drawn(plot_differences([row.model_copy(update={"result": turned})]))
    assert ax.lines[2].get_color() == BLUE and ax.lines[2].get_marker() == "s"
    few = drawn(plot_differences(comparisons(1)))
    assert "fewer than 20" in few.get_xlabel()
    assert {line.get_markerfacecolor() for line in few.lines[2::2]} == {"white"}
    assert texts(plot_differences([])) == ["nobody to compare with"]


# Matrices


def levels(means, counts):
    return tuple(
        LevelTrend(
            level=f"level {j}",
            means=tuple(means),
            spreads=tuple(None if m is None else 0.1 for m in means),
            counts=tuple(counts),
        )
        for j in range(3)
    )


def test_levels_are_lines_over_the_iterations_that_somebody_reached() -> None:
    report = MatrixReport(loops=9, levels=levels([0.2, None, 0.6, None], [9, 0, 4, 0]))
    ax = drawn(plot_levels(report))
    assert legend(ax) == ["level 0", "level 1", "level 2"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0\n(9)", "1\n(0)", "2\n(4)"]
    assert ax.get_ylim() == (0.0, 1.0)
    middle = ax.containers[1].lines[0]
    assert list(middle.get_ydata()) == [0.2, 0.6] and list(middle.get_xdata()) == [0, 2]
    shades = [sum(c.lines[0].get_color()[:3]) for c in ax.containers]
    assert shades == sorted(shades, reverse=True)  # a higher level is darker


def test_bars_end_where_alignment_does() -> None:
    ax = plot_levels(MatrixReport(loops=9, levels=levels([0.05, 0.5, 0.98], [9, 9, 9])))
    (bars,) = ax.containers[0].lines[2]
    ends = [(low, high) for (_, low), (_, high) in bars.get_segments()]
    assert ends == [pytest.approx(pair) for pair in [(0.0, 0.15), (0.4, 0.6), (0.88, 1.0)]]


def test_no_value_and_no_loop_are_told_apart() -> None:
    assert texts(plot_levels(MatrixReport(loops=0))) == ["no loop was read"]
    empty = MatrixReport(loops=2, levels=levels([None], [0]), stops={"failed": {0: 2}})
    assert texts(drawn(plot_levels(empty))) == ["no cell has a value"]
    assert legend(drawn(plot_stops(empty))) == ["failed (2)"]
    assert texts(plot_stops(MatrixReport(loops=0))) == ["no loop was read"]


def test_stops_are_stacked_and_add_up() -> None:
    stops = {"max_iterations": {4: 3}, "epsilon": {2: 5, 4: 1}, "failed": {0: 2}}
    ax = drawn(plot_stops(MatrixReport(loops=11, stops=stops)))
    assert legend(ax) == ["epsilon (6)", "max_iterations (3)", "failed (2)"]
    assert sum(heights(ax)) == 11 and texts(ax) == ["2", "5", "4"]
    tops = [bar.get_y() + bar.get_height() for bar in ax.patches]
    assert max(tops) < ax.get_ylim()[1]
    assert to_hex(ax.patches[0].get_facecolor()) == ORANGE
    wide = {"epsilon": {t: t for t in range(1, 60)}}
    assert sum(heights(drawn(plot_stops(MatrixReport(loops=1770, stops=wide))))) == 1770


# The judge


def judge(**fields) -> JudgeReport:
    curve = ((0.0, 0.0), (0.2, 0.7), (1.0, 1.0))
    kinds = {"other rows": (0.9, 0.8), "same documents": (0.75, 0.6), "echo": (0.5, 0.4)}
    separations = tuple(
        Separation(kind=k, area=a, low=low, high=a + 0.1, right=20, wrong=60, curve=curve)
        for k, (a, low) in kinds.items()
    )
    bins = tuple(
        CalibrationBin(low=low, high=low + 0.1, count=n, mean_score=low + 0.04, share_right=low)
        for low, n in ((0.1, 30), (0.6, 10))
    )
    given = {"separations": separations, "bins": bins, "headline": "same documents", **fields}
    return JudgeReport(grader="g", questions=20, calibration_error=0.07, **given)


def test_the_roc_curve_of_the_headline_stands_out() -> None:
    ax = drawn(plot_roc(judge()))
    assert legend(ax)[0] == "same documents: 0.75 [0.60, 0.85]"
    assert ax.lines[1].get_color() == ORANGE and list(ax.lines[1].get_ydata()) == [0.0, 0.7, 1.0]
    assert len({line.get_linestyle() for line in ax.lines[1:]}) == 3
    without = judge(separations=[s.model_copy(update={"curve": ()}) for s in judge().separations])
    assert texts(plot_roc(without)) == ["no right and wrong answers were judged"]


def test_areas_that_may_be_chance_are_hollow() -> None:
    ax = drawn(plot_areas(judge()))
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "echo",
        "same documents",
        "other rows",
    ]
    marks = ax.lines[2::2]
    assert [m.get_markerfacecolor() == "white" for m in marks] == [True, False, False]
    assert [m.get_marker() for m in marks] == ["o", "D", "o"]
    assert texts(plot_areas(judge(separations=()))) == ["no right and wrong answers were judged"]
    drawn(plot_areas(judge(separations=judge().separations[:1])))


def test_calibration_draws_bins_beside_the_diagonal() -> None:
    ax = drawn(plot_calibration(judge()))
    assert heights(ax) == pytest.approx([0.75, 0.25])
    found = next(line for line in ax.lines if line.get_label() == "share right")
    assert list(found.get_xdata()) == pytest.approx([0.14, 0.64])
    assert "error 0.07, 40 answers" in ax.get_xlabel()
    assert texts(plot_calibration(judge(bins=()))) == ["no score to calibrate"]


# All of them


def test_everything_draws_into_axes_that_are_given() -> None:
    figure = Figure(figsize=(14, 16), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, 3)
    report = make_report(40)
    curve = anytime_curve(*answered("loop", [[(1, 0.2), (8, 0.6)]]), "f1", "calls")
    plots = [
        lambda ax: plot_turning(POINTS, ax=ax),
        lambda ax: plot_stopping(POINTS, "f1", ax=ax),
        lambda ax: plot_anytime([curve], ax=ax),
        lambda ax: plot_differences(comparisons(), ax=ax),
        lambda ax: plot_levels(report.matrices, ax=ax),
        lambda ax: plot_stops(report.matrices, ax=ax),
        lambda ax: plot_roc(judge(), ax=ax),
        lambda ax: plot_areas(judge(), ax=ax),
        lambda ax: plot_calibration(judge(), ax=ax),
    ]
    for ax, plot in zip(grid.flat, plots, strict=True):
        assert plot(ax) is ax
    figure.canvas.draw()
    boxes = [ax.get_window_extent() for ax in grid.flat]
    assert all(np.isfinite(box.bounds).all() and box.width > 50 for box in boxes)
    assert not any(math.isnan(v) for ax in grid.flat for v in (*ax.get_xlim(), *ax.get_ylim()))
