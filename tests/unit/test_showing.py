"""Records that show themselves: what stands in the HTML and the text, and that it is escaped."""

import math
import re
from html.parser import HTMLParser

import pytest
from evaluations import make_report
from rich.console import Console
from worlds import world_loop

import reflectory
from reflectory import AlignmentMatrix
from reflectory.errors import RunDirectoryError, UserError
from reflectory.evaluation.changes import compare_reports
from reflectory.improvement.records import ImprovementResult, RoundRecord, StudentRecord
from reflectory.planning import plan_run
from reflectory.report.colours import orange
from reflectory.report.matrix_html import matrix_html
from reflectory.report.sheet import Grid, Sheet, sheet_html, sheet_text
from reflectory.testing.world import SyntheticWorld
from reflectory.training import RowSet
from reflectory.training.dataset import read_manifest, write_dataset
from reflectory.training.rows import Message, Provenance, TrainingRow
from reflectory.types.shown import Shown

HOSTILE = '<script>alert(1)</script> & "quoted" \u202e \U0001f600 \''
NAN = math.nan
PAIR = {"before": 0.25, "after": 0.5, "difference": 0.25, "low": 0.1, "high": 0.4}


class Tags(HTMLParser):
    """Counts elements, and notes one that is closed and was not open."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.open.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(html: str) -> list[str]:
    parser = Tags()
    parser.feed(html)
    assert parser.open == []
    return parser.seen


def training_row(text: str, **provenance: object) -> TrainingRow:
    return TrainingRow(
        prompt=(Message(role="user", content="Why?"),),
        completion=(Message(role="assistant", content=text),),
        provenance=Provenance(**{"trajectory": "t", **provenance}),
    )


def round_record(**changes: object) -> RoundRecord:
    given = {
        "number": 0,
        "student": 0,
        "trained": 1,
        "decision": "promoted",
        "reason": f"f1 rose {HOSTILE}",
        "warnings": (HOSTILE,),
        "counts": {"curate": {"rows": 1200, "sources": {"self": 3}}},
        "comparisons": {"f1": PAIR},
    }
    return RoundRecord(**{**given, **changes})


@pytest.fixture
def run(tmp_path):
    with world_loop(SyntheticWorld(levels=3), max_iterations=2, epsilon=1e-6) as loop:
        list(loop.map([f"Explain one. {HOSTILE}", "Explain two."], output=tmp_path / "run"))
    return reflectory.open_run(tmp_path / "run")


# The matrix


def test_a_matrix_is_a_table_with_heads_values_and_the_change() -> None:
    matrix = AlignmentMatrix(
        ["basic", HOSTILE],
        [[0.25, 0.5, 1.0], [NAN, 0.0, NAN]],
        status=[["done"] * 3, ["failed", "done", "pending"]],
        epsilon=0.3,
        converged=True,
    )
    html = matrix._repr_html_()
    seen = tags_of(html)
    assert seen.count("tr") == 4 and "script" not in seen
    assert html.count('scope="row"') == 3 and html.count('scope="col"') == 4
    assert re.findall(r'class="done"[^>]*>([^<]*)<', html) == ["0.25", "0.50", "1.00", "0.00"]
    assert '<td class="failed">failed</td>' in html and 'aria-label="pending">-</td>' in html
    assert "2 levels, 3 iterations; converged at t = 2" in html
    assert html.count("<td>not known</td>") == 2


@pytest.mark.parametrize("columns", [0, 1])
def test_a_matrix_without_a_change_has_no_last_row(columns: int) -> None:
    html = AlignmentMatrix(["a"], [[0.5] * columns])._repr_html_()
    assert "tfoot" not in tags_of(html)
    assert f"1 level, {columns} iteration{'s' * (columns != 1)}" in html


def test_half_a_character_reaches_no_notebook() -> None:
    for html in (
        AlignmentMatrix(["a \ud83d"], [[0.5]])._repr_html_(),
        round_record(reason="half \ud83d")._repr_html_(),
    ):
        assert html.encode("utf-8")


def test_a_change_below_epsilon_carries_a_star() -> None:
    html = matrix_html(AlignmentMatrix(["a"], [[0.1, 0.9, 0.95]], epsilon=0.1))
    assert "<td>0.80</td><td>0.05*</td>" in html and "* below epsilon 0.1" in html
    html = matrix_html(AlignmentMatrix(["a"], [[0.1, 0.9]], epsilon=0.1))
    assert "no change is below epsilon 0.1" in html and "*" not in html


def test_every_colour_can_be_read() -> None:
    for step in range(201):
        paper, ink = (bytes.fromhex(colour[1:]) for colour in orange(step / 200))
        light, dark = sorted((luminance(paper), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    shades = [luminance(bytes.fromhex(orange(step / 50)[0][1:])) for step in range(51)]
    assert shades == sorted(shades, reverse=True)


def luminance(colour: bytes) -> float:
    parts = [c / 255 for c in colour]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_matrix_still_has_its_picture_and_rich_prints_it() -> None:
    matrix = AlignmentMatrix(["a"], [[0.5, 0.75]])
    assert matrix._repr_png_().startswith(b"\x89PNG")
    assert "0.75" in printed(matrix)


# Rounds, data sets, plans, evaluations


def test_a_round_says_decision_reason_figures_and_counts() -> None:
    record = round_record()
    html = record._repr_html_()
    assert "script" not in tags_of(html)
    assert "Round 0: promoted" in html and "curate: rows</th><td>1,200" in html
    text = str(record)
    assert re.search(r"f1 +0.250 +0.500 +\+0.250 +\[\+0.100, \+0.400\]", text)
    assert repr(record) == "<RoundRecord: Round 0: promoted>"


def test_a_failed_round_says_why() -> None:
    failure = {"stage": "train", "message": "no rows", "hint": "lower the thresholds"}
    record = round_record(
        decision="failed", trained=None, comparisons={}, warnings=(), failure=failure
    )
    assert "Round 0: failed" in str(record) and "hint: lower the thresholds" in str(record)
    assert "Held-out questions" not in record._repr_html_()


def test_a_figure_that_is_none_is_a_dash() -> None:
    pair = {**PAIR, "after": None, "difference": float("inf")}
    assert re.search(r"f1 +0.250 +- +- ", str(round_record(comparisons={"f1": pair})))


def test_all_rounds_are_a_line_each_and_the_student_in_use_is_marked() -> None:
    students = (
        StudentRecord(number=0, decision="base"),
        StudentRecord(number=1, decision="promoted", adapter="rounds/000/adapter", rows=12),
    )
    result = ImprovementResult(
        rounds=(round_record(), round_record(number=1, decision="rolled_back")),
        students=students,
        current=1,
    )
    text = str(result)
    assert "2 rounds; student 1 is in use" in text
    assert "rolled back" in text and re.search(r"1 \* +promoted", text)
    assert "1 *</th>" in result._repr_html_()


def test_rows_say_where_they_come_from_and_how_long_they_are() -> None:
    rows = RowSet.of(
        "sft",
        [
            training_row(f"{HOSTILE} one", question=HOSTILE),
            training_row("one two three", what="answer", level="expert"),
            training_row("one", what="answer", level="basic", source="distilled"),
        ],
    )
    html, text = rows._repr_html_(), str(rows)
    assert "script" not in tags_of(html)
    assert tags_of(html).count("details") == 3
    assert text.index("answer: basic") < text.index("answer: expert")  # from easy to hard
    assert re.search(r"completion +3 +1 +3 +\d", text)
    assert repr(rows) == "<RowSet: 3 rows of the format sft>"
    assert "there is no row" in str(RowSet.of("sft", []))


def test_a_long_row_is_cut() -> None:
    rows = RowSet.of("sft", [training_row("word " * 50_000)])
    assert len(rows._repr_html_()) < 10_000


def test_a_data_set_on_the_disk_shows_its_manifest(tmp_path) -> None:
    write_dataset(tmp_path / "set", [training_row("Because of the ice.")])
    manifest = read_manifest(tmp_path / "set")
    assert "Data set of 1 row\n" in str(manifest)
    assert "by" in str(manifest) and "the student" in manifest._repr_html_()


def test_a_plan_is_the_table_of_three_cases() -> None:
    config = SyntheticWorld().config(max_iterations=3)
    plan = plan_run(config, instructions=20, concurrency=4, grader="spoken")
    html, text = plan._repr_html_(), str(plan)
    assert "Plan of 20 loops" in text and "calls teacher.ask" in text
    assert re.search(r"calls student.respond +20 +20 +20", text)
    assert all(f'<th scope="col">{case}</th>' in html for case in ("least", "usual", "most"))


def test_an_evaluation_shows_its_tables_and_a_short_name() -> None:
    report = make_report()
    assert "script" not in tags_of(report._repr_html_())
    assert "loop_one_level" in report._repr_html_() and "loop_one_level" in str(report)
    assert len(repr(report)) < 200
    assert "loop_one_level" in printed(report)


def test_two_evaluations_show_claims_turned_answers_and_settings() -> None:
    before = make_report(40, contenders=("loop", "direct"))
    config = {**before.config, "teacher": HOSTILE}
    found = compare_reports(before, make_report(40, seed=3, config=config), resamples=200)
    html, text = found._repr_html_(), str(found)
    seen = tags_of(html)
    assert "script" not in seen
    turned = [kind for kind in (found.turned_right, found.turned_wrong) if kind]
    tables = len({change.budget for change in found.changes})
    assert turned and seen.count("table") == tables + len(turned) + 1  # and the settings
    assert f"Turned right by {found.right}: {len(found.turned_right)}" in html
    assert "teacher</th>" in html and "No setting changed" not in html
    assert "40 questions in both, the same set" in text
    assert "No setting changed." in str(compare_reports(before, before, resamples=200))


def test_what_has_no_sheet_says_so() -> None:
    with pytest.raises(TypeError, match="Unknown has no sheet"):
        str(Unknown())


class Unknown(Shown):
    pass


def test_a_terminal_gets_no_control_characters() -> None:
    text = sheet_text(Sheet("\x1b[31mred", grids=(Grid("a", ("x",), (("\x07bell",),)),)))
    assert "\x1b" not in text and "\x07" not in text and "bell" in text


def test_tables_without_rows_are_left_out() -> None:
    html = sheet_html(Sheet("nothing", grids=(Grid("empty", ("a", "b"), ()),)))
    assert "table" not in tags_of(html)


# A run


def test_a_run_has_loops_matrices_and_shows_itself(run) -> None:
    matrices = dict(run.matrices())
    assert "Explain two." in matrices and len(matrices) == 2
    world = SyntheticWorld(levels=3)
    assert (run.mean_matrix().values == world.matrix(2)).all()
    assert run.rounds == () and [s.number for s in run.students] == [0]
    assert run.datasets == {} and run.plan.instructions == 2
    html, text = run._repr_html_(), str(run)
    assert "script" not in tags_of(html)
    assert "2 loops done, 0 failed; finished" in text
    assert "level 3" in text and html.count('class="done"') == 6
    assert "max_iterations" in text or "epsilon" in text
    assert repr(run) == "<OpenedRun: Run run>"


def test_a_run_is_the_view_that_the_rest_of_the_package_takes(run) -> None:
    assert run.config.loop.max_iterations == 2
    assert run.manifest.totals.done == len(run.trajectories) == 2


def test_a_folder_that_is_none_is_refused(tmp_path) -> None:
    with pytest.raises(RunDirectoryError, match=r"no manifest.json"):
        reflectory.open_run(tmp_path)


def test_a_run_without_loops_has_no_mean(run) -> None:
    run.trajectories.path.write_bytes(b"")
    empty = reflectory.open_run(run.path)
    with pytest.raises(UserError, match="no loop"):
        empty.mean_matrix()
    assert "0 loops done" in str(empty) and "matrix" not in str(empty)
    assert list(empty.matrices()) == []


def printed(record: object) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(record)
    return captured.get()
