"""Two evaluations beside one another."""

import io
import json
import math

import pytest
from evaluations import make_report
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from reflectory.errors import UserError
from reflectory.evaluation.changes import (
    ReportComparison,
    changed_fields,
    compare_reports,
    flatten,
    is_right,
    right_metric,
)
from reflectory.evaluation.records import EvaluationReport
from reflectory.report.changes_table import change_claims, comparison_text

FEW = ("loop", "direct")


def shown(found: ReportComparison, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, legacy_windows=False)
    console.print(comparison_text(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def compared(before: EvaluationReport, after: EvaluationReport) -> ReportComparison:
    return compare_reports(before, after, resamples=500)


@pytest.fixture(scope="module")
def before() -> EvaluationReport:
    return make_report(40, contenders=FEW)


@pytest.fixture(scope="module")
def after(before) -> EvaluationReport:
    config = {**before.config, "teacher": "other", "loop": {"max_iterations": 2}}
    return make_report(40, contenders=(*FEW, "retrieve"), seed=3, config=config)


def test_the_same_report_changes_nothing(before):
    found = compared(before, before)
    assert found.same_set and found.rows == 40
    assert all(c.result.difference == 0.0 and c.result.same == 40 for c in found.changes)
    assert not (found.turned_right or found.turned_wrong or found.config or found.warnings)
    assert len(found.changes) == 2 * 2 * 4  # tables, contenders, metrics
    assert "no setting changed" in shown(found)


def test_differences_are_those_of_the_means(before, after):
    found = compared(before, after)
    for change in found.changes:
        old = {r.contender: r for r in before.tables[change.budget]}[change.contender]
        new = {r.contender: r for r in after.tables[change.budget]}[change.contender]
        wanted = new.means[change.metric] - old.means[change.metric]
        assert change.result.difference == pytest.approx(wanted)
    assert found.warnings == ("only in the later evaluation: retrieve",)


def test_turned_answers_are_those_that_changed_sides(before, after):
    found = compared(before, after)
    turned = {(t.contender, t.id) for t in (*found.turned_right, *found.turned_wrong)}
    for row in after.tables["calls"]:
        old = {r.contender: r for r in before.tables["calls"]}.get(row.contender)
        if old is None:
            continue
        for was, now in zip(old.answers, row.answers, strict=True):
            moved = is_right(was, "exact_match") != is_right(now, "exact_match")
            assert ((row.contender, now.id) in turned) is moved
    change = next(
        c
        for c in found.changes
        if (c.budget, c.contender, c.metric) == ("calls", "loop", "exact_match")
    )
    loops = [t for t in found.turned_right if t.contender == "loop"]
    assert len(loops) == change.result.better > 0


def test_both_directions_mirror_one_another(before, after):
    there, back = compared(before, after), compared(after, before)
    assert {t.id for t in there.turned_right} == {t.id for t in back.turned_wrong}
    assert [c.result.difference for c in there.changes] == pytest.approx(
        [-c.result.difference for c in back.changes]
    )


def test_settings_that_changed_are_named(before, after):
    found = {c.field: (c.before, c.after) for c in compared(before, after).config}
    assert found["teacher"] == ("local", "other")
    assert found["loop.max_iterations"] == ("4", "2")
    assert found["loop.epsilon"] == ("0.05", None)


def test_another_set_is_compared_on_what_is_shared_and_said_loudly(before):
    bigger = make_report(60, contenders=FEW)
    found = compared(before, bigger)
    assert not found.same_set and found.rows == 40
    assert "THE SETS ARE NOT THE SAME" in found.warnings[0]
    text = shown(found)
    assert "DIFFERENT SETS" in text and "THE SETS ARE NOT THE SAME" in text


def test_nothing_in_common_is_a_users_error(before):
    def other(**changes: object) -> EvaluationReport:
        return EvaluationReport.model_validate(before.model_dump() | changes)

    rows = before.model_dump()["tables"]["calls"]
    renamed = [
        row | {"answers": [a | {"id": "x" + a["id"]} for a in row["answers"]]} for row in rows
    ]
    with pytest.raises(UserError, match="share no question"):
        compared(before, other(tables={"calls": renamed}))
    with pytest.raises(UserError, match="share no contender"):
        compared(before, other(tables={"calls": [r | {"contender": "new"} for r in rows]}))
    with pytest.raises(UserError, match="share no metric"):
        compared(before, other(tables={"calls": [r | {"means": {}} for r in rows]}))
    calls, tokens = (make_report(5, contenders=FEW, budgets=(b,)) for b in ("calls", "tokens"))
    with pytest.raises(UserError, match="share no table"):
        compared(calls, tokens)


def test_few_rows_and_intervals_with_zero_claim_nothing(before):
    few = compared(make_report(6, contenders=FEW), make_report(6, contenders=FEW, seed=8))
    assert all("can be claimed" in said for said in change_claims(few))
    assert "few rows: 6" in shown(few)
    same = compared(before, before)
    assert change_claims(same) == [
        "No change of f1 can be claimed for loop (calls), direct (calls), loop (tokens) and "
        "direct (tokens)."
    ]


def test_a_sure_change_is_claimed():
    worse = make_report(40, contenders=("direct",), reference="direct")
    rows = worse.tables["calls"]
    answers = tuple(
        a.model_copy(update={"text": "right", "values": dict.fromkeys(a.values, 1.0)})
        for a in rows[0].answers
    )
    row = rows[0].model_copy(
        update={"answers": answers, "means": dict.fromkeys(rows[0].means, 1.0)}
    )
    better = worse.model_copy(update={"tables": {"calls": (row,)}})
    (said,) = change_claims(compared(worse, better))
    assert said.startswith("direct is better on f1")


def test_values_that_are_missing_are_left_out_and_said(before):
    rows = before.tables["calls"]
    answers = (rows[0].answers[0].model_copy(update={"values": {"f1": math.nan}}),)
    broken = rows[0].model_copy(update={"answers": (*answers, *rows[0].answers[1:])})
    found = compared(before, before.model_copy(update={"tables": {"calls": (broken,)}}))
    assert {c.result.rows for c in found.changes} == {39}
    assert any("1 of 40 questions have no value" in w for w in found.warnings)
    assert "nan" not in shown(found)


def test_it_survives_json(before, after):
    found = compared(before, after)
    assert ReportComparison.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("width", [50, 80, 140])
def test_it_fits_the_console(before, after, width):
    text = shown(compared(before, after), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_right_is_the_primary_metric_where_it_is_binary(before):
    assert right_metric(before) == "exact_match"
    assert right_metric(before.model_copy(update={"primary": "contains"})) == "contains"
    only = make_report(3, contenders=("loop",), primary="groundedness")
    rows = only.model_dump()["tables"]["calls"]
    answers = [a | {"values": {"groundedness": 0.7}} for a in rows[0]["answers"]]
    only = EvaluationReport.model_validate(
        only.model_dump() | {"tables": {"calls": [rows[0] | {"answers": answers}]}}
    )
    assert right_metric(only) == "groundedness"


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), plain_data))
def test_equal_data_has_no_changed_fields(data):
    again = json.loads(json.dumps(data))
    assert changed_fields(data, again) == ()
    assert all(isinstance(value, str) for value in flatten(data).values())
