"""An evaluation as a page: what it holds and what it never does."""

import html
import math
import re
from collections import Counter

import pytest
from browsing import ATTACK, assert_balanced
from bs4 import BeautifulSoup
from evaluations import FEW, attempts_of, make_report, questions_of, row_of, with_text

from reflectory.errors import StorageError
from reflectory.evaluation.held_out import HeldOutQuestion
from reflectory.evaluation.records import ContenderAnswer, EvaluationReport, ScoredAnswer
from reflectory.report.evaluation_page import page_html, tables_html, write_page
from reflectory.report.evaluation_pictures import anytime_curves, evaluation_pictures
from reflectory.report.evaluation_questions import contenders_of
from reflectory.report.evaluation_questions import questions_of as shown_questions
from reflectory.report.notebook import show


def page_of(report: EvaluationReport, **given: object) -> BeautifulSoup:
    text = page_html(report, **given)
    assert_balanced(text)
    return BeautifulSoup(text, "html.parser")


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    return make_report(25, contenders=FEW)


@pytest.fixture(scope="module")
def bare() -> EvaluationReport:
    """A report that is drawn quickly: without judge and matrices."""
    return make_report(25, contenders=FEW, full=False)


@pytest.fixture(scope="module")
def page(report) -> BeautifulSoup:
    return page_of(report, answers=attempts_of(report), questions=questions_of(25))


def test_every_answer_is_in_the_page(report, page):
    text = page.get_text()
    for rows in report.tables.values():
        for row in rows:
            assert all(answer.text in text for answer in row.answers if answer.text)
    assert all(q.question in text and q.references[0] in text for q in questions_of(25))
    assert len(page.select("details.q")) == 25


def test_it_needs_no_network(page):
    for tag in page.find_all(True):
        for name in ("src", "href", "xlink:href", "action", "poster", "data"):
            value = tag.get(name, "")
            assert not value or value.startswith("#"), (tag.name, name, value)
    style = page.style.get_text()
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in page.find("meta", attrs={"http-equiv": True})["content"]


def test_tables_can_be_read_aloud(page):
    assert len(page.find_all("table")) > 30
    for table in page.find_all("table"):
        assert table.caption is not None and table.caption.get_text(strip=True)
        assert all(th.get("scope") in ("col", "row") for th in table.find_all("th"))
    assert page.html["lang"] == "en"
    for picture in page.select(".picture"):
        assert picture["role"] == "img" and picture["aria-label"]
    for field in page.select("input, select"):
        assert field.find_parent("label") is not None
    assert [h.name for h in page.find_all(["h1", "h2"])].count("h1") == 1


def test_ids_are_unique_and_links_arrive(page):
    ids = Counter(tag["id"] for tag in page.find_all(id=True))
    assert not [name for name, count in ids.items() if count > 1]
    assert all(link["href"][1:] in ids for link in page.find_all("a"))
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', str(page))
    assert {a or b for a, b in used} <= set(ids)


def test_all_pictures_are_drawn(report):
    given = {"answers": attempts_of(report), "questions": questions_of(25)}
    assert set(evaluation_pictures(report, **given)) == {
        "anytime",
        "roc",
        "calibration",
        "levels",
        "stops",
    }
    assert evaluation_pictures(make_report(2, contenders=FEW, full=False)) == {}


def test_anytime_curves_end_where_the_last_attempts_are_worth(report):
    answers, questions = attempts_of(report), questions_of(25)
    curves = {c.contender: c for c in anytime_curves(report, answers, questions)}
    assert list(curves) == contenders_of(report)
    right = {q.id: q.references[0] for q in questions}
    loops = [a for a in answers if a.contender == "loop" and a.attempts]
    exact = sum(a.attempts[-1].text == right[a.id] for a in loops) / 25
    assert curves["loop"].steps[-1].mean >= exact
    # Without the references, or for another metric, there is nothing to draw.
    assert anytime_curves(report, answers, ()) == []
    other = report.model_copy(update={"primary": "groundedness"})
    assert anytime_curves(other, answers, questions) == []


def test_what_models_say_is_text(report):
    asked = [
        HeldOutQuestion(id=q.id, question=ATTACK, references=(ATTACK,)) for q in questions_of(25)
    ]
    evil = with_text(report, ATTACK)
    tried = []
    for answer in attempts_of(report):
        data = answer.model_dump() | {"failure": ATTACK}
        data["attempts"] = [t | {"text": ATTACK, "note": ATTACK} for t in data["attempts"]]
        tried.append(ContenderAnswer.model_validate(data))
    page = page_of(evil, answers=tried, questions=asked)
    assert len(page.find_all("script")) == 1 and not page.find_all("img")
    assert not [t for t in page.find_all(True) for name in t.attrs if name.startswith("on")]
    assert page.get_text().count(ATTACK) > 100
    assert page.title.get_text() == f"Evaluation of {ATTACK}"


def test_names_of_contenders_are_text_in_pictures_and_choices():
    report = make_report(22, contenders=("loop", ATTACK, "a&b \"c\" 'd'", "$x_1$"))
    page = page_of(report, answers=attempts_of(report), questions=questions_of(22))
    assert len(page.find_all("script")) == 1 and not page.find_all("img")
    names = [option.get_text() for option in page.select("#other option")]
    assert ATTACK in names and "a&b \"c\" 'd'" in names
    assert "$x_1$" in page.select(".picture")[0].get_text()


