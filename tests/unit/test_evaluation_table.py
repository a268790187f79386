"""An evaluation in the terminal: what is claimed, what is not, and that it fits."""

import io
import math
import re

import pytest
from evaluations import make_report, row_of
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from reflectory.evaluation.records import EvaluationReport, ScoredAnswer
from reflectory.report.evaluation_table import evaluation_text
from reflectory.report.evaluation_words import (
    claims,
    headline,
    matrix_words,
    number,
    probability,
    standings,
    turning_words,
)


def shown(report: EvaluationReport, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, legacy_windows=False)
    console.print(evaluation_text(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    return make_report()


def with_result(
    report: EvaluationReport, name: str, adjusted: float = 0.01, **changes: object
) -> EvaluationReport:
    """Return the report with another comparison of its primary metric, calls held equal."""
    pairs = tuple(
        c.model_copy(update={"result": c.result.model_copy(update=changes), "adjusted": adjusted})
        if (c.contender, c.metric, c.budget) == (name, report.primary, "calls")
        else c
        for c in report.comparisons
    )
    return report.model_copy(update={"comparisons": pairs})


def mark_of(report: EvaluationReport, name: str) -> str:
    """Return the first line of a contender in the first table."""
    return next(line for line in shown(report).splitlines() if line.lstrip().startswith(name))


def test_the_best_stands_first_and_the_reference_is_marked(report):
    rows = standings(report, "calls")
    means = [s.row.means["f1"] for s in rows]
    assert means == sorted(means, reverse=True)
    lines = shown(report).splitlines()
    assert sum(line.lstrip().startswith("* loop ") for line in lines) == 2


def test_a_claim_needs_an_interval_that_excludes_zero(report):
    ahead = with_result(report, "direct", difference=0.2, low=0.01, high=0.3)
    behind = with_result(report, "direct", difference=-0.2, low=-0.3, high=-0.01)
    touching = with_result(report, "direct", difference=0.2, low=0.0, high=0.3)
    assert any("loop beats direct in f1" in said for said in claims(ahead, "calls"))
    assert any("loop loses to direct in f1" in said for said in claims(behind, "calls"))
    (said,) = [s for s in claims(touching, "calls") if "direct" in s]
    assert said.startswith("Nothing is claimed about")
    assert "beats direct" not in " ".join(headline(touching)[:2])
    assert "!" in mark_of(ahead, "direct") and "!" in mark_of(behind, "direct")
    assert "!" not in mark_of(touching, "direct")


def test_what_the_correction_takes_back_is_no_claim(report):
    unsure = with_result(report, "direct", 0.3, difference=0.2, low=0.01, high=0.3)
    (said,) = [s for s in claims(unsure, "calls") if "direct" in s]
    assert "does not outlast the correction" in said and "beats" not in said
    assert "!" not in mark_of(unsure, "direct")


def test_few_rows_claim_nothing_however_clear():
    report = make_report(8, contenders=("direct", "loop"))
    clear = with_result(report, "direct", difference=0.9, low=0.8, high=1.0)
    text = shown(clear)
    assert "beats" not in text and "!" not in mark_of(clear, "direct")
    assert "nothing is claimed of loop" in text.replace("\n", " ")
    assert "warning: few rows" in text
    assert {s.verdict for s in standings(clear, "calls")} == {None, "few"}


def test_what_was_not_compared_is_said(report):
    (said,) = claims(report.model_copy(update={"comparisons": ()}), "calls")
    assert said.startswith("Not compared on f1: ") and "direct" in said


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_lines_fit_and_no_number_is_lost(report, width):
    text = shown(report, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "\u2026" not in text
    joined = re.sub(r"\s", "", text)
    for row in report.tables["calls"]:
        assert row.contender in joined
        assert number(row.means["f1"]) in joined
    for pair in report.comparisons:
        if pair.metric == "f1":
            assert number(pair.result.low, sign=True) in joined


def test_a_wide_console_shows_every_metric(report):
    assert "not shown at this width" not in shown(report, 160)
    assert "groundedness" in shown(report, 160)
    assert "not shown at this width: " in shown(report, 80)


def test_names_are_no_markup_and_cannot_move_the_cursor():
    names = ("loop", "[red]x[/red]", "a\x1b[2Jb", "حلقة", "[/]")
    text = shown(make_report(25, contenders=names), 120)
    assert "[red]x[/red]" in text and "[/]" in text and "حلقة" in text
    assert "\x1b" not in text


def test_one_question_and_nobody_to_compare_with():
    text = shown(make_report(1, contenders=("loop",), budgets=("calls",), full=False))
    assert "compared with nobody" in text
    assert "1 question of craters" in text


def test_all_answers_missing():
    report = make_report(30, missing=1.0)
    rows = standings(report, "calls")
    assert all(s.row.missing == 30 and s.row.means["f1"] == 0.0 for s in rows)
    assert "beats" not in shown(report)


def test_no_nan_is_shown():
    answers = [ScoredAnswer(id="q", text="x", values={"f1": math.nan})]
    odd = row_of("odd", answers).model_copy(update={"means": {"f1": math.nan}, "calls": math.inf})
    report = make_report(25, contenders=("loop", "direct"))
    loop, direct = report.tables["calls"]
    report = report.model_copy(
        update={"tables": {"calls": (odd, loop, direct)}, "generalisation": math.nan}
    )
    text = shown(report)
    assert not re.search(r"\b(nan|inf|None)\b", text, re.I)
    assert standings(report, "calls")[-1].row.contender == "odd"


def test_turning_and_matrices_in_words(report):
    said = " ".join(turning_words(report))
    assert "11 turned right and 6 turned wrong" in said
    assert "No more answers turned right than wrong at t=3" in said
    assert "stopping at t=2" in said
    assert report.matrices is not None
    level = report.matrices.levels[0]
    assert level.rise is not None
    assert matrix_words(report.matrices)[0].startswith("basic: A rises from 0.529 to 0.609 (")
    still = level.rise.model_copy(update={"difference": 1e-9, "low": 0.0})
    level = level.model_copy(update={"rise": still})
    (said, *_) = matrix_words(report.matrices.model_copy(update={"levels": (level,)}))
    assert "A stays" in said and "not distinguishable from zero" in said
    unsure = report.matrices.model_copy(update={"order_p": 0.4})
    assert "take longer to settle" in " ".join(matrix_words(report.matrices))
    assert "neither sooner nor later" in " ".join(matrix_words(unsure))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "+0.250"), (-0.25, "-0.250"), (-0.0001, "0.000"), (math.nan, "-"), (None, "-")],
)
def test_numbers_with_a_sign(value, text):
    assert number(value, sign=True) == text


def test_small_probabilities_are_not_zero():
    assert probability(0.0) == "<0.001"
    assert probability(0.0312) == "0.031"


@settings(max_examples=15)
@given(
    names=st.lists(st.text(min_size=1, max_size=40), min_size=0, max_size=4, unique=True),
    width=st.integers(30, 140),
)
def test_any_names_at_any_width(names, width):
    chosen = ("loop", *(n for n in names if n != "loop"))
    text = shown(make_report(20, contenders=chosen, budgets=("tokens",), full=False), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
