"""An evaluation's page in a browser: its script, its filters, its print."""

import json
import re

import pytest
from browsing import ATTACK, browser, in_browser
from bs4 import BeautifulSoup
from evaluations import FEW, make_report, questions_of, with_text

from reflectory.evaluation.records import EvaluationReport
from reflectory.report.evaluation_page import write_page
from reflectory.report.evaluation_questions import questions_of as shown_questions


@pytest.fixture(scope="module")
def bare() -> EvaluationReport:
    """A report that is drawn quickly: without judge and matrices."""
    return make_report(25, contenders=FEW, full=False)


@browser
@pytest.mark.parametrize("policy", [True, False])
def test_a_script_in_an_answer_does_not_run(tmp_path, policy):
    path = write_page(with_text(make_report(25, contenders=FEW), ATTACK), tmp_path / "page.html")
    if not policy:  # escaping has to be enough by itself
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"<meta http-equiv=[^>]+>", "", text), encoding="utf-8")
    page = BeautifulSoup(in_browser(path, tmp_path / "p", "--dump-dom"), "html.parser")
    assert page.title.get_text() != "taken"
    assert len(page.find_all("script")) == 1 and not page.find_all("img")
    # The page's own script ran: it shows the controls.
    assert not page.select_one("#controls").has_attr("hidden")


STEPS = """
const out = {};
const shown = () => Array.from(document.querySelectorAll(".q"))
  .filter((q) => !q.hidden).map((q) => q.querySelector("code").textContent);
const choose = (id, value) => {
  const field = document.getElementById(id);
  field.value = value;
  field.dispatchEvent(new Event("change"));
};
out.all = shown().length;
choose("show", "r:w"); out.only = shown();
choose("other", "some"); out.some = shown();
choose("other", "1"); out.first = shown();
choose("show", "n"); out.missing = shown();
choose("show", "");
const table = document.querySelector("table.sort");
const names = () => Array.from(table.tBodies[0].rows, (r) => r.querySelector("bdi").textContent);
table.querySelectorAll("th button")[0].click(); out.names = names();
table.querySelectorAll("th button")[1].click();
table.querySelectorAll("th button")[1].click(); out.worst = names();
out.sorted = table.querySelectorAll("thead th")[1].getAttribute("aria-sort");
const search = document.getElementById("search");
search.value = "REPORT 7 of";
search.dispatchEvent(new Event("input"));
setTimeout(() => {
  out.found = shown();
  out.said = document.getElementById("shown").textContent;
  document.getElementById("open").click();
  out.open = document.querySelectorAll(".q[open]").length;
  out.wide = document.documentElement.scrollWidth <= window.innerWidth;
  document.title = JSON.stringify(out);
}, 500);
"""


@browser
@pytest.mark.parametrize("width", [1280, 500])
def test_filter_search_and_sort(tmp_path, bare, width):
    path = write_page(bare, tmp_path / "page.html", questions=questions_of(25))
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<meta http-equiv=[^>]+>", "", text)
    path.write_text(text.replace("</body>", f"<script>{STEPS}</script></body>"), encoding="utf-8")
    dom = in_browser(path, tmp_path / "p", "--dump-dom", f"--window-size={width},900")
    out = json.loads(BeautifulSoup(dom, "html.parser").title.get_text())
    marks = {q.id: q.marks["calls"] for q in shown_questions(bare)}
    assert out["all"] == 25

    def wrong(mark: str) -> bool:
        return mark in "wn"

    assert out["only"] == [i for i, m in marks.items() if m[0] == "r" and all(map(wrong, m[1:]))]
    assert out["some"] == [i for i, m in marks.items() if m[0] == "r" and any(map(wrong, m[1:]))]
    assert out["first"] == [i for i, m in marks.items() if m[0] == "r" and wrong(m[1])]
    assert out["missing"] == [i for i, m in marks.items() if "n" in m]
    assert 0 < len(out["only"]) < len(out["some"]) < 25
    assert out["names"] == sorted(FEW)
    means = {row.contender: row.means["f1"] for row in bare.tables["calls"]}
    assert out["worst"] == sorted(FEW, key=means.__getitem__)
    assert out["sorted"] == "ascending"
    assert out["found"] == ["q007"] and out["said"] == "1 of 25 questions"
    assert out["open"] == 1
    assert out["wide"], "the page itself must not scroll sideways"


@browser
def test_it_prints(tmp_path, bare):
    path = write_page(bare, tmp_path / "page.html")
    in_browser(path, tmp_path / "p", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    from pypdf import PdfReader

    pages = PdfReader(tmp_path / "page.pdf").pages
    text = " ".join(page.extract_text() for page in pages)
    assert "Evaluation of craters" in text and "corrected p" in text
    assert "Open those shown" not in text
