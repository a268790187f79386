"""Rounds, training and check in the report of a run."""

import json

import pytest
from browsing import ATTACK
from bs4 import BeautifulSoup
from report_rounds import add_round
from reports import make_run

from reflectory.report.run import page as page_module
from reflectory.report.run import write_report


@pytest.fixture(autouse=True)
def _no_pictures(request, monkeypatch):
    """Draw nothing, because that takes most of the time, where a test does not look at it."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(page_module, "pictures_of", lambda facts: {})


@pytest.fixture
def drawn() -> bool:
    """Let the pictures be drawn."""
    return True


@pytest.fixture
def run(tmp_path):
    made = make_run(tmp_path / "run")
    add_round(made, 0, "plain")
    return made


def page_of(run) -> BeautifulSoup:
    return BeautifulSoup(write_report(run).path.read_text(encoding="utf-8"), "html.parser")


def test_a_round_says_what_it_did(run, drawn):
    section = page_of(run).find(id="round-0").parent
    text = " ".join(section.get_text().split())
    assert "Round 0: promoted" in text and "because of plain" in text
    figures = section.select_one("table").select("tbody tr")[0]
    assert [cell.get_text() for cell in figures.find_all(["th", "td"])][:4] == [
        "f1",
        "0.375",
        "0.500",
        "+0.125",
    ]
    assert "The loss began at 2.000, ended at 0.600, and was lowest at 0.600." in text
    assert "loss (sft)" in text and "loss (dpo)" in text and "held back" in text
    assert "1 row in the format sft" in text and "train 12 s" in text
    rows = section.select("table.said tbody tr")
    assert [row.find_all("td")[-1].get_text() for row in rows] == [
        "better",
        "better",
        "same",
        "worse",
    ]
    assert rows[0].find_all("td")[1].get_text() == "no answer"


def test_the_loops_of_all_rounds_are_in_one_list(run):
    add_round(run, 1, "second", failed=True)
    page = page_of(run)
    assert len(json.loads(page.find(id="entries").string)) == 6
    about = json.loads(page.find(id="about").string)
    assert about["parts"] == ["round 0", "round 1"]
    assert "mend second" in page.find(id="round-1").parent.get_text()
    assert page.find(id="part") is not None


def test_hostile_rounds_stay_text(run):
    add_round(run, 1, ATTACK, failed=True)
    page = page_of(run)
    assert not page.find_all("img")
    assert sum(tag.get("type") is None for tag in page.find_all("script")) == 1
    assert f"because of {ATTACK}" in page.get_text()


def test_a_damaged_round_is_named_and_the_rest_is_there(run):
    folder = run / "rounds" / "000"
    for name in ("evaluation.json", "adapter/reflectory.json", "dataset/dataset.json"):
        (folder / name).write_text("{")
    (folder / "timing.json").write_text("[1]")
    page = page_of(run)
    warned = page.select_one(".warn").get_text()
    for name in ("evaluation.json", "reflectory.json", "dataset.json"):
        assert name in warned
    assert "because of plain" in page.get_text()


def test_a_round_that_is_not_over(run):
    (run / "rounds" / "000" / "round.json").unlink()
    page = page_of(run)
    assert page.find(id="round-0").get_text(strip=True) == "Round 0"


def test_the_figures_for_machines(run):
    said = write_report(run).summary()
    (made,) = said["rounds"]
    assert made["decision"] == "promoted" and made["rows"] == {"dataset": 1}
    assert made["figures"]["f1"] == [0.375, 0.5] and made["loss"] == 0.6


def test_the_check_of_the_demo(run):
    means = {"count": 1, "missing": 0, "empty": 0, "f1": 0.25}
    said = [{"id": "q1", "before": "no", "after": None}]
    data = {"before": means, "after": {**means, "f1": 0.5}, "answers": said}
    (run / "rounds" / "000" / "evaluation.json").write_text(json.dumps(data))
    section = page_of(run).find(id="round-0").parent
    assert "f10.2500.500+0.250" in section.get_text().replace("\n", "")
    assert "no answer" in section.get_text()
    said[0] |= {"question": "Who saw it?", "references": ["Semenov"], "f1": [0.5, 0.0]}
    (run / "rounds" / "000" / "evaluation.json").write_text(json.dumps(data))
    shown = page_of(run).find(id="round-0").parent.get_text()
    assert "Who saw it?" in shown and "Semenov" in shown