def test_only_the_pages_own_script_is_allowed(bare):
    import base64
    import hashlib

    text = page_html(bare)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = BeautifulSoup(text, "html.parser").find("meta", attrs={"http-equiv": True})
    assert f"script-src 'sha256-{digest}'" in policy["content"]
    assert "unsafe-inline" not in policy["content"].split("script-src")[1]


def test_one_question_and_nobody_to_compare_with():
    report = make_report(1, contenders=("loop",), budgets=("calls",), full=False)
    page = page_of(report)
    assert "compared with nobody" in page.get_text()
    assert not page.select("#budget") and not page.select(".forest")


def test_all_answers_missing():
    report = make_report(21, contenders=FEW, missing=1.0)
    page = page_of(report, answers=attempts_of(report), questions=questions_of(21))
    assert page.get_text().count("no answer within the budget") == 21 * 3
    assert {q["data-calls"] for q in page.select(".q")} == {"nnn"}


def test_no_nan_is_shown(report):
    answers = tuple(
        ScoredAnswer(id=q.id, text="x", values={"f1": math.nan}) for q in questions_of(25)
    )
    odd = row_of("odd", answers).model_copy(update={"means": {"f1": math.nan}, "calls": math.inf})
    pair = report.comparisons[0]
    nothing = pair.result.model_copy(
        update=dict.fromkeys(("low", "high", "difference", "p_value"), math.nan)
    )
    report = report.model_copy(
        update={
            "tables": {"calls": (*report.tables["calls"], odd)},
            "comparisons": (pair.model_copy(update={"contender": "odd", "result": nothing}),),
            "domains": {"d": math.nan},
            "generalisation": math.inf,
            "seconds": math.nan,
        }
    )
    page = page_of(report)
    seen = [t for t in page.find_all(string=True) if t.parent.name not in ("script", "style")]
    assert not re.findall(r"\b(?:nan|NaN|inf|None)\b", " ".join(seen))
    assert "nan" not in " ".join(path["d"] for path in page.select("svg path"))


@pytest.mark.parametrize(
    "text",
    [
        "الجواب هو القمر",
        "\u202eright to left override",
        "日本語の答え 🌋",
        "\x00\x1b[2J\x07 control",
        "\ud800 half a character",
        "a\u2028b\r\nc",
        "very long " * 20_000,
        "nobreak" * 20_000,
    ],
)
def test_any_text_can_be_written(tmp_path, text):
    report = make_report(3, contenders=("loop",), budgets=("calls",), full=False)
    rows = report.tables["calls"]
    answer = rows[0].answers[0].model_copy(update={"text": text})
    row = rows[0].model_copy(update={"answers": (answer, *rows[0].answers[1:])})
    report = report.model_copy(update={"tables": {"calls": (row, *rows[1:])}})
    path = write_page(report, tmp_path / "new" / "page.html")
    written = path.read_bytes().decode("utf-8")
    kept = text.encode("utf-8", "replace").decode()
    assert html.escape(kept, quote=True).replace("&quot;", "&#34;") in written


def test_a_long_answer_can_be_reached_with_the_keyboard():
    report = make_report(2, contenders=("loop",), budgets=("calls",), full=False)
    (row,) = report.tables["calls"]
    long = row.answers[0].model_copy(update={"text": "word " * 1000})
    row = row.model_copy(update={"answers": (long, row.answers[1])})
    page = page_of(report.model_copy(update={"tables": {"calls": (row,)}}))
    assert [t.get("tabindex") for t in page.select(".text")] == ["0", None]


def test_answers_that_both_tables_share_stand_once(bare):
    for question in shown_questions(bare):
        for name in contenders_of(bare):
            shown = [a for a in question.answers if a.contender == name]
            texts = {
                budget: next(a for a in row.answers if a.id == question.id)
                for budget, rows in bare.tables.items()
                for row in rows
                if row.contender == name
            }
            same = texts["calls"] == texts["tokens"]
            assert len(shown) == (1 if same else 2)
            assert [a.budgets for a in shown] == ([()] if same else [("calls",), ("tokens",)])


def test_marks_say_who_is_right(bare):
    for question in shown_questions(bare):
        for budget, marks in question.marks.items():
            for name, mark in zip(contenders_of(bare), marks, strict=True):
                row = next(r for r in bare.tables[budget] if r.contender == name)
                answer = next(a for a in row.answers if a.id == question.id)
                right = answer.values["exact_match"] >= 0.5
                assert mark == ("n" if answer.text is None else "r" if right else "w")


def test_of_too_many_attempts_only_the_references_are_kept(bare, monkeypatch):
    monkeypatch.setattr("reflectory.report.evaluation_questions._ATTEMPTS_LIMIT", 100)
    found = shown_questions(bare, answers=attempts_of(bare))
    kept = {a.contender for q in found for a in q.answers if a.attempts}
    assert kept == {"loop"}


def test_the_same_report_gives_the_same_page(report, page):
    again = page_html(report, answers=attempts_of(report), questions=questions_of(25))
    assert str(BeautifulSoup(again, "html.parser")) == str(page)


def test_a_page_that_cannot_be_written_is_named(bare, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_page(bare, tmp_path / "file" / "page.html")


def test_a_notebook_shows_the_tables(bare):
    shown = show(bare)
    fragment = shown._repr_html_()
    assert_balanced(fragment)
    assert "<script" not in fragment and "<button" not in fragment
    assert fragment == tables_html(bare)
    assert "* loop" in repr(shown)
