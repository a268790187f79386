"""Runs, rounds and data sets as pictures. What is drawn is read back from the axes."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from test_comparing_plots import assert_nothing_overlaps, figure_of, trend

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.errors import UserError
from reflectory.evaluation.matrices import MatrixReport
from reflectory.improvement.records import RoundRecord
from reflectory.report import plots
from reflectory.report.dataset_plots import lengths_of, origins_of
from reflectory.report.interactive import matrix_chart, run_chart
from reflectory.training.rows import Message, PreferenceRow, Provenance, TrainingRow
from reflectory.types import (
    Answer,
    Examination,
    Failure,
    Feedback,
    Question,
    Response,
    StopReason,
    Trajectory,
)

HOSTILE = '<a href="javascript:alert(1)">x</a> & <script>'


def loop(name: str, *grades: float | None) -> Trajectory:
    return Trajectory(
        id=name,
        instruction=f"Explain {name}. {HOSTILE}",
        levels=("basic", "expert"),
        responses=tuple(
            Response(
                iteration=t,
                answer=Answer(text=f"R_{t}"),
                grade=None if g is None else Feedback(score=g, reason="", grader="double"),
            )
            for t, g in enumerate(grades)
        ),
        examinations=(
            Examination(
                level="basic",
                iteration=0,
                status=CellStatus.DONE,
                question=Question(text=f"Why? {HOSTILE}"),
                answer=Answer(text="word " * 10_000),
                feedback=Feedback(score=0.5, reason="", grader="double"),
                similarity=0.5,
                alignment=0.25,
            ),
            Examination(
                level="expert",
                iteration=0,
                status=CellStatus.FAILED,
                failure=Failure(step="ask", kind="OutputError", message="no question"),
            ),
        ),
        stop=StopReason(rule="epsilon", converged=True, iterations=1),
    )


FAILED = Trajectory(
    id="f",
    instruction="Fail.",
    levels=("basic", "expert"),
    error=Failure(step="respond", kind="BackendError", message="gone"),
)


def line(ax: Axes, label: str) -> np.ndarray:
    (found,) = [drawn for drawn in ax.lines if drawn.get_label() == label]
    return np.asarray(found.get_xydata())


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


# Grades


def test_the_mean_of_the_grades_is_over_the_loops_that_have_one() -> None:
    ax = plots.plot_grades([loop("a", 0.2, 0.6, 1.0), loop("b", 0.4, None), FAILED])
    np.testing.assert_allclose(line(ax, "mean"), [[0, 0.3], [1, 0.6], [2, 1.0]])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0\n(2)", "1\n(1)", "2\n(1)"]
    assert ax.get_ylim() == (0.0, 1.0)
    assert_nothing_overlaps(figure_of(ax))


def test_one_loop_has_neither_spread_nor_mean() -> None:
    ax = plots.plot_grades([loop("a", 0.5)])
    np.testing.assert_allclose(line(ax, "grade"), [[0, 0.5]])
    assert not ax.collections


def test_of_many_loops_the_single_ones_are_not_drawn() -> None:
    ax = plots.plot_grades(loop(f"{n}", 0.1, 0.9) for n in range(61))
    assert [drawn.get_label() for drawn in ax.lines] == ["mean"]


def test_without_grades_it_says_why() -> None:
    assert texts(plots.plot_grades([])) == ["no loop is done"]
    assert texts(plots.plot_grades([FAILED])) == ["no loop is done"]
    assert texts(plots.plot_grades([loop("a", None)])) == ["no response was graded"]


# One level over rounds


def report(*means: float | None) -> MatrixReport:
    return MatrixReport(loops=5, levels=(trend("basic", list(means)),))


def test_rounds_stand_beside_one_another_in_their_order() -> None:
    rounds = {"round 0": report(0.1, 0.3), "round 1": report(0.3, 0.5, 0.6)}
    ax = plots.plot_level(rounds, "basic")
    drawn = [np.asarray(found.get_xydata()) for found in ax.lines if found.get_color() == "#d94801"]
    np.testing.assert_allclose(drawn[0], [[0, 0.1], [1, 0.3]])
    np.testing.assert_allclose(drawn[1], [[3, 0.3], [4, 0.5], [5, 0.6]])
    assert texts(ax) == ["round 0", "round 1"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "0", "1", "2"]
    assert_nothing_overlaps(figure_of(ax))


def test_many_rounds_of_long_names_do_not_overlap() -> None:
    rounds = {f"the round of number {n}": report(*[0.5] * 4) for n in range(10)}
    assert_nothing_overlaps(figure_of(plots.plot_level(rounds, "basic")))


def test_a_round_without_the_level_is_a_cross_and_an_unknown_level_is_refused() -> None:
    rounds = {"a": report(0.5), "b": MatrixReport(loops=0)}
    ax = plots.plot_level(rounds, "basic")
    assert [drawn.get_marker() for drawn in ax.lines].count("x") == 1
    with pytest.raises(UserError, match="no run has the level 'other'") as refused:
        plots.plot_level(rounds, "other")
    assert refused.value.hint == "choose one of basic"
    assert texts(plots.plot_level({}, "basic")) == ["there is no run"]


# Rounds


def record(number: int, decision: str, before: float, after: float) -> RoundRecord:
    change = after - before
    pair = {"before": before, "after": after, "difference": change, "rows": 30}
    pair |= {"low": change - 0.1, "high": change + 0.1}
    words = {**pair, "before": 0.5, "after": 0.9}
    return RoundRecord(
        number=number,
        student=0,
        decision=decision,
        reason="",
        comparisons={"f1": pair, "exact_match": pair, "words": words},
    )


def test_a_round_shows_before_and_after_and_leaves_words_out() -> None:
    ax = plots.plot_round(record(2, "promoted", 0.25, 0.5))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["exact_match", "f1"]
    assert texts(ax) == ["+0.250 [+0.150, +0.350]"] * 2
    assert "30 held-out questions\nwords 0.5 -> 0.9" in ax.get_xlabel()
    assert ax.get_title(loc="left") == "round 2: promoted"
    assert_nothing_overlaps(figure_of(ax))


def test_plain_instructions_are_no_held_out_questions() -> None:
    made = record(0, "promoted", 0.25, 0.5)
    general = {**made.comparisons["f1"], "rows": 40}
    ax = plots.plot_round(
        made.model_copy(update={"comparisons": {**made.comparisons, "general": general}})
    )
    assert "30 held-out questions; general: 40 instructions\n" in ax.get_xlabel()


def test_a_round_that_failed_says_so() -> None:
    failed = RoundRecord(number=1, student=0, decision="failed", reason="too few rows")
    assert texts(plots.plot_round(failed)) == ["round 1 failed:\nno figure before and after"]
    assert texts(plots.plot_rounds([failed])) == ["no round was compared"]
    assert texts(plots.plot_rounds([])) == ["no round is over"]
    assert texts(plots.plot_rounds([record(0, "promoted", 0, 1)], "bleu")) == [
        "no round compared bleu"
    ]


def test_the_student_in_use_changes_only_where_one_was_promoted() -> None:
    rounds = [
        record(0, "promoted", 0.2, 0.4),
        record(1, "rolled_back", 0.4, 0.3),
        RoundRecord(number=2, student=1, decision="failed", reason=""),
        record(3, "promoted", 0.4, 0.5),
    ]
    ax = plots.plot_rounds(rounds)
    (dashed,) = [d for d in ax.lines if d.get_linestyle() == "--" and len(d.get_xdata())]
    np.testing.assert_allclose(dashed.get_ydata(), [0.2, 0.4, 0.4, 0.4, 0.4, 0.5])
    assert texts(ax) == ["failed"]
    assert_nothing_overlaps(figure_of(ax))


# Data sets


def row(text: str, **provenance: object) -> TrainingRow:
    return TrainingRow(
        prompt=(Message(role="user", content="Why?"),),
        completion=(Message(role="assistant", content=text),),
        provenance=Provenance(**{"trajectory": "t", **provenance}),
    )


def pair_row() -> PreferenceRow:
    return PreferenceRow(
        prompt=(Message(role="user", content="Why?"),),
        chosen=(Message(role="assistant", content="one two three"),),
        rejected=(Message(role="assistant", content="one"),),
        margin=0.5,
        provenance=Provenance(trajectory="t"),
    )


def test_lengths_are_counted_in_words() -> None:
    rows = [row("one two"), row("one two three four")]
    assert lengths_of(rows) == {"completion": [2, 4]}
    ax = plots.plot_lengths(rows)
    assert sum(patch.get_height() for patch in ax.patches) == 2
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["completion (2 texts, median 3)"]
    assert_nothing_overlaps(figure_of(ax))


def test_of_pairs_both_texts_are_drawn() -> None:
    ax = plots.plot_lengths([pair_row()])
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert legend == ["chosen (1 texts, median 3)", "rejected (1 texts, median 1)"]


def test_a_very_long_text_does_not_make_a_million_bins() -> None:
    ax = plots.plot_lengths([row("one"), row("word " * 200_000)])
    assert len(ax.patches) <= 25


def test_origins_are_in_order_of_difficulty_and_tell_who_wrote_them() -> None:
    rows = [
        row("x", what="answer", level="expert"),
        row("x", what="answer", level="basic", source="distilled"),
        row("x", what="answer", level="basic"),
        row("x"),
        row("x", trajectory="", source="manual"),
    ]
    assert list(origins_of(rows).items()) == [
        (("response", "self"), 1),
        (("answer: basic", "distilled"), 1),
        (("answer: basic", "self"), 1),
        (("answer: expert", "self"), 1),
        (("rows of a person", "manual"), 1),
    ]
    ax = plots.plot_origins(rows)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["rows of a person", "answer: expert", "answer: basic", "response"]
    assert texts(ax) == ["1", "1", "2", "1"]
    assert_nothing_overlaps(figure_of(ax))
    assert texts(plots.plot_origins([])) == texts(plots.plot_lengths([])) == ["there is no row"]


# Charts


def test_a_chart_of_a_trajectory_says_what_each_cell_is_and_no_tag_of_others() -> None:
    pytest.importorskip("plotly")
    chart = matrix_chart(loop("a", 0.5))
    (heat,) = chart.data
    assert list(heat.z) == [[0.25], [None]] and list(heat.text) == [["0.25"], ["failed"]]
    said = heat.hovertext[0][0]
    assert "Question: Why?" in said and "Grade: 0.50" in said and len(said) < 1_500
    assert "Failed: no question" in heat.hovertext[1][0]
    assert "<a" not in said and "<script" not in chart.layout.title.text
    assert (heat.zmin, heat.zmax) == (0.0, 1.0)


def test_a_chart_of_a_matrix_needs_no_trajectory() -> None:
    pytest.importorskip("plotly")
    assert matrix_chart(AlignmentMatrix(["a"], [[0.5]])).data[0].z[0] == [0.5]
    assert matrix_chart(AlignmentMatrix(["a"])).layout.title.text is None


def test_a_chart_of_a_run_has_a_line_per_loop_and_the_mean() -> None:
    pytest.importorskip("plotly")
    chart = run_chart([loop("a", 0.2, 0.6), FAILED, loop("b", 0.4, None), loop("c", 1.0)], most=2)
    first, second, mean = chart.data
    assert list(first.y) == [0.2, 0.6] and list(second.y) == [0.4, None]
    np.testing.assert_allclose(np.array(mean.y, dtype=float), [0.3, 0.6])
    assert "not graded" in second.hovertext[1] and "<a" not in first.hovertext[0]
    assert list(run_chart([]).data[0].y) == []


def test_without_plotly_the_way_to_it_is_named(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    with pytest.raises(UserError, match="need Plotly") as refused:
        run_chart([])
    assert "reflectory[interactive]" in str(refused.value.hint)
